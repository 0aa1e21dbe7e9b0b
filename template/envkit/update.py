"""Brings a newer version of the template into this repository, by Copier. No cluster is touched.

What is wrong beforehand is said in a sentence of its own, because Copier tells of it late or in its own terms. Whatever
runs after Copier is imported before it: Copier replaces the files of this package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from envkit.copier_command import copier_command
from envkit.copier_run import Ended, explain, run_in_terminal, way_back
from envkit.errors import CommandFailedError, UserError
from envkit.paths import ROOT, just_command
from envkit.process import capture
from envkit.progress import Steps
from envkit.template_source import (
    ANSWERS_FILE,
    Origin,
    Published,
    bring_to_one_version,
    is_downgrade,
    newer_version,
    published_versions,
    read_origin,
    without_credentials,
)
from envkit.update_mark import is_open
from envkit.wording import quoted

_SECONDS = 60
_SAME_VERSION = ":current:"
"""Copier's name for the version that the environment is of already."""

Runner = Callable[[Sequence[str], Path], Ended]


class Status(IntEnum):
    """Exit statuses; 1 is an error, 2 a wrong option."""

    DONE = 0
    NEWER = 3
    CONFLICTS = 4


@dataclass(frozen=True)
class Wishes:
    """What the person wants of an update.

    Attributes:
        check: Only say whether there is a newer version.
        to: Another version than the newest; empty for that.
        data: Answers to change, each KEY=VALUE.
    """

    check: bool
    to: str
    data: tuple[str, ...]


def update(wishes: Wishes, root: Path = ROOT, run: Runner = run_in_terminal) -> Status:
    """Updates the repository, or says whether it could be.

    Args:
        wishes: What is wanted.
        root: The environment's repository.
        run: What runs Copier.

    Raises:
        UserError: The repository or the template is not in a state for an update, or Copier failed.
    """
    answers = _answers(wishes.data)
    origin = read_origin(root)
    _require_repository(root)
    if not wishes.check:
        _require_clean(root)
    published = published_versions(origin, root)
    newer = newer_version(origin, published)
    if wishes.check:
        return _report(origin, published, newer)
    version = _version_to_take(wishes, origin, published, newer)
    if not version:
        print(f"This environment is of {origin.commit}, the newest version of the template.")
        return Status.DONE
    with Steps() as steps, steps.step("Looking for Copier") as step:
        command = copier_command(step.note, root)
    # Answers that were given once are not asked for again; new questions are, where there is somebody to ask.
    asking = ["--skip-answered"] if sys.stdin.isatty() else ["--defaults"]
    data = [f"--data={item}" for item in wishes.data]
    ended = run([*command, "update", "--trust", f"--vcs-ref={version}", *asking, *data], root)
    if ended.status:
        raise explain(ended, origin, version, answers, changed=bool(_changed(root)), root=root)
    return Status.CONFLICTS if _conflicts(root) else Status.DONE


def _answers(data: Sequence[str]) -> dict[str, str]:
    """The answers by their questions. Raises UserError for what is none; Copier ends with a traceback there."""
    pairs = [(item, *item.partition("=")) for item in data]
    for item, key, equals, _ in pairs:
        if not key or not equals:
            raise UserError(
                f"-d wants KEY=VALUE, but {item!r} was given.", "", f"For instance: {just_command()} update -d agents=3"
            )
    return {key: value for _, key, _, value in pairs}


def _report(origin: Origin, published: Published, newer: str) -> Status:
    if newer:
        print(f"A newer template is there: {newer}. This environment is of {origin.commit}.")
        print(f"To take it: {just_command()} update")
        return Status.NEWER
    if published.newest and is_downgrade(origin, published.newest):
        print(f"This environment is of {origin.commit}; the template's newest version is the older {published.newest}.")
    else:
        print(f"This environment is of {origin.commit}. There is no newer version of the template.")
    return Status.DONE


def _version_to_take(wishes: Wishes, origin: Origin, published: Published, newer: str) -> str:
    """What Copier is asked for; empty where nothing is to be done."""
    wanted = wishes.to or published.newest
    if wishes.to and wishes.to not in {*published.tags, *published.branches} and not _may_be_commit(wishes.to):
        raise UserError(
            f"The template has no version {wishes.to!r}.",
            f"It has {', '.join(published.tags) or 'no tags'}.",
            f"{just_command()} update   (takes {published.newest or 'the newest commit'})",
        )
    if (wishes.to or not wishes.data) and is_downgrade(origin, wanted):
        raise UserError(
            f"{wanted} is older than {origin.commit}, which this environment is of.",
            "An update leads to newer versions only."
            if wishes.to
            else f"It is the newest version at {without_credentials(origin.source)}.",
            "git log --oneline -- " + ANSWERS_FILE + "   (to go back, revert the commit of the update)",
        )
    if wishes.to:
        return wishes.to
    return newer or (_SAME_VERSION if wishes.data else "")


