"""Names the state of a cluster from what was observed. Pure: no call leaves this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from envkit.environment import Environment, flattened
from envkit.observation import HOST_RECORD, Observation, present_registry
from envkit.wording import counted


class State(StrEnum):
    """The states between which `create`, `start`, `stop` and `delete` move."""

    ABSENT = "absent"
    """Nothing is there."""
    PARTIAL = "partial"
    """Some of the containers are missing: an interrupted creation or deletion, or something was removed by hand."""
    STOPPED = "stopped"
    """All containers are there, not all run."""
    BROKEN = "broken"
    """All containers run and something does not work, as after a restart of Docker."""
    RUNNING = "running"
    """Everything works."""


@dataclass(frozen=True)
class Assessment:
    """A state and what led to it.

    Attributes:
        state: The name of the state.
        reasons: What is not as it should be, one sentence each; empty for `running` and `absent`.
        missing: Roles of which containers are missing, with their number.
        restart: Only a restart through k3d can repair it (what k3d writes into nodes when it starts them is lost).
        stale_nodes: Nodes that Kubernetes lists and that have no container.
        wrong_records: Names that the cluster's DNS does not know, or under an old address.
        drifted: The cluster was made from another configuration than the present one.
    """

    state: State
    reasons: tuple[str, ...] = ()
    missing: Mapping[str, int] | None = None
    restart: bool = False
    stale_nodes: tuple[str, ...] = ()
    wrong_records: tuple[str, ...] = ()
    drifted: bool = False


def assess(observation: Observation, environment: Environment, created_from: Mapping[str, Any] | None) -> Assessment:
    """Names the state.

    Args:
        observation: What was found.
        environment: What should be there.
        created_from: The configuration that the cluster was created with, where it is known and differs: how many
            nodes a drifted cluster should have is decided by what it was created with, not by what it should become.
    """
    if not observation.nodes and (observation.registry is None or environment.registry.shared):
        return Assessment(State.ABSENT)
    drifted = is_drifted(observation, environment)
    missing = _missing(observation, environment, created_from or environment.described)
    if missing:
        unjoined = _unjoined(observation, environment)
        reasons = _missing_sentences({k: n for k, n in missing.items() if k != "registry" or not unjoined}) + unjoined
        return Assessment(State.PARTIAL, tuple(reasons), missing, drifted=drifted)
    if stopped := _stopped(observation):
        return Assessment(State.STOPPED, (f"Not running: {', '.join(stopped)}.",), drifted=drifted)
    return replace(_working_or_broken(observation, environment), drifted=drifted)


def is_drifted(observation: Observation, environment: Environment) -> bool:
    """Whether the cluster was made from another configuration; False where it is not known."""
    server = observation.server
    return bool(server and server.config_hash and server.config_hash != environment.config_hash)


def drift_between(created_from: Mapping[str, Any] | None, effective: Mapping[str, Any]) -> list[str]:
    """What has changed between two configurations, a line for each key: `agents: 2 -> 3`.

    Where it is not known what a cluster was made from, one line says so.
    """
    if not created_from:
        return ["(what exactly is not known)"]
    before, after = dict(flattened(created_from)), dict(flattened(effective))
    return [
        f"{key}: {before.get(key, '(not set)')} -> {after.get(key, '(not set)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _missing(observation: Observation, environment: Environment, config: Mapping[str, Any]) -> dict[str, int]:
    k3d_options = (config.get("options") or {}).get("k3d") or {}
    wanted = {
        "server": config.get("servers", 1),
        "agent": config.get("agents", 0),
        "loadbalancer": 0 if k3d_options.get("disableLoadbalancer") else 1,
    }
    # A node that was made and never started has not got its files from k3d either: it counts as missing.
    made = [node for node in observation.nodes if node.state != "created"]
    missing = {role: n - sum(node.role == role for node in made) for role, n in wanted.items()}
    there = observation.registry is not None and observation.registry.state != "created"
    # Unlike a registry that k3d has made, a shared one can be put on the cluster's network at any time.
    missing["registry"] = int(not there or bool(_unjoined(observation, environment)))
    return {role: n for role, n in missing.items() if n > 0}


def _unjoined(observation: Observation, environment: Environment) -> list[str]:
    registry = observation.registry
    if not environment.registry.shared or registry is None or environment.network in registry.addresses:
        return []
    return [f"The registry {registry.name} is not on the network {environment.network}."]


def _missing_sentences(missing: Mapping[str, int]) -> list[str]:
    names = {"server": "server node", "agent": "agent node", "loadbalancer": "load balancer", "registry": "registry"}
    return [f"Missing: {counted(n, names[role])}." for role, n in missing.items()]


def _stopped(observation: Observation) -> list[str]:
    parts = [node for node in observation.nodes if node.role in ("server", "agent", "loadbalancer")]
    if observation.registry:
        parts.append(observation.registry)
    return [part.name for part in parts if not part.running]


def _working_or_broken(observation: Observation, environment: Environment) -> Assessment:
    """What does not work although every container runs."""
    reasons: list[str] = []
    stale: tuple[str, ...] = ()
    wrong: list[str] = []
    if observation.hosts_lost:
        reasons.append(f"Lost its record of this machine ({HOST_RECORD}): {', '.join(observation.hosts_lost)}.")
    api = observation.api
    if api is None or api.ready is None:
        reasons.append(f"The Kubernetes API does not answer: {api.error if api else 'its server does not run'}.")
    else:
        containers = {node.name for node in observation.nodes if node.role in ("server", "agent")}
        unready = [name for name in sorted(containers) if not api.ready.get(name)]
        stale = tuple(sorted(set(api.ready) - containers))
        if unready:
            reasons.append(f"Not Ready: {', '.join(unready)}.")
        if stale:
            reasons.append(f"Listed by Kubernetes, without a container: {', '.join(stale)}.")
        if wrong := _wrong_records(observation, environment, api.dns_records):
            reasons.append(f"Unknown to the cluster's DNS, or under an old address: {', '.join(wrong)}.")
    if not observation.registry_answers:
        endpoint = present_registry(environment, observation).endpoint
        reasons.append(f"The registry does not answer on {endpoint}.")
    if observation.registry and environment.network not in observation.registry.addresses:
        reasons.append(f"The registry is not on the network {environment.network}.")
    return Assessment(
        State.BROKEN if reasons else State.RUNNING,
        tuple(reasons),
        restart=bool(observation.hosts_lost),
        stale_nodes=stale,
        wrong_records=tuple(wrong),
    )


def _wrong_records(observation: Observation, environment: Environment, records: Mapping[str, str]) -> list[str]:
    """Names that pods cannot resolve, or to an address that another container has by now."""
    lost = [name for name in (HOST_RECORD, environment.registry.name) if name not in records]
    present = {part.name: part.addresses.get(environment.network, "") for part in observation.containers}
    moved = [name for name, address in records.items() if present.get(name) and present[name] != address]
    return lost + sorted(moved)
