"""Generates an environment from this clone of the template: the program behind script/new.

The answers are checked against the model before Copier starts, so that a mistake costs a second and
leaves nothing behind. Rendering, questions and tasks are Copier's.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from answers import complete, listed, problems
from destination import (
    ANSWERS_FILE,
    COMMIT_MESSAGE,
    SNIPPET_ANSWERS_FILE,
    SNIPPET_COMMIT_MESSAGE,
    Destination,
    OccupiedError,
    free_folder,
)
from occupied import Machine, Taken, taken
from questions import answerable, is_asked
from template_source import ROOT, UnusableSourceError, commit_of, has_uncommitted_changes, update_source
from yaml_text import YAML_ERRORS, as_written, fault, mapping_if_readable

EPILOG = """\
The environment is made from the commit that is checked out in this clone of the template; changes that
are not committed are left out. Another version: -r TAG. Where the clone's remote `origin` is a URL that
has this commit, the environment takes its updates from there, else from this clone.

DEST becomes a Git repository with a first commit, unless it lies in one already. With
-d scope=devcontainer it is a service repository that is there: its devcontainer.json gets what a
container needs to reach the cluster, or is made.

Ports and names that environments of this machine have, and ports on which something listens, are refused
with free ones to take instead. --ignore-machine leaves that out.

Questions are asked on a terminal. With --defaults none is asked; --data and --data-file answer in advance.
Keys of the answers: README.md, or `answers.schema.json` for an editor.

Examples:
  script/new ../env --defaults
  script/new ../env -d project=shop -d http_port=8080
  script/new ../env --defaults --data-file answers.yml
  script/new ../service --defaults -d scope=devcontainer -d project=shop
