"""Taking things away: the whole environment, or what an interrupted creation has left."""

from __future__ import annotations

from envkit.cluster_kubeconfigs import remove_kubeconfigs
from envkit.engine import docker, inspect, remove_containers
from envkit.errors import CommandFailedError
from envkit.observation import Observation
from envkit.ownership import refuse_clashes
from envkit.session import Session
from envkit.verified import forget_verified

_SECONDS = 60


def delete(session: Session, *, registry_data: bool) -> list[str]:
    """Removes cluster, registry, network and kubeconfigs; returns what was removed.

    Args:
        session: The run.
        registry_data: Remove the registry's volume too, and with it every image in it.

    Raises UserError where something belongs to another environment or could not be removed.
    """
    environment = session.environment
    removed: list[str] = []
    nodes, registry = session.containers()
    refuse_clashes(environment, nodes, registry)
    if nodes:
        _take_runners_off_github(session, running=any(node.running and node.role == "server" for node in nodes))
    if nodes or registry:
        with session.steps.step("Deleting the cluster"):
            # Not by k3d: it would take the network away from a dev container that is stopped at the moment,
            # and that container could never be started again.
            remove_containers(container.name for container in (*nodes, registry) if container)
            if nodes:
                removed.append(f"cluster {environment.cluster} ({len(nodes)} containers)")
            if registry:
                removed.append(f"registry container {registry.name}")
    removed += remove_volume(environment.image_volume)
    if registry_data and environment.registry.volume:
        removed += remove_volume(environment.registry.volume)
    removed += remove_network(session)
    forget_verified(environment.cluster)
    return removed + remove_kubeconfigs(session)


def _take_runners_off_github(session: Session, *, running: bool) -> None:
    from envkit.arc.removal import deregister

    deregister(session.environment, session.steps, running=running)


def remove_unfinished(session: Session, observation: Observation) -> None:
    """Removes what an interrupted creation has left; the registry's volume stays."""
    with session.steps.step("Removing an unfinished creation"):
        parts = (*observation.nodes, observation.registry)
        remove_containers(part.name for part in parts if part)
        remove_volume(session.environment.image_volume)
        remove_network(session)


def remove_volume(name: str) -> list[str]:
    """Removes a volume; returns what was removed."""
    if not inspect("volume", name):
        return []
    docker("volume", "rm", name, timeout=_SECONDS)
    return [f"volume {name}"]


def remove_network(session: Session) -> list[str]:
    """Removes the cluster's network unless a container of somebody else's is attached to it, running or stopped."""
    name = session.environment.network
    if not inspect("network", name):
        return []
    own = {container.name for container in session.containers()[0]}
    attached = set(docker("ps", "--all", "--filter", f"network={name}", "--format", "{{.Names}}").split()) - own
    if attached:
        session.steps.say(f"The network {name} stays: it is in use by {', '.join(sorted(attached))}.")
        return []
    docker("network", "rm", name, timeout=_SECONDS)
    return [f"network {name}"]


def remove_local_images(session: Session) -> list[str]:
    """Removes the names that local images have for this environment's registry; returns what was removed.

    An image that has another name too stays under that name.
    """
    registry = session.environment.registry
    hosts = (*registry.host_names, *registry.cluster_names)
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    prefixes = tuple(f"{host}/" for host in hosts)
    # Of an image whose tag has moved on, Docker lists the rest as NAME:<none>, which is no name to remove it by.
    owned = [name for name in names if name.startswith(prefixes) and not name.endswith(":<none>")]
    removed = []
    for name in owned:
        try:
            docker("rmi", name, timeout=_SECONDS)
        except CommandFailedError as error:  # a container of somebody's runs from it
            session.steps.say(f"The image {name} stays: {error.output}")
        else:
            removed.append(f"image {name}")
    return removed
