"""Editing JSON with comments: the value changes as asked, and everything else stays as it was."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import jsonc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonc import JsoncError, comments_above, has_comments, parse, with_child, without_child, written

keys = st.text('abc"\\/*é\n', max_size=4)
scalars = st.none() | st.booleans() | st.integers(-5, 500) | keys | st.sampled_from(["//", "/* x */", ",", "]}", 1.5])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
containers = st.lists(values, max_size=4) | st.dictionaries(keys, values, max_size=4)
trivia = st.lists(
    st.sampled_from([" ", "\n", "\n    ", "\t", "\r\n", "// a, b\n", "//\n", "/* , ] } */", '/* " */', "/*\n*/"]),
    max_size=3,
).map("".join)


@st.composite
def documents(draw: st.DrawFn, contents: st.SearchStrategy[Any] = values) -> tuple[str, Any]:
    """A document with comments and odd spacing, and its value."""
    value = draw(contents)
    return draw(trivia) + _spelled(draw, value) + draw(trivia), value


def _spelled(draw: Any, value: Any) -> str:
    if isinstance(value, dict):
        inner = [f"{json.dumps(key)}{draw(trivia)}:{draw(trivia)}{_spelled(draw, item)}" for key, item in value.items()]
    elif isinstance(value, list):
        inner = [_spelled(draw, item) for item in value]
    else:
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    items = ",".join(f"{draw(trivia)}{item}{draw(trivia)}" for item in inner)
    comma = "," + draw(trivia) if inner and draw(st.booleans()) else ""
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{draw(trivia) if not inner else ''}{items}{comma}{closing}"


def comments(text: str) -> list[str]:
    """The comments of a document, in order: what is left when strings are skipped."""
    tokens = re.finditer(r'"(?:[^"\\]|\\.)*"|(//[^\r\n]*|/\*.*?\*/)', text, re.DOTALL)
    return [token.group(1) for token in tokens if token.group(1)]


def without_space(text: str) -> str:
    return re.sub(r"\s+", "", text)


@settings(max_examples=60)
@given(documents())
def test_any_document_has_the_value_it_spells(document: tuple[str, Any]) -> None:
    text, value = document
    assert parse(text).value == value


@settings(max_examples=60)
@given(documents(), st.integers(0, 60), st.characters())
def test_a_spoiled_document_gives_a_value_or_one_kind_of_error(
    document: tuple[str, Any], at: int, character: str
) -> None:
    text, _ = document
    with suppress(JsoncError):
        parse(text[:at] + character + text[at + 1 :])


@settings(max_examples=80)
@given(documents(containers), values, keys)
def test_an_added_child_stands_last_and_nothing_is_lost(document: tuple[str, Any], value: Any, key: str) -> None:
    text, before = document
    after: Any
    if isinstance(before, dict):
        if key in before:
            return
        after, changed = {**before, key: value}, with_child(text, parse(text), value, key)
    else:
        after, changed = [*before, value], with_child(text, parse(text), value)
    assert parse(changed).value == after
    assert list(after) == list(parse(changed).value)
    assert comments(changed) == comments(text)
    node = parse(changed)
    # Whatever came before the new child is there as it was, but for one comma.
    assert (
        without_space(changed).startswith(without_space(text[: parse(text).children[-1].node.end])) if before else True
    )
    assert without_space(changed[node.end :]) == without_space(text[parse(text).end :])


@settings(max_examples=80)
@given(documents(containers.filter(len)), st.data())
def test_a_removed_child_takes_nothing_with_it(document: tuple[str, Any], data: st.DataObject) -> None:
    text, before = document
    index = data.draw(st.integers(0, len(before) - 1))
    node = parse(text)
    changed = without_child(text, node, index)
    if isinstance(before, dict):
        after: Any = {key: value for key, value in before.items() if key != list(before)[index]}
    else:
        after = before[:index] + before[index + 1 :]
    assert parse(changed).value == after
    child = node.children[index]
    outside = text[: child.start] + text[child.node.end :]
    assert comments(changed) == comments(outside)


@settings(max_examples=40)
@given(documents(containers), values)
def test_adding_and_removing_again_leaves_the_same_value(document: tuple[str, Any], value: Any) -> None:
    text, before = document
    key = "new" if isinstance(before, dict) else None
    changed = with_child(text, parse(text), value, key)
    again = without_child(changed, parse(changed), len(before))
    assert parse(again).value == before
    assert comments(again) == comments(text)


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('["a"]', None, '["a", "new"]'),
        ('[ "a", ]', None, '[ "a", "new", ]'),
        ('["a" /* x */]', None, '["a", /* x */ "new"]'),
        ("[]", None, '["new"]'),
        ("{}", "k", '{\n  "k": "new"\n}'),
        ("{ // why\n}", "k", '{ // why\n  "k": "new"\n}'),
        ('{\n    "a": 1\n}\n', "k", '{\n    "a": 1,\n    "k": "new"\n}\n'),
        ('{\n\t"a": 1, // one\n}\n', "k", '{\n\t"a": 1, // one\n\t"k": "new",\n}\n'),
        ('{\n  "a": 1 // one\n  // end\n}\n', "k", '{\n  "a": 1, // one\n  "k": "new"\n  // end\n}\n'),
        ('{"a": 1}', "k", '{"a": 1, "k": "new"}'),
        ('{\r\n  "a": 1\r\n}\r\n', "k", '{\r\n  "a": 1,\r\n  "k": "new"\r\n}\r\n'),
        ('\ufeff{\n  "a": 1\n}', "k", '\ufeff{\n  "a": 1,\n  "k": "new"\n}'),
        ('[\n  "a" // x\n]', None, '[\n  "a", // x\n  "new"\n]'),
    ],
)
def test_an_added_child_is_spelled_as_its_neighbours_are(text: str, key: str | None, expected: str) -> None:
    assert with_child(text, parse(text), "new", key) == expected


def test_an_added_child_brings_its_comments_where_it_has_a_line_of_its_own() -> None:
    text = '{\n  "a": 1\n}'
    changed = with_child(text, parse(text), {"b": [1]}, "k", ["// why"])
    assert changed == '{\n  "a": 1,\n  // why\n  "k": {\n    "b": [1]\n  }\n}'
    assert comments_above(changed, parse(changed).children[1]) == ["// why"]
    assert without_child(changed, parse(changed), 1, ["// why"]) == text


def test_comments_of_a_line_belong_to_what_begins_it() -> None:
    text = '{\n  // why\n  // so\n  "a": ["x"]\n}'
    child = parse(text).children[0]
    assert comments_above(text, child) == ["// why", "// so"]
    assert comments_above(text, child.node.children[0]) == []


@pytest.mark.parametrize(
    ("text", "index", "expected"),
    [
        ('["a", "b"]', 0, '["b"]'),
        ('["a", "b"]', 1, '["a"]'),
        ('["a"]', 0, "[]"),
        ('{\n  "a": 1,\n  "b": 2\n}', 0, '{\n  "b": 2\n}'),
        ('{\n  "a": 1,\n  "b": 2\n}', 1, '{\n  "a": 1\n}'),
        ('{\n  "a": 1,\n  "b": 2,\n}', 1, '{\n  "a": 1,\n}'),
        ('{\n  "a": 1, // one\n  "b": 2 // two\n}', 1, '{\n  "a": 1 // one\n  // two\n}'),
    ],
)
def test_a_removed_child_leaves_no_hole(text: str, index: int, expected: str) -> None:
    assert without_child(text, parse(text), index) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1, column 1: a value is expected here"),
        ('{\n  "a": 1\n  "b": 2\n}', "line 3, column 3: a comma or } is expected here"),
        ("{a: 1}", "line 1, column 2: a name in double quotes is expected here"),
        ('{"a" 1}', "line 1, column 6: a colon is expected here"),
        ("[1,,2]", "line 1, column 4: a value is expected here"),
        ('["a]', "line 1, column 2: this text has no end"),
        ("[01]", "line 1, column 2: a value is expected here"),
        ("[1] /* x", "line 1, column 5: this comment has no end"),
        ("[1] 2", "line 1, column 5: nothing more is expected here"),
        ("[nulls]", "line 1, column 2: a value is expected here"),
        ("[" * 200, "line 1, column 102: this is nested too deeply"),
    ],
)
def test_broken_document_is_named_by_its_place(text: str, sentence: str) -> None:
    with pytest.raises(JsoncError) as raised:
        parse(text)
    assert str(raised.value).startswith(sentence)


def test_of_equal_names_the_last_counts() -> None:
    node = parse('{"a": 1, "a": 2}')
    assert node.value == {"a": 2}
    found = node.get("a")
    assert found is not None
    assert found.value == 2


def test_value_is_written_in_the_indentation_of_its_place() -> None:
    text = '{\n\t"a": {\n\t\t"b": 1\n\t}\n}'
    at = text.index('"b"')
    assert written(text, at, {"c": [1, "x"]}, "b") == '"b": {\n\t\t\t"c": [1, "x"]\n\t\t}'
    assert has_comments("[ /* x */ ]", parse("[ /* x */ ]"))
    assert not has_comments("[ ]", parse("[ ]"))
    assert jsonc.newline_of("a") == "\n"
