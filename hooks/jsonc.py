"""JSON with comments, edited in place: what is not changed keeps its comments, order and spacing.

The format is that of devcontainer.json: JSON with `//` and `/* */` comments, and commas after the last
item. Copier's own Python has no library that keeps comments, so a small parser notes where each value
stands, and each edit is a change of the text there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_BLANKS = re.compile(r"[ \t]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_OTHER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_WORD = re.compile(r"[A-Za-z0-9_.+-]")
_DEEPEST = 100
BOM = "\ufeff"
"""What some editors put in front of a file's text."""


class JsoncError(ValueError):
    """The text is no JSON with comments; the sentence says where and why."""


@dataclass(frozen=True)
class Child:
    """A member of an object, or an element of an array (its key is None), and where it starts in the text."""

    key: str | None
    start: int
    node: Node


@dataclass(frozen=True)
class Node:
    """A value, what Python makes of it, and where it stands in the text."""

    value: Any
    start: int
    end: int
    children: tuple[Child, ...] = ()

    def get(self, key: str) -> Node | None:
        """The value of an object's member; of equal keys the last one counts, as for every reader of JSON."""
        return next((child.node for child in reversed(self.children) if child.key == key), None)


def parse(text: str) -> Node:
    """The document's value.

    Raises:
        JsoncError: It is not JSON with comments.
    """
    parser = _Parser(text)
    start = parser.after_trivia(len(BOM) if text.startswith(BOM) else 0)
    node = parser.value(start, 0)
    if (end := parser.after_trivia(node.end)) != len(text):
        raise parser.error(end, "nothing more is expected here")
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text

    def error(self, at: int, why: str) -> JsoncError:
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return JsoncError(f"line {line}, column {column}: {why}")

    def after_trivia(self, at: int) -> int:
        """The place of the next token: white space and comments are skipped."""
        while True:
            at = _match(_SPACE, self.text, at)
            if (end := _match(_COMMENT, self.text, at)) == at:
                if self.text.startswith("/*", at):
                    raise self.error(at, "this comment has no end")
                return at
            at = end

    def value(self, at: int, depth: int) -> Node:
        if depth > _DEEPEST:
            raise self.error(at, "this is nested too deeply")
        if self.text.startswith(("{", "["), at):
            return self._container(at, depth)
        if self.text.startswith('"', at):
            return self._string(at)
        found = _OTHER.match(self.text, at)
        if not found or _WORD.match(self.text, found.end()):
            raise self.error(at, "a value is expected here")
        return Node(json.loads(found.group()), at, found.end())

    def _string(self, at: int) -> Node:
        found = _STRING.match(self.text, at)
        if not found:
            raise self.error(at, "this text has no end, or holds a character that has to be escaped")
        return Node(json.loads(found.group()), at, found.end())

    def _container(self, start: int, depth: int) -> Node:
        is_object = self.text[start] == "{"
        closing = "}" if is_object else "]"
        children: list[Child] = []
        at = self.after_trivia(start + 1)
        while not self.text.startswith(closing, at):
            child = self._member(at, depth) if is_object else Child(None, at, self.value(at, depth + 1))
            children.append(child)
            at = self.after_trivia(child.node.end)
            if self.text.startswith(",", at):
                at = self.after_trivia(at + 1)
            elif not self.text.startswith(closing, at):
                raise self.error(at, f"a comma or {closing} is expected here")
        values = [child.node.value for child in children]
        value = {child.key: child.node.value for child in children} if is_object else values
        return Node(value, start, at + 1, tuple(children))

    def _member(self, at: int, depth: int) -> Child:
        if not self.text.startswith('"', at):
            raise self.error(at, "a name in double quotes is expected here")
        key = self._string(at)
        colon = self.after_trivia(key.end)
        if not self.text.startswith(":", colon):
            raise self.error(colon, "a colon is expected here")
        return Child(key.value, at, self.value(self.after_trivia(colon + 1), depth + 1))


