"""What the template has changed in files that the team no longer has, because it removed them or moved them elsewhere.

Copier leaves such files out of an update without a word, and a fix in one of them would never be noticed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from git_output import git_output
from pathspec import GitIgnoreSpec
from questions import excluded_patterns
from update_files import UpdatedFiles

from envkit.template_source import without_credentials

_TEMPLATE = Path(__file__).resolve().parent.parent
_FOLDER = "template/"
_SUFFIX = ".jinja"
_MOST_FILES = 12


def changes_not_taken(
    files: UpdatedFiles, old: Mapping[str, Any], new: Mapping[str, Any], template: Path = _TEMPLATE
) -> list[str]:
    """The paragraph of the report that names these files; none where there are none, or where it cannot be told.

    Args:
        files: The environment after the update.
        old: Its answers before the update.
        new: Its answers now.
        template: The template's clone, with the new version checked out.
    """
    before, after = (str(answers.get("_commit", "")) for answers in (old, new))
    if not before or not after:
        return []
    left_out = [GitIgnoreSpec.from_lines(excluded_patterns(answers)) for answers in (old, new)]
    sources = {
        path: source
        for source, path in _changed(template, before)
        if _is_gone(files, path) and not any(spec.match_file(path) for spec in left_out)
    }
    if not sources:
        return []
    shown = list(sources)[:_MOST_FILES]
    lines = [
        "The template has changed these too, which you have removed or moved; the changes are not in your files:",
        *(f"    {path}{_place(files.repository, path)}" for path in shown),
        *([f"    and {len(sources) - len(shown)} more"] if len(sources) > len(shown) else []),
        _command(str(new.get("_src_path", "")), before, after, [sources[path] for path in shown]),
    ]
    return ["\n".join(lines)]


def _changed(template: Path, before: str) -> Iterator[tuple[str, str]]:
    """The template's files that both versions have, with different content, and what they are in an environment."""
    versions = ("--end-of-options", before, "HEAD")
    options = ("--name-only", "--no-renames", "--diff-filter=M", "-z")
    printed = git_output(template, "diff", *options, *versions, "--", _FOLDER)
    for source in os.fsdecode(printed or b"").split("\0"):
        # A name that is made of answers belongs to a file without which an environment is none.
        if source and "{" not in source:
            yield source, source.removeprefix(_FOLDER).removesuffix(_SUFFIX)


def _is_gone(files: UpdatedFiles, path: str) -> bool:
    # A file that Git ignores is there as well.
    return files.is_new(path) and not os.path.lexists(files.repository / path)


def _place(repository: Path, path: str) -> str:
    """Where the team has the file now; empty where it was removed, or where Git's history does not tell."""
    asked = ("--format=%H", "--diff-filter=D", "--no-renames", "--max-count=1", "--", path)
    commit = os.fsdecode(git_output(repository, "log", *asked) or b"").strip()
    if not commit:
        return ""
    options = ("--format=", "--name-status", "--find-renames", "--diff-filter=R", "--relative", "-z")
    words = os.fsdecode(git_output(repository, "show", *options, commit) or b"").split("\0")
    moved = dict(zip(words[1::3], words[2::3], strict=False))
    name = moved.get(path, "")
    return f", which is {name} now" if name and os.path.lexists(repository / name) else ""


def _command(source: str, before: str, after: str, paths: list[str]) -> str:
    diff = shlex.join(["diff", before, after, "--", *paths])
    if Path(source).is_dir():
        return f"To see them:\n    git -C {shlex.quote(source)} {diff}"
    return f"To see them, in a clone of {without_credentials(source)}:\n    git {diff}"
