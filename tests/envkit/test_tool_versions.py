from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fake_tools import Machine

from envkit import tool_versions
from envkit.errors import UserError
from envkit.tool_versions import host_tools, tool_statuses


def status_of(name: str) -> tool_versions.ToolStatus:
    (status,) = tool_statuses([name])
    return status


def test_every_pin_is_within_its_own_accepted_range() -> None:
    pinned = {name: version for name, version in tool_versions.pins().items() if name in host_tools()}

    assert pinned
    assert [n for n, v in pinned.items() if v not in host_tools()[n].accepted] == []


def test_the_python_pin_is_new_enough_for_ansible() -> None:
    assert tool_versions.ansible_python_pin() in host_tools()["python"].accepted


def test_only_k3d_and_kubectl_are_needed_to_create_a_cluster() -> None:
    assert {tool.name for tool in host_tools().values() if tool.needed_by_create} == {"k3d", "kubectl"}


@pytest.mark.parametrize(
    ("name", "output", "version"),
    [
        ("k3d", "k3d version v5.9.0\nk3s version v1.36.3-k3s1 (default)", "5.9.0"),
        ("kubectl", "Client Version: v1.36.3\nKustomize Version: v5.8.1", "1.36.3"),
        ("helm", "v4.2.4+g6d3ea9b", "4.2.4"),
        ("just", "just 1.58.0", "1.58.0"),
        ("node", "v20.20.2", "20.20.2"),
        ("buildah", "buildah version 1.28.2 (image-spec 1.0.2-dev, runtime-spec 1.0.2-dev)", "1.28.2"),
        ("python", "Python 3.13.0rc2", "3.13.0"),
        ("mise", "2026.9.15 linux-x64 (2026-09-27)", "2026.9.15"),
    ],
)
def test_the_version_is_read_from_what_the_tool_prints(machine: Machine, name: str, output: str, version: str) -> None:
    path = machine.add("python3" if name == "python" else name, f"cat <<'END'\n{output}\nEND")

    assert (status_of(name).version, status_of(name).path, status_of(name).ok) == (version, path, True)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("k3d", "k3d version v5.8.3"),
        ("k3d", "k3d version v6.0.0"),
        ("kubectl", "Client Version: v1.34.9"),
        ("kubectl", "Client Version: v1.38.0"),
        ("helm", "v3.20.0+gabc"),
        ("just", "just 1.54.0"),
        ("node", "v18.20.8"),
        ("buildah", "buildah version 1.19.6 (image-spec 1.0.1)"),
    ],
)
def test_a_version_outside_the_range_is_not_right(machine: Machine, name: str, output: str) -> None:
    machine.add(name, f"echo '{output}'")

    assert not status_of(name).ok
    assert status_of(name).version is not None


@pytest.mark.usefixtures("machine")
def test_a_missing_tool_has_no_path() -> None:
    assert (status_of("k3d").path, status_of("k3d").ok, status_of("k3d").needs_install) == (None, False, True)


def test_a_shim_that_fails_does_not_count(machine: Machine) -> None:
    machine.add("k3d", "echo 'k3d version v5.9.0'; exit 127")

    assert (status_of("k3d").ok, status_of("k3d").note) == (False, "is there but does not run")


def test_a_right_tool_behind_a_wrong_one_does_not_count(machine: Machine, tmp_path: Path) -> None:
    machine.add("helm", "echo v3.20.0")
    machine.add("helm", "echo v4.3.0", folder=tmp_path / "behind")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{machine.bin}:{tmp_path / 'behind'}")

        assert not status_of("helm").ok


@pytest.fixture
def closed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is closed to everybody, for root as well, whom permissions do not stop."""
    folder = machine.folder / "closed"
    real_stat = os.stat

    def stat(path: str | Path, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    return folder


def test_a_folder_on_path_that_is_closed_is_passed_over(
    machine: Machine, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add("helm", "echo v4.3.0")
    monkeypatch.setenv("PATH", f"{closed}:{machine.bin}")

    assert status_of("helm").path == machine.bin / "helm"


def test_a_folder_of_pyenv_that_is_closed_is_passed_over(
    machine: Machine, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add("uv", f"echo {machine.folder}/uv/python3")
    machine.add("python3", "echo Python 3.13.1", folder=machine.folder / "uv")
    monkeypatch.setenv("PYENV_ROOT", str(closed / "pyenv"))

    assert status_of("python").path == machine.folder / "uv" / "python3"


def test_the_own_folder_of_tools_comes_before_path(machine: Machine) -> None:
    machine.add("helm", "echo v3.20.0")
    link = machine.add("helm", "echo v4.3.0", folder=machine.tools_bin)

    assert (status_of("helm").path, status_of("helm").is_link) == (link, True)


def test_a_tool_that_was_brought_follows_the_pin(machine: Machine) -> None:
    machine.add("k3d", "echo 'k3d version v5.9.7'", folder=machine.tools_bin)

    assert (status_of("k3d").ok, status_of("k3d").needs_install) == (True, True)


def test_a_tool_of_the_persons_own_does_not_have_to_follow_the_pin(machine: Machine) -> None:
    machine.add("k3d", "echo 'k3d version v5.9.7'")

    assert not status_of("k3d").needs_install


def test_just_counts_where_it_is_in_the_virtual_environment(machine: Machine, tmp_path: Path) -> None:
    machine.add("just", "echo just 1.20.0")
    own = machine.add("just", "echo just 1.59.0", folder=tmp_path / "repo" / ".venv" / "bin")

    assert (status_of("just").path, status_of("just").ok) == (own, True)


def test_a_working_python_is_found_behind_a_broken_shim_and_an_old_one(machine: Machine) -> None:
    machine.add("python3", "echo Python 3.11.7")
    machine.add("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    right = machine.add("python3.12", "echo Python 3.12.1")

    assert status_of("python").path == right


def test_a_python_of_pyenv_counts(machine: Machine) -> None:
    right = machine.add("python3", "echo Python 3.12.1", folder=machine.home / ".pyenv" / "versions" / "3.12.1" / "bin")

    assert status_of("python").path == right


def test_a_python_that_uv_knows_counts(machine: Machine, tmp_path: Path) -> None:
    right = machine.add("python3.13", "echo Python 3.13.2", folder=tmp_path / "uv-python")
    machine.add("uv", f"echo {right}")

    assert status_of("python").path == right
    assert "uv python find --no-project --no-python-downloads >=3.12" in machine.calls


@pytest.mark.usefixtures("machine")
def test_macos_does_without_buildah(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    assert status_of("buildah").ok
    assert "macOS" in status_of("buildah").note


def test_a_broken_mise_toml_names_the_file_and_what_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mise.toml").write_text("[tools\n")
    monkeypatch.setattr(tool_versions, "MISE_TOML", tmp_path / "mise.toml")
    tool_versions._mise_toml.cache_clear()

    with pytest.raises(UserError, match=r"mise\.toml cannot be read") as error:
        tool_versions.pins()

    assert "checkout -- mise.toml" in error.value.next_step
    tool_versions._mise_toml.cache_clear()
