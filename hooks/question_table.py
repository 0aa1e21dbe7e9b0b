"""Keeps the table of questions in README.md the same as copier.yml: the program behind script/questions.

The table stands between two comment lines, which README.md has to hold already.
"""

from __future__ import annotations

import argparse
import sys

from questions import COPIER_YML, Question, answerable

README = COPIER_YML.parent / "README.md"
START = "<!-- questions: written by script/questions from copier.yml -->"
END = "<!-- /questions -->"
# Defaults that are computed, in words; all others are shown as they are.
COMPUTED = {
    "cluster_name": "`<project>-dev`",
    "https_port": "`443`",
    "api_port": "`6550`",
    "registry_port": "`5050`",
    "runner_name": "`<project>-runners`",
    "runners_max": "`5`",
}


class MissingMarkersError(Exception):
    """README.md has no place for the table; the text says which lines it lacks."""


def table() -> str:
    """The questions as a Markdown table."""
    rows = [f"| `{question.key}` | {_asks(question)} | {_default(question)} |" for question in answerable()]
    return "\n".join(["| Key | Question | Default |", "|---|---|---|", *rows])


def _asks(question: Question) -> str:
    sentence = question.help.splitlines()[0]
    choices = ", ".join(f"`{choice}`" for choice in (question.choices or {}).values())
    return sentence + (f" {choices}" if choices else "") + ("" if question.ask else " (not asked)")


def _default(question: Question) -> str:
    if isinstance(question.default, bool):
        return "yes" if question.default else "no"
    if not question.ask:
        return "pinned in copier.yml" if question.default else "empty"
    return COMPUTED.get(question.key) or (f"`{question.default}`" if question.default != "" else "empty")


def with_table(text: str) -> str:
    """The text with today's table between the markers.

    Raises:
        MissingMarkersError: The text lacks a marker.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise MissingMarkersError(f"{README.name} has no lines {START} and {END}; add them where the table belongs.")
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Write the table, or with --check only compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="script/questions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the table is out of date")
    options = parser.parse_args(arguments)
    try:
        text = README.read_text(encoding="utf-8")
        current = with_table(text)
    except (OSError, MissingMarkersError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.check and current != text:
        print("The table of questions in README.md is out of date. Next: script/questions", file=sys.stderr)
        return 1
    if not options.check:
        README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
