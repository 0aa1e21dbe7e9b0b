"""What is refused at the last moment before an update changes files, and that it is noted when it has begun."""

from __future__ import annotations

from pathlib import Path

import pytest
import update_begins
from support import commit_all, git

from envkit import update_mark


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an environment in a larger repository; the current folder."""
    folder = tmp_path / "team" / "env"
    for place in (folder, tmp_path / "service"):
        place.mkdir(parents=True)
        (place / "file").write_text("a\n", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("*.rej\nmodules/\n", encoding="utf-8")
    commit_all(tmp_path, "before")
    monkeypatch.chdir(folder)
    return folder


def change_on_both_sides(repository: Path, resolved: str = "") -> None:
    """Leaves a merge that has a conflict in the folder of somebody else, or had one."""
    file = repository / "service" / "file"
    git(repository, "checkout", "--quiet", "-b", "theirs")
    for side in ("theirs", "ours"):
        file.write_text(f"{side}\n", encoding="utf-8")
        git(repository, "commit", "--quiet", "--all", "--message", side)
        if side == "theirs":
            git(repository, "checkout", "--quiet", "-b", "ours", "HEAD^")
    with pytest.raises(AssertionError, match="merge"):
        git(repository, "merge", "theirs")
    if resolved:
        file.write_text(resolved, encoding="utf-8")
        git(repository, "add", "service/file")


def test_update_is_noted_from_its_beginning_to_its_end(environment: Path) -> None:
    assert not update_mark.is_open(environment)
    assert update_begins.main() == 0
    assert update_mark.is_open(environment)
    assert not update_mark.is_open(environment.parent)
    assert not git(environment, "status", "--porcelain")
    update_begins.note_end(environment)
    assert not update_mark.is_open(environment)


def test_note_of_an_update_is_worth_nothing_after_the_next_commit(environment: Path) -> None:
    update_mark.begin(environment)
    commit_all(environment.parent.parent, "later")
    assert not update_mark.is_open(environment)


def test_folder_that_is_no_repository_is_none_in_an_update(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("plain")
    update_mark.begin(folder)
    update_mark.end(folder)
    assert not update_mark.is_open(folder)


def test_merge_with_conflicts_anywhere_is_finished_first(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_on_both_sides(environment.parent.parent)
    assert update_begins.main() == 1
    said = capsys.readouterr().err
    assert "A merge is not finished in this repository, with conflicts in:\n    ../../service/file\n" in said
    assert "To give it up: git merge --abort\nNothing was changed.\n" in said
    assert not update_mark.is_open(environment)


def test_merge_without_conflicts_is_committed_first(environment: Path) -> None:
    change_on_both_sides(environment.parent.parent, resolved="both\n")
    assert update_begins.refusal(environment).startswith("A merge is not finished in this repository. To finish it:")


@pytest.mark.parametrize("name", ["service/file.rej", "team/env/fi le.rej"])
def test_rejected_hunks_anywhere_are_not_left_to_copier(environment: Path, name: str) -> None:
    repository = environment.parent.parent
    (repository / name).touch()
    assert f":\n    {name}\nCopier takes each for its own" in update_begins.refusal(environment)


def test_rejected_hunks_in_a_folder_that_git_ignores_are_nobodys(environment: Path) -> None:
    modules = environment / "modules"
    modules.mkdir()
    (modules / "package.rej").touch()
    assert not update_begins.refusal(environment)
