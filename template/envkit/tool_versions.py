"""Which host tools the recipes call, which versions of them are right, and which are on this machine."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envkit.errors import UserError
from envkit.paths import ROOT, TOOLS_BIN
from envkit.process import tool_environment
from envkit.provider import is_existing
from envkit.wording import quoted

MISE_TOML = ROOT / "mise.toml"

_QUERY_SECONDS = 10.0
"""A version is printed within milliseconds; what takes this long is broken."""


@dataclass(frozen=True)
class HostTool:
    """A program that the recipes call.

    Attributes:
        name: The executable's name; for `python` several names are tried.
        accepted: The versions that work.
        reason: Why these and no others.
        version_arguments: What makes it print its version.
        version_pattern: Finds the version in what it prints.
        needed_by_create: `create` cannot do without it.
        absent_on: Values of `sys.platform` for which the tool does not exist.
    """

    name: str
    accepted: SpecifierSet
    reason: str
    version_arguments: tuple[str, ...]
    version_pattern: str = r"(\d+\.\d+(?:\.\d+)?)"
    needed_by_create: bool = False
    absent_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolStatus:
    """What was found of a tool.

    Attributes:
        tool: The tool.
        path: The executable that the recipes would call, or None.
        version: Its version, or None where it is missing or does not say.
        pinned: The version that `install` would bring; empty where the distribution decides.
        ok: It can be used, or does not exist for this platform and is not needed here.
        note: What a person should know about it; may be empty.
    """

    tool: HostTool
    path: Path | None
    version: str | None
    pinned: str
    ok: bool
    note: str = ""

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.tool.name

    @property
    def accepted(self) -> str:
        """The range of right versions, in words a person types: `>=5.9,<6`."""
        return ",".join(sorted(map(str, self.tool.accepted), reverse=True))

    @property
    def is_link(self) -> bool:
        """`install` brought it: it lies in this repository's own folder of tools."""
        return self.path is not None and self.path.parent == TOOLS_BIN

    @property
    def needs_install(self) -> bool:
        """It is missing, has a wrong version, or was brought by `install` and the pin has moved since."""
        follows_pin = not (self.is_link and self.pinned) or _same_release(self.version or "", self.pinned)
        return not self.ok or not follows_pin


def pins() -> dict[str, str]:
    """The pinned version of each tool that mise brings.

    Raises:
        UserError: `mise.toml` is missing or broken.
    """
    return {name: str(version) for name, version in _mise_toml()["tools"].items()}


def ansible_python_pin() -> str:
    """The Python that is fetched for Ansible where there is none, for example `3.13`. Raises as `pins`."""
    return str(_mise_toml()["vars"]["ansible_python"])


@functools.cache
def host_tools() -> dict[str, HostTool]:
    """Every host tool by its name; k3d only where it makes the cluster. Raises as `pins`."""
    tools = (
        HostTool(
            "k3d",
            SpecifierSet(">=5.9,<6"),
            "k3d.yaml is in the format of k3d 5, and tested with 5.9",
            ("version",),
            r"k3d version v(\d+\.\d+\.\d+)",
            needed_by_create=True,
        ),
        HostTool(
            "kubectl",
            SpecifierSet(">=1.35,<1.38"),
            "Kubernetes supports clients within one minor version of the cluster, which is 1.36",
            ("version", "--client"),
            r"v(\d+\.\d+\.\d+)",
            needed_by_create=True,
        ),
        HostTool(
            "helm",
            SpecifierSet(">=4.0,<5"),
            "the flags of Helm 4 differ from those of Helm 3",
            ("version", "--short"),
            r"v(\d+\.\d+\.\d+)",
        ),
        HostTool(
            "just",
            SpecifierSet(">=1.55"),
            "the justfile uses a setting that came with 1.55",
            ("--version",),
        ),
        HostTool(
            "node",
            SpecifierSet(">=20"),
            "the dev container CLI needs Node.js 20",
            ("--version",),
        ),
        HostTool(
            "buildah",
            SpecifierSet(">=1.23"),
            "1.23 is what the oldest supported Ubuntu has",
            ("--version",),
            absent_on=("darwin",),
        ),
        HostTool(
            "python",
            SpecifierSet(">=3.12"),
            "ansible-core 2.21 needs Python 3.12",
            ("--version",),
        ),
        HostTool(
            "mise",
            SpecifierSet(f">={_mise_toml()['min_version']}"),
            "older ones do not go by mise.lock",
            ("--version",),
        ),
    )
    return {tool.name: tool for tool in tools if tool.name != "k3d" or not is_existing()}


