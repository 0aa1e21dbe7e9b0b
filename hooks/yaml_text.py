"""YAML that somebody else has written, and that may be broken. Hooks have PyYAML, but not always envkit."""

from __future__ import annotations

from typing import Any

import yaml

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
