"""What all tests share: a snapshot of the template as a tagged Git repository, and isolation.

Tests see the working tree, committed or not, but never write into it, and no setting of the person who
runs them reaches Git or Copier.
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import plumbum
import pytest
from copier import _template, _vcs, run_copy
from copier._main import Worker
from copier._types import Phase
from support import SNAPSHOT_TAG, CopyProject, commit_all, copy_working_tree, git

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
def _compiled_templates() -> Iterator[None]:
    """Keeps the code of each template, which is the same for the same source.

    Copier compiles every path and every file anew, several times in an update, and Jinja itself keeps only
    what its loaders read: half of the time of these tests would go into that.
    """
    compile_template = jinja2.Environment.compile
    compiled: dict[tuple[object, ...], Any] = {}

    def compile_once(environment: jinja2.Environment, source: Any, *arguments: Any, **options: Any) -> Any:
        key = (environment.lexer, *sorted(environment.extensions), source, *arguments, *sorted(options.items()))
        if key not in compiled:
            compiled[key] = compile_template(environment, source, *arguments, **options)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", compile_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_text_is_not_rendered() -> Iterator[None]:
    """Leaves out what changes nothing: Copier renders each part of every path, most of which hold no template."""
    render = Worker._render_string

    def render_template(worker: Worker, string: str, extra_context: dict[str, Any] | None = None) -> str:
        return render(worker, string, extra_context) if "{" in string else string

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_render_string", render_template)
        yield


@pytest.fixture(scope="session", autouse=True)
def _name_of_the_answers_file() -> Iterator[None]:
    """Keeps it as long as files are rendered: Copier renders it for each part of every path, from all the answers."""
    name: Callable[[Worker], Path] = vars(Worker)["answers_relpath"].fget

    def name_once(worker: Worker) -> Path:
        if Phase.current() is not Phase.RENDER:
            return name(worker)
        kept: dict[str, Path] = vars(worker)
        if "_kept_answers_relpath" not in kept:
            kept["_kept_answers_relpath"] = name(worker)
        return kept["_kept_answers_relpath"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "answers_relpath", property(name_once))
        yield


@pytest.fixture(scope="session", autouse=True)
def _read_templates() -> Iterator[None]:
    """Keeps what each `copier.yml` says: Copier reads it anew for every folder, several times in an update."""
    load = _template.load_template_config
    read: dict[bytes, Any] = {}

    def load_once(path: Path, quiet: bool = False) -> Any:
        text = path.read_bytes()
        if text not in read:
            read[text] = load(path, quiet)
        return copy.deepcopy(read[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_template, "load_template_config", load_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _cloned_versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps a clone of each version of a template: Copier makes three in an update, and reads from them only."""
    clone = _vcs.clone
    kept: dict[tuple[str, str], str] = {}

    def clone_once(url: str, ref: str, location: str) -> str:
        if ref == "HEAD":  # what is not committed counts, too
            return clone(url, ref, location)
        key = (url, git(Path(url), "rev-parse", f"{ref}^{{commit}}"))
        if key not in kept:
            kept[key] = clone(url, ref, str(tmp_path_factory.mktemp("version")))
        Path(location).rmdir()
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_template, "clone", clone_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _executable_bits_are_heeded() -> Iterator[None]:
    """Spares a call of Git for each rendered file, by which Copier asks whether the executable bit counts.

    That is more than half of all processes of these tests. It matters only where `core.fileMode` is false, and no
    repository of theirs has that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None)
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
