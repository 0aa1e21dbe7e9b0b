"""When the cluster is created after generation, and that its failure costs nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import create_cluster
import plumbum
import pytest
from copier import run_copy, run_recopy, run_update
from copier.errors import TaskError
from support import commit_all

FAKE_ENVKIT = """\
#!/bin/sh
# Stands in for the generated repository's own program: notes how and where it was called.
echo "$(pwd) $*" >>"$CALLS"
echo "envkit $*, next: $ENVKIT_JUST"
exit "${ENVKIT_STATUS:-0}"
"""
ANSWERS = {"create_cluster": True}


@pytest.fixture
def fake_template(template: Path, tmp_path: Path) -> Path:
    """The template in two versions, with a fake bin/envkit and one file that differs."""
    fake = tmp_path / "template"
    shutil.copytree(template, fake)
    for number in (1, 2):
        (fake / "template" / "bin" / "envkit").write_text(FAKE_ENVKIT, encoding="utf-8")
        (fake / "template" / "note.txt").write_text(f"version {number}\n", encoding="utf-8")
        commit_all(fake, f"version {number}", f"v1000{number}.0.0")
    return fake


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "calls"
    file.touch()
    monkeypatch.setenv("CALLS", str(file))
    monkeypatch.setitem(plumbum.local.env._curr, "CALLS", str(file))
    return file


def copy(fake_template: Path, destination: Path, **more: Any) -> None:
    run_copy(
        str(fake_template),
        destination,
        {**ANSWERS, **more.pop("answers", {})},
        defaults=True,
        quiet=True,
        unsafe=True,
        **more,
    )


def test_copy_installs_then_creates_in_the_new_repository(fake_template: Path, tmp_path: Path, calls: Path) -> None:
    copy(fake_template, tmp_path / "env")
    assert calls.read_text(encoding="utf-8").splitlines() == [
        f"{tmp_path}/env install --only create",
        f"{tmp_path}/env create",
    ]


@pytest.mark.parametrize("answers", [{"create_cluster": False}, {"create_cluster": "no"}])
def test_copy_creates_nothing_unasked(
    fake_template: Path, tmp_path: Path, calls: Path, answers: dict[str, Any]
) -> None:
    copy(fake_template, tmp_path / "env", answers=answers)
    assert calls.read_text(encoding="utf-8") == ""


def test_update_creates_nothing_in_any_of_its_three_copies(fake_template: Path, tmp_path: Path, calls: Path) -> None:
    copy(fake_template, tmp_path / "env", vcs_ref="v10001.0.0", skip_tasks=True)
    commit_all(tmp_path / "env", "generated")
    run_update(tmp_path / "env", defaults=True, quiet=True, unsafe=True, overwrite=True)
    assert (tmp_path / "env" / "note.txt").read_text(encoding="utf-8") == "version 2\n"
    assert calls.read_text(encoding="utf-8") == ""


def test_recopy_runs_it_once_more(fake_template: Path, tmp_path: Path, calls: Path) -> None:
    copy(fake_template, tmp_path / "env")
    run_recopy(tmp_path / "env", defaults=True, quiet=True, unsafe=True, overwrite=True)
    assert len(calls.read_text(encoding="utf-8").splitlines()) == 4


def test_failing_creation_keeps_the_repository_and_says_what_to_run(
    fake_template: Path, tmp_path: Path, calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with plumbum.local.env(ENVKIT_STATUS="3"):
        copy(fake_template, tmp_path / "my env")
    assert (tmp_path / "my env" / "k3d.yaml").exists()
    assert len(calls.read_text(encoding="utf-8").splitlines()) == 1
    output = capfd.readouterr()
    assert "envkit install --only create, next: bin/just" in output.out
    assert "`bin/envkit install --only create` ended with exit status 3" in output.err
    assert f"cd '{tmp_path}/my env' && bin/just create" in output.err


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyboardInterrupt(), "It was interrupted."),
        (PermissionError(13, "Permission denied"), "could not be run: Permission denied."),
    ],
)
def test_interruption_and_missing_programs_are_causes_too(
    error: BaseException, cause: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("subprocess.run", raise_it)
    assert cause in str(create_cluster.failure(tmp_path))


def test_missing_envkit_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert create_cluster.main(["../env"]) == 0
    assert f"{tmp_path}/bin/envkit could not be run: No such file or directory." in capsys.readouterr().err


def test_folders_copier_makes_for_an_update_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path
) -> None:
    folder = tmp_path / "copier._main.new_copy.abc"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "envkit"
    program.write_text(FAKE_ENVKIT, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.chdir(folder)
    assert create_cluster.main([os.fspath(folder)]) == 0
    assert calls.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"agnets": "hunter2"}, "agnets: there is no such question. Did you mean agents?"),
        ({"arc": "maybe"}, 'arc: "maybe" was given; allowed is yes or no.'),
        ({"agents": 2.5}, "agents: 2.5 was given; allowed is a whole number from 0 to 10."),
    ],
)
def test_first_task_refuses_what_copier_lets_through_and_nothing_is_left(
    fake_template: Path,
    tmp_path: Path,
    calls: Path,
    capfd: pytest.CaptureFixture[str],
    answers: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(TaskError) as failure:
        copy(fake_template, tmp_path / "env", answers=answers)
    assert sentence in capfd.readouterr().err
    assert "hunter2" not in str(failure.value)
    assert not (tmp_path / "env").exists()
    assert calls.read_text(encoding="utf-8") == ""


def test_creation_by_hand_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        create_cluster.main([])
    assert caught.value.code == 2
    assert "the following arguments are required: destination" in capsys.readouterr().err
