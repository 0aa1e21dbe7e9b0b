from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envkit import lock, paths
from envkit.errors import UserError
from envkit.lock import cluster_lock

HOLD = """
import subprocess, sys, time
from envkit.lock import cluster_lock
with cluster_lock("shop", "create", print) as fd:
    child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=[fd]) if sys.argv[1:] else None
    print(child.pid if child else 0, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(lock, "_POLL", 0.01)
    return tmp_path


@contextmanager
def _holder(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the lock, and the child to which it has handed it, if asked for."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments],
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child:
                os.kill(child, 9)


def test_a_free_lock_is_taken_without_a_word_and_given_back(state: Path) -> None:
    said: list[str] = []

    for _ in range(2):
        with cluster_lock("shop", "create", said.append, wait=0):
            note = json.loads((state / "shop.lock").read_text(encoding="utf-8"))
            assert (note["pid"], note["action"]) == (os.getpid(), "create")

    assert said == []


def test_locks_of_two_clusters_do_not_meet() -> None:
    with cluster_lock("shop", "create", print, wait=0), cluster_lock("other", "create", print, wait=0):
        pass


def test_the_second_one_waits_and_names_the_holder_once() -> None:
    said: list[str] = []

    with _holder() as (process, _):

        def on_wait(sentence: str) -> None:
            said.append(sentence)
            process.communicate("")  # makes it end

        with cluster_lock("shop", "delete", on_wait, wait=10):
            pass

        (sentence,) = said
        assert sentence.startswith(f"Waiting for `create` in process {process.pid}, running since 20")


def test_a_holder_that_is_killed_leaves_the_lock_free() -> None:
    with _holder() as (process, _):
        process.kill()
        process.wait()

        with cluster_lock("shop", "create", pytest.fail, wait=0):
            pass


def test_a_child_that_inherited_the_lock_keeps_it_after_its_parent_was_killed() -> None:
    said: list[str] = []

    with _holder("with a child") as (process, child):
        process.kill()
        process.wait()

        with pytest.raises(UserError, match="The cluster shop is busy"), cluster_lock("shop", "x", said.append, wait=0):
            pytest.fail("two hold the lock")

        assert f"what `create` (process {process.pid}, killed) left running since" in said[0]
        os.kill(child, 9)
        with cluster_lock("shop", "create", lambda _: None, wait=10):
            pass


def test_waiting_ends_with_the_holder_and_what_to_do() -> None:
    said: list[str] = []

    with (
        _holder() as (process, _),
        pytest.raises(UserError, match="The cluster shop is busy") as caught,
        cluster_lock("shop", "delete", said.append, wait=0.05),
    ):
        pytest.fail("two hold the lock")

    assert len(said) == 1

    assert f"process {process.pid}" in caught.value.why
    assert caught.value.next_step.endswith("just delete")


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_holder_without_a_note_is_another_process(state: Path, note: str) -> None:
    said: list[str] = []
    with _holder():
        (state / "shop.lock").write_text(note, encoding="utf-8")
        with pytest.raises(UserError), cluster_lock("shop", "create", said.append, wait=0):
            pytest.fail("two hold the lock")

    assert said == ["Waiting for another process"]


def test_a_lock_that_cannot_be_made_is_named(state: Path) -> None:
    (state / "shop.lock").mkdir()

    with (
        pytest.raises(UserError, match=r"shop\.lock") as caught,
        cluster_lock("shop", "create", print, wait=0),
    ):
        pytest.fail("a folder is no lock")

    assert caught.value.next_step


def test_an_error_of_the_holders_own_work_goes_on_up() -> None:
    with pytest.raises(OSError, match="disk full"), cluster_lock("shop", "create", print, wait=0):
        raise OSError("disk full")
