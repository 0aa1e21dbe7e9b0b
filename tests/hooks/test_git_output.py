"""What hooks hear from Git, where it may refuse or be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_output import git_output
from support import commit_all


def test_answer_is_that_of_the_folder_and_a_refusal_is_none(tmp_path: Path) -> None:
    commit_all(tmp_path, "generated")
    assert git_output(tmp_path, "log", "--format=%s") == b"generated\n"
    assert git_output(tmp_path, "log", "no-such-branch") is None


def test_missing_git_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_output(tmp_path, "status") is None


def test_git_has_what_a_person_has_set_but_never_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "git"
    program.write_text('#!/bin/sh\necho "$HTTPS_PROXY $GIT_TERMINAL_PROMPT $*"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "1")
    assert git_output(tmp_path, "fetch", "origin") == b"http://proxy.example.com:3128 0 fetch origin\n"
