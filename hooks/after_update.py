"""Says, once an update has merged the files, what changed and what is left to do: conflicts first, then what is due.

Runs in the updated repository, after the merge. It reads and prints; nothing is applied to a cluster.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from destination import ANSWERS_FILE
from migrate import MOVED
from questions import all_questions
from update_begins import find_envkit, note_end
from update_files import ABORT, UpdatedFiles, printable
from yaml_text import mapping_if_readable

_COMMIT = 'git add -A . && git commit -m "chore: update {what}" .'
_MOST_NAMES = 12


def report(repository: Path, answers_file: str = ANSWERS_FILE) -> str:
    """What the person who updated has to know."""
    # The rules by which files are combined are envkit's own.
    find_envkit()
    from changes_not_taken import changes_not_taken
    from update_due import due

    files = UpdatedFiles(repository)
    if not files.changed:
        return "The update changed nothing."
    old, new = (mapping_if_readable(read(answers_file)) for read in (files.before, files.after))
    scope = str(new.get("scope", "environment"))
    commit = _COMMIT.format(what="the dev container" if scope == "devcontainer" else "the environment")
    parts = ["\n".join(_summary(files, old, new))]
    if answers := list(_changed_answers(old, new)):
        parts.append("\n".join(["Other answers than before:", *(f"  {line}" for line in answers)]))
    parts += _kept_names(old, new, answers_file)
    parts += due(files, scope)
    if scope == "environment":
        parts += changes_not_taken(files, old, new)
    parts += _folder_of_commands(repository)
    if open_files := files.conflicts():
        lines = [
            f"CONFLICTS in {len(open_files)} file{_s(open_files)}, where you and the template changed the same:",
            *(f"    {path}" for path in open_files),
            "To finish: edit what stands between <<<<<<< and >>>>>>>; bring the lines of FILE.rej into FILE and delete",
            f"FILE.rej; then:\n    {commit}",
        ]
        parts.append("\n".join(lines))
    else:
        parts.append(f"Look at it (git diff HEAD), then commit it:\n    {commit}")
    parts.append(f"Nothing was applied to a cluster. To go back to where you were:\n    {ABORT}")
    return "\n\n".join(parts)


def _folder_of_commands(repository: Path) -> list[str]:
    """Where the person has to go first, whose shell may be in another folder: just and Copier run in this one."""
    called_from = os.environ.get("ENVKIT_CALLED_FROM") or os.environ.get("PWD", "")
    if not called_from or Path(called_from).resolve() == repository.resolve():
        return []
    return [f"All commands of this report are for the folder of the update:\n    cd {shlex.quote(str(repository))}"]


def _summary(files: UpdatedFiles, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {"changed": [], "new": [], "removed": []}
    for path in files.changed:
        kinds["new" if files.is_new(path) else "removed" if files.after(path) is None else "changed"].append(path)
    versions = [str(answers.get("_commit", "")) for answers in (old, new)]
    between = f" from {versions[0]} to {versions[1]}" if all(versions) and versions[0] != versions[1] else ""
    counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in kinds.items() if paths)
    yield f"The update{between} changed {len(files.changed)} file{_s(files.changed)}: {counts}."
    for kind, paths in kinds.items():
        if paths and kind != "removed":
            yield f"  {kind}: {', '.join(_grouped(paths))}"
    for path in kinds["removed"]:
        moved = f", it is {MOVED[path]} now" if path in MOVED else f" (it was: git show HEAD:./{shlex.quote(path)})"
        yield f"  removed: {path}{moved}"


def _grouped(paths: list[str]) -> list[str]:
    """The paths, or where they are many, the folders with the number of files in each."""
    if len(paths) <= _MOST_NAMES:
        return paths
    folders = Counter(path.partition("/")[0] + "/" if "/" in path else path for path in paths)
    return [f"{name} ({count})" if name.endswith("/") else name for name, count in folders.items()]


def _changed_answers(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    # What nobody is asked is only in the file where it differs from what the template has.
    hidden = {question.key: question.default for question in all_questions() if not question.ask}
    # A new question is no change where it has its default. One that is made of other answers cannot be told here.
    asked = {question.key: question.default for question in all_questions() if question.ask}
    fixed = {key: value for key, value in asked.items() if "{" not in str(value)}
    before = {**fixed, **old}
    for key in sorted({*old, *new}):
        was_answered = key in before or (key in hidden and new[key] != hidden[key])
        if not key.startswith("_") and old and before.get(key) != new.get(key) and was_answered:
            values = [answers.get(key, "the template's") for answers in (before, new)]
            yield f"{key}: {values[0]} -> {values[1]}"


def _kept_names(old: dict[str, Any], new: dict[str, Any], answers_file: str) -> Iterator[str]:
    """Says which names still have the old project's in them: an update keeps every answer that was recorded."""
    before, after = (str(answers.get("project", "")) for answers in (old, new))
    if not before or before == after:
        return
    made_of_it = [question.key for question in all_questions() if str(question.default).startswith("{{ project }}-")]
    kept = {key: str(new[key]) for key in made_of_it if key in new and old.get(key) == new[key]}
    kept = {key: name for key, name in kept.items() if name.startswith(f"{before}-")}
    if not kept:
        return
    wanted = " ".join(f"-d {key}={after}{name.removeprefix(before)}" for key, name in kept.items())
    is_usual = answers_file == ANSWERS_FILE
    command = "bin/just update" if is_usual else f"copier update --trust --answers-file {shlex.quote(answers_file)}"
    yield "\n".join(
        [
            f"Names that were made of {before} stay: {', '.join(f'{key} {name}' for key, name in kept.items())}.",
            "To change them too, once this is committed:",
            f"    {command} {wanted}",
        ]
    )


def _s(items: list[str]) -> str:
    return "" if len(items) == 1 else "s"


def main(arguments: list[str] | None = None) -> int:
    """Print the report; returns 0 even without one, because the files are merged by then."""
    parser = argparse.ArgumentParser(description="Says what an update changed: its last step, which Copier runs.")
    parser.add_argument("answers_file", help=f"the answers file of the environment, usually {ANSWERS_FILE}")
    options = parser.parse_args(arguments)
    note_end(Path.cwd())
    try:
        print(f"\n{printable(report(Path.cwd(), options.answers_file))}\n", file=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"\nThe files are updated. What changed could not be listed ({error}): git status\n",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