"""


class RefusalError(Exception):
    """The environment is not generated; the text says why and what to do instead."""


def main(arguments: list[str] | None = None) -> int:
    """Generate an environment; returns the exit status."""
    options = _parser().parse_args(arguments)
    options.command_line = sys.argv[1:] if arguments is None else arguments
    try:
        given = _given_answers(options)
        _refuse_wrong_answers(given, options)
        _refuse_lost_answers(given, options)
        machine = None if options.ignore_machine else Machine()
        destination = free_folder(
            Path(options.destination),
            template=ROOT,
            scope=given.get("scope"),
            answers_file=options.answers_file,
        )
        commit = commit_of(options.vcs_ref)
        if has_uncommitted_changes() and not options.quiet:
            _say(f"Note: {ROOT} has changes that are not committed; they are left out.")
        offered = _refuse_what_is_taken(machine, destination, given, options) if machine else {}
        return _generate(destination, given, offered, commit, options)
    except (RefusalError, OccupiedError, UnusableSourceError) as refusal:
        _say(str(refusal))
        return 1
    except KeyboardInterrupt:
        _say("\nInterrupted. Nothing was generated.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/new",
        description="Generates an environment repository in DEST.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("destination", metavar="DEST", help="the folder to make, missing or empty; or a service")
    add = parser.add_argument
    add("-d", "--data", action="append", default=[], metavar="KEY=VALUE", help="an answer; may be repeated")
    add("--data-file", metavar="FILE", help="answers as YAML; -d goes before them")
    add("-l", "--defaults", action="store_true", help="take the defaults instead of asking")
    add(
        "-r",
        "--vcs-ref",
        default="HEAD",
        metavar="REF",
        help="the template's version: a tag, branch or commit",
    )
    add(
        "-a",
        "--answers-file",
        metavar="FILE",
        help="where in DEST the answers of a dev container snippet are kept, instead of the usual file",
    )
    add(
        "-x",
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files to leave out; may be repeated",
    )
    add(
        "-s",
        "--skip",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files to keep if they exist; may be repeated",
    )
    add("--ask", action="append", default=[], metavar="GLOB", help="also ask these questions; may be repeated")
    add("-w", "--overwrite", action="store_true", help="replace files that exist without asking")
    add("-f", "--force", action="store_true", help="the same as --defaults --overwrite")
    add("-n", "--pretend", action="store_true", help="only go through the motions")
    add("-T", "--skip-tasks", action="store_true", help="render only; create no cluster")
    add("--ignore-machine", action="store_true", help="do not compare ports and names with this machine's environments")
    add("-q", "--quiet", action="store_true", help="print problems only")
    # Copier's own flag. It is implied here: who runs this script trusts the template already.
    add("--trust", "--UNSAFE", action="store_true", help=argparse.SUPPRESS)
    return parser


def _given_answers(options: argparse.Namespace) -> dict[str, Any]:
    """The answers of the data file, with those of the command line over them."""
    answers = _read_data_file(options.data_file) if options.data_file else {}
    for item in options.data:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise RefusalError(f"--data wants KEY=VALUE, but {item!r} was given. For instance: -d agents=3")
        answers[key] = value
    return answers


def _read_data_file(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        content = as_written(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefusalError(f"The data file {path} cannot be read: {error.strerror}.") from error
    except YAML_ERRORS as error:
        raise RefusalError(f"The data file {path} {fault(error)}, then repeat the command.") from error
    if content is None:
        raise RefusalError(f"The data file {path} is empty. Write lines such as `agents: 3` into it, or leave it out.")
    if not isinstance(content, dict):
        raise RefusalError(f"The data file {path} holds no answers: expected are lines such as `agents: 3`.")
    return {str(key): value for key, value in content.items()}


def _refuse_wrong_answers(given: Mapping[str, Any], options: argparse.Namespace) -> None:
    asks = not (options.defaults or options.force)
    found = problems(given)
    if asks:
        # What is not given yet may still be answered so that it fits.
        found = [problem for problem in found if set(problem.keys) <= set(given)]
    if found:
        raise RefusalError(f"{listed(found)}\nNothing was generated. Correct the answers, then repeat the command.")
    if asks and not sys.stdin.isatty() and (unanswered := _unanswered(given)):
        raise RefusalError(
            f"There is no terminal to ask questions on, and these have no answer: {', '.join(unanswered)}.\n"
            "Add --defaults to take the defaults, or answer with -d KEY=VALUE or --data-file FILE."
        )


def _refuse_lost_answers(given: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Refuses what would leave an environment without the file that its updates begin with."""
    is_snippet = given.get("scope") == "devcontainer"
    name = options.answers_file or (SNIPPET_ANSWERS_FILE if is_snippet else ANSWERS_FILE)
    if not is_snippet and name != ANSWERS_FILE:
        raise RefusalError(
            f"--answers-file is for dev container snippets. `just update` of an environment reads {ANSWERS_FILE}.\n"
            "Leave --answers-file out, or add -d scope=devcontainer for a snippet; then repeat the command."
        )
    if not options.exclude:
        return
    from pathspec import GitIgnoreSpec

    if GitIgnoreSpec.from_lines("\n".join(options.exclude).splitlines()).match_file(name):
        raise RefusalError(
            f"--exclude leaves out {name}, which updates begin with.\n"
            f"Name what is to be left out more closely, or add: --exclude '!{name}'"
        )


