"""Copier without what costs these tests time and changes nothing in what it renders.

They render some thousand times. Each function replaces one part of Copier or of Jinja until the patch is undone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import pytest
from copier import _template, _vcs
from copier._main import Worker
from copier._types import Phase
from support import git


def keep_compiled_templates(patch: pytest.MonkeyPatch) -> None:
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

    patch.setattr(jinja2.Environment, "compile", compile_once)


def leave_plain_text_alone(patch: pytest.MonkeyPatch) -> None:
    """Renders only what holds a template: Copier renders each part of every path, most of which hold none."""
    render = Worker._render_string

    def render_template(worker: Worker, string: str, extra_context: dict[str, Any] | None = None) -> str:
        return render(worker, string, extra_context) if "{" in string else string

    patch.setattr(Worker, "_render_string", render_template)


def keep_name_of_answers_file(patch: pytest.MonkeyPatch) -> None:
    """Keeps it as long as files are rendered: Copier renders it for each part of every path, from all the answers."""
    name: Callable[[Worker], Path] = vars(Worker)["answers_relpath"].fget

    def name_once(worker: Worker) -> Path:
        if Phase.current() is not Phase.RENDER:
            return name(worker)
        kept: dict[str, Path] = vars(worker)
        if "_kept_answers_relpath" not in kept:
            kept["_kept_answers_relpath"] = name(worker)
        return kept["_kept_answers_relpath"]

    patch.setattr(Worker, "answers_relpath", property(name_once))


def keep_read_questions(patch: pytest.MonkeyPatch) -> None:
    """Keeps what each `copier.yml` says: Copier reads it anew for every folder, several times in an update."""
    load = _template.load_template_config
    read: dict[bytes, Any] = {}

    def load_once(path: Path, quiet: bool = False) -> Any:
        text = path.read_bytes()
        if text not in read:
            read[text] = load(path, quiet)
        return copy.deepcopy(read[text])

    patch.setattr(_template, "load_template_config", load_once)


def keep_cloned_versions(patch: pytest.MonkeyPatch, new_folder: Callable[[], Path]) -> None:
    """Keeps a clone of each version of a template: Copier makes three in an update, and reads from them only."""
    clone = _vcs.clone
    kept: dict[tuple[str, str], str] = {}

    def clone_once(url: str, ref: str, location: str) -> str:
        if ref == "HEAD":  # what is not committed counts, too
            return clone(url, ref, location)
        key = (url, git(Path(url), "rev-parse", f"{ref}^{{commit}}"))
        if key not in kept:
            kept[key] = clone(url, ref, str(new_folder()))
        Path(location).rmdir()
        return kept[key]

    patch.setattr(_template, "clone", clone_once)


def keep_descriptions_of_versions(patch: pytest.MonkeyPatch) -> None:
    """Keeps what Copier has asked Git about a clone: for each version it does so up to five times in an update.

    These clones live as long as the tests and do not change; of others each has a folder of its own.
    """
    for name in ("commit", "version", "git_index_modes"):
        patch.setattr(_template.Template, name, _asked_once(name, vars(_template.Template)[name].func))


def _asked_once(name: str, ask: Callable[[_template.Template], Any]) -> cached_property[Any]:
    known: dict[Path, Any] = {}

    def ask_once(template: _template.Template) -> Any:
        if template.vcs != "git":
            return ask(template)
        if template.local_abspath not in known:
            known[template.local_abspath] = ask(template)
        return known[template.local_abspath]

    kept = cached_property(ask_once)
    kept.__set_name__(_template.Template, name)
    return kept


def keep_known_repositories(patch: pytest.MonkeyPatch) -> None:
    """Keeps which folders are Git repositories: Copier asks twice for each of the templates that it looks at."""
    is_root = _vcs.is_git_repo_root
    known: set[str] = set()

    def is_root_once(path: str | Path) -> bool:
        if str(path) not in known and is_root(path):
            known.add(str(path))
        return str(path) in known

    patch.setattr(_vcs, "is_git_repo_root", is_root_once)


def heed_executable_bits(patch: pytest.MonkeyPatch) -> None:
    """Spares a call of Git for each rendered file, by which Copier asks whether the executable bit counts.

    That is more than half of all processes of these tests. It matters only where `core.fileMode` is false, and no
    repository of theirs has that.
    """
    patch.setattr(Worker, "_sync_git_index_executable_bit", lambda *_: None)
