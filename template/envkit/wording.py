"""Words for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things, in the plural where they are not one: `1 agent`, `3 agents`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
