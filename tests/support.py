"""What tests call themselves: Git, YAML and the fixture files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
# The third-party schemas lie beside the project where it is developed; they are no part of it.
SCHEMAS = ROOT.parent / "shared" / "schemas"

# Higher than any release, so that Copier takes the snapshot for the newest version.
SNAPSHOT_TAG = "v9999.0.0"

# No environment is made of these, and they are more than half of the files that Copier checks out for every version.
UNUSED = {"bench", "docs", "tests"}

CopyProject = Callable[..., Path]


def git(folder: Path, *arguments: str) -> str:
    """What a Git command prints in this folder; its failure fails the test."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {arguments} failed: {done.stderr}"
    return done.stdout


def commit_all(folder: Path, message: str, tag: str | None = None) -> None:
    """Commit everything in the folder, which becomes a Git repository if it is none, and tag it."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    if tag:
        git(folder, "tag", tag)


def names_in_working_tree() -> list[str]:
    """Names of the files that are in Git or would be at the next `git add --all`, also of those that were removed."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    return [name for name in listed.split("\0") if name]


def copy_working_tree(destination: Path) -> None:
    """Copy what environments are made of as it lies in the working tree, committed or not, without what Git ignores."""
    for name in names_in_working_tree():
        source, target = ROOT / name, destination / name
        if name.partition("/")[0] not in UNUSED and (source.is_symlink() or source.is_file()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def fixture_files(folder: str) -> list[Any]:
    """The answers files of `tests/answers/FOLDER` as test parameters that are named after them."""
    paths = sorted((ROOT / "tests" / "answers" / folder).glob("*.yml"))
    return [pytest.param(path, id=path.stem) for path in paths]


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def wait_for(file: Path, seconds: float = 10) -> None:
    """Waits until another process has made a file; fails the test where that takes longer."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} is not there after {seconds} s"
        time.sleep(0.01)


def refuse_to_read(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Makes a file unreadable, for root as well, whom permissions do not stop."""
    for name in ("read_bytes", "read_text"):
        original = getattr(Path, name)

        def refused(path: Path, *arguments: Any, original: Callable[..., Any] = original, **options: Any) -> Any:
            if path.resolve() == file:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return original(path, *arguments, **options)

        monkeypatch.setattr(Path, name, refused)


def keep_no_permissions(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes a folder one of a drive of Windows in WSL: every file is open to all, and chmod changes nothing."""
    stat, chmod = Path.stat, Path.chmod

    def opened(path: Path, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result([found.st_mode | 0o777, *found[1:]]) if path.is_relative_to(folder) else found

    def without_effect(path: Path, mode: int, **options: Any) -> None:
        if not path.is_relative_to(folder):
            chmod(path, mode, **options)

    monkeypatch.setattr(Path, "stat", opened)
    monkeypatch.setattr(Path, "chmod", without_effect)


def refuse_to_look(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Makes a file one of a folder that is closed, for root as well, whom permissions do not stop."""
    original = Path.stat

    def refused(path: Path, **options: Any) -> os.stat_result:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
