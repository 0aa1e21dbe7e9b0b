"""Teams write YAML for programs of Go, so a scalar has to mean here what it means to them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from envkit.go_yaml import YAML_ERRORS, read_yaml, yaml_text

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


@pytest.mark.parametrize("broken", ["a: [", "a: 0b_", b"\xff"])
def test_what_is_no_yaml_is_one_of_its_errors(broken: str | bytes) -> None:
    with pytest.raises(YAML_ERRORS):
        read_yaml(broken)
