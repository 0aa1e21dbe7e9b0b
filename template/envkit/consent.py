"""Asking the person at the terminal, where there is one."""

from __future__ import annotations

import sys


def can_ask() -> bool:
    """Whether a person sits at the terminal: both ends of the conversation have to be one."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str) -> bool:
    """Whether the person says yes; Enter is a yes, the end of the input (Ctrl-D) is a no."""
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return answer.endswith("\n") and answer.strip().lower() in ("", "y", "yes")
