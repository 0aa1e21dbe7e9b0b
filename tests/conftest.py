"""What all tests share: a snapshot of the template as a tagged Git repository, and isolation.

Tests see the working tree, committed or not, but never write into it, and no setting of the person who
runs them reaches Git or Copier.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plumbum
import pytest
import quick_copier
from copier import run_copy
from hypothesis import HealthCheck, settings
from support import SNAPSHOT_TAG, CopyProject, commit_all, copy_working_tree

ISOLATION = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    # Thousands of commits that live for a second need neither compression nor tidying up.
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "core.compression",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "gc.auto",
    "GIT_CONFIG_VALUE_1": "0",
    "GIT_CONFIG_KEY_2": "maintenance.auto",
    "GIT_CONFIG_VALUE_2": "false",
}


# No test depends on how fast the machine is, or fails for a change that did not touch what it tests. New examples are
# tried with --hypothesis-profile=default.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


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


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heeded() -> None:
    """What is started in the background by a shell ignores Ctrl-C, and so would all that the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _quick_copier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quick_copier.keep_compiled_templates(patch)
        quick_copier.leave_plain_text_alone(patch)
        quick_copier.keep_name_of_answers_file(patch)
        quick_copier.keep_read_questions(patch)
        quick_copier.keep_cloned_versions(patch, lambda: tmp_path_factory.mktemp("version"))
        quick_copier.keep_descriptions_of_versions(patch)
        quick_copier.keep_known_repositories(patch)
        quick_copier.heed_executable_bits(patch)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the template with the working tree's content, committed and tagged."""
    snapshot = tmp_path_factory.mktemp("template") / "template"
    copy_working_tree(snapshot)
    commit_all(snapshot, "the working tree", SNAPSHOT_TAG)
    return snapshot


@pytest.fixture(scope="session")
def plain_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without its Git repository, from which Copier renders twice as fast."""
    folder = tmp_path_factory.mktemp("plain") / "template"
    return Path(shutil.copytree(template, folder, ignore=shutil.ignore_patterns(".git"), symlinks=True))


@pytest.fixture
def copy_project(plain_template: Path) -> CopyProject:
    """A function that generates a project with these answers and returns its folder."""

    def copy(destination: Path, *, run_tasks: bool = False, **answers: Any) -> Path:
        run_copy(
            str(plain_template),
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
