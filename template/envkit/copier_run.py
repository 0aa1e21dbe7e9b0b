"""Runs Copier, and says in a sentence what it tells in a traceback, which is for its developers."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envkit.errors import UserError
from envkit.mirrors import read_mirrors
from envkit.paths import ROOT, just_command
from envkit.process import redact, require_tool, tool_environment
from envkit.template_source import ANSWERS_FILE, Origin, without_credentials
from envkit.wording import quoted

_MAYBE_NEWER = "It may want a newer Copier than this environment's."
_TRACEBACK = "Traceback (most recent call last):"
# What Copier itself says at the end. It colours it where the output goes to a terminal.
_COLOUR = r"(?:\x1b\[[0-9;]*m)*"
_LAST_SENTENCE = re.compile(
    rf"{_COLOUR}((?:Task .* returned non-zero exit status|You are downgrading from) .*?){_COLOUR}$"
)
# Copier takes a name that Git has quoted for the file's own.
_UNQUOTED = re.compile(r"""FileNotFoundError: .*"(?P<name>[^"']*\\\\[0-7]{3}[^"']*)"'$""")


@dataclass(frozen=True)
class Ended:
    """How a run of Copier has ended.

    Attributes:
        status: Its exit status.
        last_words: What its traceback ends with, or its own sentence about why it stopped; empty for any other.
    """

    status: int
    last_words: str = ""


def run_in_terminal(command: Sequence[str], folder: Path) -> Ended:
    """Runs Copier, which may ask the person questions. A password in the template's address is not shown."""
    # uvx and pipx, which have fetched Copier already, ask the index again.
    env = _with_quoted_names(tool_environment(read_mirrors(folder).package_variables()))
    argv = [require_tool(command[0]), *command[1:]]
    with subprocess.Popen(
        argv, cwd=folder, env=env, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    ) as process:
        held = _shown_up_to_last_words(map(redact, process.stderr or ()))
    if process.returncode == 0:
        sys.stderr.writelines(held)
    return Ended(process.returncode, _last_words(held))


