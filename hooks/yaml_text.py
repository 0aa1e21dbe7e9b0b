"""YAML that somebody else has written, and that may be broken. Hooks have PyYAML, but not always envkit."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

YAML_ERRORS = (yaml.YAMLError, ValueError)
"""What a file gives that is not YAML. PyYAML lets the ValueError of a date like 2026-02-31 through, and bytes that are
not UTF-8 may give one as well."""


def fault(error: Exception) -> str:
    """What is wrong with a file by one of `YAML_ERRORS`, and what to do, as it follows its name."""
    if isinstance(error, UnicodeDecodeError):
        return "is not text in UTF-8. Save it as UTF-8"
    if isinstance(error, ValueError):
        return f"has a value that YAML takes for a date or a number, and that is none: {error}.\nPut it in quotes"
    return f"is not valid YAML:\n{error}\nCorrect it"


def mapping(content: bytes | str) -> dict[str, Any]:
    """What the YAML says; empty where it is no mapping. Raises one of `YAML_ERRORS` where it cannot be read."""
    document = yaml.safe_load(content)
    return document if isinstance(document, dict) else {}


def mapping_if_readable(content: bytes | str | None) -> dict[str, Any]:
    """What the YAML says; empty where there is none, or it is no mapping, or cannot be read."""
    try:
        return mapping(content or b"")
    except YAML_ERRORS:
        return {}


class _AsWritten(yaml.SafeLoader):
    """Takes for a whole number only what is written as one: to YAML `12:30` is 750, `0100` is 64 and `1_0` is 10."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Of a key that stands there twice the first value would be lost."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in seen:
                raise ComposerError(None, None, f"the key {key.value} stands there twice", key.start_mark)
            seen.add(key.value)
        return node


_INT = "tag:yaml.org,2002:int"
_AsWritten.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag != _INT]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_AsWritten.add_implicit_resolver(_INT, re.compile(r"-?(?:0|[1-9][0-9]*)\Z"), list("-0123456789"))


def as_written(content: str) -> Any:
    """What YAML says that a person has typed: a number in another form stays text, as `-d KEY=VALUE` has it.

    Raises one of `YAML_ERRORS` where it cannot be read.
    """
    return yaml.load(content, _AsWritten)  # noqa: S506 - a SafeLoader
