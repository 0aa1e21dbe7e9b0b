"""Whose cluster it is: no environment touches the cluster or the registry of another one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from envkit.engine import Container
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.paths import ROOT, is_environment, is_same_folder


class Clash(NamedTuple):
    """A name of this environment that another one has taken."""

    subject: str
    detail: str
    fix: str


def clashes(
    environment: Environment, nodes: Iterable[Container], registry: Container | None, root: Path = ROOT
) -> list[Clash]:
    """What of these containers another environment has made.

    A repository that is no longer where it was has been moved: its cluster is still its own.
    """
    found = []
    folders = {Path(unquote(node.root)) for node in nodes if node.root}
    others = [folder for folder in folders if is_environment(folder) and not is_same_folder(folder, root)]
    for other in sorted(others):
        detail = f"the cluster {environment.cluster} belongs to the environment in {other}"
        fix = f"Work in {other}, or give this one another name: metadata.name in k3d.yaml"
        found.append(Clash("Cluster name", detail, fix))
    if registry and (clash := _registry_clash(environment, registry)):
        found.append(clash)
    return found


def _registry_clash(environment: Environment, registry: Container) -> Clash | None:
    rename = "Give this one another name (registries.create.name in k3d.yaml)"
    if registry.cluster and (environment.registry.shared or registry.cluster != environment.cluster):
        detail = f"the container {registry.name} belongs to the cluster {registry.cluster}"
        if environment.registry.shared:
            fix = f"{rename}, or where its images may go on without it: docker rm --force {registry.name}"
        else:
            fix = (
                f"{rename}, or if that was this environment's own cluster before it was renamed: "
                f"k3d cluster delete {registry.cluster}"
            )
    elif registry.shared and not environment.registry.shared:
        detail = f"the container {registry.name} is a registry that environments of this machine share"
        fix = f"{rename}, or share it: shared = true under [registry] in environment.toml"
    elif environment.registry.shared and not registry.shared:
        detail = f"the container {registry.name} is a registry that no environment has made"
        fix = rename
    else:
        return None
    return Clash("Registry name", detail, fix)


def refuse_clashes(environment: Environment, nodes: Iterable[Container], registry: Container | None) -> None:
    """Raises UserError where another environment has made one of these containers."""
    if found := clashes(environment, nodes, registry):
        raise UserError(
            "Another environment has the same names; nothing was changed.",
            "\n".join(f"{clash.subject}: {clash.detail}" for clash in found),
            "\n".join(clash.fix for clash in found),
        )
