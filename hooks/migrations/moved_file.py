"""Carries a team's edits along where the template has moved a file.

Copier takes such a move for a removed file and a new one, and so it removes the team's edits with the old file. Here
the two are merged as if the file had been in its new place already.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LABELS = ("-L", "before updating", "-L", "last update", "-L", "after updating")
"""What Copier writes beside the markers of a conflict."""

_MOST_CONFLICTS = 127
"""The highest exit status of `git merge-file` that is a number of conflicts; above it is an error."""


@dataclass(frozen=True)
class Update:
    """An update whose files are merged.

    Attributes:
        repository: The environment; its last commit is the state before the update.
        template: A clone of the template with the new version checked out.
        previous: The template's commit that the environment was made of.
    """

    repository: Path
    template: Path
    previous: str


def move_file(update: Update, old: str, new: str) -> str:
    """Merges the team's edits of the file `old` into `new`, which the update has made; returns what was done.

    The template has to hold both files as they are, not rendered. Does nothing, and returns an empty string, where the
    previous version has no such file, where the team has not touched it, and where all this is done already.
    """
    base = _show(update.template, f"{update.previous}:template/{old}")
    theirs_file, target = update.template / "template" / new, update.repository / new
    if base is None or not theirs_file.is_file():
        return ""
    ours = _show(update.repository, f"HEAD:./{old}")
    theirs = theirs_file.read_bytes()
    is_untouched = target.is_file() and target.read_bytes() == theirs
    if ours == base or not is_untouched:
        # An edit that could not go into the new file, because the team has one of its own there, stays in the old one.
        return _keep(update.repository / old, ours, new) if ours not in (None, base) and _is_own(update, new) else ""
    if ours is None:
        target.unlink()
        return f"{old} is called {new} now. You had removed it, so the new one is removed as well."
    merged, has_conflicts = _merge(ours, base, theirs)
    target.write_bytes(merged)
    (update.repository / old).unlink(missing_ok=True)
    if has_conflicts:
        _mark_conflict(update.repository, new, base, ours, theirs)
    return f"{old} is called {new} now. Your edits are in {new}."


def _keep(file: Path, content: bytes | None, new: str) -> str:
    if content is None or file.exists():
        return ""
    file.write_bytes(content)
    return f"{file.name} is called {new} in the template now, and you have a {new} already. Join them by hand."


def _is_own(update: Update, path: str) -> bool:
    """Whether the team had a file of this name before the update."""
    return _show(update.repository, f"HEAD:./{path}") is not None


def _merge(ours: bytes, base: bytes, theirs: bytes) -> tuple[bytes, bool]:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, content in (("ours", ours), ("base", base), ("theirs", theirs)):
            files.append(Path(folder) / name)
            files[-1].write_bytes(content)
        done = subprocess.run(["git", "merge-file", "-p", *_LABELS, *map(str, files)], capture_output=True, check=False)
    if done.returncode > _MOST_CONFLICTS:
        raise RuntimeError(done.stderr.decode(errors="replace").strip())
    return done.stdout, bool(done.returncode)


def _mark_conflict(repository: Path, path: str, base: bytes, ours: bytes, theirs: bytes) -> None:
    """Has Git list the file as unmerged, so that it is not committed unseen."""
    prefix = _git(repository, "rev-parse", "--show-prefix").decode().strip()
    lines = [f"0 {'0' * 40}\t{prefix}{path}"]
    for stage, content in enumerate((base, ours, theirs), start=1):
        blob = _git(repository, "hash-object", "-w", "--stdin", stdin=content).decode().strip()
        lines.append(f"100644 {blob} {stage}\t{prefix}{path}")
    # The paths are those from the top of the repository, wherever the command runs.
    _git(repository, "update-index", "--index-info", stdin="\n".join([*lines, ""]).encode())


def _show(repository: Path, revision: str) -> bytes | None:
    """The content of a file in a commit; None where it is not there."""
    done = subprocess.run(["git", "show", revision], cwd=repository, capture_output=True, check=False)
    return None if done.returncode else done.stdout


def _git(repository: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(["git", *arguments], cwd=repository, input=stdin, capture_output=True, check=True).stdout
