"""The environments of this machine as Docker shows them: their ports, running or not, and where they come from.

The generator looks with it too, before it makes an environment; so it needs nothing but the standard library.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from envkit.engine import Container
from envkit.environment import PortKey
from envkit.paths import is_environment

_PURPOSES = {("loadbalancer", 80): "HTTP", ("loadbalancer", 443): "HTTPS", ("loadbalancer", 6443): "Kubernetes API"}
_REGISTRY = "image registry"


@dataclass(frozen=True)
class NeighbourPort:
    """A port of this machine that an environment has.

    Attributes:
        address: The address it is bound to.
        number: The port.
        purpose: What it is for, as a person would say it.
        protocol: `tcp` or `udp`.
        container: The container that it leads to.
    """

    address: str
    number: int
    purpose: str
    protocol: str
    container: str

    @property
    def key(self) -> PortKey:
        """What it is known by among others."""
        return self.number, self.protocol


@dataclass(frozen=True)
class Neighbour:
    """A cluster of this machine with its registry, or a registry that several share.

    Attributes:
        project: The project's name, from the repository; empty where that is not known.
        cluster: Name of the cluster; empty for a shared registry.
        registry: Name of the container of the registry that it uses; empty for none.
        state: `running`, `stopped`, or `partial` where only some of its containers run.
        root: Folder of the repository that created it; empty where it is not known.
        ports: The ports that its containers have, or would have if they were started.
    """

    project: str
    cluster: str
    registry: str
    state: str
    root: str
    ports: tuple[NeighbourPort, ...]

    @property
    def title(self) -> str:
        """The environment in a sentence: its folder where that is there, and its cluster."""
        if not self.cluster:
            return f"the shared registry {self.registry} ({self.state})"
        where = f"the environment in {self.root}" if self.is_there else "an environment"
        return f"{where} (cluster {self.cluster}, {self.state})"

    @property
    def is_there(self) -> bool:
        """Whether its repository still lies where it was when it created the cluster."""
        return bool(self.root) and is_environment(Path(self.root))


def neighbours(containers: Iterable[Container]) -> list[Neighbour]:
    """The environments that these containers make up, sorted by name; shared registries stand at the end."""
    containers = list(containers)
    shared = [container for container in containers if container.shared]
    clusters: dict[str, list[Container]] = {}
    for container in containers:
        if container.cluster:
            clusters.setdefault(container.cluster, []).append(container)
    found = [_cluster(name, parts, shared) for name, parts in sorted(clusters.items())]
    return found + [_registry(container) for container in sorted(shared, key=lambda container: container.name)]


def _cluster(name: str, parts: list[Container], shared: list[Container]) -> Neighbour:
    root = unquote(next((part.root for part in parts if part.root), ""))
    networks = {network for part in parts if part.role == "server" for network in part.addresses}
    registries = [part.name for part in parts if part.role == "registry"]
    registries += [container.name for container in shared if networks & container.addresses.keys()]
    return Neighbour(
        project=project_in(root),
        cluster=name,
        registry=next(iter(registries), ""),
        state=_state(part for part in parts if part.role != "noRole"),
        root=root,
        ports=_ports(parts),
    )


def _registry(container: Container) -> Neighbour:
    return Neighbour("", "", container.name, _state([container]), "", _ports([container]))


def _state(parts: Iterable[Container]) -> str:
    running = {part.running for part in parts}
    return "partial" if len(running) > 1 else ("running" if running == {True} else "stopped")


def _ports(parts: Iterable[Container]) -> tuple[NeighbourPort, ...]:
    found = {
        NeighbourPort(
            port.address,
            port.number,
            _REGISTRY
            if part.role == "registry"
            else _PURPOSES.get((part.role, port.target), f"port {port.target} of the cluster"),
            port.protocol,
            part.name,
        )
        for part in parts
        for port in part.published
    }
    order = [*_PURPOSES.values(), _REGISTRY]
    return tuple(sorted(found, key=lambda port: (port.purpose not in order, *_rank(order, port))))


def _rank(order: list[str], port: NeighbourPort) -> tuple[int, int]:
    return (order.index(port.purpose) if port.purpose in order else 0, port.number)


def project_in(root: str) -> str:
    """The project's name that the repository in a folder has; empty where that cannot be read."""
    try:
        settings = tomllib.loads((Path(root) / "environment.toml").read_text(encoding="utf-8")) if root else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ""
    return str(settings.get("project", ""))