def _with_quoted_names(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Git quotes names with umlauts, whatever the person has set: Copier expects that."""
    count = int(env.get("GIT_CONFIG_COUNT") or 0)
    setting = {f"GIT_CONFIG_KEY_{count}": "core.quotePath", f"GIT_CONFIG_VALUE_{count}": "true"}
    return {**env, **setting, "GIT_CONFIG_COUNT": str(count + 1)}


def way_back(root: Path) -> str:
    """The command that leads an environment back to the last commit, and touches nothing outside its folder."""
    return f"cd {quoted(root)} && git reset -q . && git checkout . && git clean -d -i ."


def explain(
    ended: Ended, origin: Origin, version: str, data: Mapping[str, str], *, changed: bool, root: Path = ROOT
) -> UserError:
    """The error for a run that failed.

    Args:
        ended: How it has ended.
        origin: Where the template is, and which version this environment is of.
        version: Which one was to be taken.
        data: The answers that were given.
        changed: Whether files were changed before it ended.
        root: The environment's repository.
    """
    back = way_back(root)
    if refusal := _refused_answer(
        ended.last_words, version, data, f"To go back first: {back}" if changed else "Nothing was changed."
    ):
        return refusal
    if ended.last_words.startswith("Task "):
        again = f"Put it right, then: {_update_with(data)}   (nothing was changed)"
        return UserError(
            "The template stopped the update.", "Why stands above.", f"To go back: {back}" if changed else again
        )
    if match := _UNQUOTED.match(ended.last_words):
        octal = match["name"].replace("\\\\", "\\")
        name = octal.encode("latin-1", "replace").decode("unicode-escape").encode("latin-1").decode(errors="replace")
        return UserError(
            f"Copier cannot join a file of yours with one of that name that is new in the template: {name}",
            "It fails at that in a folder whose name has other letters than a to z.",
            f"Go back: {back}\nThen give your file another name, commit that, and {_update_with(data)}",
        )
    if ended.last_words.startswith("You are downgrading"):
        return _is_ahead(origin, version, data)
    if f"Unknown revision: {origin.commit!r}" in ended.last_words:
        return _lost_version(origin, data)
    return UserError(
        f"Copier did not finish the update (exit status {ended.status}).",
        f"{ended.last_words or 'What it says stands above.'}\n{_MAYBE_NEWER}",
        f"git -C {quoted(root)} status; to go back: {back}\n{_with_newest_copier(version)}",
    )


def _lost_version(origin: Origin, data: Iterable[str]) -> UserError:
    """The error where the template has no such version as the environment is of."""
    clone = Path(origin.source).expanduser()
    if (clone / ".git" / "shallow").is_file():
        return UserError(
            f"The template's clone {clone} has no {origin.commit}, the version that this environment is of.",
            "It is a shallow clone, and an update needs that version's files for a comparison.",
            f"git -C {quoted(clone)} fetch --unshallow --tags && {_update_with(data)}",
        )
    return UserError(
        f"The template no longer has {origin.commit}, the version that this environment is of.",
        f"An update needs its files for a comparison; they were at {without_credentials(origin.source)}.",
        f"Bring the tag back there, or write the version or commit that has the same files into _commit of\n"
        f"{ANSWERS_FILE}, in quotes, and commit that; then {just_command()} update",
    )


def _with_newest_copier(version: str) -> str:
    return f"With the newest Copier: uvx copier update --trust --vcs-ref {version}"


def _update_with(data: Iterable[str]) -> str:
    """The command that gives these answers again, without what they were."""
    return " ".join([f"{just_command()} update", *(f"-d {key}=..." for key in data)])


def _refused_answer(last_words: str, version: str, data: Mapping[str, str], back: str) -> UserError | None:
    """The error where Copier does not take an answer, or may not; None where it failed over something else."""
    about = (
        r"(?:Validation error for question|Invalid choice for) '(?P<key>.+?)': (?P<why>.+)",
        r"(?P<why>Invalid answer \".*?\") of type .+ to question \"(?P<key>.+?)\"",
    )
    for pattern in about:
        if match := re.search(pattern, last_words, re.DOTALL):
            return UserError(
                f"The template does not take the answer to {match['key']}.",
                match["why"].strip(),
                f"{_update_with([match['key']])}\n{back}",
            )
    if not data or not last_words.startswith(("ValueError: ", "copier.errors.InvalidTypeError")):
        return None
    # Copier raises errors of these kinds over other things, too.
    return UserError(
        f"The template may not take {'one of these answers' if len(data) > 1 else 'this answer'}: {', '.join(data)}.",
        f"{last_words.partition(': ')[2]}\n{_MAYBE_NEWER}",
        f"{_update_with(data)}\n{back}\n{_with_newest_copier(version)}",
    )


def _is_ahead(origin: Origin, version: str, data: Mapping[str, str]) -> UserError:
    """The error where the environment's commit comes after the version that was to be taken."""
    update = f"{just_command()} update --to"
    steps = [f"{update} BRANCH   (a branch of the template that has newer changes), or wait for its next release"]
    if data:
        answers = " ".join(f"-d {shlex.quote(f'{key}={value}')}" for key, value in data.items())
        steps.insert(0, f"{update} {origin.commit_hash or origin.commit} {answers}   (other answers, the same version)")
    return UserError(
        f"This environment is ahead of {version}: it is of {origin.commit}, which came after it.",
        "An update leads to newer versions only.",
        "\n".join(steps),
    )


def _shown_up_to_last_words(lines: Iterable[str]) -> list[str]:
    """Shows lines as they come; returns those from the first traceback or from Copier's last sentence on."""
    held: list[str] = []
    for line in lines:
        if held or line.startswith(_TRACEBACK) or _LAST_SENTENCE.match(line.rstrip()):
            held.append(line)
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
    return held


def _last_words(held: Sequence[str]) -> str:
    """Copier's sentence; or what stands below the last frame: the exception, and what may follow it."""
    if held and (sentence := _LAST_SENTENCE.match(held[0].rstrip())):
        return sentence[1]
    frames = [number for number, line in enumerate(held) if line.startswith("  File ")]
    if not frames:
        return ""
    below = held[frames[-1] + 1 :]
    start = next((number for number, line in enumerate(below) if not line.startswith(" ")), len(below))
    return "".join(below[start:]).strip()
