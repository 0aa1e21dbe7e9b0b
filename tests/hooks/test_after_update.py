"""What is said after an update, in real updates between two versions of the template."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import after_update
import pytest
from copier import run_copy, run_update
from support import commit_all, git

Update = Callable[..., str]
NEWER_K3S = "k3s:v1.99.0-k3s1"


@pytest.fixture(scope="module")
def two_versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template in two versions that differ in k3d.yaml and in the pinned node image."""
    folder = tmp_path_factory.mktemp("versions") / "template"
    shutil.copytree(template, folder)
    commit_all(folder, "first", "v10001.0.0")
    file = folder / "template" / "k3d.yaml.jinja"
    text = file.read_text(encoding="utf-8")
    assert "timeout: 300s" in text
    file.write_text(text.replace("timeout: 300s", "timeout: 400s"), encoding="utf-8")
    questions = folder / "copier.yml"
    pinned = questions.read_text(encoding="utf-8")
    assert pinned.count("rancher/k3s:v1.36.4-k3s1") == 1
    questions.write_text(pinned.replace("k3s:v1.36.4-k3s1", NEWER_K3S), encoding="utf-8")
    commit_all(folder, "second", "v10002.0.0")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with one commit and no files."""
    commit_all(tmp_path, "start")
    return tmp_path


@pytest.fixture
def environment(two_versions: Path, tmp_path: Path) -> Path:
    """A committed environment of the first version."""
    run_copy(
        str(two_versions),
        tmp_path / "env",
        defaults=True,
        quiet=True,
        unsafe=True,
        vcs_ref="v10001.0.0",
    )
    commit_all(tmp_path / "env", "generated")
    return tmp_path / "env"


@pytest.fixture
def update(environment: Path, capfd: pytest.CaptureFixture[str]) -> Update:
    """A function that updates the environment and returns what was printed."""

    def run(**options: Any) -> str:
        commit_all(environment, "edited by the team")
        capfd.readouterr()
        run_update(environment, defaults=True, quiet=True, unsafe=True, overwrite=True, **options)
        return capfd.readouterr().err

    return run


def test_changed_cluster_configuration_says_that_the_cluster_has_to_be_made_again(update: Update) -> None:
    printed = update()
    assert printed.count("The update changed 2 files.") == 1
    assert "keeps its old configuration until:\n    bin/just delete && bin/just create" in printed
    assert "conflict" not in printed


def test_pinned_image_follows_the_template_unless_another_was_chosen(environment: Path, update: Update) -> None:
    update()
    assert f'image: "docker.io/rancher/{NEWER_K3S}"' in (environment / "k3d.yaml").read_text(encoding="utf-8")
    update(data={"k3s_image": "mirror.example/k3s:1"})
    update()
    assert 'image: "mirror.example/k3s:1"' in (environment / "k3d.yaml").read_text(encoding="utf-8")


def test_update_without_changes_says_so(repository: Path) -> None:
    assert after_update.report(repository) == "The update changed nothing."


def test_changed_example_of_local_settings_says_what_to_compare(repository: Path) -> None:
    (repository / ".env.example").write_text("#API_PORT=7000\n", encoding="utf-8")
    report = after_update.report(repository)
    assert report.startswith("The update changed 1 file.\n")
    assert "Compare it with your .env:\n    diff .env.example .env" in report


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("helm/arc-runners.yaml", "    bin/just install-arc"),
        ("ansible/group_vars/all.yml", "    bin/just install-arc"),
        ("runner/tools.toml", "    bin/just build-runner && bin/just install-arc"),
    ],
)
def test_changed_runners_say_what_applies_it(path: str, command: str, repository: Path) -> None:
    (repository / path).parent.mkdir(parents=True)
    (repository / path).write_text("x: 1\n", encoding="utf-8")
    assert after_update.report(repository).splitlines()[-1] == command


def test_conflict_is_named(environment: Path, update: Update) -> None:
    file = environment / "k3d.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("timeout: 300s", "timeout: 500s"), encoding="utf-8")
    printed = update()
    assert "These have conflicts. Edit them, then: git add FILE\n    k3d.yaml\n" in printed


def test_rejected_hunks_are_conflicts_though_git_ignores_them(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.rej\n", encoding="utf-8")
    (repository / "k3d.yaml.rej").write_text("", encoding="utf-8")
    assert after_update.conflicts(repository) == ["k3d.yaml.rej"]


def test_markers_in_files_the_update_left_alone_are_no_conflicts(repository: Path) -> None:
    (repository / "notes.md").write_text("<<<<<<< before updating\n", encoding="utf-8")
    commit_all(repository, "notes")
    assert after_update.conflicts(repository) == []


def test_names_with_spaces_and_umlauts_are_printed_as_they_are(repository: Path) -> None:
    file = repository / "größe 1.txt"
    file.write_text("<<<<<<< before updating\na\n>>>>>>> after updating\n", encoding="utf-8")
    git(repository, "add", "--all")
    assert after_update.conflicts(repository) == ["größe 1.txt"]


def test_folder_that_is_no_repository_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert after_update.main() == 0
    assert "What changed could not be listed" in capsys.readouterr().err
