"""Notes in Git's own folder that an update has begun, until it has ended.

An update first makes every file as the template has it, and brings the team's edits back afterwards. The files of one
that was interrupted may lack them, so they are no changes that are to be committed.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path


def begin(root: Path) -> None:
    """Notes it. Where that cannot be written the update is made all the same."""
    with suppress(OSError, subprocess.CalledProcessError):
        file, commit = _note(root)
        file.write_text(commit, encoding="utf-8")


def end(root: Path) -> None:
    """Takes the note back."""
    with suppress(OSError, subprocess.CalledProcessError):
        _note(root)[0].unlink(missing_ok=True)


def is_open(root: Path) -> bool:
    """Whether an update has begun at the last commit, and not ended."""
    try:
        file, commit = _note(root)
        return file.read_text(encoding="utf-8") == commit
    except (OSError, subprocess.CalledProcessError):
        return False


def _note(root: Path) -> tuple[Path, str]:
    """The file, one for each environment of a repository and for each worktree, and the last commit."""
    asked = ["git", "rev-parse", "--show-prefix", "--git-path", "envkit-update", "HEAD"]
    done = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    prefix, path, commit = done.stdout.splitlines()
    file = root / path
    return file.with_name("-".join([file.name, *prefix.split("/")]).rstrip("-")), commit
