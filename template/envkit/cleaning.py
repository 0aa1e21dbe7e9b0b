"""Removes what this environment has left in Docker besides its cluster; nothing of other projects."""

from __future__ import annotations

from envkit.engine import docker, inspect
from envkit.environment import Environment


def volume_exists(name: str) -> bool:
    """Whether Docker has a volume of this name."""
    return bool(inspect("volume", name))


def remove_local_images(environment: Environment) -> list[str]:
    """Removes the names that local images have for this environment's registry; returns what was removed.

    An image that has another name too stays under that name.
    """
    hosts = (*environment.registry.host_names, *environment.registry.cluster_names)
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    owned = [name for name in names if name.startswith(tuple(f"{host}/" for host in hosts))]
    if owned:
        docker("rmi", *owned, timeout=120)
    return [f"image {name}" for name in owned]