def _match(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


# -- editing --------------------------------------------------------------------------------------------------------


def replaced(text: str, start: int, end: int, value: str) -> str:
    """The text with another value in that place."""
    return text[:start] + value + text[end:]


def written(text: str, at: int, value: Any, key: str | None = None) -> str:
    """A value, or a member, as the document would spell it in the line of this place."""
    member = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    return member + _dumped(value, _indent_of_line(text, at), _unit(text), newline_of(text))


def with_child(text: str, container: Node, value: Any, key: str | None = None, comments: Sequence[str] = ()) -> str:
    """The text with one more member or element at the end of an object or array.

    Args:
        text: The document.
        container: The object or array.
        value: The new value.
        key: The new member's name; None for an array.
        comments: Comments for the lines before it, where it gets a line of its own.
    """
    if not container.children:
        return _with_first_child(text, container, value, key, comments)
    newline, last = newline_of(text), container.children[-1]
    parser = _Parser(text)
    after = parser.after_trivia(last.node.end)
    has_comma = text[after] == ","
    at, line_ends = _rest_of_line(text, after + 1 if has_comma else last.node.end)
    if line_ends or "\n" in text[container.start : container.children[0].start]:
        indent = _child_indent(text, container)
        lines = [*comments, _member(key, value, indent, text)]
        added = "".join(f"{newline}{indent}{line}" for line in lines)
    else:
        added = " " + _member(key, value, _indent_of_line(text, container.start), text)
    if has_comma:
        return replaced(text, at, at, added + ",")
    return text[: last.node.end] + "," + text[last.node.end : at] + added + text[at:]


def without_child(text: str, container: Node, index: int, comments: Sequence[str] = ()) -> str:
    """The text without a member or element, and without these comments where they stand in the lines above it."""
    child = container.children[index]
    parser = _Parser(text)
    after = parser.after_trivia(child.node.end)
    if text[after] == ",":
        # A comment between the value and its comma stays.
        between = text[child.node.end : after]
        kept = between if between.strip() else ""
        text, at = replaced(text, child.start, after + 1, kept), child.start
        end = at + len(kept)
        if not kept:
            text = text[:at] + text[_match(_BLANKS, text, at) :]
    else:
        text, at = replaced(text, child.start, child.node.end, ""), child.start
        if index:
            comma = parser.after_trivia(container.children[index - 1].node.end)
            text, at = replaced(text, comma, comma + 1, ""), at - 1
        end = at
    return _tidied(text, at, end, comments)


def comments_above(text: str, child: Child) -> list[str]:
    """The `//` comments that fill the lines right above a member or element, each without its indentation.

    None where it does not begin its line: they belong to what does.
    """
    *lines, own = text[: child.start].split("\n")
    if own.strip():
        return []
    found: list[str] = []
    while lines and (line := lines.pop().strip()).startswith("//"):
        found.insert(0, line)
    return found


def newline_of(text: str) -> str:
    """What ends the document's lines."""
    return "\r\n" if re.search(r"^[^\n]*\r\n", text) else "\n"


def has_comments(text: str, container: Node) -> bool:
    """Whether an object or array without children holds something all the same."""
    return bool(text[container.start + 1 : container.end - 1].strip())


def _with_first_child(text: str, container: Node, value: Any, key: str | None, comments: Sequence[str]) -> str:
    newline = newline_of(text)
    outer = _indent_of_line(text, container.start)
    inside = text[container.start + 1 : container.end - 1].rstrip(" \t\r\n")
    if key is None and not inside and not comments and not isinstance(value, dict | list):
        return replaced(text, container.start, container.end, f"[{json.dumps(value, ensure_ascii=False)}]")
    indent = outer + _unit(text)
    lines = [*comments, _member(key, value, indent, text)]
    added = "".join(f"{newline}{indent}{line}" for line in lines) + newline + outer
    return replaced(text, container.start + 1, container.end - 1, inside + added)


def _tidied(text: str, at: int, end: int, comments: Sequence[str]) -> str:
    """The text without what a removed child leaves at its place: spaces, an empty line, comments of its own above."""
    line_start = text.rfind("\n", 0, at) + 1
    newline = text.find("\n", end)
    before, rest = text[line_start:at], text[at : len(text) if newline < 0 else newline]
    if (before + rest).strip():
        # The rest of a line moves to the left, in a line that begins with it to the line's indentation.
        remaining = rest.lstrip(" \t")
        if not before.strip():
            return text[:at] + text[at + len(rest) - len(remaining) :]
        return text[: line_start + len(before.rstrip(" \t"))] + text[at:] if remaining[:1] in {"]", "}"} else text
    known = {comment.strip() for comment in comments}
    while line_start and known:
        above = text.rfind("\n", 0, line_start - 1) + 1
        if text[above:line_start].strip() not in known:
            break
        line_start = above
    return text[:line_start] + text[newline + 1 :] if newline >= 0 else text[:line_start].rstrip("\r\n")


def _rest_of_line(text: str, at: int) -> tuple[int, bool]:
    """The end of the comments that follow in this line, and whether the line ends there."""
    end = at
    while True:
        at = _match(_BLANKS, text, at)
        if text.startswith(("\r\n", "\n"), at):
            return end, True
        found = _COMMENT.match(text, at)
        if not found or "\n" in found.group():
            return end, False
        at = end = found.end()


def _member(key: str | None, value: Any, indent: str, text: str) -> str:
    name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    return name + _dumped(value, indent, _unit(text), newline_of(text))


def _dumped(value: Any, indent: str, unit: str, newline: str) -> str:
    if isinstance(value, dict) and value:
        inner = indent + unit
        members = [f"{json.dumps(k, ensure_ascii=False)}: {_dumped(v, inner, unit, newline)}" for k, v in value.items()]
        return "{" + newline + inner + f",{newline}{inner}".join(members) + newline + indent + "}"
    return json.dumps(value, ensure_ascii=False)


def _child_indent(text: str, container: Node) -> str:
    for child in reversed(container.children):
        line = text[text.rfind("\n", 0, child.start) + 1 : child.start]
        if not line.strip():
            return line
    return _indent_of_line(text, container.start) + _unit(text)


def _indent_of_line(text: str, at: int) -> str:
    found = re.match(r"[ \t]*", text[text.rfind("\n", 0, at) + 1 : at])
    return found.group() if found else ""


def _unit(text: str) -> str:
    """One level of indentation: that of the document's first indented name, else two spaces."""
    found = re.search(r'^([ \t]+)"', text, re.MULTILINE)
    return found.group(1) if found else "  "
