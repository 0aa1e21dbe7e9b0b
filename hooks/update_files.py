"""The files of an environment before and after an update, as Git knows them.

An update starts from a clean tree, so the last commit is the state before it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from git_output import git_output

ABORT = "git reset -q . && git checkout . && git clean -d -i ."
"""Leads back to the commit that the update started from, run in the environment's folder.

The folder may be one of many in a repository, and what others have in theirs stays as it is.
"""

# The marker lines of `git merge-file`, which Copier labels "before updating" and "after updating".
_CONFLICT_MARKER = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)


def committed(repository: Path, path: str) -> bytes | None:
    """The content of a file in the last commit; None where there is no such file, no repository, or no Git."""
    return git_output(repository, "show", f"HEAD:./{path}")


def printable(text: str) -> str:
    r"""Text with names of files in it, so that it can be printed: bytes of a name that are not UTF-8 as `\xe9`."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


class UpdatedFiles:
    """What an update has made of an environment.

    Attributes:
        repository: The environment's folder; paths are relative to it.
        changed: The files that differ from the last commit, sorted.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        tracked = self._git("diff", "--name-only", "--relative", "--no-renames", "-z", "HEAD")
        new = self._git("ls-files", "--others", "--exclude-standard", "-z")
        self.changed = sorted({*tracked, *new})
        self._committed = frozenset(self._git("ls-tree", "-r", "--name-only", "-z", "HEAD"))

    def is_new(self, path: str) -> bool:
        """Whether there was no such file before the update."""
        return path not in self._committed

    def before(self, path: str) -> bytes | None:
        """The content before the update; None where there was no such file."""
        return None if self.is_new(path) else committed(self.repository, path)

    def after(self, path: str) -> bytes | None:
        """The content now; None where there is no such file."""
        file = self.repository / path
        return file.read_bytes() if file.is_file() else None

    def conflicts(self) -> list[str]:
        """Files whose merge a person has to finish, and rejected hunks (`*.rej`)."""
        unmerged = {entry.split("\t", 1)[1] for entry in self._git("ls-files", "--unmerged", "-z")}
        marked = {path for path in self.changed if _CONFLICT_MARKER.search(self.after(path) or b"")}
        # Git ignores rejected hunks here, so they are in no list of its own.
        ignored = self._git("ls-files", "--others", "--ignored", "--exclude-standard", "-z", "*.rej")
        rejected = {path for path in self.changed if path.endswith(".rej")}
        return sorted(unmerged | marked | set(ignored) | rejected)

    def _git(self, *arguments: str) -> list[str]:
        """The NUL-separated paths a Git command prints, from the environment's own folder on.

        They are as Python opens them: bytes of a name that are not UTF-8 are surrogates. `printable` is for people.
        """
        done = subprocess.run(["git", *arguments], cwd=self.repository, capture_output=True, check=True)
        return [path for path in os.fsdecode(done.stdout).split("\0") if path]
