from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import time
from pathlib import Path

import pytest
from fake_tools import Machine, WebServer

from envkit import consent, lens
from envkit.download import platform_name, sha256_of
from envkit.environment import Lens
from envkit.errors import UserError
from envkit.progress import Steps

APPIMAGE = b"#!/bin/sh\nexit 0\n"


@pytest.fixture
def desktop(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with a display and FUSE, used by an ordinary user whose Chromium has its sandbox."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(lens, "_can_mount_appimages", lambda: True)
    monkeypatch.setattr(lens, "_why_chromium_sandbox_fails", lambda: "")
    return machine


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """A kubeconfig of this environment."""
    path = tmp_path / "k3d-shop.yaml"
    path.touch()
    return path


def install(chosen: Lens) -> str:
    shown = io.StringIO()
    with Steps(shown) as steps:
        lens.run_install_lens(steps, lens=chosen)
    return shown.getvalue()


def publish(web: WebServer, monkeypatch: pytest.MonkeyPatch, chosen: str, content: bytes = APPIMAGE) -> str:
    """Puts a stand-in for the pinned file on the mirror and makes its sum the pinned one."""
    program = lens._PROGRAMS[chosen]
    name, _ = program.files[platform_name()]
    monkeypatch.setitem(program.files, platform_name(), (name, hashlib.sha256(content).hexdigest()))
    web.files[f"/{program.release.removeprefix('https://')}/{name}"] = content
    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", web.url)
    return name


def pretend(chosen: str, body: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts an installed program where `install-lens` puts it."""
    path = lens._appimage(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    files = lens._PROGRAMS[chosen].files
    monkeypatch.setitem(files, platform_name(), (path.name, sha256_of(path)))
    return path


def wait_for(path: Path) -> str:
    """The text of a file that another process is about to write."""
    for _ in range(200):
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def test_every_program_has_a_file_and_a_sum_for_every_platform() -> None:
    for program in lens._PROGRAMS.values():
        assert set(program.files) == {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"}
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for _, sha256 in program.files.values())
        assert len({sha256 for _, sha256 in program.files.values()}) == len(program.files)


@pytest.mark.parametrize("chosen", ["openlens", "freelens"])
def test_the_appimage_is_installed_with_a_launcher(
    desktop: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch, chosen: Lens
) -> None:
    name = publish(web, monkeypatch, chosen)

    install(chosen)

    target = desktop.home / ".local" / "share" / "envkit" / "lens" / name
    assert target.read_bytes() == APPIMAGE
    assert os.access(target, os.X_OK)
    assert (desktop.home / ".local" / "bin" / chosen).resolve() == target


@pytest.mark.usefixtures("desktop")
def test_a_second_installation_fetches_nothing(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(web, monkeypatch, "freelens")
    install("freelens")
    web.asked.clear()

    assert "Freelens is installed: " in install("freelens")
    assert web.asked == []


def test_an_earlier_release_that_was_brought_is_replaced(
    desktop: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = desktop.home / ".local" / "bin" / "freelens"
    earlier = desktop.add("Freelens-1.0.AppImage", "", folder=desktop.home / ".local" / "share" / "envkit" / "lens")
    launcher.parent.mkdir(parents=True)
    launcher.symlink_to(earlier)
    monkeypatch.setenv("PATH", f"{desktop.bin}:{launcher.parent}")
    name = publish(web, monkeypatch, "freelens")

    install("freelens")

    assert launcher.resolve().name == name


def test_a_wrong_sum_installs_nothing(desktop: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name = publish(web, monkeypatch, "freelens")
    (path,) = web.files
    web.files[path] = b"something else"

    with pytest.raises(UserError, match="not the file that is pinned"):
        install("freelens")

    assert not (desktop.home / ".local" / "share" / "envkit" / "lens" / name).exists()
    assert not (desktop.home / ".local" / "bin" / "freelens").exists()


@pytest.mark.usefixtures("web")
def test_a_program_of_the_persons_own_is_left_alone(desktop: Machine) -> None:
    own = desktop.add("freelens", "")

    assert f"Freelens is installed: {own}" in install("freelens")


def test_a_launcher_of_the_persons_own_is_left_alone(
    desktop: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(web, monkeypatch, "openlens")
    own = desktop.home / ".local" / "bin" / "openlens"
    own.parent.mkdir(parents=True)
    own.write_text("mine")

    install("openlens")

    assert own.read_text() == "mine"


@pytest.mark.usefixtures("machine")
def test_without_a_display_it_is_left_out_without_a_failure(web: WebServer) -> None:
    shown = install("freelens")

    assert "left out: this machine has no display" in shown
    assert "just install-lens" in shown
    assert web.asked == []


@pytest.mark.usefixtures("machine")
def test_linux_on_windows_is_sent_to_windows(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSL_DISTRO_NAME", "Ubuntu")

    assert "install Freelens on Windows, from https://github.com/freelensapp/" in install("freelens")
    assert web.asked == []


@pytest.mark.usefixtures("machine")
def test_openlens_state_is_said_once_with_the_answer_that_changes_it() -> None:
    first, second = install("openlens"), install("openlens")

    assert "no release since June 2023" in first
    assert "just update -d lens=freelens" in first
    assert "LENS=freelens in .env" in first
    assert "2023" not in second


@pytest.mark.usefixtures("machine")
def test_freelens_is_not_spoken_ill_of() -> None:
    assert "2023" not in install("freelens")


@pytest.mark.usefixtures("desktop")
@pytest.mark.usefixtures("desktop")
def test_a_person_can_say_no(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))

    with pytest.raises(UserError, match="Freelens was not installed"):
        install("freelens")

    assert web.asked == []


def test_none_installs_nothing(web: WebServer) -> None:
    assert "lens is none" in install("none")
    assert web.asked == []


def test_macos_installs_the_cask(desktop: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    desktop.add("brew", "")

    install("freelens")

    assert desktop.calls == ["brew install --cask freelens"]


@pytest.mark.parametrize(
    "refusal", ["", "Error: Cask has been disabled because it does not pass the Gatekeeper check!"]
)
def test_macos_to_which_brew_does_not_bring_it_gets_the_disk_image_and_is_told_what_to_do(
    desktop: Machine, web: WebServer, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    if refusal:
        desktop.add("brew", f"echo '{refusal}' >&2; exit 1")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    name = publish(web, monkeypatch, "freelens")

    shown = install("freelens")

    assert (desktop.home / "Downloads" / name).read_bytes() == APPIMAGE
    assert f"open {desktop.home}/Downloads/Freelens-1.10.3-macos-arm64.dmg" in shown
    assert refusal in shown


def test_it_starts_detached_with_the_kubeconfig_of_this_environment(
    desktop: Machine, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = desktop.folder / "result"
    pretend("freelens", f'echo "$KUBECONFIG $# $$ ${{KUBERC:-as-usual}}" >{result}; exec sleep 5', monkeypatch)
    monkeypatch.setattr(lens, "_STARTUP_SECONDS", 0.2)
    monkeypatch.setenv("PATH", f"{desktop.bin}:/usr/bin:/bin")
    monkeypatch.delenv("KUBERC", raising=False)

    lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    given, arguments, pid, kuberc = wait_for(result).split()
    assert (given, arguments, kuberc) == (str(kubeconfig), "0", "as-usual")
    assert os.getsid(int(pid)) == int(pid)
    os.kill(int(pid), signal.SIGTERM)
    assert f"Freelens is starting with {kubeconfig}" in capsys.readouterr().out


def test_its_output_goes_to_a_log(desktop: Machine, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("freelens", "echo hello; echo trouble >&2", monkeypatch)

    lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert (desktop.folder / "state" / "freelens.log").read_text() == "hello\ntrouble\n"


@pytest.mark.usefixtures("desktop")
def test_a_program_that_ends_at_once_shows_why(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("freelens", "echo 'cannot open display'; exit 3", monkeypatch)

    with pytest.raises(UserError, match="ended at once with exit status 3") as error:
        lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert error.value.why == "cannot open display"


@pytest.mark.usefixtures("desktop")
def test_a_program_that_cannot_be_run_is_no_traceback(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pretend("freelens", "", monkeypatch)
    path.chmod(0o644)

    with pytest.raises(UserError, match="Freelens could not be started") as error:
        lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert error.value.next_step == "just install-lens"


def test_without_fuse_the_appimage_unpacks_itself(
    desktop: Machine, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = desktop.folder / "result"
    pretend("freelens", f'echo "$@" >{result}', monkeypatch)
    monkeypatch.setattr(lens, "_can_mount_appimages", lambda: False)

    lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert wait_for(result) == "--appimage-extract-and-run\n"


def test_the_sandbox_is_left_out_only_where_it_cannot_work_and_that_is_said(
    desktop: Machine,
    kubeconfig: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = desktop.folder / "result"
    pretend("freelens", f'echo "$@" >{result}', monkeypatch)
    monkeypatch.setattr(lens, "_why_chromium_sandbox_fails", lambda: "Chromium has no sandbox for root")

    lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert wait_for(result) == "--no-sandbox\n"
    assert "--no-sandbox: Chromium has no sandbox for root" in capsys.readouterr().out


def test_root_gets_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)

    assert "root" in lens._why_chromium_sandbox_fails()


@pytest.mark.usefixtures("machine")
def test_starting_without_a_display_says_so(kubeconfig: Path) -> None:
    with pytest.raises(UserError, match="needs a display") as error:
        lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    assert f"KUBECONFIG={kubeconfig}" in error.value.next_step


@pytest.mark.usefixtures("desktop")
def test_starting_without_a_cluster_names_create(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no kubeconfig") as error:
        lens.run_lens(lens="freelens", kubeconfig=tmp_path / "missing.yaml")

    assert error.value.next_step == "just create"


@pytest.mark.usefixtures("desktop")
def test_starting_what_is_not_installed_names_install_lens(kubeconfig: Path) -> None:
    with pytest.raises(UserError, match="OpenLens is not installed") as error:
        lens.run_lens(lens="openlens", kubeconfig=kubeconfig)

    assert error.value.next_step == "just install-lens"


@pytest.mark.usefixtures("desktop")
def test_starting_none_names_the_answer(kubeconfig: Path) -> None:
    with pytest.raises(UserError, match="No desktop program was chosen") as error:
        lens.run_lens(lens="none", kubeconfig=kubeconfig)

    assert "just update -d lens=freelens" in error.value.next_step


@pytest.mark.usefixtures("desktop")
def test_starting_on_windows_names_the_kubeconfig_as_windows_sees_it(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")

    with pytest.raises(UserError, match="runs on Windows") as error:
        lens.run_lens(lens="freelens", kubeconfig=kubeconfig)

    windows_path = str(kubeconfig).replace("/", "\\")
    assert rf"\\wsl.localhost\Debian{windows_path}" in error.value.next_step
