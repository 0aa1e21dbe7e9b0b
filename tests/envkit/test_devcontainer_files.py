from __future__ import annotations

import stat
from pathlib import Path

import pytest
from certificates import new_authority
from samples import sample_environment, write_repo

from envkit import ca_bundle
from envkit.config import read_environment
from envkit.devcontainer_files import (
    devcontainer_files_are_current,
    env_file,
    remove_devcontainer_files,
    write_devcontainer_files,
)
from envkit.environment import Environment

PROXY = "http://jo:secret@proxy.example.com:3128"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository and a home folder without any of the files."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "system.crt").write_text(new_authority("System").pem, encoding="ascii")
    monkeypatch.setattr(ca_bundle, "_SYSTEM_BUNDLES", (str(tmp_path / "system.crt"),))
    return write_repo(tmp_path / "shop")


def _with_network(root: Path) -> Environment:
    (root / ".env").write_text(f"HTTPS_PROXY={PROXY}\n", encoding="utf-8")
    (root / "ca-bundle.pem").write_text(new_authority().pem, encoding="ascii")
    return read_environment(root)


def test_a_container_gets_the_proxy_and_all_authorities(root: Path) -> None:
    shop = _with_network(root)

    changed = write_devcontainer_files(shop, root)

    variables = dict(line.split("=", 1) for line in env_file(shop).read_text(encoding="utf-8").splitlines())
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == PROXY
    assert {"k3d-shop-serverlb", "k3d-shop-registry", "localhost"} <= set(variables["NO_PROXY"].split(","))
    certificates = env_file(shop).parent / "k3d-shop.ca-bundle.pem"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"):
        assert variables[name] == f"/home/vscode/.kube/{certificates.name}"
    # Most programs have these in place of what they trust otherwise.
    for path in (root / "ca-bundle.pem", root.parent / "system.crt"):
        assert path.read_text(encoding="ascii") in certificates.read_text(encoding="utf-8")
    assert changed == [str(certificates), str(env_file(shop))]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (certificates, env_file(shop)))
    assert devcontainer_files_are_current(shop, root)
    assert write_devcontainer_files(shop, root) == []


def test_without_either_there_is_no_file_and_nothing_to_do(root: Path) -> None:
    shop = read_environment(root)

    assert devcontainer_files_are_current(shop, root)
    assert write_devcontainer_files(shop, root) == []
    assert not env_file(shop).exists()
    assert remove_devcontainer_files(shop) == []


def test_what_is_needed_no_more_goes_and_the_file_that_docker_wants_stays(root: Path) -> None:
    shop = _with_network(root)
    write_devcontainer_files(shop, root)
    (root / ".env").unlink()
    (root / "ca-bundle.pem").unlink()
    plain = read_environment(root)

    assert not devcontainer_files_are_current(plain, root)
    write_devcontainer_files(plain, root)

    assert [path.name for path in env_file(plain).parent.iterdir()] == [env_file(plain).name]
    assert env_file(plain).read_text(encoding="utf-8") == ""
    assert devcontainer_files_are_current(plain, root)
    # The one that `initializeCommand` makes is empty too.
    assert remove_devcontainer_files(plain) == []
    assert not env_file(plain).exists()


def test_a_changed_password_reaches_the_file(root: Path) -> None:
    write_devcontainer_files(_with_network(root), root)
    (root / ".env").write_text(f"HTTPS_PROXY={PROXY.replace('secret', 'newer')}\n", encoding="utf-8")
    shop = read_environment(root)

    assert not devcontainer_files_are_current(shop, root)
    assert write_devcontainer_files(shop, root) == [str(env_file(shop))]
    assert len(remove_devcontainer_files(shop)) == 2


def test_where_the_system_keeps_its_own_elsewhere_the_companys_stand_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_bundle, "_SYSTEM_BUNDLES", ())
    shop = _with_network(root)

    write_devcontainer_files(shop, root)

    certificates = env_file(shop).parent / "k3d-shop.ca-bundle.pem"
    assert certificates.read_text(encoding="utf-8") == (root / "ca-bundle.pem").read_text(encoding="ascii")
    assert sample_environment(root.parent / "other").corporate.ca_sha256 == ""
