"""The recipes of a justfile, by their names, where there is no just to ask.

A recipe's first line stands at the margin: its name, its parameters, and a colon. Assignments and settings have a `:=`,
and what follows `alias`, `import` and `mod` is no list of parameters with a colon behind it.
"""

from __future__ import annotations

import re

_SPACE = r"[ \t]*"
_NAME = r"[A-Za-z_][\w-]*"
_TEXT = r"""(?:"{3}[\s\S]*?"{3}|"(?:\\.|[^"\\])*"|'{3}[\s\S]*?'{3}|'[^']*'|`{3}[\s\S]*?`{3}|`[^`]*`)"""
_FLAT = rf"\((?:[^()'\"`]|{_TEXT})*\)"
_NESTED = rf"\((?:[^()'\"`]|{_TEXT}|{_FLAT})*\)"
_EXPRESSION = rf"\((?:[^()'\"`]|{_TEXT}|{_NESTED})*\)"
_DEFAULT = rf"(?:[fx]?{_TEXT}|{_EXPRESSION}|{_NAME}(?:{_EXPRESSION})?)"
_PARAMETER = rf"[+*]?\$?{_NAME}(?:{_SPACE}={_SPACE}{_DEFAULT})?"
_RECIPE = rf"^@?(?P<name>{_NAME})(?:[ \t]+{_PARAMETER})*{_SPACE}:(?!=)"

# What may look like a recipe comes first, so that it is passed over: a recipe's body, a comment, text of several lines.
_LINES = re.compile(rf"^[ \t].*$|#.*$|{_RECIPE}|{_TEXT}", re.MULTILINE)


def recipes(justfile: str) -> set[str]:
    """The names of the recipes that a justfile has itself, without those that it imports."""
    return {found["name"] for found in _LINES.finditer(justfile) if found["name"]}
