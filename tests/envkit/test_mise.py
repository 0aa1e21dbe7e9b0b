from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from fake_tools import RIGHT, Machine, WebServer, url_replacements

from envkit import mise, tool_versions
from envkit.download import platform_name
from envkit.errors import UserError

ROOT = Path(mise.__file__).resolve().parent.parent
PLATFORMS = {"linux-x64", "linux-arm64", "macos-x64", "macos-arm64"}
LOCK = tomllib.loads((ROOT / "mise.lock").read_text())

REAL_MISE = os.environ.get("REAL_MISE") or shutil.which("mise")
needs_real_mise = pytest.mark.skipif(not REAL_MISE, reason="no mise on PATH, and REAL_MISE names none")


def test_the_lock_file_vouches_for_every_tool_on_every_platform() -> None:
    for name, version in tool_versions.pins().items():
        (entry,) = LOCK["tools"][name]
        assert entry["version"] == version
        platforms = {key.removeprefix("platforms."): value for key, value in entry.items() if "platforms." in key}
        assert platforms.keys() == PLATFORMS
        for platform in platforms.values():
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", platform["checksum"])
            assert version in platform["url"]
            assert platform["url"].startswith("https://")


def test_no_two_files_of_the_lock_file_have_one_sum() -> None:
    sums = re.findall(r"sha256:(\w+)", (ROOT / "mise.lock").read_text())

    assert len(sums) == len(set(sums)) == len(PLATFORMS) * len(tool_versions.pins())


def test_only_what_the_lock_file_vouches_for_is_installed() -> None:
    settings = tomllib.loads((ROOT / "mise.toml").read_text())["settings"]

    assert (settings["lockfile"], settings["locked"]) == (True, True)


def test_mise_is_fetched_where_it_is_missing(machine: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = serve_mise(machine, web, monkeypatch)
    monkeypatch.setitem(mise._SHA256, platform_name(), hashlib.sha256(binary).hexdigest())
    machine.add_right_tools(but="k3d")

    shown = machine.install()

    assert f"mise {mise.VERSION}: download https://github.com/jdx/mise/releases/" in shown
    assert (machine.tools_bin / "mise").read_bytes() == binary
    assert (machine.tools_bin / "k3d").exists()
    assert f'eval "$({machine.tools_bin}/mise activate zsh)"' in shown


def test_the_line_for_the_shell_holds_where_a_folder_has_a_space_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "jane doe" / "mise"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "echo $*"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(mise, "TOOLS_BIN", program.parent)
    monkeypatch.setattr(mise, "find_tool", lambda _: str(program))
    monkeypatch.setenv("SHELL", "/bin/zsh")

    assert subprocess.check_output(["sh", "-c", mise.activation_hint()], text=True) == "activate zsh\n"


def test_a_mise_with_a_wrong_sum_is_never_run(
    machine: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mise(machine, web, monkeypatch)
    machine.add_right_tools(but="k3d")

    with pytest.raises(UserError) as error:
        machine.install()

    assert "is not the file that is pinned" in error.value.why
    assert "k3d was not installed, because mise is missing" in error.value.why
    assert machine.calls == []


def test_a_mise_that_ignores_the_lock_file_is_not_used(
    machine: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mise(machine, web, monkeypatch)
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]}, version="2025.12.1")

    with pytest.raises(UserError):
        machine.install()

    assert machine.calls == []
    assert len(web.asked) == 1


