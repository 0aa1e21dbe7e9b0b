"""The last step before an update changes files: refuses what would end badly, and notes that it has begun.

Copier looks for changes in the environment's folder alone, but works in the whole repository. Runs in the repository
that is to be updated, as a migration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from git_output import git_output


def find_envkit() -> None:
    """Makes envkit's modules importable: they lie in the template, and are on no path at first."""
    template = str(Path(__file__).resolve().parent.parent / "template")
    if template not in sys.path:
        sys.path.insert(0, template)


def note_end(repository: Path) -> None:
    """Notes that the files are merged."""
    find_envkit()
    from envkit.update_mark import end

    end(repository)


def refusal(repository: Path) -> str:
    """Why an update cannot begin, and what to do; empty where it can."""
    if (unmerged := _unmerged(repository)) or _has_open_merge(repository):
        files = "".join(f"    {path}\n" for path in unmerged)
        return (
            f"A merge is not finished in this repository{f', with conflicts in:{chr(10)}{files}' if files else '. '}"
            "To finish it: git status says how. To give it up: git merge --abort"
        )
    if rejected := _rejected(repository):
        files = "".join(f"    {path}\n" for path in rejected)
        return (
            f"Rejected hunks of an earlier update or patch are in this repository:\n{files}"
            "Copier takes each for its own: it would take the file beside it back to the last commit.\n"
            "Bring their lines into the files and delete them, or move them elsewhere."
        )
    return ""


def _unmerged(repository: Path) -> list[str]:
    listed = git_output(repository, "ls-files", "--unmerged", "-z", "--", ":/")
    return sorted({entry.rpartition("\t")[2] for entry in _entries(listed)})


def _rejected(repository: Path) -> list[str]:
    """What Copier finds, which asks Git in this way: no files of a folder that is ignored as a whole, for instance."""
    listed = _entries(git_output(repository, "status", "--porcelain", "--ignored", "-z"))
    return sorted(entry[3:] for entry in listed if entry.startswith(("?? ", "!! ")) and entry.endswith(".rej"))


def _entries(listed: bytes | None) -> list[str]:
    return [entry for entry in (listed or b"").decode(errors="replace").split("\0") if entry]


def _has_open_merge(repository: Path) -> bool:
    return git_output(repository, "rev-parse", "--verify", "--quiet", "MERGE_HEAD") is not None


def main() -> int:
    """Returns 1, and says why, where the update cannot begin."""
    repository = Path.cwd()
    if why := refusal(repository):
        print(f"\n{why}\nNothing was changed.\n", file=sys.stderr)
        return 1
    find_envkit()
    from envkit.update_mark import begin

    begin(repository)
    return 0


if __name__ == "__main__":
    sys.exit(main())
