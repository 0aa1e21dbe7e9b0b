"""What a copy that is refused at its end leaves in the folder, and how to go on."""

from __future__ import annotations

import shlex
from pathlib import Path

from git_output import git_output


def what_is_left(answers_file: Path, scope: str) -> str:
    """What to do where the answers of a copy were refused, once those that Copier has written are taken out.

    Copier removes a folder that it has made itself; one that was there before keeps what was rendered into it.
    """
    if scope == "devcontainer":
        return f"{what_is_left_of_snippet(answers_file)} Correct the answers, then repeat the command."
    if _is_tracked(answers_file):
        return (
            "The files were written with these answers. Correct them, then repeat the command."
            f" The answers of before: {_checkout(answers_file)}"
        )
    again = (
        "Correct the answers, then repeat the command. A folder that was there before has files in it now: the command"
        " asks for each that differs."
    )
    if git_output(Path.cwd(), "rev-parse", "--is-inside-work-tree") is None:
        return again
    answers_file.unlink()
    return (
        f"{again} With --overwrite it replaces files of the same name without asking (Git has those that are"
        " committed). To remove the new ones first, which asks for each: git clean -d -i"
    )


def what_is_left_of_snippet(answers_file: Path) -> str:
    """What a copy of a dev container snippet leaves that is refused before the merge; takes the answers out if it can.

    Copier has written them by then, also over those of an earlier copy that is not committed yet. Such a copy has
    merged the snippet, which an update needs the answers for.
    """
    if _is_tracked(answers_file):
        return f"{answers_file} was written with these answers; those of before: {_checkout(answers_file)}"
    if _may_be_merged():
        return (
            "Whether an earlier copy has merged the snippet is not known, because the dev container is not committed"
            f" as it is. So {answers_file} stays, written with these answers; the next copy replaces it, with"
            " --overwrite without asking."
        )
    answers_file.unlink(missing_ok=True)
    return "Nothing was changed."


def _may_be_merged() -> bool:
    """Whether something that is not committed is where snippets are merged; also where there is no Git to tell."""
    places = [name for name in (".devcontainer", ".devcontainer.json") if Path(name).exists()]
    if not places:
        return False
    return git_output(Path.cwd(), "status", "--porcelain", "--", *places) != b""


def _checkout(path: Path) -> str:
    return f"git checkout -- {shlex.quote(path.as_posix())}"


def _is_tracked(path: Path) -> bool:
    return git_output(Path.cwd(), "ls-files", "--error-unmatch", path.as_posix()) is not None
