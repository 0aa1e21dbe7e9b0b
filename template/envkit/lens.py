"""The desktop programs OpenLens and Freelens: bringing one of them, and starting it for this cluster."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from envkit import consent
from envkit.download import fetch, platform_name, sha256_of
from envkit.environment import Lens
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command, state_dir
from envkit.process import stream, tool_environment
from envkit.progress import Steps
from envkit.wording import quoted

_STARTUP_SECONDS = 2.0
"""A program that cannot start has ended after this time; one that can is still running."""
_LOG_LINES = 10


@dataclass(frozen=True)
class _Program:
    """A pinned desktop program.

    Attributes:
        title: Its name.
        version: The pinned release.
        release: The folder of its files on the web.
        files: Each platform's file there and its SHA-256 sum.
        commands: What its packages call the executable.
        app: Its name in the folder Applications of macOS.
        cask: Its name in Homebrew.
    """

    title: str
    version: str
    release: str
    files: dict[str, tuple[str, str]]
    commands: tuple[str, ...]
    app: str
    cask: str


_PROGRAMS = {
    "openlens": _Program(
        title="OpenLens",
        version="6.5.2-366",
        release="https://github.com/MuhammedKalkan/OpenLens/releases/download/v6.5.2-366",
        files={
            "linux-amd64": (
                "OpenLens-6.5.2-366.x86_64.AppImage",
                "64096d012fd4ff18789024fbbd0f8d1c0cd657bcf4b84e463102021ca49d8fc9",
            ),
            "linux-arm64": (
                "OpenLens-6.5.2-366.arm64.AppImage",
                "c94e63207315d93c14f7d7d73ef33dd6bd609d65fbfb0a0fb4a7e445e085beba",
            ),
            "darwin-amd64": (
                "OpenLens-6.5.2-366.dmg",
                "22f94468f4ccfe4f24c0580a04f76baa9edadf7f9a6d735d677f828372c139e7",
            ),
            "darwin-arm64": (
                "OpenLens-6.5.2-366-arm64.dmg",
                "2c53fa3ccf383e10c8a711ba23a6277800415173ba45ef12597b656c9d818e29",
            ),
        },
        commands=("openlens", "open-lens"),
        app="OpenLens.app",
        cask="openlens",
    ),
    "freelens": _Program(
        title="Freelens",
        version="1.10.3",
        release="https://github.com/freelensapp/freelens/releases/download/v1.10.3",
        files={
            "linux-amd64": (
                "Freelens-1.10.3-linux-amd64.AppImage",
                "5be46890eb13e167559b862b9a6f246eeec0a72761c0b3e91a646329323581e9",
            ),
            "linux-arm64": (
                "Freelens-1.10.3-linux-arm64.AppImage",
                "d9a030f7461f4cf0e489e863d738aeac17882c4b843a66c979457677b05b9a8e",
            ),
            "darwin-amd64": (
                "Freelens-1.10.3-macos-amd64.dmg",
                "d9b462114b9587ca8daaf1ce62529de7d3ec65e42f39628edfc10ecbd69c3175",
            ),
            "darwin-arm64": (
                "Freelens-1.10.3-macos-arm64.dmg",
                "ae33e11d5db858da1f64ae2c4f7ca3835786780bcb2af02e55fe756f08900419",
            ),
        },
        commands=("freelens",),
        app="Freelens.app",
        cask="freelens",
    ),
}


def _how_to_change() -> str:
    command = f"{just_command()} update -d lens=freelens"
    return f"{command}    (for everyone)\n{'LENS=freelens in .env':{len(command)}}    (for you)"


def run_install_lens(steps: Steps, *, lens: Lens, assume_yes: bool = False) -> None:
    """Brings the chosen program, unless it is there.

    A machine without a display, and Windows' Linux, get a line that says what to do instead: neither
    is a failure.

    Args:
        steps: Shows the progress.
        lens: The answer of that name.
        assume_yes: Does not ask before a download.

    Raises:
        UserError: It could not be brought, or the person said no.
    """
    if lens == "none":
        steps.say("No desktop program is wanted here (lens is none).")
        return
    program = _PROGRAMS[lens]
    if lens == "openlens":
        _say_once_that_openlens_is_old(steps)
    if _is_wsl():
        steps.say(f"This is Linux on Windows: install {program.title} on Windows, from {program.release}")
        steps.say(f"Then add the kubeconfig that `{just_command()} lens` names to it.")
        return
    if found := _installed(lens):
        steps.say(f"{program.title} is installed: {found}")
        return
    if not _has_display():
        steps.say(f"{program.title} is left out: this machine has no display.")
        steps.say(f"On one that has: {just_command()} install-lens")
        return
    _confirm(program, assume_yes)
    if sys.platform == "darwin":
        _install_on_macos(steps, program)
    else:
        _install_appimage(steps, lens, program)


def run_lens(*, lens: Lens, kubeconfig: Path) -> None:
    """Starts the chosen program with this environment's kubeconfig and returns; it goes on running.

    Raises:
        UserError: There is no display, no kubeconfig or no such program, or it ended at once.
    """
    if lens == "none":
        raise UserError(
            "No desktop program was chosen for this environment (lens is none).", next_step=_how_to_change()
        )
    program = _PROGRAMS[lens]
    if not kubeconfig.is_file():
        raise UserError(
            f"There is no kubeconfig {kubeconfig}.", "It comes with the cluster.", f"{just_command()} create"
        )
    found = _installed(lens)
    if _is_wsl() and found is None:
        distribution = os.environ.get("WSL_DISTRO_NAME", "Ubuntu")
        windows_path = str(kubeconfig).replace("/", "\\")
        raise UserError(
            f"{program.title} runs on Windows, not in its Linux.",
            next_step="Start it there and add this kubeconfig: "
            rf"\\wsl.localhost\{distribution}{windows_path}",
        )
    if not _has_display():
        raise UserError(
            f"{program.title} needs a display, and this machine has none.",
            "Neither DISPLAY nor WAYLAND_DISPLAY is set.",
            f"Run it on a desktop. In a terminal: KUBECONFIG={quoted(kubeconfig)} kubectl get nodes",
        )
    if found is None:
        raise UserError(f"{program.title} is not installed.", next_step=f"{just_command()} install-lens")
    _start(program, _command(found), kubeconfig)


def _start(program: _Program, command: list[str], kubeconfig: Path) -> None:
    log = state_dir() / f"{program.cask}.log"
    # Its terminals are the developer's, with the developer's own defaults for kubectl.
    own = {"KUBECONFIG": str(kubeconfig), "KUBERC": os.environ.get("KUBERC", "")}
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=tool_environment(own),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise UserError(
            f"{program.title} could not be started.", str(error), f"{just_command()} install-lens"
        ) from error
    try:
        status = process.wait(timeout=_STARTUP_SECONDS)
    except subprocess.TimeoutExpired:
        # It is meant to outlive this process; Popen would warn of that.
        status = process.returncode = 0
    if status:
        raise UserError(
            f"{program.title} ended at once with exit status {status}.",
            "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:]),
            f"{log} has the rest.",
        )
    print(f"{program.title} is starting with {kubeconfig}; its output goes to {log}")


def _command(program: Path) -> list[str]:
    if sys.platform == "darwin":
        # Not by `open`, which does not hand on the environment.
        return [str(program / "Contents" / "MacOS" / program.stem)]
    command = [str(program)]
    if program.resolve().suffix == ".AppImage":
        if not _can_mount_appimages():
            command.append("--appimage-extract-and-run")
        if reason := _why_chromium_sandbox_fails():
            print(f"Started with --no-sandbox: {reason}.")
            command.append("--no-sandbox")
    return command


def _install_appimage(steps: Steps, lens: str, program: _Program) -> None:
    name, sha256 = program.files[platform_name()]
    target = _appimage(lens)
    with steps.step(f"{program.title} {program.version}") as step:
        fetch(f"{program.release}/{name}", sha256, target, note=step.note, executable=True)
        try:
            _link_launcher(Path.home() / ".local" / "bin" / lens, target)
        except OSError as error:
            raise UserError(
                f"{program.title} is installed, but has no launcher.", str(error), quoted(target)
            ) from error
    if not _can_mount_appimages():
        steps.say("It is unpacked at each start, because FUSE 2 is missing (sudo apt-get install libfuse2).")


def _link_launcher(launcher: Path, target: Path) -> None:
    launcher.parent.mkdir(parents=True, exist_ok=True)
    if launcher.is_symlink():
        launcher.unlink()
    if not launcher.exists():
        launcher.symlink_to(target)


def _install_on_macos(steps: Steps, program: _Program) -> None:
    with steps.step(f"{program.title} {program.version}") as step:
        if shutil.which("brew"):
            try:
                stream(["brew", "install", "--cask", program.cask], step.note)
            except CommandFailedError as error:  # such as for a cask that Homebrew has disabled since
                steps.say(f"Homebrew does not bring {program.title}: {error.output}")
            else:
                return
        name, sha256 = program.files[platform_name()]
        target = Path.home() / "Downloads" / name
        fetch(f"{program.release}/{name}", sha256, target, note=step.note)
    steps.say(f"Now move {program.title} into Applications: open {quoted(target)}")


def _confirm(program: _Program, assume_yes: bool) -> None:
    if assume_yes or not consent.can_ask():
        return
    if not consent.agrees(f"Install {program.title} {program.version}?"):
        raise UserError(f"{program.title} was not installed.", next_step=f"{just_command()} install-lens")


def _installed(lens: str) -> Path | None:
    program = _PROGRAMS[lens]
    if sys.platform == "darwin":
        apps = (folder / program.app for folder in (Path("/Applications"), Path.home() / "Applications"))
        return next((app for app in apps if app.is_dir()), None)
    target = _appimage(lens)
    if target.is_file() and sha256_of(target) == program.files[platform_name()][1]:
        return target
    found = next(filter(None, map(shutil.which, program.commands)), None)
    # Our own launcher may point at an AppImage that is broken or of an earlier release.
    if found is None or Path(found).resolve().is_relative_to(_appimage_folder()):
        return None
    return Path(found)


def _appimage_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).resolve() / "envkit" / "lens"


def _appimage(lens: str) -> Path:
    return _appimage_folder() / _PROGRAMS[lens].files[platform_name()][0]


def _say_once_that_openlens_is_old(steps: Steps) -> None:
    said = state_dir() / "openlens-notice"
    if said.exists():
        return
    steps.say("OpenLens has had no release since June 2023. Freelens is its maintained successor:")
    for line in _how_to_change().splitlines():
        steps.say(f"  {line}")
    said.touch()


def _has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _is_wsl() -> bool:
    return "WSL_DISTRO_NAME" in os.environ


def _can_mount_appimages() -> bool:
    fusermount = shutil.which("fusermount") or shutil.which("fusermount3")
    return os.access("/dev/fuse", os.R_OK | os.W_OK) and bool(fusermount) and bool(ctypes.util.find_library("fuse"))


def _why_chromium_sandbox_fails() -> str:
    """Why the sandbox of Chromium, on which the program is built, cannot work here; empty where it can.

    An AppImage cannot carry the set-uid helper that Chromium falls back to.
    """
    if os.geteuid() == 0:
        return "Chromium has no sandbox for root"
    for setting, closed in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("kernel/unprivileged_userns_clone", "0"),
    ):
        try:
            value = Path("/proc/sys", setting).read_text().strip()
        except OSError:
            continue
        if value == closed:
            name = setting.replace("/", ".")
            return f"this system forbids the user namespaces of Chromium's sandbox ({name}={value})"
    return ""
