"""The questions of copier.yml: their names, types and defaults, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

COPIER_YML = Path(__file__).resolve().parent.parent / "copier.yml"

# Both as safe; the one of libyaml is ten times as fast, and a PyYAML may be built without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Question:
    """One question as copier.yml has it; templated parts are not rendered."""

    key: str
    type: str
    default: Any
    help: str = ""
    choices: Mapping[str, str | int] | None = None
    when: str | bool = True
    ask: bool = True

    @property
    def is_computed(self) -> bool:
        """Whether this is a value of the template's own that nobody answers."""
        return self.when is False


@cache
def all_questions() -> tuple[Question, ...]:
    """Every question, and the computed values between them, in the order of copier.yml."""
    known = Question.__dataclass_fields__.keys()
    return tuple(
        Question(key=key, **{name: value for name, value in details.items() if name in known})
        for key, details in _document().items()
        if not key.startswith("_")
    )


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(COPIER_YML.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both are safe ones
    return document


def answerable() -> tuple[Question, ...]:
    """The questions that a person can answer, also those that are not asked."""
    return tuple(question for question in all_questions() if not question.is_computed)


def excluded_patterns(answers: Mapping[str, Any]) -> list[str]:
    """Which files of the template an environment with these answers does not have, as patterns of .gitignore."""
    defaults = {question.key: question.default for question in answerable()}
    context = {**defaults, **answers, "_copier_conf": {"answers_file": ""}}
    return [str(render(pattern, context)) for pattern in _document()["_exclude"]]


def render(template: Any, context: Mapping[str, Any]) -> Any:
    """What Copier makes of a templated value: text is a Jinja template, all else stays as it is.

    Raises:
        jinja2.UndefinedError: The template names an answer that the context lacks.
    """
    if not isinstance(template, str) or ("{{" not in template and "{%" not in template):
        return template
    return _compiled(template).render(**context)


@cache
def _compiled(template: str) -> Template:
    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(template)


def applies(question: Question, context: Mapping[str, Any]) -> bool:
    """Whether the question has a meaning beside the answers of the context; elsewhere Copier keeps no answer to it."""
    return render(question.when, context) in (True, "True")


def is_asked(question: Question, context: Mapping[str, Any]) -> bool:
    """Whether Copier asks this question of somebody whose answers so far are the context."""
    return question.ask and applies(question, context)
