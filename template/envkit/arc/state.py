"""How controller, listener, scale set and runners are, worked out from resources that every version has.

The counters in a scale set's status are not used: 0.14 leaves stale ones there, and 0.15 has none. A runner is busy
when it has a job, and idle when it is ready without one, whatever its phase is called (0.15 calls an idle one Pending).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from envkit.arc.kube import (
    CONTROLLER_SELECTOR,
    LISTENER_SELECTOR,
    SCALE_SET_NAME,
    SCALE_SET_NAMESPACE,
    Resource,
    Resources,
    is_selected,
    labels,
    name,
    namespace,
    notes,
    status,
)
from envkit.arc.settings import OWNER_LABEL, RUNNERS_NAMESPACE

RunnerPhase = Literal["idle", "busy", "starting", "ending", "failed", "outdated"]

SCALE_SET_ID = "runner-scale-set-id"
"""Annotation on a scale set that GitHub has registered."""

_VERSION = "app.kubernetes.io/version"

NOT_SCHEDULED = "not scheduled:"
"""How it begins what is wrong with a pod that waits for a node with room."""

_LAST_LINES = 3
_LAST_CHARACTERS = 300
"""How much of what a failed container printed last is shown."""


@dataclass(frozen=True)
class Part:
    """The controller or the listener.

    Attributes:
        pod: Its pod; empty where there is none.
        running: Whether it does its work.
        detail: Why not, as Kubernetes says it.
        version: Its version, where it is known.
        restarts: How often its container was started again.
        seconds: How long its container has run since; 0 where it does not.
    """

    pod: str = ""
    running: bool = False
    detail: str = ""
    version: str = ""
    restarts: int = 0
    seconds: int = 0


@dataclass(frozen=True)
class Runner:
    """A runner and its job.

    Attributes:
        name: Its name, which is also its pod's.
        phase: What it does.
        job: The job's name; empty without one.
        repository: Where the job comes from.
        run: Number of the workflow's run; 0 without a job.
        seconds: Its age.
        node: Where it runs.
        detail: What is wrong, or what it waits for.
    """

    name: str
    phase: RunnerPhase
    job: str
    repository: str
    run: int
    seconds: int
    node: str
    detail: str


@dataclass(frozen=True)
class ScaleSet:
    """A scale set.

    Attributes:
        name: What workflows write into `runs-on`.
        config_url: Where it belongs on GitHub.
        minimum: How many runners wait for jobs.
        maximum: How many there are at most; None for no limit.
        phase: The controller's word: `Pending`, `Running`, `Outdated`.
        registered: Whether GitHub knows it.
        image: Image of its runners.
        version: Version of its chart.
        deleting: Whether it is being removed.
    """

    name: str
    config_url: str
    minimum: int
    maximum: int | None
    phase: str
    registered: bool
    image: str
    version: str
    deleting: bool

    def belongs_to(self, config_url: str) -> bool:
        """Whether this is where it belongs; GitHub tells no capital letters apart."""
        return self.config_url.rstrip("/").lower() == config_url.rstrip("/").lower()


@dataclass(frozen=True)
class ArcState:
    """What there is.

    Attributes:
        controller: The controller.
        listener: The listener of the scale set.
        scale_set: The scale set; None where it is not installed.
        runners: Its runners.
        others: Names of further scale sets of this environment, such as one under an earlier RUNNER_NAME.
    """

    controller: Part
    listener: Part
    scale_set: ScaleSet | None
    runners: tuple[Runner, ...]
    others: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether anything is there."""
        return bool(self.controller.version or self.scale_set or self.others)

    def count(self, phase: RunnerPhase) -> int:
        """How many runners are in a phase."""
        return Counter(runner.phase for runner in self.runners)[phase]

    @property
    def ready(self) -> bool:
        """Whether jobs that are queued now would be run."""
        return self.is_to_be_served and self.listener.running

    @property
    def is_to_be_served(self) -> bool:
        """Whether all is there but, perhaps, a listener that runs."""
        scale_set = self.scale_set
        return bool(
            self.controller.running
            and scale_set
            and scale_set.registered
            and not scale_set.deleting
            and scale_set.phase != "Outdated"
        )

    @property
    def has_enough(self) -> bool:
        """Whether a runner waits for jobs or has one, where some should."""
        if self.scale_set is None:
            return False
        return self.scale_set.minimum == 0 or self.count("idle") + self.count("busy") > 0


def assess(resources: Resources, wanted: str, *, now: datetime | None = None) -> ArcState:
    """Works out the state of the scale set `wanted`."""
    now = now or datetime.now(UTC)
    scale_sets = {name(item): item for item in resources.scale_sets if namespace(item) == RUNNERS_NAMESPACE}
    own = scale_sets.get(wanted)
    runner_pods = {name(pod): pod for pod in resources.pods if namespace(pod) == RUNNERS_NAMESPACE}
    runners = [
        _runner(item, runner_pods.get(name(item)), now)
        for item in resources.runners
        if labels(item).get(SCALE_SET_NAME) == wanted and namespace(item) == RUNNERS_NAMESPACE
    ]
    return ArcState(
        controller=_controller(resources, now),
        listener=_listener(resources, wanted, now),
        scale_set=_scale_set(own) if own else None,
        runners=tuple(sorted(runners, key=lambda runner: -runner.seconds)),
        others=tuple(sorted(n for n, item in scale_sets.items() if n != wanted and OWNER_LABEL in labels(item))),
    )


