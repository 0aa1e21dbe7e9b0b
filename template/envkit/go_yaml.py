"""YAML as the programs read it for which a team writes it: k3d, Helm and kubectl, all of them written in Go.

PyYAML knows YAML 1.1, in which `2222:22` is a number (of base 60), `2026-01-01` a date and `12e4` a text. Libraries of
Go take the first two for text and the last one for a number. So a team's file is read here as those programs would read
it, and what is written for them is in quotes where they would take a text for something else. Helm 4 was asked what it
makes of each form (`tests/envkit/test_go_yaml.py`); the rules are in `resolve.go` of sigs.k8s.io/yaml.

PyYAML also takes in silence what would be lost, or would end in a traceback later: of a key that stands there twice
the last one, a value that holds itself, a tag for a value that is none of JSON. That is refused here.
"""

from __future__ import annotations

import copy
import math
import re
from typing import IO, Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

YAML_ERRORS = (yaml.YAMLError, ValueError)
"""What a file gives that is not YAML; a ValueError comes of bytes that are not UTF-8, and of a number like `0b_`."""

_TAG = "tag:yaml.org,2002:"
_OTHERWISE = {"int", "float", "timestamp", "value"}
"""What PyYAML finds in other forms than they do. `value` is a sole `=`, for which it has nothing."""

_IN_JSON = {"null", "bool", "int", "float", "str", "seq", "map"}
"""All that they make of a file, which they turn into JSON first. What else a tag can name would be of use to nobody."""

_MOST_COPIES = 100_000

_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_NUMERIC = "-+.0123456789"
_BOOL_OF_ONE_LETTER = re.compile(r"[yYnN]\Z")


def _text_of_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


class _Loader(yaml.SafeLoader):
    """Takes a scalar for what those programs take it for, and refuses what would not reach them as it was meant."""

    _copied = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Where an alias stands there is a value of its own: what is added to it is not meant for the others."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if not is_alias or node is None:
            return node
        if node.end_mark is None:  # not read to its end, so the alias stands inside
            raise ComposerError(None, None, "by an alias in it this would hold itself", node.start_mark)
        return self._copy(node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Every key is text, as in JSON; of one that stands there twice the first value would be lost."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
                continue
            if key.tag == f"{_TAG}null":
                raise ComposerError("while reading a mapping", node.start_mark, "a key is null", key.start_mark)
            # Before Python sees them, to which 1 and true are the same key.
            key.value, key.tag = _text_of_key(self.construct_object(key)), f"{_TAG}str"
            if key.value in seen:
                found = f"the key {key.value} stands there twice"
                raise ComposerError("while reading a mapping", node.start_mark, found, key.start_mark)
            seen.add(key.value)
        self.constructed_objects.clear()
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """One of the two escapes by which JSON writes an emoji is no character, and can be written to no file."""
        node = super().compose_scalar_node(anchor)
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise ComposerError(None, None, "an escape of it is half of a character", node.start_mark)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> float | str:
        """A number that is too large is text, as part of a commit may look like one; JSON has no infinity."""
        value = self.construct_yaml_float(node)
        if math.isfinite(value):
            return value
        if node.value.lstrip("-+")[0] == ".":
            raise ConstructorError(None, None, f"{node.value} is a number that they do not take", node.start_mark)
        return str(node.value)

    def _copy(self, node: yaml.Node) -> yaml.Node:
        self._copied += 1
        if self._copied > _MOST_COPIES:
            raise ComposerError(None, None, "aliases make too much of it", node.start_mark)
        node = copy.copy(node)
        if isinstance(node, yaml.SequenceNode):
            node.value = [self._copy(item) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            node.value = [(self._copy(key), self._copy(value)) for key, value in node.value]
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag.removeprefix(_TAG) not in _OTHERWISE]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", _INT, list(_NUMERIC))
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list(_NUMERIC))
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in _IN_JSON
} | {f"{_TAG}float": _Loader.construct_number}


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what either way of reading would take for something else than text; `y` is true to them."""


_Dumper.add_implicit_resolver(f"{_TAG}int", _INT, list(_NUMERIC))
_Dumper.add_implicit_resolver(f"{_TAG}float", _FLOAT, list(_NUMERIC))
_Dumper.add_implicit_resolver(f"{_TAG}bool", _BOOL_OF_ONE_LETTER, list("yYnN"))


def read_yaml(source: str | bytes | IO[str]) -> Any:
    """What a document says; None where it is empty. Raises one of `YAML_ERRORS` where it is none."""
    try:
        return yaml.load(source, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error


def yaml_text(document: Any, *, sort_keys: bool = False) -> str:
    """A document that these programs, and PyYAML as well, read as what it is; block style, keys in their own order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=sort_keys))