def tool_statuses(names: Collection[str] | None = None) -> list[ToolStatus]:
    """Looks for the tools, asking all of them at the same time; all but mise, which is only a means.

    Args:
        names: The tools to look for, where it is not all.
    """
    known = host_tools()
    wanted = [known[name] for name in (names if names is not None else [n for n in known if n != "mise"])]
    with ThreadPoolExecutor(max_workers=len(wanted) or 1) as pool:
        return list(pool.map(_status, wanted))


def is_right_beyond_links(tool: HostTool) -> bool:
    """Whether the next executable on PATH, behind the ones that `install` brought, is a right one."""
    path = next((path for path in _candidates(tool.name) if path.parent != TOOLS_BIN), None)
    return path is not None and _is_accepted(tool, _version_of(tool, path))


def reported_version(command: list[str], pattern: str) -> str | None:
    """The version that a program prints, or None where it fails, hangs or prints none."""
    try:
        done = subprocess.run(
            command,
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_QUERY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match and not done.returncode else None


def _status(tool: HostTool) -> ToolStatus:
    pinned = _pinned(tool.name)
    if sys.platform in tool.absent_on:
        return ToolStatus(tool, None, None, pinned, ok=True, note="does not exist for macOS: push with Docker there")
    seen: tuple[Path | None, str | None] = (None, None)
    for path in _usable(tool.name):
        version = _version_of(tool, path)
        if _is_accepted(tool, version):
            return ToolStatus(tool, path, version, pinned, ok=True)
        if seen[0] is None:
            seen = (path, version)
    note = "is there but does not run" if seen[0] and not seen[1] else ""
    return ToolStatus(tool, *seen, pinned, ok=False, note=note)


def _version_of(tool: HostTool, path: Path) -> str | None:
    return reported_version([str(path), *tool.version_arguments], tool.version_pattern)


def _is_accepted(tool: HostTool, version: str | None) -> bool:
    return version is not None and Version(version) in tool.accepted


def _usable(name: str) -> Iterator[Path]:
    """The executables that could be called: of most tools the first on PATH, one behind it is no help."""
    if name == "python":
        yield from _candidates(name)
        return
    yield from itertools.islice(_candidates(name), 1)
    if name == "just" and os.access(ROOT / ".venv" / "bin" / "just", os.X_OK):
        yield ROOT / ".venv" / "bin" / "just"


def _candidates(name: str) -> Iterator[Path]:
    """The executables of that name, in the order in which they would be used."""
    yield from _pythons() if name == "python" else _on_path(name)


def _pythons() -> Iterator[Path]:
    for name in ("python3", "python3.14", "python3.13", "python3.12"):
        # Behind a shim that fails may be one that works.
        yield from _on_path(name)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    with suppress(OSError):  # it is closed, as where the variable is another user's
        for minor in ("3.14", "3.13", "3.12"):
            yield from sorted(pyenv.glob(f"versions/{minor}.*/bin/python3"))
    for uv in _on_path("uv"):
        query = [str(uv), "python", "find", "--no-project", "--no-python-downloads", ">=3.12"]
        if found := reported_version(query, r"(?m)^(.+)$"):
            yield Path(found)


def _on_path(name: str) -> Iterator[Path]:
    for folder in tool_environment()["PATH"].split(os.pathsep):
        path = Path(folder or ".", name)
        # Unlike the method of a path, this takes what lies in a closed folder for no file, as a shell does.
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            yield path


def _pinned(name: str) -> str:
    if name == "python":
        return ansible_python_pin()
    return pins().get(name, "")


def _same_release(version: str, pinned: str) -> bool:
    return version == pinned or version.startswith(f"{pinned}.")


def mise_lock() -> dict[str, Any]:
    """The content of `mise.lock`. Raises as `pins`."""
    return _read(MISE_TOML.with_suffix(".lock"))


@functools.cache
def _mise_toml() -> dict[str, Any]:
    return _read(MISE_TOML)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read, so the pinned versions of the tools are not known.",
            str(error),
            f"git -C {quoted(ROOT)} checkout -- {path.name}",
        ) from error
