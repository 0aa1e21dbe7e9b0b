"""Waiting for the runners, on a clock and a cluster that stand in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arc.test_causes import refused
from arc.test_state import CONTROLLER, IMAGE, NOW, SET, runner, scale_set, whole

from envkit.arc import wait as arc_wait
from envkit.arc.kube import Resources
from envkit.arc.wait import ScaleSetLostError, wait_until_ready
from envkit.errors import CommandFailedError, UserError

ASKS = 'level=INFO msg="Getting next message" component=listener lastMessageID=0'
TOKENS = "https://api.github.com/app/installations/2/access_tokens"


@dataclass
class Clock:
    """Seconds that pass only while somebody sleeps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeKube:
    """A cluster that changes with time.

    Attributes:
        clock: The time.
        at: What is there from this second on.
        lines: What the logs say from this second on.
    """

    clock: Clock
    at: dict[float, Callable[[], Resources]]
    lines: dict[float, list[str]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    controllers: str = "arc-systems"
    poll_seconds: float = 0.3

    def own_resources(self) -> Resources:
        return max((item for item in self.at.items() if item[0] <= self.clock.now), key=lambda item: item[0])[1]()

    def resources(self) -> Resources:
        return self.own_resources()

    def log(self, **arguments: Any) -> list[str]:
        self.asked.append(arguments)
        return [line for second, lines in self.lines.items() if second <= self.clock.now for line in lines]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(arc_wait, "time", clock)
    return clock


def unregistered() -> Resources:
    return whole(scale_sets=(scale_set(registered=False, phase="Pending"),), pods=whole().pods[1:], runners=())


def wait(kube: FakeKube, *, since: datetime = NOW, **options: Any) -> list[str]:
    said: list[str] = []
    wait_until_ready(kube, SET, since=since, on_state=said.append, **options)  # type: ignore[arg-type]
    return said


def test_it_ends_as_soon_as_a_runner_is_idle(clock: Clock) -> None:
    kube = FakeKube(clock, {0: Resources, 2: unregistered, 4: lambda: whole(runners=()), 6: whole})
    said = wait(kube)
    assert clock.now < 7
    for words in ("controller", "register", "first runner"):
        assert any(words in line for line in said), said


def young_listener() -> Resources:
    """All is there, and the listener has just begun to run; a runner from before waits for jobs."""
    listener, controller = copy.deepcopy(whole().pods)
    listener["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = datetime.now(UTC).isoformat()
    return whole(pods=(listener, controller))


@pytest.mark.parametrize("lasts", [0.7, 5.0], ids=["a-moment", "seconds-on-a-busy-machine"])
def test_listener_that_runs_until_github_turns_it_away_is_no_proof(lasts: float, clock: Clock) -> None:
    flicker: dict[float, Callable[[], Resources]] = {}
    for turn in range(10):
        flicker[turn * 2 * lasts] = young_listener
        flicker[(turn * 2 + 1) * lasts] = lambda: whole(pods=whole().pods[1:])
    sessions = "https://pipelines.actions.githubusercontent.com/x/_apis/runtime/runnerscalesets/1/sessions"
    with pytest.raises(UserError, match="do not come together") as error:
        wait(FakeKube(clock, flicker, {lasts: [refused(sessions, "409 Conflict")]}))
    assert "Another listener" in error.value.why


@pytest.mark.parametrize(("age", "ends"), [(3, True), (5, False), (9, False)], ids=["younger", "as-old", "from-before"])
def test_runner_that_the_listener_asked_for_is_proof_at_once(age: int, ends: bool, clock: Clock) -> None:
    now = datetime.now(UTC)
    listener, controller = copy.deepcopy(whole().pods)
    started = (now - timedelta(seconds=5)).isoformat()
    listener["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = started
    first = runner("first", ready=True)
    first["metadata"]["creationTimestamp"] = (now - timedelta(seconds=age)).isoformat()
    resources = whole(pods=(listener, controller), runners=(first,))
    wait(FakeKube(clock, {0: lambda: resources}, {3: [ASKS]}))
    assert (clock.now == 0) is ends


def test_listener_that_asks_for_work_is_proof_at_once(clock: Clock) -> None:
    wait(FakeKube(clock, {0: young_listener}, {0: [ASKS]}))
    assert clock.now == 0
    wait(FakeKube(clock, {0: young_listener}, {3: [ASKS]}))
    assert 3 <= clock.now < 4


@pytest.mark.parametrize(
    "lines", [[], ["time=2026-11-24T12:00:00Z level=ERROR msg=once"]], ids=["none", "errors-alone"]
)
def test_listener_that_has_run_for_long_may_say_nothing(lines: list[str], clock: Clock) -> None:
    wait(FakeKube(clock, {0: whole}, {0: lines}))
    assert clock.now == 0


@pytest.mark.parametrize("line", ["time=x level=DEBUG msg=retrying", '{"level":"info","msg":"retrying"}'])
def test_listener_that_says_other_things_for_long_has_no_session(line: str, clock: Clock) -> None:
    wait(FakeKube(clock, {0: whole}, {0: [line], 20: [ASKS]}))
    assert clock.now >= 20


def test_without_a_minimum_no_runner_is_waited_for(clock: Clock) -> None:
    free = scale_set(phase="Running")
    free["spec"]["minRunners"] = 0
    wait(FakeKube(clock, {0: lambda: whole(scale_sets=(free,), runners=())}))
    assert clock.now == 0


def test_refusal_ends_the_wait_within_seconds(clock: Clock) -> None:
    kube = FakeKube(clock, {0: unregistered}, {1: [refused(TOKENS, "401 Unauthorized")]})
    with pytest.raises(UserError, match="do not come together") as error:
        wait(kube)
    assert "App's key" in error.value.why
    assert TOKENS in error.value.why
    assert clock.now < 10
    assert kube.asked[0]["since"] == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize("lost", [True, False])
def test_only_a_scale_set_that_github_has_lost_may_be_made_anew(lost: bool, clock: Clock) -> None:
    refusal = refused(TOKENS, "401 Unauthorized")
    line = refusal.replace("401 Unauthorized", "404 RunnerScaleSetNotFoundException") if lost else refusal
    with pytest.raises(UserError, match="do not come together") as error:
        wait(FakeKube(clock, {0: unregistered}, {0: [line]}))
    assert isinstance(error.value, ScaleSetLostError) is lost


def test_refusal_from_before_a_corrected_secret_was_read_does_no_harm(clock: Clock) -> None:
    kube = FakeKube(clock, {0: unregistered, 2: whole}, {0: [refused(TOKENS, "401 Unauthorized")]})
    wait(kube)


def test_new_credentials_count_only_when_all_stays_well(clock: Clock) -> None:
    def settle(kube: FakeKube) -> None:
        wait_until_ready(kube, SET, since=NOW, on_state=lambda _: None, settle=6)  # type: ignore[arg-type]

    settle(FakeKube(clock, {0: whole}))
    assert 6 <= clock.now < 7
    clock.now = 0
    # The listener that was there before runs on; only the controller's new pod knows.
    kube = FakeKube(clock, {0: whole}, {2: [refused(TOKENS, "401 Unauthorized")]})
    with pytest.raises(UserError, match="do not come together"):
        settle(kube)
    clock.now = 0
    settle(FakeKube(clock, {0: whole, 3: unregistered, 5: whole}))
    assert clock.now >= 11
    clock.now = 0
    # A busy machine: the controller's new container has hardly begun.
    listener, controller = whole().pods
    starting = copy.deepcopy(controller)
    starting["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2999-01-01T00:00:00Z"
    settle(FakeKube(clock, {0: lambda: whole(pods=(listener, starting)), 20: whole}))
    assert clock.now >= 20


def test_trouble_of_githubs_is_waited_out_for_a_minute(clock: Clock) -> None:
    kube = FakeKube(clock, {0: unregistered, 40: whole}, {0: [refused(TOKENS, "503 Service Unavailable")]})
    wait(kube)
    clock.now = 0
    with pytest.raises(UserError, match="do not come together") as error:
        wait(FakeKube(clock, {0: unregistered}, {0: [refused(TOKENS, "503 Service Unavailable")]}))
    assert "githubstatus" in error.value.next_step
    assert 55 < clock.now < 70


def test_parked_scale_set_is_an_error_at_once(clock: Clock) -> None:
    with pytest.raises(UserError, match="parked") as error:
        wait(FakeKube(clock, {0: lambda: whole(scale_sets=(scale_set(phase="Outdated"),))}))
    assert IMAGE in error.value.why
    assert all(part in error.value.next_step for part in ("environment.toml", "runner/Dockerfile", "build-runner"))
    assert clock.now == 0


def test_runner_whose_image_cannot_be_pulled_is_told(clock: Clock) -> None:
    stuck = runner("a", phase="Pending", message="runner: ImagePullBackOff not found")
    with pytest.raises(UserError, match="A runner does not start") as error:
        wait(FakeKube(clock, {0: lambda: whole(runners=(stuck,))}))
    assert "ImagePullBackOff" in error.value.why
    assert clock.now < 40


NO_ROOM = "not scheduled: 0/3 nodes are available: 3 Insufficient memory."


def stuck(*details: str) -> Callable[[], Resources]:
    """Runners that do not start, each for such a reason."""
    found = tuple(runner(f"r{number}", phase="Pending", message=detail) for number, detail in enumerate(details))
    return lambda: whole(runners=found)


def test_runner_waits_for_a_node_that_comes(clock: Clock) -> None:
    wait(FakeKube(clock, {0: stuck(NO_ROOM), 200: whole}), nodes_may_come=True)
    assert clock.now >= 200


def test_controller_waits_for_a_node_that_comes(clock: Clock) -> None:
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    pending = {**whole().pods[1], "status": {"conditions": conditions}}
    kube = FakeKube(clock, {0: lambda: whole(deployments=({**CONTROLLER, "status": {}},), pods=(pending,)), 200: whole})
    wait(kube, nodes_may_come=True)
    clock.now = 0
    with pytest.raises(UserError, match="The controller does not start") as error:
        wait(kube)
    assert "0/3 nodes" in error.value.why
    assert clock.now < 40


def test_node_that_never_comes_is_told_at_the_end(clock: Clock) -> None:
    with pytest.raises(UserError) as error:
        wait(FakeKube(clock, {0: stuck(NO_ROOM)}), nodes_may_come=True)
    assert "Insufficient memory" in error.value.why
    assert 295 < clock.now < 310


def test_runner_without_room_is_told_soon_where_no_node_comes(clock: Clock) -> None:
    with pytest.raises(UserError, match="A runner does not start") as error:
        wait(FakeKube(clock, {0: stuck(NO_ROOM)}))
    assert "Insufficient memory" in error.value.why
    assert clock.now < 40


def test_image_that_cannot_be_pulled_is_not_waited_for_beside_one_without_room(clock: Clock) -> None:
    with pytest.raises(UserError, match="A runner does not start") as error:
        wait(FakeKube(clock, {0: stuck(NO_ROOM, "runner: ErrImagePull not found")}), nodes_may_come=True)
    assert "ErrImagePull" in error.value.why
    assert clock.now < 40


def test_runners_trouble_that_comes_back_after_it_was_mended_gets_its_time_again(clock: Clock) -> None:
    broken, starting = stuck("runner: ErrImagePull not found"), stuck("")
    wait(FakeKube(clock, {0: broken, 10: starting, 100: broken, 110: whole}))
    assert clock.now >= 110
    clock.now = 0
    with pytest.raises(UserError, match="A runner does not start"):
        wait(FakeKube(clock, {0: broken, 10: starting, 100: broken}))
    assert 128 < clock.now < 135


def test_githubs_trouble_that_comes_back_gets_its_time_again(clock: Clock) -> None:
    trouble: dict[float, list[str]] = {0: [refused(TOKENS, "503 Service Unavailable")]}

    def silent() -> Resources:
        """Registered, and without a listener whose log could be read."""
        return whole(pods=whole().pods[1:], runners=())

    wait(FakeKube(clock, {0: unregistered, 10: silent, 100: unregistered, 120: whole}, trouble))
    assert clock.now >= 120


def test_image_that_the_kubelet_tries_to_pull_again_and_again_is_one_trouble(clock: Clock) -> None:
    waits, tries = stuck("runner: ImagePullBackOff not found"), stuck("runner: ErrImagePull not found")
    with pytest.raises(UserError, match="A runner does not start"):
        wait(FakeKube(clock, {0: tries, 1: waits, 11: stuck(""), 15: tries, 16: waits}))
    assert clock.now < 35


def test_controller_that_does_not_start_is_told(clock: Clock) -> None:
    controller = whole().pods[1]
    containers = [
        {"name": "manager", "ready": False, "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
    ]
    broken = {**controller, "status": {"containerStatuses": containers}}
    kube = FakeKube(clock, {0: lambda: whole(deployments=({**CONTROLLER, "status": {}},), pods=(broken,))})
    with pytest.raises(UserError, match="The controller does not start") as error:
        wait(kube)
    assert "ErrImagePull" in error.value.why


def test_without_a_cause_time_ends_the_wait_with_the_last_errors(clock: Clock) -> None:
    kube = FakeKube(clock, {0: unregistered}, {0: ["level=ERROR msg=strange"]})
    with pytest.raises(UserError, match="not ready after 30 s") as error:
        wait(kube, seconds=30)
    assert "strange" in error.value.why
    assert "arc-logs" in error.value.next_step


def test_api_that_is_away_for_a_moment_does_no_harm(clock: Clock) -> None:
    def away() -> Resources:
        raise CommandFailedError("kubectl failed", status=1, output="connection refused")

    wait(FakeKube(clock, {0: away, 3: whole}))
