"""How everything is, worked out from resources as 0.14 and 0.15 write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from envkit.arc.kube import Resources
from envkit.arc.report import Wanted, age, next_step
from envkit.arc.state import ArcState, assess, foreign_controllers, foreign_scale_sets, pod_problem

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SET = "shop-runners"
IMAGE = "registry/shop-runners:1"
WANTED = Wanted("0.15.0", IMAGE, "https://github.com/Shop")


def resource(kind: str, name: str, namespace: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": "2026-11-24T11:59:00Z"}
    return {"kind": kind, "metadata": {**metadata, **fields.pop("metadata", {})}, **fields}


def runner(name: str, **status: Any) -> dict[str, Any]:
    labels = {"actions.github.com/scale-set-name": SET}
    return resource("EphemeralRunner", name, "arc-runners", metadata={"labels": labels}, status=status)


def scale_set(name: str = SET, *, registered: bool = True, owned: bool = True, **status: Any) -> dict[str, Any]:
    metadata = {
        "labels": {"app.kubernetes.io/version": "0.15.0", **({"envkit.cluster": "shop-dev"} if owned else {})},
        "annotations": {"runner-scale-set-id": "1"} if registered else {},
    }
    spec = {
        "minRunners": 1,
        "maxRunners": 5,
        "githubConfigUrl": "https://github.com/Shop",
        "template": {"spec": {"containers": [{"name": "runner", "image": IMAGE}]}},
    }
    return resource("AutoscalingRunnerSet", name, "arc-runners", metadata=metadata, spec=spec, status=status)


def pod(name: str, labels: dict[str, str], *, ready: bool = True, **status: Any) -> dict[str, Any]:
    running = {"startedAt": "2026-11-24T11:59:30Z"}
    containers = [{"name": "main", "ready": ready, "restartCount": 2, "state": {"running": running}}]
    return resource(
        "Pod", name, "arc-systems", metadata={"labels": labels}, status={"containerStatuses": containers, **status}
    )


LISTENER_LABELS = {
    "app.kubernetes.io/component": "runner-scale-set-listener",
    "actions.github.com/scale-set-name": SET,
}
CONTROLLER = resource(
    "Deployment",
    "arc-gha-rs-controller",
    "arc-systems",
    metadata={"labels": {"app.kubernetes.io/version": "0.15.0"}},
    status={"availableReplicas": 1},
)


def whole(**changes: Any) -> Resources:
    parts: dict[str, Any] = {
        "deployments": (CONTROLLER,),
        "pods": (
            pod("listener", LISTENER_LABELS),
            pod("controller", {"app.kubernetes.io/part-of": "gha-rs-controller"}),
        ),
        "scale_sets": (scale_set(phase="Running"),),
        "runners": (runner("a", phase="Pending", ready=True),),
    }
    return Resources(**{**parts, **changes})


def state(**changes: Any) -> ArcState:
    return assess(whole(**changes), SET, now=NOW)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({"phase": "Pending", "ready": True}, "idle"),  # 0.15
        ({"phase": "Running", "ready": True}, "idle"),  # 0.14
        ({"phase": "Running", "ready": True, "jobId": "x"}, "busy"),
        ({"phase": "Pending"}, "starting"),
        ({}, "starting"),
        ({"phase": "Succeeded", "jobId": "x"}, "ending"),
        ({"phase": "Failed"}, "failed"),
        ({"phase": "Outdated"}, "outdated"),
    ],
)
def test_phase_of_a_runner_does_not_depend_on_the_version(status: dict[str, Any], phase: str) -> None:
    assert [found.phase for found in state(runners=(runner("a", **status),)).runners] == [phase]


def test_runner_that_goes_is_not_idle() -> None:
    going = runner("a", phase="Running", ready=True)
    going["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    assert state(runners=(going,)).count("ending") == 1


def test_namesake_in_another_namespace_is_not_ours() -> None:
    theirs = {**runner("theirs", jobId="x"), "metadata": {**runner("theirs")["metadata"], "namespace": "ci"}}
    listener = pod("listener", {**LISTENER_LABELS, "actions.github.com/scale-set-namespace": "ci"})
    assert state(runners=(theirs,)).runners == ()
    assert state(pods=(listener,)).listener.pod == ""


def test_a_runner_is_told_with_its_own_pods_node_and_trouble() -> None:
    waiting = {"containerStatuses": [{"name": "runner", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    ours, theirs = ({**pod("a", {}), "spec": {"nodeName": node}, "status": waiting} for node in ("node-1", "node-2"))
    ours["metadata"] = {**ours["metadata"], "namespace": "arc-runners"}
    (found,) = state(pods=(ours, theirs)).runners
    assert (found.node, found.detail) == ("node-1", "runner: ErrImagePull")
    (found,) = state(pods=(theirs,)).runners
    assert (found.node, found.detail) == ("", "")


def test_a_controller_without_a_pod_has_its_version_all_the_same() -> None:
    assert state(pods=()).controller.version == "0.15.0"


def test_all_well() -> None:
    found = state()
    assert found.ready
    assert found.has_enough
    assert found.controller.version == "0.15.0"
    assert found.listener.restarts == 2
    assert found.listener.seconds == 30
    assert found.runners[0].seconds == 60
    assert next_step(found, [], WANTED) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"deployments": ()},
        {"deployments": ({**CONTROLLER, "status": {}},)},
        {"pods": ()},
        {"pods": (pod("listener", LISTENER_LABELS, ready=False),)},
        {"pods": (pod("listener", {**LISTENER_LABELS, "actions.github.com/scale-set-name": "other"}),)},
        {"scale_sets": ()},
        {"scale_sets": (scale_set(registered=False, phase="Pending"),)},
        {"scale_sets": (scale_set(phase="Outdated"),)},
    ],
    ids=[
        "no-controller",
        "controller-down",
        "no-listener",
        "listener-down",
        "other-listener",
        "no-set",
        "unregistered",
        "outdated",
    ],
)
def test_runners_are_not_ready(changes: dict[str, Any]) -> None:
    found = state(**changes)
    assert not found.ready
    assert "install-arc" in next_step(found, [], WANTED)


def test_phase_running_alone_is_no_proof() -> None:
    found = state(pods=(), scale_sets=(scale_set(phase="Running"),))
    assert found.scale_set
    assert found.scale_set.phase == "Running"
    assert not found.ready


def test_nothing_installed() -> None:
    found = assess(Resources(), SET)
    assert not found.installed
    assert next_step(found, [], WANTED).endswith("install-arc")


def test_next_step_names_the_version_and_the_image_that_wait() -> None:
    assert "0.15.1" in next_step(state(), [], replace(WANTED, version="0.15.1"))
    assert "registry/x:2" in next_step(state(), [], replace(WANTED, image="registry/x:2"))


@pytest.mark.parametrize(
    ("config_url", "moves"),
    [("https://github.com/shop/", False), ("https://github.com/Shop/app", True), ("https://git.shop.com/Shop", True)],
)
def test_next_step_names_the_place_that_the_runners_move_to(config_url: str, moves: bool) -> None:
    shown = next_step(state(), [], replace(WANTED, config_url=config_url))
    assert shown == (f"just install-arc   (moves the runners to {config_url})" if moves else "")


def test_parked_set_asks_for_a_new_image() -> None:
    found = state(scale_sets=(scale_set(phase="Outdated"),))
    assert "build-runner" in next_step(found, [], WANTED)


def test_sets_of_earlier_names_are_known_by_their_label() -> None:
    found = state(scale_sets=(scale_set(), scale_set("old-name"), scale_set("foreign", owned=False)))
    assert found.others == ("old-name",)
    assert assess(Resources(scale_sets=(scale_set("old-name"),)), SET).installed


def test_what_others_have_installed_is_told_apart() -> None:
    elsewhere = {**CONTROLLER, "metadata": {**CONTROLLER["metadata"], "namespace": "ci"}}
    found = whole(deployments=(CONTROLLER, elsewhere), scale_sets=(scale_set(), scale_set("foreign", owned=False)))
    assert foreign_controllers(found) == ["ci"]
    assert foreign_scale_sets(found) == ["arc-runners/foreign"]


def test_a_container_that_failed_is_told_with_its_last_words() -> None:
    ended = {"exitCode": 1, "reason": "Error", "message": "starting\n\nno user namespaces\n"}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
    failed = {"name": "buildkitd", "state": {"terminated": ended}}
    restarting = {"name": "buildkitd", "state": {"waiting": waiting}, "lastState": {"terminated": ended}}

    assert pod_problem({"status": {"initContainerStatuses": [failed]}}) == (
        "buildkitd: Error, exit status 1: starting no user namespaces"
    )
    assert pod_problem({"status": {"initContainerStatuses": [restarting]}}) == (
        "buildkitd: CrashLoopBackOff starting no user namespaces"
    )
    restarting["lastState"] = {"terminated": {"exitCode": 1}}
    assert "back-off 10s" in pod_problem({"status": {"initContainerStatuses": [restarting]}})


@pytest.mark.parametrize(
    ("container", "told"),
    [
        ({"waiting": {"reason": "ErrImagePull", "message": "not found"}}, "main: ErrImagePull not found"),
        ({"waiting": {"reason": "ContainerCreating"}}, ""),
        ({"waiting": {"reason": "PodInitializing"}}, ""),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "main: OOMKilled, exit status 137"),
        ({"terminated": {"exitCode": 0}}, ""),
        ({"running": {}}, ""),
    ],
)
def test_why_a_pod_does_not_run(container: dict[str, Any], told: str) -> None:
    assert pod_problem({"status": {"containerStatuses": [{"name": "main", "state": container}]}}) == told


def test_pod_without_a_place() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}
    assert "Insufficient memory" in pod_problem({"status": {"conditions": [condition]}})


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")])
def test_age(seconds: int, shown: str) -> None:
    assert age(seconds) == shown
