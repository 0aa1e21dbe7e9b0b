"""Line ends where Git is set as Git for Windows is by default: scripts that end in CR LF do not run."""

from __future__ import annotations

from pathlib import Path

from support import CopyProject, commit_all, git


def as_on_windows(repository: Path, clone: Path) -> Path:
    """A clone of a repository, made with the settings of Git for Windows."""
    git(repository, "clone", "--quiet", "-c", "core.autocrlf=true", str(repository), str(clone))
    return clone


def with_carriage_returns(folder: Path) -> list[str]:
    names = git(folder, "ls-files", "-z").split("\0")
    return [name for name in names if (folder / name).is_file() and b"\r" in (folder / name).read_bytes()]


def test_an_environment_that_is_cloned_with_the_settings_of_windows_works(
    tmp_path: Path, copy_project: CopyProject
) -> None:
    environment = copy_project(tmp_path / "env")
    commit_all(environment, "the environment")

    clone = as_on_windows(environment, tmp_path / "clone")

    assert with_carriage_returns(clone) == []
    assert git(clone, "status", "--porcelain") == ""


def test_a_template_that_is_cloned_with_the_settings_of_windows_has_its_own_line_ends(
    tmp_path: Path, template: Path
) -> None:
    """Copier clones it with the person's settings, and writes what it finds."""
    assert with_carriage_returns(as_on_windows(template, tmp_path / "clone")) == []