def _refuse_what_is_taken(
    machine: Machine, destination: Destination, given: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Refuses answers that other environments of this machine have; returns free ones to offer at the prompts."""
    answers = complete(given)
    if answers["scope"] != "environment" or answers["provider"] == "existing":
        return {}
    import copier  # noqa: F401 - it takes half a second, and Docker answers meanwhile

    found = machine.neighbours()
    clashes = taken(answers, destination.path, found) if found is not None else []
    asks = not (options.defaults or options.force)
    open_questions = [clash for clash in clashes if asks and not given.keys() & {clash.key, *clash.proposal}]
    refused = [clash for clash in clashes if clash not in open_questions]
    if refused:
        raise RefusalError(_refusal(clashes, options.command_line))
    for clash in open_questions:
        _say(f"Note: {clash.sentence} A free one is offered instead.")
    return {key: value for clash in open_questions for key, value in clash.proposal.items()}


def _refusal(clashes: list[Taken], command_line: list[str]) -> str:
    options = [f"-d {key}={value}" for clash in clashes for key, value in clash.proposal.items()]
    command = shlex.join(["script/new", *command_line])
    return "\n".join(
        [
            "This machine has environments or programs with the same ports or names:",
            *(f"  - {clash.sentence}" for clash in clashes),
            "Nothing was generated. With answers that are free here:\n",
            f"    {command} {' '.join(options)}\n",
            "Where the environment is for other machines, as it is: --ignore-machine",
        ]
    )


def _unanswered(given: Mapping[str, Any]) -> list[str]:
    context = complete(given)
    return [question.key for question in answerable() if question.key not in given and is_asked(question, context)]


def _generate(
    destination: Destination,
    given: Mapping[str, Any],
    offered: Mapping[str, Any],
    commit: str,
    options: argparse.Namespace,
) -> int:
    # Late, because Copier takes half a second to import and most mistakes are found without it.
    from copier import run_copy
    from copier.errors import CopierError, TaskError
    from jinja2 import TemplateError

    is_snippet = given.get("scope") == "devcontainer"
    if not options.quiet:
        what = "Merging the dev container snippet into" if is_snippet else "Generating an environment in"
        _say(f"{what} {destination.path} ...")
    try:
        # A warning of Copier's would name a line of its source and ask nothing of the person.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            worker = run_copy(
                str(ROOT),
                destination.path,
                dict(given),
                user_defaults=dict(offered),
                answers_file=options.answers_file,
                vcs_ref=commit,
                exclude=options.exclude,
                skip_if_exists=options.skip,
                defaults=options.defaults or options.force,
                overwrite=options.overwrite or options.force,
                pretend=options.pretend,
                quiet=True,
                unsafe=True,
                skip_tasks=options.skip_tasks,
                ask=options.ask,
            )
    except KeyboardInterrupt:
        # Rendering takes a moment and the cluster minutes: where one is made, that was interrupted.
        answers_file = destination.path / (options.answers_file or ANSWERS_FILE)
        if is_snippet or not _answers(answers_file).get("create_cluster"):
            destination.remove_leftovers()
            raise
        _say("\nInterrupted. The repository is complete, the cluster is not.")
        _finish(destination, commit, answers_file, options, next_recipe="create")
        return 130
    except TaskError:
        # The task has said what is wrong.
        destination.remove_leftovers()
        if not is_snippet:
            _say(f"What was generated in {destination.path} is removed again.")
        return 1
    except (CopierError, TemplateError, ValueError, OSError) as error:
        destination.remove_leftovers()
        raise RefusalError(f"Copier could not generate the environment: {error}\nNothing was generated.") from error
    if not options.pretend:
        _finish(destination, commit, destination.path / worker.answers_relpath, options, next_recipe="setup")
    return 0


def _finish(
    destination: Destination, commit: str, answers_file: Path, options: argparse.Namespace, next_recipe: str
) -> None:
    is_environment = _answers(answers_file).get("scope") == "environment"
    _record_source(answers_file, update_source(commit))
    message = COMMIT_MESSAGE if is_environment else SNIPPET_COMMIT_MESSAGE
    steps = [f"cd {shlex.quote(str(destination.path))}", *destination.first_commit(message)]
    if is_environment:
        steps.append(f"bin/just {next_recipe}")
    if not options.quiet:
        _say("\n    ".join([f"Done: {destination.path} is ready. Next:\n", *steps]) + "\n")


def _answers(answers_file: Path) -> dict[str, Any]:
    try:
        return mapping_if_readable(answers_file.read_bytes())
    except OSError:
        return {}


def _record_source(answers_file: Path, source: str) -> None:
    """Write where updates come from into the answers file, in place of this clone's path."""
    text = answers_file.read_text(encoding="utf-8")
    line = yaml.safe_dump({"_src_path": source}, allow_unicode=True, width=2**31).rstrip("\n")
    # Copier breaks a long path with spaces into several lines.
    changed = re.sub(r"^_src_path: .*(\n .*)*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    answers_file.write_text(changed, encoding="utf-8")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
