"""Checks the answers that are given to an update (`-d KEY=VALUE`), as they were given and before a file is changed.

    python hooks/given_answers.py ANSWERS_FILE --given=JSON --asks=JSON

Copier drops unknown keys in silence and takes any word for a yes, and later the answers file shows neither. Runs in the
repository that is to be updated, as a migration.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from answers import Answers, Problem, changed_scope, complete, listed, problems, unchanged
from questions import answerable, applies


def problems_of_change(recorded: Mapping[str, Any], given: Mapping[str, Any], *, asks: bool) -> list[Problem]:
    """What is wrong with these answers to an update; empty if nothing is.

    Args:
        recorded: The answers of before. What is wrong with them alone is no fault of the given ones.
        given: The answers as they were given.
        asks: Whether Copier asks for others, which may still be answered so that all fit.
    """
    if scope := changed_scope(recorded, given):
        return [scope]
    known = {key: value for key, value in recorded.items() if key in Answers.model_fields}
    answers = {**known, **given}
    kept = unchanged(recorded, answers)
    wrong = {problem.keys[0] for problem in problems(answers, kept)}
    context = complete({key: value for key, value in answers.items() if key not in wrong})
    # Copier forgets an answer whose question no longer applies.
    forgotten = {question.key for question in answerable() if not applies(question, context)} - given.keys()
    found = problems({key: value for key, value in answers.items() if key not in forgotten}, kept)
    return [
        problem
        for problem in found
        if given.keys() & set(problem.keys) and (not asks or given.keys() >= set(problem.keys))
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line that the module's docstring shows; returns 1 if the answers are not allowed."""
    parser = argparse.ArgumentParser(description="Checks the answers that are given to an update.")
    parser.add_argument("file", type=Path, help="the answers of before as YAML")
    parser.add_argument("--given", type=json.loads, required=True, metavar="JSON", help="answers as they were given")
    parser.add_argument("--asks", type=json.loads, default=False, metavar="JSON", help="whether Copier asks questions")
    options = parser.parse_args(arguments)
    recorded = yaml.safe_load(options.file.read_text(encoding="utf-8"))
    found = problems_of_change(recorded, options.given, asks=options.asks)
    if not found:
        return 0
    print(f"{listed(found)}\nNothing was changed. Correct the answers, then repeat the command.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
