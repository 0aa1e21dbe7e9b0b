"""An environment of any release, brought to the newest version."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, SNAPSHOT_TAG, commit_all, git
from updates.matrix import ABSENT, CONFLICT, EDITS, KEPT, generate, outcomes, update
from updates.releases import Release, releases

RELEASES = releases()
every_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.tag)

ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything-else": {
        "project": "shop",
        "github_org": "Shop",
        "agents": 0,
        "http_port": 8080,
        "https_port": 8443,
        "api_port": 7000,
        "registry_port": 7001,
        "ingress": "none",
        "lens": "freelens",
        "runners_min": 0,
        "runners_max": 3,
        "buildkit_mode": "privileged",
        "k3s_image": "mirror.example/k3s:v1.36.2-k3s1",
    },
    "no-runners": {"arc": False, "lens": "none"},
    "dev-container-only": {"scope": "devcontainer"},
}


PLACES = {"`local.just`", "`ca-bundle.pem`", "`.env`", "`.gitattributes`"}


Content = dict[str, tuple[bytes, bool]]


def content(folder: Path) -> Content:
    """Every file but the answers with its bytes and whether it may be executed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in folder.rglob("*")
        if path.is_file()
        and ".git" not in path.relative_to(folder).parts
        and not path.name.startswith(".copier-answers.")
    }


def test_there_are_releases_to_update_from() -> None:
    assert [release.tag for release in RELEASES][:1] == ["v0.1.0"]


# All answers from the oldest release, and from the later ones those that reach most of the files. The default ones are
# among the environments with edits.
CASES = [
    pytest.param(release, answers, id=f"{release.tag}-{name}")
    for release in RELEASES
    for name, answers in ANSWERS.items()
    if release is RELEASES[0] or name == "everything-else"
]


@pytest.fixture(scope="session")
def new_content(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Content]:
    """A function that returns what a new environment with these answers holds; each is made once."""
    made: dict[str, Content] = {}

    def content_of(**answers: Any) -> Content:
        key = repr(answers)
        if key not in made:
            made[key] = content(generate(history, tmp_path_factory.mktemp("new") / "env", SNAPSHOT_TAG, **answers))
        return made[key]

    return content_of


@pytest.mark.parametrize(("release", "answers"), CASES)
def test_updated_environment_is_the_same_as_a_new_one(
    history: Path, tmp_path: Path, release: Release, answers: dict[str, Any], new_content: Callable[..., Content]
) -> None:
    updated = generate(history, tmp_path / "old", release.tag, **answers)
    update(updated)
    assert content(updated) == new_content(**answers)


def test_environment_that_took_one_update_after_the_other_is_the_same_as_a_new_one(
    history: Path, tmp_path: Path, new_content: Callable[..., Content]
) -> None:
    """By the newest patch of each minor version: what lies between two releases does not change any more."""
    minors = {release.tag.rpartition(".")[0]: release.tag for release in RELEASES}
    updated = generate(history, tmp_path / "old", RELEASES[0].tag)
    for version in [*minors.values(), SNAPSHOT_TAG][1:]:
        update(updated, version)
        commit_all(updated, f"update to {version}")
    assert content(updated) == new_content()


def test_an_environment_moves_behind_mirrors_and_back(
    history: Path, tmp_path: Path, new_content: Callable[..., Content]
) -> None:
    mirrors: dict[str, Any] = {
        "image_mirrors": {"docker.io": "mirror.example.com/hub", "ghcr.io": "mirror.example.com:5000"},
        "image_mirrors_plain_http": ["mirror.example.com:5000"],
        "download_mirror": "https://mirror.example.com/downloads",
        "python_index": "https://mirror.example.com/python/simple",
    }
    moved = generate(history, tmp_path / "env", RELEASES[0].tag)
    update(moved, **mirrors)
    assert content(moved) == new_content(**mirrors)
    commit_all(moved, "move behind mirrors")
    update(moved, image_mirrors={}, image_mirrors_plain_http=[], download_mirror="", python_index="")
    assert content(moved) == new_content()


@every_release
def test_no_edit_is_lost_in_silence_and_the_rest_is_new(
    history: Path, tmp_path: Path, release: Release, new_content: Callable[..., Content]
) -> None:
    found = outcomes(history, tmp_path / "env", release)
    assert set(found.values()) <= {KEPT, CONFLICT, ABSENT}, found
    # The places that are made for edits are never touched.
    places = {kind: outcome for kind, outcome in found.items() if ".local." in kind or kind in PLACES}
    assert set(places.values()) == {KEPT}, places
    assert len(places) == 8
    edited = {path for edit in EDITS for path in (edit.path, edit.moved_to)}

    def unedited(files: Content) -> Content:
        return {path: file for path, file in files.items() if path not in edited}

    assert unedited(content(tmp_path / "env")) == unedited(new_content())
    # `.env` is in no commit, so Git could not bring it back.
    assert git(tmp_path / "env", "check-ignore", ".env").strip() == ".env"


def test_own_recipes_work_and_never_take_the_menu_away(tmp_path: Path) -> None:
    shutil.copy(ROOT / "template" / "{% if provider == 'k3d' %}justfile{% endif %}", tmp_path / "justfile")
    (tmp_path / "local.just").write_text("load:\n    echo ours\n\nupdate:\n    echo ours\n", encoding="utf-8")
    just = ["just", "--justfile", str(tmp_path / "justfile")]
    assert subprocess.run([*just, "load"], capture_output=True, text=True, check=True).stdout == "ours\n"
    shown = subprocess.run([*just, "--show", "update"], capture_output=True, text=True, check=True).stdout
    assert "bin/envkit update" in shown
