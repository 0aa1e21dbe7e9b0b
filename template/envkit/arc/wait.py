"""Waiting for the runners: until GitHub has them, or until it is known why it will not."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from envkit.arc.causes import RAISE_BASE, Cause, error_lines, find_cause
from envkit.arc.kube import Kube, rfc3339
from envkit.arc.listener import with_session
from envkit.arc.settings import RUNNERS_NAMESPACE
from envkit.arc.state import NOT_SCHEDULED, ArcState, assess
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command

_LOGS = 1.0
"""Seconds between two looks into the logs."""

_SETTLING = 3.0
"""Seconds that a refusal has to stand: the first line may be from before a corrected Secret was read."""

_PASSING_SECONDS = 60.0
"""After this long what may pass by itself, GitHub's trouble for one, is reported all the same."""

_PULL_SECONDS = 30.0
"""A pod that cannot pull its image gets this long: the kubelet tries again by itself.

One for which there is no room too, where the nodes are those that there will be.
"""

_FORGOTTEN = 30.0
"""A trouble that has not been seen for so long was mended, and is a new one when it comes back.

Not at once: a container that is started again and again, and a listener that is made anew, look well in between.
"""


def wait_until_ready(
    kube: Kube,
    wanted: str,
    *,
    since: datetime,
    on_state: Callable[[str], None],
    seconds: float = 300,
    settle: float = 0,
    nodes_may_come: bool = False,
) -> ArcState:
    """Waits until jobs would be run: GitHub knows the scale set and has let the listener in, the first runner is idle.

    Args:
        kube: The cluster.
        wanted: Name of the scale set.
        since: Lines of logs before this time are not looked at.
        on_state: Gets a few words about what is being waited for, when they change.
        seconds: How long to wait where no cause of a failure is seen.
        settle: How long all has to be well before it counts; for changes that show only when GitHub is asked again.
        nodes_may_come: The cluster may add a node for a pod that finds no room, which takes minutes.

    Raises:
        UserError: It will not come about; says the likely cause and what helps.
    """
    watch = _Watch(kube, since, settles=settle > 0, scheduling=seconds if nodes_may_come else _PULL_SECONDS)
    deadline = time.monotonic() + seconds
    well_since: float | None = None
    while True:
        try:
            state = assess(kube.own_resources(), wanted)
            if state.ready and state.has_enough:
                state = with_session(kube, state)
        except CommandFailedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(kube.poll_seconds)
            continue
        if not state.ready:
            well_since = None
        elif well_since is None:
            well_since = time.monotonic()
        if well_since is not None and state.has_enough:
            # On a busy machine all may look well for a while before a new controller has even begun to ask GitHub.
            well_for = min(time.monotonic() - well_since, state.controller.seconds)
            if well_for >= settle:
                return state
        on_state(_waiting_for(state))
        watch.look(state)
        if time.monotonic() > deadline:
            raise watch.timed_out(state, seconds)
        time.sleep(kube.poll_seconds)


class ScaleSetLostError(UserError):
    """GitHub no longer has the scale set, and the controller does not make it anew."""


class _Watch:
    """Looks for the cause of a failure, and remembers since when it is seen."""

    def __init__(self, kube: Kube, since: datetime, *, settles: bool, scheduling: float) -> None:
        self._kube = kube
        self._scheduling = scheduling
        self._settles = settles
        self._since = rfc3339(since)
        self._seen: dict[str, tuple[float, float]] = {}  # first and last
        self._read_at = -_LOGS
        self._last_cause: Cause | None = None

    def look(self, state: ArcState) -> None:
        """Raises UserError where the cause is certain, or has stood long enough."""
        if state.scale_set and state.scale_set.phase == "Outdated":
            raise outdated(state)
        if not state.controller.running:
            where = f"kubectl -n {self._kube.controllers} describe pods"
            self._after(state.controller.detail, "The controller does not start.", where)
            return
        cause = self._cause(state)
        if cause and self._stands(cause.what, _PASSING_SECONDS if cause.passing else _SETTLING):
            raise _failed(cause)
        if state.ready:
            where = f"kubectl -n {RUNNERS_NAMESPACE} get events"
            self._after(_runners_problem(state), "A runner does not start.", where)

    def timed_out(self, state: ArcState, seconds: float) -> UserError:
        """The error where time is up and no cause was seen."""
        problem = state.controller.detail or state.listener.detail or _runners_problem(state)
        lines = error_lines(self._lines(state)) or [problem or f"{_waiting_for(state)}."]
        return UserError(
            f"The runners are not ready after {seconds:.0f} s.",
            "\n".join(lines),
            f"{just_command()} arc-status   (and: {just_command()} arc-logs controller)",
        )

    def _cause(self, state: ArcState) -> Cause | None:
        if time.monotonic() >= self._read_at + _LOGS:
            self._read_at = time.monotonic()
            self._last_cause = find_cause(self._lines(state))
        return self._last_cause

    def _lines(self, state: ArcState) -> list[str]:
        """Of the pods that are the newest: an earlier one's may tell of what was put right since."""
        is_registered = state.scale_set is not None and state.scale_set.registered
        pods = [state.controller.pod] if self._settles or not is_registered else []
        pods += [state.listener.pod] if is_registered else []
        return [
            line
            for pod in filter(None, pods)
            for line in self._kube.log(namespace=self._kube.controllers, target=pod, since=self._since)
        ]

    def _after(self, problem: str, what: str, next_step: str) -> None:
        seconds = self._scheduling if problem.startswith(NOT_SCHEDULED) else _PULL_SECONDS
        kind = problem.partition(" ")[0] + problem.partition(":")[2].split(" ", 2)[:2][-1] if problem else ""
        if problem and self._stands(kind, seconds):
            raise UserError(what, problem, next_step)

    def _stands(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        first, last = self._seen.get(what, (now, now))
        if now - last > _FORGOTTEN:
            first = now
        self._seen[what] = (first, now)
        return now - first >= seconds


def outdated(state: ArcState) -> UserError:
    """The error for a scale set that was parked because GitHub refused its runners."""
    image, just = state.scale_set.image if state.scale_set else "", just_command()
    return UserError(
        "The scale set is parked (Outdated): GitHub refused its runners as too old, and no job is run.",
        f"Their image is {image}. Only an image with a newer runner, under a new tag, gets it going again.",
        f"{RAISE_BASE}\n{just} build-runner && {just} install-arc",
    )


def _failed(cause: Cause) -> UserError:
    kind = ScaleSetLostError if cause.lost else UserError
    return kind("GitHub and the runners do not come together.", f"{cause.what}\n{cause.line}", cause.next_step)


def _runners_problem(state: ArcState) -> str:
    """What is wrong with a runner; that one waits for room is told where nothing worse is."""
    problems = [runner.detail for runner in state.runners if runner.detail]
    return min(problems, key=lambda problem: problem.startswith(NOT_SCHEDULED), default="")


def _waiting_for(state: ArcState) -> str:
    if not state.controller.running:
        return "waiting for the controller to start"
    if state.scale_set is None:
        return "waiting for the scale set"
    if not state.scale_set.registered:
        return "waiting for GitHub to register the scale set"
    if not state.listener.running:
        return "waiting for the listener"
    return "waiting for the first runner"
