"""mise, which brings pinned tools: where it comes from, how it is called, what it has installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from envkit.download import fetch, platform_name
from envkit.errors import CommandFailedError, UserError
from envkit.mirrors import read_mirrors
from envkit.paths import ROOT, TOOLS_BIN, just_command
from envkit.process import capture, find_tool, stream
from envkit.tool_versions import MISE_TOML, mise_lock, pins, tool_statuses
from envkit.wording import quoted

VERSION = "2026.10.7"
"""The mise that is fetched where there is none; mise.toml says which ones are too old."""

_SHA256 = {
    "linux-amd64": "6eb1b890e90818417ca34c90dbbd47881917d5cd199f31b63b062ea9c6b18d85",
    "linux-arm64": "c7108d85a32ba17e4747d31d4a42f39f0c134f16211e204e8ef0a49d4f518fe1",
    "darwin-amd64": "c3355f0c56d1b9fe73a2ba30e034b4e483541b25b1ad812a87440abfaeec8baa",
    "darwin-arm64": "f5171e341518a57e8c4e9280e28443e35d66212c51164c83be76794e0a78b014",
}
_ASSETS = {
    "linux-amd64": "linux-x64",
    "linux-arm64": "linux-arm64",
    "darwin-amd64": "macos-x64",
    "darwin-arm64": "macos-arm64",
}
_EXECUTABLES = {"node": ("node", "npm", "npx"), "uv": ("uv", "uvx")}


def release_url() -> str:
    """Where the pinned mise for this machine is published. Raises UserError where there is none."""
    return f"https://github.com/jdx/mise/releases/download/v{VERSION}/mise-v{VERSION}-{_ASSETS[platform_name()]}"


def find_mise() -> Path | None:
    """A mise that goes by mise.lock, or None."""
    (status,) = tool_statuses(["mise"])
    return status.path if status.ok else None


def fetch_mise(note: Callable[[str], None]) -> Path:
    """Brings the pinned mise into this repository's folder of tools.

    Raises:
        UserError: It could not be fetched, has a wrong sum, or MISE_OFFLINE forbids it.
    """
    if is_offline():
        raise UserError(
            f"mise {VERSION} would have to be downloaded, and MISE_OFFLINE forbids that.",
            f"It is published at {release_url()}",
            f"Put it on PATH by other means, or unset MISE_OFFLINE; then {just_command()} install",
        )
    target = TOOLS_BIN / "mise"
    fetch(release_url(), _SHA256[platform_name()], target, note=note, executable=True)
    return target


def is_offline() -> bool:
    """Whether the person told mise to stay off the network."""
    return os.environ.get("MISE_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def install(mise: Path, names: Sequence[str], note: Callable[[str], None]) -> None:
    """Has mise install pinned tools. It goes on after one that fails.

    Raises:
        CommandFailedError: At least one could not be installed; the others are there.
    """
    try:
        stream([str(mise), "-C", str(ROOT), "install", *names], note, env=_environment())
    except CommandFailedError as error:
        if "Checksum mismatch" in error.output:
            advice = "It was thrown away. Find out who changes the file (a mirror, a proxy), or who changed mise.lock"
        else:
            advice = "Check the network, or point mise at a mirror (MISE_URL_REPLACEMENTS)"
        raise CommandFailedError(
            "mise could not install everything.",
            status=error.status,
            output=error.output,
            next_step=f"{advice}; then {just_command()} install",
        ) from error


def link(mise: Path, name: str) -> bool:
    """Links the executables of an installed tool into this repository's folder of tools.

    Returns whether the pinned version is installed.
    """
    tool = f"{name}@{pins()[name]}"
    for executable in _EXECUTABLES.get(name, (name,)):
        try:
            command = [str(mise), "-C", str(ROOT), "which", executable, "--tool", tool]
            target = Path(capture(command, env=_environment()).strip())
        except CommandFailedError:
            return False
        if not target.is_file():
            return False
        link_executable(executable, target)
    return True


def link_executable(name: str, target: Path) -> None:
    """Makes or replaces one link in this repository's folder of tools; nobody sees it missing meanwhile."""
    TOOLS_BIN.mkdir(parents=True, exist_ok=True)
    fresh = TOOLS_BIN / f".{name}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(TOOLS_BIN / name)


def activation_hint() -> str:
    """How a person gets the pinned tools in their own shell."""
    shell = Path(os.environ.get("SHELL", "")).name
    shell = shell if shell in ("bash", "zsh", "fish") else "bash"
    mise = find_tool("mise") or str(TOOLS_BIN / "mise")
    command = "mise" if Path(mise).parent != TOOLS_BIN else quoted(Path(mise))
    if shell == "fish":
        return f"{command} activate fish | source"
    return f'eval "$({command} activate {shell})"'


def _environment() -> dict[str, str]:
    # MISE_YES answers every question with yes, also the one whether a file is trusted. So that it
    # trusts nothing but this repository's file, the search for files ends here: mise would run what a
    # mise.toml in a folder further up says.
    return {
        "MISE_TRUSTED_CONFIG_PATHS": _with("MISE_TRUSTED_CONFIG_PATHS", MISE_TOML),
        "MISE_CEILING_PATHS": _with("MISE_CEILING_PATHS", ROOT.parent),
        "MISE_YES": "1",
        "NO_COLOR": "1",
        **_replacements(),
    }


def _replacements() -> dict[str, str]:
    """Tells mise of the download mirror, unless the person does; it fetches nothing but what mise.lock names."""
    mirrors = read_mirrors()
    is_http = mirrors.downloads.startswith(("https://", "http://"))  # mise knows no other
    if not is_http or os.environ.get("MISE_URL_REPLACEMENTS"):
        return {}
    hosts = sorted({f"https://{urlsplit(url).hostname}" for url in _locked_urls()})
    return {"MISE_URL_REPLACEMENTS": json.dumps({host: mirrors.download(host) for host in hosts})}


def _locked_urls() -> Iterator[str]:
    for entries in mise_lock().get("tools", {}).values():
        for entry in entries:
            yield from (part["url"] for name, part in entry.items() if name.startswith("platforms.") and "url" in part)


def _with(variable: str, path: Path) -> str:
    return os.pathsep.join(filter(None, [os.environ.get(variable, ""), str(path)]))
