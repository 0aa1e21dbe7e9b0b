"""Words for people."""

from __future__ import annotations

import shlex
from pathlib import Path


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things, in the plural where they are not one: `1 agent`, `3 agents`; `plural` where that has no s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def quoted(path: Path) -> str:
    """A path as it goes into a command that somebody copies: in quotes where the shell would take it apart."""
    return shlex.quote(str(path))
