"""A registry that several environments of a machine share: made by the first, joined by each, taken away by the last.

Its container belongs to no cluster, so k3d neither starts nor deletes it. An environment uses it as long as the
container is on the network of its cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from envkit.engine import CHANGE_TIMEOUT, Container, docker, inspect, k3d_containers, remove_containers
from envkit.environment import Environment
from envkit.errors import CommandFailedError
from envkit.lock import cluster_lock
from envkit.registry import run_registry_container, wait_until_it_answers
from envkit.session import Session

_ANSWER_SECONDS = 30
_DOCKER_NETWORK = "bridge"
"""Docker's own network, on which every container begins."""


@contextmanager
def registry_lock(session: Session, action: str) -> Iterator[None]:
    """Keeps other environments from making or removing a shared registry meanwhile; nothing for one of its own."""
    registry = session.environment.registry
    if not registry.shared:
        yield
        return
    # No cluster's name holds a dot, so none has the same lock.
    with cluster_lock(f"{registry.name}.registry", action, session.steps.say):
        yield


def ensure_shared_registry(session: Session) -> bool:
    """Makes or starts the container, and puts it on the cluster's network where that is; returns whether it had to.

    Raises UserError where it does not answer.
    """
    environment = session.environment
    nodes, container = session.containers()
    acted = container is None or not container.running
    joined = set(container.addresses) if container else set()
    if container is None or container.state == "created" or (not container.running and not _start(container)):
        joined = _make_anew(environment, container)
    # Where there is no cluster yet, k3d joins it when it makes one.
    if environment.network not in joined and any(environment.network in node.addresses for node in nodes):
        docker("network", "connect", environment.network, environment.registry.name, timeout=CHANGE_TIMEOUT)
        acted = True
    if acted:
        present = session.containers()[1]
        registry = environment.registry
        if present and present.published:
            registry = replace(registry, address=present.published[0].address, port=present.published[0].number)
        wait_until_it_answers(registry, _ANSWER_SECONDS)
    return acted


def _start(container: Container) -> bool:
    """Starts it; returns whether that worked: it does not where one of its networks has been removed."""
    try:
        docker("unpause" if container.state == "paused" else "start", container.name, timeout=CHANGE_TIMEOUT)
    except CommandFailedError:
        return False
    return True


def _make_anew(environment: Environment, container: Container | None) -> set[str]:
    """Makes the container, on those networks of the old one that are still there; returns them."""
    remove_containers([container.name] if container else [])
    run_registry_container(environment)
    networks = container.addresses.keys() - {_DOCKER_NETWORK} if container else set()
    joined = {network for network in networks if inspect("network", network)}
    for network in sorted(joined):
        docker("network", "connect", network, environment.registry.name, timeout=CHANGE_TIMEOUT)
    return joined


def other_clusters(registry: Container, cluster: str, containers: Iterable[Container] | None = None) -> list[Container]:
    """The servers of other clusters on whose networks the registry is, running or not; one for each cluster."""
    networks = registry.addresses.keys() - {_DOCKER_NETWORK}
    servers = {
        container.cluster: container
        for container in (k3d_containers() if containers is None else containers)
        if container.role == "server" and container.cluster != cluster and networks & container.addresses.keys()
    }
    return [servers[name] for name in sorted(servers)]


def stop_shared_registry(session: Session, registry: Container) -> bool:
    """Stops the container unless the cluster of another environment runs; returns whether it was stopped."""
    with registry_lock(session, "stop"):
        if not registry.running or any(
            server.running for server in other_clusters(registry, session.environment.cluster)
        ):
            return False
        docker("stop", registry.name, timeout=CHANGE_TIMEOUT)
    return True
