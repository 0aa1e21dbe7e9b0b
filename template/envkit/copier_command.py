"""Where Copier comes from, which renders the template: uvx, pipx, or an environment of this repository's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from envkit.errors import CommandFailedError, UserError
from envkit.mirrors import read_mirrors
from envkit.paths import ROOT, just_command
from envkit.process import capture, find_tool, stream
from envkit.wording import quoted

_REQUIREMENTS = Path(__file__).with_name("copier.txt")
_SECONDS = 180
"""How long it may take to fetch Copier and have it say its version."""


def pinned_version() -> str:
    """The version of Copier that this environment was tested with."""
    match = re.search(r"(?m)^copier==(\S+)", _REQUIREMENTS.read_text(encoding="utf-8"))
    if not match:
        raise UserError(
            f"{_REQUIREMENTS} does not name Copier.",
            "",
            f"git -C {quoted(ROOT)} checkout -- envkit/{_REQUIREMENTS.name}",
        )
    return match[1]


def copier_command(note: Callable[[str], None], root: Path = ROOT) -> list[str]:
    """The beginning of a command line that runs Copier.

    uvx and pipx keep Copier in a place of their own for all repositories. Where neither is there, or they cannot fetch
    it, an environment is made of requirements whose sums are known.

    Args:
        note: Gets a sentence about what is tried.
        root: The environment's repository.

    Raises:
        UserError: Copier could not be had in any of these ways.
    """
    version = pinned_version()
    for command in _launchers(version):
        note(f"Copier {version} by {command[0]}")
        try:
            capture([*command, "--version"], env=read_mirrors(root).package_variables(), timeout=_SECONDS)
        except UserError:  # an index that is configured for pip alone is common in companies
            continue
        return command
    note(f"Copier {version} in an environment of its own")
    venv = root / ".venv-copier"
    try:
        stream([str(root / "bin" / "python-env"), str(venv), str(_REQUIREMENTS)], note)
    except CommandFailedError as error:
        raise UserError(
            f"Copier {version}, which brings the update, could not be installed.",
            error.output,
            f"Put right what it says, or install uv (https://docs.astral.sh/uv), then: {just_command()} update",
        ) from error
    return [str(venv / "bin" / "copier")]


def _launchers(version: str) -> Iterator[list[str]]:
    if find_tool("uvx"):
        yield ["uvx", "--from", f"copier=={version}", "copier"]
    if find_tool("pipx"):
        yield ["pipx", "run", "--spec", f"copier=={version}", "copier"]
