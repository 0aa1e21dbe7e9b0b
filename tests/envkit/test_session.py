from __future__ import annotations

import io
from pathlib import Path

import pytest
from fake_tools import Machine
from samples import sample_environment

from envkit.errors import CommandFailedError
from envkit.progress import Steps
from envkit.session import Session


@pytest.mark.parametrize("status", [0, 1])
def test_nothing_that_k3d_leaves_among_its_temporary_files_stays(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    machine.add("k3d", f'cat >"$TMPDIR/config"; echo "$TMPDIR" >{tmp_path}/where; exit {status}')
    steps = Steps(io.StringIO())
    session = Session(sample_environment(tmp_path / "shop"), steps, 0)

    with steps, steps.step("Creating") as step:
        try:
            session.k3d(step, "cluster", "create", stdin="HTTPS_PROXY=http://jo:secret@proxy.example.com")
        except CommandFailedError:
            assert status

    folder = Path((tmp_path / "where").read_text(encoding="utf-8").strip())
    assert folder.name.startswith("envkit-k3d-")
    assert not folder.exists()


@pytest.mark.parametrize("status", [0, 1])
def test_waiting_for_nodes_ends_after_its_time_and_is_no_error(machine: Machine, tmp_path: Path, status: int) -> None:
    machine.add("kubectl", f'echo "$@" >{tmp_path}/asked; exit {status}')

    Session(sample_environment(tmp_path / "shop"), Steps(io.StringIO()), 0).wait_for_nodes(2)

    asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
    assert {"--timeout=2s", "nodes", "--all", "--context=k3d-shop"} <= set(asked)
    assert asked[-1] == "--request-timeout=2s"  # of two the last one counts
