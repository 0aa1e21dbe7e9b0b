"""The folder a new environment goes to: whether it is free, what to clean up in it, and its first commit."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ANSWERS_FILE = ".copier-answers.yml"
SNIPPET_ANSWERS_FILE = ".copier-answers.devcontainer.yml"
_NO_FILES = {".git", ".DS_Store"}
"""What the folder of a new environment may hold. Finder puts the second into every folder that a person looks at."""

COMMIT_MESSAGE = "feat: generate the environment"
SNIPPET_COMMIT_MESSAGE = "feat: reach the cluster from the dev container"


class OccupiedError(Exception):
    """The folder cannot be used; the text says why and what to do instead."""


@dataclass(frozen=True)
class Destination:
    """A free folder, with what was there before anything was generated."""

    path: Path
    existing: Path
    """The folder itself if it was there, else the nearest one above that was."""
    kept: frozenset[str]
    """What the folder held already."""

    def remove_leftovers(self) -> None:
        """Remove what a failed generation left, but nothing that was there before."""
        absolute = self.path.absolute()
        for entry in list(absolute.iterdir()) if absolute.is_dir() else []:
            if entry.name in self.kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for folder in (absolute, *absolute.parents):
            if folder == self.existing:
                break
            if folder.is_dir():
                folder.rmdir()

    def first_commit(self, message: str = COMMIT_MESSAGE) -> list[str]:
        """Make a Git repository of a folder that lies in none; returns the commands that are left to do.

        Updates compare with what is committed, so an environment without a commit cannot be updated.
        """
        by_hand = f'git add -A . && git commit -m "{message}"'
        if self._git("rev-parse", "--is-inside-work-tree"):
            return [by_hand]
        if not self._git("init", "--quiet", "--initial-branch=main"):
            return [f"git init && {by_hand}"]
        # Where no name is configured Git has none for the author, and none is made up for it here.
        if not (self._git("var", "GIT_AUTHOR_IDENT") and self._git("var", "GIT_COMMITTER_IDENT")):
            return ['git config user.name "YOUR NAME" && git config user.email "YOUR ADDRESS"', by_hand]
        committed = self._git("add", "--all") and self._git("commit", "--quiet", "--message", message)
        return [] if committed else [by_hand]

    def _git(self, *arguments: str) -> bool:
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, check=False)
        return done.returncode == 0


def free_folder(path: Path, *, template: Path, scope: object, answers_file: str | None = None) -> Destination:
    """The destination at this path.

    A folder is free when it is missing, empty, or a Git repository without files. A dev container
    snippet (`scope`) goes into a repository that is there: with all its files committed, because the
    snippet changes one of them.

    Args:
        path: The folder.
        template: The template's own clone.
        scope: What is to be generated.
        answers_file: The name of the answers file where it was chosen.

    Raises:
        OccupiedError: It is not free, or lies inside the template's own clone.
    """
    absolute = path.absolute()
    link = next((folder for folder in (absolute, *absolute.parents) if folder.is_symlink()), None)
    if link and not link.exists():
        raise OccupiedError(
            f"{link} is a link to {link.readlink()}, which is not there. Make that folder, or choose another one,"
            " then repeat the command."
        )
    if absolute.resolve().is_relative_to(template):
        raise OccupiedError(
            f"{path} lies inside the template's own clone. Choose a folder outside it,"
            f" for instance {template.parent}/env."
        )
    try:
        entries = frozenset(entry.name for entry in absolute.iterdir())
    except FileNotFoundError:
        existing = next(parent for parent in absolute.parents if parent.exists())
        return Destination(path, existing, frozenset())
    except NotADirectoryError as error:
        raise OccupiedError(f"{path} is not a folder. Choose another one, then repeat the command.") from error
    except OSError as error:
        raise OccupiedError(f"{path} cannot be read: {error.strerror}.") from error
    destination = Destination(path, absolute, entries)
    if scope == "devcontainer":
        _refuse_unready_service(destination, answers_file or SNIPPET_ANSWERS_FILE)
        return destination
    in_the_way = entries - _NO_FILES
    if ANSWERS_FILE in in_the_way:
        # It finds a Copier by itself; environments of the first releases do not have it.
        has_update = (absolute / "envkit" / "update.py").is_file()
        command = "bin/just update" if has_update else "copier update --trust"
        raise OccupiedError(
            f"{path} was generated already ({ANSWERS_FILE} is there). To bring it up to date:\n\n"
            f"    cd {shlex.quote(str(path))} && {command}\n"
        )
    if in_the_way:
        raise OccupiedError(
            f"{path} exists and is not empty. Choose another folder, or empty this one, then repeat the command.\n"
            "For the dev container snippet of a service repository that is there: -d scope=devcontainer"
        )
    return destination


def _refuse_unready_service(service: Destination, answers_file: str) -> None:
    """A repository is ready when Git can undo whatever is done to it, and it has no such snippet yet."""
    path = service.path
    if (path / answers_file).exists():
        raise OccupiedError(
            f"{path} has the snippet already ({answers_file} is there). To bring it up to date:\n\n"
            f"    cd {shlex.quote(str(path))} && copier update --trust --answers-file {shlex.quote(answers_file)}\n\n"
            "For a second one, beside it: --answers-file .copier-answers.NAME.yml"
            " -d devcontainer_file=.devcontainer/NAME/devcontainer.json"
        )
    if not service.kept - {".git"}:
        return
    status = subprocess.run(["git", "status", "--porcelain", "--", "."], cwd=path, capture_output=True, check=False)
    if status.returncode:
        raise OccupiedError(
            f"{path} is no Git repository, so a change of its dev container could not be undone. Make it one:\n\n"
            f'    cd {shlex.quote(str(path))} && git init && git add -A && git commit -m "first commit"\n'
        )
    if status.stdout:
        raise OccupiedError(
            f"{path} has changes that are not committed. Commit them, or put them aside:\n\n"
            f"    cd {shlex.quote(str(path))} && git stash --include-untracked\n"
        )
