"""Words for people."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things, in the plural where they are not one: `1 agent`, `3 agents`; `plural` where that has no s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"
