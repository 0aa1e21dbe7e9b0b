"""Taking things away: the whole environment, or what an interrupted creation has left."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote

from envkit.cluster_kubeconfigs import remove_kubeconfigs
from envkit.engine import CHANGE_TIMEOUT, Container, docker, inspect, remove_containers
from envkit.environment import SHARED_LABEL
from envkit.errors import CommandFailedError
from envkit.observation import Observation
from envkit.ownership import refuse_clashes
from envkit.session import Session
from envkit.shared_registry import other_clusters, registry_lock
from envkit.verified import forget_verified
from envkit.volume_users import withdraw
from envkit.wording import counted


def delete(session: Session, *, registry_data: bool) -> list[str]:
    """Removes cluster, registry, network and kubeconfigs; returns what was removed.

    Args:
        session: The run.
        registry_data: Remove the registry's volume too, and with it every image in it, unless another environment
            keeps images there.

    Raises UserError where something belongs to another environment or could not be removed.
    """
    environment = session.environment
    removed: list[str] = []
    nodes, registry = session.containers()
    refuse_clashes(environment, nodes, registry)
    if nodes:
        _take_runners_off_github(session, running=any(node.running and node.role == "server" for node in nodes))
    with registry_lock(session, "delete"):
        registry = session.containers()[1]
        others = _others(session, registry)
        users = withdraw(environment, registry) if registry_data else []
        doomed = None if others else registry
        if nodes or doomed:
            with session.steps.step("Deleting the cluster"):
                # Not by k3d: it would take the network away from a dev container that is stopped at the moment,
                # and that container could never be started again.
                remove_containers(container.name for container in (*nodes, doomed) if container)
                if nodes:
                    removed.append(f"cluster {environment.cluster} ({counted(len(nodes), 'container')})")
                if doomed:
                    removed.append(f"registry container {doomed.name}")
        removed += remove_volume(environment.image_volume)
        removed += remove_network(session)
        if registry_data and environment.registry.volume:
            removed += _remove_images(session, {*others, *map(str, users)})
    forget_verified(environment.cluster)
    return removed + remove_kubeconfigs(session)


def _others(session: Session, registry: Container | None) -> list[str]:
    """The folders, or names where those are not known, of other environments whose clusters use a shared registry."""
    if not registry or not registry.shared:
        return []
    servers = other_clusters(registry, session.environment.cluster)
    return [unquote(server.root) or f"the cluster {server.cluster}" for server in servers]


def _remove_images(session: Session, users: Collection[str]) -> list[str]:
    """Removes the registry's volume unless others keep images in it."""
    volume = session.environment.registry.volume
    if not users:
        return remove_volume(volume)
    session.steps.say(
        f"The volume {volume} stays: images of {', '.join(sorted(users))} are in it too."
        f" Once nobody needs them: docker volume rm {volume}"
    )
    return []


def _take_runners_off_github(session: Session, *, running: bool) -> None:
    from envkit.arc.removal import deregister

    deregister(session.environment, session.steps, running=running)


def remove_unfinished(session: Session, observation: Observation) -> None:
    """Removes what an interrupted creation has left; the registry's volume stays."""
    with session.steps.step("Removing an unfinished creation"):
        registry = observation.registry
        parts = (*observation.nodes, None if registry and registry.shared else registry)
        remove_containers(part.name for part in parts if part)
        remove_volume(session.environment.image_volume)
        remove_network(session)


def remove_volume(name: str) -> list[str]:
    """Removes a volume; returns what was removed."""
    if not inspect("volume", name):
        return []
    docker("volume", "rm", name, timeout=CHANGE_TIMEOUT)
    return [f"volume {name}"]


def remove_network(session: Session) -> list[str]:
    """Removes the cluster's network unless a container of somebody else's is attached to it, running or stopped.

    A registry that environments share leaves the network before: it could not be started again without it.
    """
    name = session.environment.network
    if not inspect("network", name):
        return []
    own = {container.name for container in session.containers()[0]}
    listed = docker(
        *("ps", "--all", "--filter", f"network={name}", "--format", f'{{{{.Names}}}}\t{{{{.Label "{SHARED_LABEL}"}}}}')
    )
    attached = dict(line.partition("\t")[::2] for line in listed.splitlines() if line)
    for registry in sorted(container for container, label in attached.items() if label):
        docker("network", "disconnect", "--force", name, registry, timeout=CHANGE_TIMEOUT)
    attached = {container: label for container, label in attached.items() if not label and container not in own}
    if attached:
        session.steps.say(f"The network {name} stays: it is in use by {', '.join(sorted(attached))}.")
        return []
    docker("network", "rm", name, timeout=CHANGE_TIMEOUT)
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
            docker("rmi", name, timeout=CHANGE_TIMEOUT)
        except CommandFailedError as error:  # a container of somebody's runs from it
            session.steps.say(f"The image {name} stays: {error.output}")
        else:
            removed.append(f"image {name}")
    return removed
