"""What happens to edits of a file that the template has moved."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import migrate
import pytest
from migrations.moved_file import Update, move_file
from support import ROOT, SNAPSHOT_TAG, commit_all, git
from update_files import ABORT
from updates.matrix import generate, update
from updates.releases import Release, releases

OLD, NEW = "old.toml", "new.toml"
FIRST = "a = 1\n\n# what b is for\nb = 1\n\nc = 1\n"
SECOND = "a = 2\n\n# what b is for\nb = 1\n\nc = 1\n"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template of two versions: the second has the file elsewhere, and changes a line of it."""
    folder = tmp_path / "template-clone"
    (folder / "template").mkdir(parents=True)
    (folder / "template" / OLD).write_text(FIRST, encoding="utf-8")
    commit_all(folder, "first", "v1.0.0")
    (folder / "template" / OLD).unlink()
    (folder / "template" / NEW).write_text(SECOND, encoding="utf-8")
    commit_all(folder, "second", "v2.0.0")
    return folder


def updated(template: Path, environment: Path, before: dict[str, str]) -> Update:
    """An environment with these files, in the state in which Copier leaves it after an update."""
    environment.mkdir(parents=True, exist_ok=True)
    for name, text in before.items():
        (environment / name).write_text(text, encoding="utf-8")
    commit_all(environment if environment.name == "env" else environment.parent, "before")
    (environment / OLD).unlink(missing_ok=True)
    if NEW not in before:
        (environment / NEW).write_text(SECOND, encoding="utf-8")
    return Update(environment, template, "v1.0.0")


def test_edits_move_along(template: Path, tmp_path: Path) -> None:
    run = updated(template, tmp_path / "env", {OLD: FIRST.replace("c = 1", "c = 7")})
    assert move_file(run, OLD, NEW) == "old.toml is called new.toml now. Your edits are in new.toml."
    assert (run.repository / NEW).read_text(encoding="utf-8") == SECOND.replace("c = 1", "c = 7")
    assert not move_file(run, OLD, NEW)
    assert (run.repository / NEW).read_text(encoding="utf-8") == SECOND.replace("c = 1", "c = 7")
    assert not git(run.repository, "ls-files", "--unmerged")


@pytest.mark.parametrize("place", ["env", "env/inner"])
def test_edit_of_a_line_that_the_template_changed_too_is_a_conflict(template: Path, tmp_path: Path, place: str) -> None:
    run = updated(template, tmp_path / place, {OLD: FIRST.replace("a = 1", "a = 7")})
    for _ in range(2):
        move_file(run, OLD, NEW)
        text = (run.repository / NEW).read_text(encoding="utf-8")
        assert text.startswith("<<<<<<< before updating\na = 7\n=======\na = 2\n>>>>>>> after updating\n")
    listed = [line.split() for line in git(run.repository, "ls-files", "--unmerged").splitlines()]
    assert [(stage, name) for _, _, stage, name in listed] == [("1", NEW), ("2", NEW), ("3", NEW)]
    assert git(run.repository, "cat-file", "blob", listed[1][1]) == FIRST.replace("a = 1", "a = 7")


def test_file_that_nobody_edited_is_left_to_the_update(template: Path, tmp_path: Path) -> None:
    run = updated(template, tmp_path / "env", {OLD: FIRST})
    assert not move_file(run, OLD, NEW)
    assert (run.repository / NEW).read_text(encoding="utf-8") == SECOND


def test_file_that_the_team_removed_stays_removed(template: Path, tmp_path: Path) -> None:
    run = updated(template, tmp_path / "env", {})
    assert "the new one is removed as well" in move_file(run, OLD, NEW)
    assert not (run.repository / NEW).exists()
    assert not move_file(run, OLD, NEW)


def test_edits_stay_in_the_old_file_where_the_new_one_is_the_teams_own(template: Path, tmp_path: Path) -> None:
    edited = FIRST.replace("c = 1", "c = 7")
    run = updated(template, tmp_path / "env", {OLD: edited, NEW: "ours = true\n"})
    assert "Join them by hand" in move_file(run, OLD, NEW)
    assert (run.repository / OLD).read_text(encoding="utf-8") == edited
    assert (run.repository / NEW).read_text(encoding="utf-8") == "ours = true\n"
    assert not move_file(run, OLD, NEW)


def test_nothing_is_done_once_the_environment_is_of_the_new_version(template: Path, tmp_path: Path) -> None:
    run = updated(template, tmp_path / "env", {OLD: "the team has made this file again\n"})
    assert not move_file(Update(run.repository, template, "v2.0.0"), OLD, NEW)
    assert (run.repository / NEW).read_text(encoding="utf-8") == SECOND


def test_migrations_from_the_oldest_release_change_nothing_the_second_time(history: Path, tmp_path: Path) -> None:
    oldest = releases()[0].tag
    environment = generate(history, tmp_path / "env", oldest)
    tools = environment / ".mise.toml"
    tools.write_text(tools.read_text(encoding="utf-8") + '\n[tasks.ours]\nrun = "true"\n', encoding="utf-8")
    commit_all(environment, "ours")
    update(environment)
    merged = (environment / "mise.toml").read_text(encoding="utf-8")
    assert merged == (ROOT / "template" / "mise.toml").read_text(encoding="utf-8") + '\n[tasks.ours]\nrun = "true"\n'
    state = git(environment, "status", "--porcelain")
    assert not tools.exists()
    done = subprocess.run(
        [sys.executable, history / "hooks" / "migrate.py"],
        cwd=environment,
        env=os.environ | {"VERSION_FROM": oldest},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout + done.stderr
    assert git(environment, "status", "--porcelain") == state
    assert (environment / "mise.toml").read_text(encoding="utf-8") == merged


def test_migration_that_fails_says_how_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Update) -> str:
        """From here to there."""
        raise PermissionError(13, "Permission denied", "new.toml")

    monkeypatch.setattr(migrate, "MIGRATIONS", (fails,))
    monkeypatch.setenv("VERSION_FROM", "v1.0.0")
    monkeypatch.chdir(tmp_path)
    assert migrate.main() == 1
    printed = capsys.readouterr().err
    assert "From here to there." in printed
    assert "Permission denied: 'new.toml'" in printed
    assert f"Go back with: {ABORT}\n" in printed


def test_migration_by_hand_says_who_runs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VERSION_FROM", raising=False)
    assert migrate.main() == 2
    assert capsys.readouterr().err == (
        "VERSION_FROM is not set. This is a step of an update, and Copier runs it: bin/just update\n"
    )


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.tag)
def test_every_file_that_a_release_had_is_still_there_or_has_a_migration(history: Path, release: Release) -> None:
    """Copier removes a file that the template no longer has, together with what the team wrote into it."""

    def files(version: str) -> set[str]:
        listed = git(history, "ls-tree", "-r", "--name-only", version, "template/", "runner/").splitlines()
        # An answer may decide on a file, which then has the condition in its name.
        names = (re.sub(r"{%.*?%}", "", name) for name in listed)
        return {name.removeprefix("template/").removesuffix(".jinja") for name in names}

    gone = files(release.tag) - files(SNAPSHOT_TAG)
    # envkit is the template's program, not a place for edits.
    assert {name for name in gone if not name.startswith("envkit/")} <= set(migrate.MOVED)
