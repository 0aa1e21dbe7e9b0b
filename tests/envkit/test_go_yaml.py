"""Teams write YAML for programs of Go, so a scalar has to mean here what it means to them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from envkit.go_yaml import YAML_ERRORS, read_yaml, yaml_text

NINE_OF_NINE = [(after, ", ".join([f"*{before}"] * 9)) for before, after in itertools.pairwise("abcdefgh")]

# What `helm template` (4.2, `{{ .Values | toJson }}`) made of each.
HELM_READS: dict[str, Any] = {
    "2222:22": "2222:22",
    "2222:22.5": "2222:22.5",
    "12e4": 120000.0,
    "1.5e+3": 1500.0,
    ".5": 0.5,
    "1.": 1.0,
    "1_0.5": 10.5,
    "1_000": 1000,
    "+1": 1,
    "0o17": 15,
    "017": 15,
    "08": 8.0,
    "0x1F": 31,
    "2026-01-01": "2026-01-01",
    "2026-02-31": "2026-02-31",
    "2026-01-01T10:00:00Z": "2026-01-01T10:00:00Z",
    "=": "=",
    "yes": True,
    "on": True,
    "1.2.3": "1.2.3",
    "12e": "12e",
    "7e99999": "7e99999",
    '"12e4"': "12e4",
    "'y'": "y",
}


@pytest.mark.parametrize(("written", "read"), HELM_READS.items())
def test_scalar_is_read_as_helm_reads_it(written: str, read: object) -> None:
    value = read_yaml(f"key: {written}\n")["key"]
    assert (value, type(value)) == (read, type(read))


@given(st.text(max_size=6) | st.from_regex(r"[-+]?[0-9_.:eExob-]{1,8}", fullmatch=True) | st.sampled_from("yYnN"))
@example("12e4")
@example("0o17")
@example("2222:22")
@example("1_0.5")
def test_text_that_is_written_is_text_to_either_way_of_reading(text: str) -> None:
    written = yaml_text({text: [text]})
    for read in (read_yaml, yaml.safe_load):
        assert read(written) == {text: [text]}


@pytest.mark.parametrize("letter", "yYnN")
def test_one_letter_that_is_a_truth_value_to_helm_is_in_quotes(letter: str) -> None:
    assert yaml_text([letter]) == f"- '{letter}'\n"


def test_all_else_is_written_as_it_is() -> None:
    document = {"b": [1, -2.5, 1e5, True, None, "plain text"], "a": {}}
    assert read_yaml(yaml_text(document)) == document
    assert yaml_text(document).startswith("b:\n- 1\n- -2.5\n- 100000.0\n- true\n- null\n- plain text\n")
    assert yaml_text(document, sort_keys=True).startswith("a: {}")


@pytest.mark.parametrize("broken", ["a: [", "a: 0b_", b"\xff", "a: " + "[" * 2000])
def test_what_is_no_yaml_is_one_of_its_errors(broken: str | bytes) -> None:
    with pytest.raises(YAML_ERRORS):
        read_yaml(broken)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key a stands there twice"),
        ("x: {b: 1, b: 2}\n", "the key b stands there twice"),
        ("on: 1\ntrue: 2\n", "the key true stands there twice"),
        ("a: 1\n~: 2\n", "a key is null"),
        ("a: &a [1, *a]\n", "would hold itself"),
        ("a: &a {b: {c: *a}}\n", "would hold itself"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(f"{n}: &{n} [{p}]\n" for n, p in NINE_OF_NINE), "too much"),
        (r'a: "\ud83d\ude00"', "half of a character"),
        ("a: .inf\n", "a number that they do not take"),
        ("a: -.INF\n", "a number that they do not take"),
        ("a: .nan\n", "a number that they do not take"),
        ("a: !!binary aGk=\n", "could not determine a constructor"),
        ("a: !!timestamp 2026-01-01\n", "could not determine a constructor"),
        ("a: !!set {b}\n", "could not determine a constructor"),
    ],
)
def test_what_would_be_lost_or_could_not_be_passed_on_is_refused(text: str, why: str) -> None:
    with pytest.raises(yaml.YAMLError, match=why):
        read_yaml(text)


def test_what_a_merge_brings_is_replaced_by_what_stands_there() -> None:
    read = read_yaml("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: {<<: [*a], z: 4}\n")
    assert (read["b"], read["c"]) == ({"x": 3, "y": [2]}, {"x": 1, "y": [2], "z": 4})


def test_what_is_added_to_an_alias_is_not_added_to_the_others() -> None:
    read = read_yaml("a: &a [{x: 1}]\nb: *a\nc: {<<: {d: *a}}\n")
    read["a"][0]["y"] = 2
    read["a"].append(3)
    assert read["b"] == read["c"]["d"] == [{"x": 1}]


def any_json() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    keys = st.text(max_size=6).filter(lambda key: key not in ("=", "<<"))
    return st.recursive(scalars, lambda part: st.lists(part, max_size=4) | st.dictionaries(keys, part, max_size=4))


@given(any_json())
def test_document_that_is_written_is_read_as_it_was(document: object) -> None:
    assert read_yaml(yaml_text(document)) == document


def test_every_key_is_text_as_it_is_to_helm() -> None:
    assert read_yaml("1: a\non: b\n0x10: c\n1.5: d\n2026-01-01: e\n") == {
        "1": "a",
        "true": "b",
        "16": "c",
        "1.5": "d",
        "2026-01-01": "e",
    }
