"""Runs Copier, and says in a sentence what it tells in a traceback, which is for its developers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envkit.errors import UserError
from envkit.mirrors import read_mirrors
from envkit.paths import just_command
from envkit.process import redact, require_tool, tool_environment
from envkit.template_source import ANSWERS_FILE, Origin, without_credentials

ABORT = "git reset && git checkout . && git clean -d -i"
"""Leads back to the last commit, run in the environment's folder."""

_TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Ended:
    """How a run of Copier has ended.

    Attributes:
        status: Its exit status.
        exception: What its traceback ends with; empty where there was none.
    """

    status: int
    exception: str = ""


def run_in_terminal(command: Sequence[str], folder: Path) -> Ended:
    """Runs Copier, which may ask the person questions. A password in the template's address is not shown."""
    # uvx and pipx, which have fetched Copier already, ask the index again.
    env = tool_environment(read_mirrors(folder).package_variables())
    argv = [require_tool(command[0]), *command[1:]]
    with subprocess.Popen(
        argv, cwd=folder, env=env, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    ) as process:
        held = _shown_up_to_traceback(map(redact, process.stderr or ()))
    if process.returncode == 0:
        sys.stderr.writelines(held)
    return Ended(process.returncode, _exception(held))


def explain(ended: Ended, origin: Origin, version: str) -> UserError:
    """The error for a run that failed.

    Args:
        ended: How it has ended.
        origin: Where the template is, and which version this environment is of.
        version: Which one was to be taken.
    """
    if match := re.search(r"Validation error for question '(.+?)': (.+)", ended.exception, re.DOTALL):
        return UserError(
            f"The template does not take the answer to {match[1]}.",
            match[2].strip(),
            f"{just_command()} update -d {match[1]}=...   (nothing was changed)",
        )
    if f"Unknown revision: {origin.commit!r}" in ended.exception:
        return UserError(
            f"The template no longer has {origin.commit}, the version that this environment is of.",
            f"An update needs its files for a comparison; they were at {without_credentials(origin.source)}.",
            f"Bring the tag back there, or write the version or commit that has the same files into _commit of\n"
            f"{ANSWERS_FILE} and commit that; then {just_command()} update",
        )
    return UserError(
        f"Copier did not finish the update (exit status {ended.status}).",
        f"{ended.exception or 'What it says stands above.'}\nIt may want a newer Copier than this environment's.",
        f"git status; to go back: {ABORT}\nWith the newest Copier: uvx copier update --trust --vcs-ref {version}",
    )


def _shown_up_to_traceback(lines: Iterable[str]) -> list[str]:
    """Shows lines as they come; returns those from the first traceback on."""
    held: list[str] = []
    for line in lines:
        if held or line.startswith(_TRACEBACK):
            held.append(line)
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
    return held


def _exception(traceback: Sequence[str]) -> str:
    """What stands below the last frame: the exception, and what may follow it."""
    frames = [number for number, line in enumerate(traceback) if line.startswith("  File ")]
    if not frames:
        return ""
    below = traceback[frames[-1] + 1 :]
    start = next((number for number, line in enumerate(below) if not line.startswith(" ")), len(below))
    return "".join(below[start:]).strip()