def foreign_controllers(resources: Resources) -> list[str]:
    """Namespaces with controllers that are not this environment's."""
    return [namespace(item) for item in resources.deployments if namespace(item) != resources.controllers]


def foreign_scale_sets(resources: Resources) -> list[str]:
    """`NAMESPACE/NAME` of scale sets that were not made by this environment."""
    return [f"{namespace(item)}/{name(item)}" for item in resources.scale_sets if OWNER_LABEL not in labels(item)]


def pod_problem(pod: Resource) -> str:
    """Why a pod does not run, in Kubernetes' words and the failed program's own; empty where nothing is wrong (yet)."""
    statuses = [*(status(pod).get("initContainerStatuses") or []), *(status(pod).get("containerStatuses") or [])]
    for container in statuses:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            message = _last_words(container.get("lastState")) or waiting.get("message", "")
            return f"{container['name']}: {reason} {message}".strip()
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            words = _last_words(container["state"])
            what = f"{ended.get('reason', 'Error')}, exit status {ended['exitCode']}"
            return f"{container['name']}: {what}{f': {words}' if words else ''}"
    for condition in status(pod).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{NOT_SCHEDULED} {condition.get('message', '')}"
    return ""


def _last_words(state: Mapping[str, Any] | None) -> str:
    """The end of what a container that has ended printed, where its terminationMessagePolicy asks for that."""
    message = str(((state or {}).get("terminated") or {}).get("message") or "")
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:]


def _controller(resources: Resources, now: datetime) -> Part:
    deployment = resources.controller
    if deployment is None:
        return Part()
    pods = [pod for pod in _pods(resources, resources.controllers) if is_selected(pod, CONTROLLER_SELECTOR)]
    part = _part(pods, labels(deployment).get(_VERSION, ""), now)
    return replace(part, running=bool(status(deployment).get("availableReplicas")))


def _listener(resources: Resources, wanted: str, now: datetime) -> Part:
    pods = [
        pod
        for pod in _pods(resources, resources.controllers)
        if is_selected(pod, LISTENER_SELECTOR)
        and labels(pod).get(SCALE_SET_NAME) == wanted
        and labels(pod).get(SCALE_SET_NAMESPACE, RUNNERS_NAMESPACE) == RUNNERS_NAMESPACE
    ]
    return _part(pods, "", now)


def _part(pods: list[Resource], version: str, now: datetime) -> Part:
    pods = sorted(pods, key=lambda pod: ("deletionTimestamp" in pod["metadata"], -_time(pod).timestamp()))
    if not pods:
        return Part(version=version)
    pod = pods[0]
    containers = status(pod).get("containerStatuses") or []
    return Part(
        pod=name(pod),
        running="deletionTimestamp" not in pod["metadata"]
        and bool(containers)
        and all(container.get("ready") for container in containers),
        detail=pod_problem(pod),
        version=version or labels(pod).get(_VERSION, ""),
        restarts=sum(container.get("restartCount", 0) for container in containers),
        seconds=min((_seconds_running(container, now) for container in containers), default=0),
    )


def _seconds_running(container: dict[str, Any], now: datetime) -> int:
    started = ((container.get("state") or {}).get("running") or {}).get("startedAt")
    return max(0, int((now - datetime.fromisoformat(started)).total_seconds())) if started else 0


def _pods(resources: Resources, where: str) -> Iterator[Resource]:
    return (pod for pod in resources.pods if namespace(pod) == where)


def _scale_set(item: Resource) -> ScaleSet:
    spec = item["spec"]
    return ScaleSet(
        name=spec.get("runnerScaleSetName") or name(item),
        config_url=spec.get("githubConfigUrl", ""),
        minimum=spec.get("minRunners", 0),
        maximum=spec.get("maxRunners"),
        phase=status(item).get("phase") or "Pending",
        registered=SCALE_SET_ID in notes(item),
        image=_image((spec.get("template") or {}).get("spec") or {}),
        version=labels(item).get(_VERSION, ""),
        deleting="deletionTimestamp" in item["metadata"],
    )


def _image(pod_spec: dict[str, Any]) -> str:
    containers: Iterable[dict[str, Any]] = pod_spec.get("containers") or []
    return next((str(c.get("image", "")) for c in containers if c.get("name") == "runner"), "")


def _runner(item: Resource, pod: Resource | None, now: datetime) -> Runner:
    facts = status(item)
    return Runner(
        name=name(item),
        phase=_phase(item),
        job=str(facts.get("jobDisplayName", "")) if facts.get("jobId") else "",
        repository=str(facts.get("jobRepositoryName", "")),
        run=int(facts.get("workflowRunId") or 0),
        seconds=max(0, int((now - _time(item)).total_seconds())),
        node=str(((pod or {}).get("spec") or {}).get("nodeName", "")),
        detail=str(facts.get("message") or "") or (pod_problem(pod) if pod else ""),
    )


def _phase(item: Resource) -> RunnerPhase:
    facts = status(item)
    if "deletionTimestamp" in item["metadata"] or facts.get("phase") == "Succeeded":
        return "ending"
    if facts.get("phase") in ("Failed", "Outdated"):
        return "failed" if facts["phase"] == "Failed" else "outdated"
    if facts.get("jobId"):
        return "busy"
    return "idle" if facts.get("ready") else "starting"


def _time(item: Resource) -> datetime:
    return datetime.fromisoformat(item["metadata"]["creationTimestamp"])
