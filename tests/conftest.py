"""What all tests share: a snapshot of the template as a tagged Git repository, and isolation.

Tests see the working tree, committed or not, but never write into it, and no setting of the person who
runs them reaches Git or Copier.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plumbum
import pytest
import yaml
from copier import run_copy

ROOT = Path(__file__).resolve().parent.parent
# The third-party schemas lie beside the project where it is developed; they are no part of it.
SCHEMAS = ROOT.parent / "shared" / "schemas"
# Higher than any release, so that Copier takes the snapshot for the newest version.
SNAPSHOT_TAG = "v9999.0.0"

ISOLATION = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}

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


@pytest.fixture(scope="session", autouse=True)
def _isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    own = tmp_path_factory.mktemp("copier")
    (own / "settings.yml").write_text("{}\n", encoding="utf-8")
    values = {
        **ISOLATION,
        "COPIER_CACHE_DIR": str(own / "cache"),
        "COPIER_SETTINGS_PATH": str(own / "settings.yml"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        # Copier starts Git and tasks through plumbum, which keeps a copy of the environment of its own.
        with plumbum.local.env(**values):
            yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the template with the working tree's content, committed and tagged."""
    snapshot = tmp_path_factory.mktemp("template") / "template"
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, snapshot / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    commit_all(snapshot, "the working tree", SNAPSHOT_TAG)
    return snapshot


@pytest.fixture
def copy_project(template: Path) -> CopyProject:
    """A function that generates a project with these answers and returns its folder."""

    def copy(destination: Path, *, run_tasks: bool = False, **answers: Any) -> Path:
        run_copy(
            str(template),
            destination,
            answers,
            defaults=True,
            quiet=True,
            unsafe=True,
            overwrite=True,
            skip_tasks=not run_tasks,
        )
        return destination

    return copy


def fixture_files(folder: str) -> list[Any]:
    """The answers files of `tests/answers/FOLDER` as test parameters that are named after them."""
    paths = sorted((ROOT / "tests" / "answers" / folder).glob("*.yml"))
    return [pytest.param(path, id=path.stem) for path in paths]


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
