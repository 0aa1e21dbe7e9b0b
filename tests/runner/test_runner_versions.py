"""What `just test-runner` makes of what the programs in the image print."""

from __future__ import annotations

import subprocess

import pytest

from envkit.runner.versions import findings, script


def ok(expected: str, command: str) -> bool:
    commands = {"tool": command}
    printed = subprocess.run(["sh", "-c", script(commands)], capture_output=True, text=True, check=True).stdout
    (finding,) = findings(printed, commands, {"tool": expected})
    return finding.ok


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("1.27.2", "go version go1.27.2 linux/amd64"),
        ("4.3.0", "v4.3.0+g1234567"),
        ("1.36.4", "Client Version: v1.36.4"),
        ("2.14.0", "golangci-lint has version 2.14.0 built with go1.27.1 from abc on 2026-09-01"),
        ("0.33.0", "buildctl github.com/moby/buildkit v0.33.0 1234"),
        ("1001", "1001"),
    ],
)
def test_a_version_is_found_among_other_words(expected: str, printed: str) -> None:
    assert ok(expected, f"echo '{printed}'")


@pytest.mark.parametrize("printed", ["1.27.20", "1.27.2.1", "11.27.2", "1.27", "", "0.1.27.2"])
def test_another_version_is_not_taken_for_it(printed: str) -> None:
    assert not ok("1.27.2", f"echo '{printed}'")


def test_a_program_that_fails_is_not_right_whatever_it_prints() -> None:
    assert not ok("1.27.2", "echo 1.27.2; false")
    assert not ok("", "no-such-program")


def test_a_version_on_the_second_stream_counts() -> None:
    assert ok("1.27.2", "echo 1.27.2 >&2")


def test_what_is_printed_without_a_newline_counts() -> None:
    assert ok("1.27.2", "printf 1.27.2")


def test_each_program_is_judged_by_its_own_words() -> None:
    commands = {"one": "echo 1.0", "two": "exit 3", "three": "echo 3.0"}
    printed = subprocess.run(["sh", "-c", script(commands)], capture_output=True, text=True, check=True).stdout

    results = findings(printed, commands, {"one": "1.0", "two": "2.0", "three": "1.0"})

    assert [(finding.name, finding.ok) for finding in results] == [("one", True), ("two", False), ("three", False)]


def test_a_container_that_ends_early_leaves_nothing_right() -> None:
    assert [finding.ok for finding in findings("=== one\n1.0\n", {"one": "x", "two": "y"}, {"one": "1.0"})] == [
        False,
        False,
    ]
