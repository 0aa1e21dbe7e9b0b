"""Says, once an update has merged the files, what is left to do: conflicts first, then what is due.

Runs in the updated repository, after the merge. It reads and prints; nothing is applied to a cluster.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# What a change of a file asks for, apart from the commit.
DUE = {
    "k3d.yaml": "k3d.yaml changed. A cluster that exists keeps its old configuration until:\n"
    "    bin/just delete && bin/just create",
    ".env.example": ".env.example changed. Compare it with your .env:\n    diff .env.example .env",
    "runner/": "The runners' image changed. Where runners are installed:\n"
    "    bin/just build-runner && bin/just install-arc",
    "helm/arc-": "The runners' values changed. Where runners are installed:\n    bin/just install-arc",
    "ansible/group_vars/": "The version or place of the runners' charts changed. Where runners are installed:\n"
    "    bin/just install-arc",
}
# The marker lines of `git merge-file`, which Copier labels "before updating" and "after updating".
CONFLICT_MARKER = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)


def _git(repository: Path, *arguments: str) -> list[str]:
    """The NUL-separated paths a Git command prints, from the repository's own folder on."""
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, check=True)
    return [path for path in done.stdout.decode().split("\0") if path]


def changed_files(repository: Path) -> list[str]:
    """Files that differ from the last commit: the update's, because it starts from a clean tree."""
    tracked = _git(repository, "diff", "--name-only", "--relative", "-z", "HEAD")
    new = _git(repository, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({*tracked, *new})


def conflicts(repository: Path) -> list[str]:
    """Files whose merge a person has to finish, and rejected hunks (`*.rej`)."""
    unmerged = {entry.split("\t", 1)[1] for entry in _git(repository, "ls-files", "-u", "-z")}
    marked = {
        path
        for path in changed_files(repository)
        if (repository / path).is_file() and CONFLICT_MARKER.search((repository / path).read_bytes())
    }
    # Git ignores rejected hunks here, so they are in no list of its own.
    ignored = _git(repository, "ls-files", "--others", "--ignored", "--exclude-standard", "-z", "*.rej")
    rejected = {path for path in changed_files(repository) if path.endswith(".rej")}
    return sorted(unmerged | marked | set(ignored) | rejected)


def report(repository: Path) -> str:
    """What the person who updated has to know."""
    changed = changed_files(repository)
    if not changed:
        return "The update changed nothing."
    lines = [f"The update changed {len(changed)} file{'s' if len(changed) > 1 else ''}."]
    if open_files := conflicts(repository):
        lines += ["", "These have conflicts. Edit them, then: git add FILE"]
        lines += [f"    {path}" for path in open_files]
    if due := [sentence for path, sentence in DUE.items() if any(name.startswith(path) for name in changed)]:
        lines += ["", *due]
    return "\n".join(lines)


def main() -> int:
    """Print the report; returns 0 even without one, because the files are merged by then."""
    try:
        print(f"\n{report(Path.cwd())}\n", file=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"\nThe files are updated. What changed could not be listed ({error}): git status\n",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
