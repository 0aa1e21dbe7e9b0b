from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import K3D_YAML, sample_environment, write_repo
from support import refuse_to_read

from envkit import config, dotenv_file, environment, go_yaml, overlay, paths
from envkit.environment import canonical_json, load_environment
from envkit.errors import UserError


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    return write_repo(tmp_path / "repo")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder whose files were read and checked, rather than remembered."""
    read: list[Path] = []
    original: Callable[[Path], Any] = config.read_environment

    def counted(root: Path) -> Any:
        read.append(root)
        return original(root)

    monkeypatch.setattr(config, "read_environment", counted)
    return read


def _memory(repo: Path) -> Path:
    (path,) = (repo.parent / "state").glob("config-*.json")
    return path


def test_what_was_read_is_remembered(repo: Path, readings: list[Path]) -> None:
    first, second = load_environment(repo), load_environment(repo)

    assert first == second
    assert first.config_hash == second.config_hash
    assert readings == [repo]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k3d.yaml", K3D_YAML.replace("agents: 2", "agents: 3")),
        ("k3d.local.yaml", "agents: 3\n"),
        (".env", "HTTP_PORT=9080\n"),
        ("environment.toml", '[ide]\nlens = "freelens"\n'),
    ],
)
def test_a_changed_file_is_read_again(repo: Path, readings: list[Path], name: str, content: str) -> None:
    before = load_environment(repo)
    (repo / name).write_text(content, encoding="utf-8")

    assert load_environment(repo) != before
    assert readings == [repo, repo]


@pytest.mark.parametrize("module", [config, dotenv_file, go_yaml, overlay])
def test_an_update_of_the_code_that_reads_the_files_has_them_read_again(
    module: ModuleType, repo: Path, readings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path(shutil.copytree(Path(str(environment.__file__)).parent, tmp_path / "envkit"))
    monkeypatch.setattr(environment, "__file__", str(code / "environment.py"))
    load_environment(repo)
    with (code / Path(str(module.__file__)).name).open("a", encoding="utf-8") as file:
        file.write("# updated\n")

    load_environment(repo)
    assert readings == [repo, repo]


def test_a_dotenv_that_cannot_be_read_is_named_though_all_is_remembered_without_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_environment(repo)
    (repo / ".env").touch()
    refuse_to_read(monkeypatch, repo / ".env")

    with pytest.raises(UserError, match=r"\.env cannot be read") as caught:
        load_environment(repo)

    assert caught.value.next_step == f"ls -l {repo / '.env'}"


def test_two_repositories_do_not_share_a_memory(repo: Path, readings: list[Path]) -> None:
    other = write_repo(repo.parent / "other", k3d_yaml=K3D_YAML.replace("agents: 2", "agents: 0"))

    assert (load_environment(repo).agents, load_environment(other).agents) == (2, 0)
    assert (load_environment(repo).agents, load_environment(other).agents) == (2, 0)
    assert readings == [repo, other]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b'{"key": 1}', b"{}"],
    ids=["empty", "cut off", "list", "text", "null", "binary", "another key", "no key"],
)
def test_a_broken_memory_is_ignored_and_renewed(repo: Path, readings: list[Path], content: bytes) -> None:
    expected = load_environment(repo)
    _memory(repo).write_bytes(content)

    assert load_environment(repo) == expected
    assert load_environment(repo) == expected
    assert readings == [repo, repo]


def test_a_memory_of_another_version_is_ignored(repo: Path) -> None:
    expected = load_environment(repo)
    saved = json.loads(_memory(repo).read_text(encoding="utf-8"))
    saved["environment"]["registry"] = ["unexpected"]
    _memory(repo).write_text(json.dumps(saved), encoding="utf-8")

    assert load_environment(repo) == expected


def test_a_memory_that_cannot_be_written_costs_nothing_but_time(repo: Path, readings: list[Path]) -> None:
    expected = load_environment(repo)
    path = _memory(repo)
    path.unlink()
    path.mkdir()  # refuses to be replaced, for root too

    assert load_environment(repo) == expected
    assert readings == [repo, repo]


def test_a_state_folder_that_cannot_be_made_is_named(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo.parent / "file").touch()
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(repo.parent / "file" / "state"))

    with pytest.raises(UserError) as caught:
        paths.state_dir()

    assert str(repo.parent / "file" / "state") in str(caught.value)
    assert caught.value.next_step


def test_a_wrong_file_is_not_remembered(repo: Path) -> None:
    (repo / "k3d.yaml").write_text("nothing: here\n", encoding="utf-8")

    for _ in range(2):
        with pytest.raises(UserError):
            load_environment(repo)


def test_equal_configurations_have_equal_hashes_wherever_they_lie(tmp_path: Path) -> None:
    commented = K3D_YAML.replace("agents: 2", "agents:   2   # two")

    one = sample_environment(tmp_path / "one")
    two = sample_environment(tmp_path / "two", k3d_yaml=commented, dotenv="HTTP_PORT=8080\n")

    assert one.config_hash == two.config_hash
    assert len(one.config_hash) == 16


def test_the_hash_follows_every_port_and_not_the_desktop_program(tmp_path: Path) -> None:
    plain = sample_environment(tmp_path / "plain").config_hash

    for variable in ("HTTP_PORT", "HTTPS_PORT", "API_PORT", "REGISTRY_PORT"):
        assert sample_environment(tmp_path / variable, dotenv=f"{variable}=9999\n").config_hash != plain
    assert sample_environment(tmp_path / "lens", dotenv="LENS=freelens\n").config_hash == plain


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4))
def test_canonical_json_does_not_depend_on_order(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))

    assert canonical_json(value) == canonical_json(backwards)
    assert json.loads(canonical_json(value)) == value


def test_names_follow_k3d(tmp_path: Path) -> None:
    shop = sample_environment(tmp_path)

    assert (shop.context, shop.network, shop.load_balancer, shop.image_volume) == (
        "k3d-shop",
        "k3d-shop",
        "k3d-shop-serverlb",
        "k3d-shop-images",
    )
    assert shop.registry.host_names == ("k3d-shop-registry.localhost:5050", "localhost:5050")
    assert shop.registry.cluster_names == ("k3d-shop-registry:5000",)


def test_a_port_is_found_by_its_variable(tmp_path: Path) -> None:
    shop = sample_environment(tmp_path)

    assert shop.port("HTTPS_PORT") == 8443
    assert replace(shop, ports=()).port("HTTPS_PORT") is None