def test_offline_mise_is_not_fetched(machine: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_mise(machine, web, monkeypatch)
    monkeypatch.setenv("MISE_OFFLINE", "1")
    machine.add_right_tools(but="k3d")

    with pytest.raises(UserError) as error:
        machine.install()

    assert "MISE_OFFLINE forbids that" in error.value.why
    assert web.asked == []


def test_mise_trusts_this_repository_and_looks_no_further_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISE_TRUSTED_CONFIG_PATHS", "/a")
    monkeypatch.setenv("MISE_URL_REPLACEMENTS", "{}")
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    recorder = machine.bin / "mise"
    recorder.write_text(recorder.read_text().replace("#!/bin/sh", f"#!/bin/sh\nenv >{machine.folder}/env"))

    machine.install()

    env = dict(line.split("=", 1) for line in (machine.folder / "env").read_text().splitlines() if "=" in line)
    assert env["MISE_TRUSTED_CONFIG_PATHS"] == f"/a:{ROOT}/mise.toml"
    assert env["MISE_CEILING_PATHS"] == str(ROOT.parent)
    assert env["MISE_URL_REPLACEMENTS"] == "{}"


def test_a_success_without_the_tool_is_a_failure(machine: Machine) -> None:
    machine.add_right_tools(but="k3d")
    machine.add("mise", 'case "$*" in *--version*) echo 2026.10.7;; *which*) exit 1;; esac')

    with pytest.raises(UserError, match=r"mise reports success, but k3d 5\.9\.0 is not there"):
        machine.install()


@pytest.mark.parametrize(
    ("said", "told"), [("Checksum mismatch for file k3d", "who changes the file"), ("dns error", "Check the network")]
)
def test_a_failure_of_mise_is_told_with_what_helps(machine: Machine, said: str, told: str) -> None:
    machine.add_right_tools(but="k3d")
    machine.add("mise", f'case "$*" in *--version*) echo 2026.10.7;; *) echo "{said}" >&2; exit 1;; esac')

    with pytest.raises(UserError) as error:
        machine.install()

    assert said in str(error.value)
    assert told in str(error.value)


@needs_real_mise
def test_the_real_mise_installs_what_has_the_locked_sum(tmp_path: Path, web: WebServer) -> None:
    archive = serve_just(web)
    repo = repository(tmp_path, hashlib.sha256(archive).hexdigest())

    done = run_real_mise(tmp_path, web, repo)

    assert done.returncode == 0, done.stderr
    assert [path for path in web.asked if "api." in path] == []
    assert (tmp_path / "data" / "installs" / "just" / tool_versions.pins()["just"] / "just").exists()
    assert sorted(path.name for path in repo.iterdir()) == ["mise.lock", "mise.toml"]
    assert hashlib.sha256(archive).hexdigest() in (repo / "mise.lock").read_text()


@needs_real_mise
def test_the_real_mise_refuses_what_has_another_sum(tmp_path: Path, web: WebServer) -> None:
    serve_just(web)
    repo = repository(tmp_path, None)

    done = run_real_mise(tmp_path, web, repo)

    assert done.returncode != 0
    assert "Checksum mismatch" in done.stderr
    assert not (tmp_path / "data" / "installs" / "just" / tool_versions.pins()["just"] / "just").exists()
    assert (repo / "mise.lock").read_bytes() == (ROOT / "mise.lock").read_bytes()


def serve_mise(machine: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Puts a stand-in for mise on the mirror and makes it known; returns it."""
    machine.add_mise({"k3d": RIGHT["k3d"]})
    path = machine.bin / "mise"
    binary = path.read_bytes()
    path.unlink()
    web.files["/" + mise.release_url().removeprefix("https://")] = binary
    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", web.url)
    return binary


def serve_just(web: WebServer) -> bytes:
    """Puts an archive with a stand-in for just where the lock file says just is; returns it."""
    script = b"#!/bin/sh\necho just 1.58.0\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("just")
        member.size, member.mode = len(script), 0o755
        archive.addfile(member, io.BytesIO(script))
    web.files["/" + locked_just()["url"].removeprefix("https://")] = buffer.getvalue()
    return buffer.getvalue()


def locked_just() -> dict[str, str]:
    """What the lock file says about just on this machine."""
    key = mise._ASSETS[platform_name()]
    entry: dict[str, str] = LOCK["tools"]["just"][0][f"platforms.{key}"]
    return entry


def repository(folder: Path, sha256: str | None) -> Path:
    """A folder with the template's pins; `sha256` takes the place of just's locked sum."""
    repo = folder / "repo"
    repo.mkdir()
    shutil.copy(ROOT / "mise.toml", repo)
    lock = (ROOT / "mise.lock").read_text()
    if sha256:
        lock = lock.replace(locked_just()["checksum"], f"sha256:{sha256}")
    (repo / "mise.lock").write_text(lock)
    return repo


def run_real_mise(folder: Path, web: WebServer, repo: Path) -> subprocess.CompletedProcess[str]:
    """Has the real mise install just with every download sent to the server."""
    assert REAL_MISE
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "MISE_DATA_DIR": str(folder / "data"),
        "MISE_CACHE_DIR": str(folder / "cache"),
        "MISE_STATE_DIR": str(folder / "state"),
        "MISE_CONFIG_DIR": str(folder / "config"),
        "MISE_TRUSTED_CONFIG_PATHS": str(repo),
        "MISE_CEILING_PATHS": str(folder),
        "MISE_URL_REPLACEMENTS": url_replacements(web),
        "MISE_YES": "1",
    }
    return subprocess.run(
        [REAL_MISE, "-C", str(repo), "install", "just"], env=env, capture_output=True, text=True, check=False
    )
