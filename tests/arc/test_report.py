"""What a look at the runners tells, on a clock and a cluster that stand in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arc.test_causes import refused
from arc.test_state import SET, scale_set, whole
from arc.test_wait import ASKS, TOKENS, Clock, FakeKube

from envkit.arc import report
from envkit.arc.causes import find_cause
from envkit.arc.kube import CONTROLLER_SELECTOR, Resources
from envkit.arc.report import look

REFUSED = refused(TOKENS, "401 Unauthorized")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(report, "time", clock)
    return clock


def listening(clock: Clock, *, since: float, ready: bool = True) -> Resources:
    """All is there, and the listener has run since this second of the clock; with it began the clock's time."""
    listener, controller = copy.deepcopy(whole().pods)
    started = datetime.now(UTC) - timedelta(seconds=clock.now - since)
    container = listener["status"]["containerStatuses"][0]
    container["state"] = {"running": {"startedAt": started.isoformat()}} if ready else {"terminated": {"exitCode": 1}}
    container["ready"] = ready
    return whole(pods=(listener, controller))


def told(clock: Clock, at: dict[float, Callable[[], Resources]], lines: dict[float, list[str]]) -> list[str]:
    _, errors = look(FakeKube(clock, at, lines), SET)  # type: ignore[arg-type]
    return errors


def test_listener_that_github_turns_away_is_told_of_also_while_it_runs_once_more(clock: Clock) -> None:
    at: dict[float, Callable[[], Resources]] = {
        0: lambda: listening(clock, since=0),
        1: lambda: listening(clock, since=0, ready=False),
    }
    assert told(clock, at, {1: [REFUSED]}) != []
    assert clock.now < 2


def test_listener_whose_log_went_with_it_is_looked_at_again(clock: Clock) -> None:
    gone = listening(clock, since=0, ready=False)
    assert told(clock, {0: lambda: gone}, {1.5: [REFUSED]}) != []


def test_earlier_trouble_of_the_controller_is_not_taken_for_the_listeners(clock: Clock) -> None:
    gone = listening(clock, since=0, ready=False)
    earlier = refused("https://actions.example.com/_apis/runtime/runnerscalesets", "409 Conflict")

    class WithController(FakeKube):
        def log(self, **arguments: Any) -> list[str]:
            return [earlier] if CONTROLLER_SELECTOR in arguments["target"] else super().log(**arguments)

    _, errors = look(WithController(clock, {0: lambda: gone}, {1.5: [REFUSED]}), SET)  # type: ignore[arg-type]
    cause = find_cause(errors)
    assert cause is not None
    assert "refuses the App's key" in cause.what


def test_listener_that_asks_for_work_is_well(clock: Clock) -> None:
    assert told(clock, {0: lambda: listening(clock, since=0)}, {0: [REFUSED, ASKS]}) == []
    assert clock.now == 0


def test_listener_that_runs_without_a_session_is_shown_as_such(clock: Clock) -> None:
    state, _ = look(FakeKube(clock, {0: lambda: listening(clock, since=0)}, {}), SET)  # type: ignore[arg-type]
    assert not state.ready
    assert "GitHub has not let it in" in state.listener.detail


def test_listener_that_has_run_for_long_is_not_waited_for(clock: Clock) -> None:
    assert told(clock, {0: lambda: listening(clock, since=-60)}, {}) == []
    assert clock.now == 0


@pytest.mark.parametrize(
    "resources",
    [Resources, lambda: whole(scale_sets=()), lambda: whole(scale_sets=(scale_set(phase="Outdated"),), pods=())],
    ids=["nothing", "no-scale-set", "parked"],
)
def test_what_cannot_come_is_not_waited_for(resources: Callable[[], Resources], clock: Clock) -> None:
    assert told(clock, {0: resources}, {}) == []
    assert clock.now == 0


def test_patience_has_an_end(clock: Clock) -> None:
    gone = listening(clock, since=0, ready=False)
    assert told(clock, {0: lambda: gone}, {}) == []
    assert clock.now < 7