def _may_be_commit(ref: str) -> bool:
    return len(ref) >= 7 and all(character in "0123456789abcdef" for character in ref)  # noqa: PLR2004


def _require_repository(root: Path) -> None:
    try:
        capture(["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"], timeout=_SECONDS)
    except CommandFailedError as error:
        raise UserError(
            f"{root} has no commit in Git.",
            "An update merges into what is committed, and the commit is the way back.",
            f'cd {quoted(root)} && git init && git add -A . && git commit -m "feat: generate the environment" .',
        ) from error


def _require_clean(root: Path) -> None:
    if open_files := _conflicts(root):
        raise _unfinished(root, open_files)
    changed = _changed(root)
    if not changed:
        return
    listed = "\n".join(changed[:10])
    commit = f"cd {quoted(root)} && git add -A . && git commit -m"
    back = way_back(root)
    if is_open(root):
        raise UserError(
            "The last update was interrupted.",
            f"What it left may lack your own edits, which come back at its end:\n{listed}",
            f"{back}\nthen: {just_command()} update\n"
            f'or, where you have gone back already and these are your own: {commit} "..." .',
        )
    if _is_of_other_version(root):
        raise UserError(
            "The last update is not committed.",
            f"Another one could not be told apart from it:\n{listed}",
            f'Where its report came at the end: {commit} "chore: update the environment" .\n'
            f"or, where it was interrupted: {back}",
        )
    raise UserError(
        "There are changes that are not committed.",
        f"An update could not be told apart from them:\n{listed}",
        f'{commit} "..." .\n'
        f"or put them aside: git stash push -u . && {just_command()} update   (git stash pop brings them back)",
    )


def _is_of_other_version(root: Path) -> bool:
    """Whether the files are of another version of the template than those of the last commit."""
    compare = ["git", "-C", str(root), "diff", "--unified=0", "HEAD", "--", ANSWERS_FILE]
    return any(line.startswith("+_commit:") for line in capture(compare, timeout=_SECONDS).splitlines())


def _unfinished(root: Path, open_files: list[str]) -> UserError:
    listed = "These have conflicts:\n" + "\n".join(open_files)
    merge = _open_merge(root)
    if merge:
        # `way_back` would leave a merge of which one side is thrown away.
        return UserError(
            f"A git {merge} is not finished.",
            listed,
            f"Finish it (git status says how), or give it up: git {merge} --abort\n"
            "Where both sides have updated, to different versions, give it up.\n"
            f"{bring_to_one_version(merge)}",
        )
    rejected = " && git clean -f -X '*.rej'" if any(path.endswith(".rej") for path in open_files) else ""
    return UserError(
        "An update is not finished.",
        listed,
        f"Finish it: cd {quoted(root)}, edit them (and delete each .rej), then\n"
        f'  git add -A . && git commit -m "chore: update the environment" .\n'
        f"or go back: {way_back(root)}{rejected}",
    )


def _open_merge(root: Path) -> str:
    """The command of Git that has stopped at a conflict; empty where none has."""
    commands = {"MERGE_HEAD": "merge", "rebase-merge": "rebase", "rebase-apply": "rebase"}
    commands |= {"CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert"}
    asked = [word for name in commands for word in ("--git-path", name)]
    paths = capture(["git", "-C", str(root), "rev-parse", *asked], timeout=_SECONDS).splitlines()
    found = (commands[name] for name, path in zip(commands, paths, strict=True) if (root / path).exists())
    return next(found, "")


def _changed(root: Path) -> list[str]:
    """Files that differ from the last commit, as `git status` lists them."""
    return capture(["git", "-C", str(root), "status", "--porcelain", "--", "."], timeout=_SECONDS).splitlines()


def _conflicts(root: Path) -> list[str]:
    unmerged = capture(["git", "-C", str(root), "ls-files", "--unmerged", "-z"], timeout=_SECONDS).split("\0")
    rejected = capture(["git", "-C", str(root), "ls-files", "--others", "-z", "--", "*.rej"], timeout=_SECONDS)
    paths = {entry.partition("\t")[2] for entry in unmerged} | set(rejected.split("\0"))
    return sorted(path for path in paths if path)
