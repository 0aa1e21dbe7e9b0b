"""YAML as the programs read it for which a team writes it: k3d, Helm and kubectl, all of them written in Go.

PyYAML knows YAML 1.1, in which `2222:22` is a number (of base 60), `2026-01-01` a date and `12e4` a text. Libraries of
Go take the first two for text and the last one for a number. So a team's file is read here as those programs would read
it, and what is written for them is in quotes where they would take a text for something else. Helm 4 was asked what it
makes of each form (`tests/envkit/test_go_yaml.py`); the rules are in `resolve.go` of sigs.k8s.io/yaml.
"""

from __future__ import annotations

import re
from typing import IO, Any

import yaml

YAML_ERRORS = (yaml.YAMLError, ValueError)
"""What a file gives that is not YAML; a ValueError comes of bytes that are not UTF-8, and of a number like `0b_`."""

_TAG = "tag:yaml.org,2002:"
_OTHERWISE = {"int", "float", "timestamp", "value"}
"""What PyYAML finds in other forms than they do. `value` is a sole `=`, for which it has nothing."""

_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_NUMERIC = "-+.0123456789"
_BOOL_OF_ONE_LETTER = re.compile(r"[yYnN]\Z")


class _Loader(yaml.SafeLoader):
    """Takes a scalar for what those programs take it for."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag.removeprefix(_TAG) not in _OTHERWISE]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", _INT, list(_NUMERIC))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list(_NUMERIC))


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what either way of reading would take for something else than text; `y` is true to them."""


_Dumper.add_implicit_resolver(f"{_TAG}int", _INT, list(_NUMERIC))
_Dumper.add_implicit_resolver(f"{_TAG}float", _FLOAT, list(_NUMERIC))
_Dumper.add_implicit_resolver(f"{_TAG}bool", _BOOL_OF_ONE_LETTER, list("yYnN"))


def read_yaml(source: str | bytes | IO[str]) -> Any:
    """What a document says; None where it is empty. Raises one of `YAML_ERRORS` where it is none."""
    return yaml.load(source, _Loader)  # noqa: S506 - a SafeLoader


def yaml_text(document: Any, *, sort_keys: bool = False) -> str:
    """A document that these programs, and PyYAML as well, read as what it is; block style, keys in their own order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=sort_keys))
