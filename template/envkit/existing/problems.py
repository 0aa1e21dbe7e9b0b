"""What of a cluster that is there already stands in the way of the runners, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator

from envkit.arc.kube import Kube, Resources
from envkit.arc.settings import ArcSettings
from envkit.errors import CommandFailedError
from envkit.existing import ownership
from envkit.existing.permissions import CONTROLLER, LOOKING, RUNNERS, missing_rights


def find_problems(
    owner: str, settings: ArcSettings, kube: Kube, resources: Resources, *, adopt: bool
) -> Iterator[tuple[str, str]]:
    """Each problem with what puts it right.

    Args:
        owner: What this environment's own things are labelled with.
        settings: What the runners should be.
        kube: The cluster.
        resources: What is in it.
        adopt: Use a controller of another team's.
    """
    yield from rights_problems(kube, with_controller=not ownership.foreign_controllers(resources, owner))
    try:
        claims = ownership.read_claims(kube, owner)
    except CommandFailedError as error:
        last = (error.output.splitlines() or [error.what])[-1]
        yield f"The cluster does not let itself be looked at: {last}", "Ask an administrator of the cluster."
        return
    yield from ownership.problems(claims, resources, settings, kube, adopt=adopt)


def rights_problems(kube: Kube, *, with_controller: bool) -> Iterator[tuple[str, str]]:
    """The rights that are missing, as one problem; none where the API does not answer, which another check says."""
    try:
        missing = missing_rights(kube, (*LOOKING, *RUNNERS, *(CONTROLLER if with_controller else ())))
    except CommandFailedError:
        return
    if missing:
        yield (
            f"The context {kube.context} may not: {', '.join(map(str, missing))}.",
            "Ask an administrator of the cluster for these rights, or to run the recipe.",
        )
