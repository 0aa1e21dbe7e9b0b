"""All checks for a cluster that is there already: tools, context, permissions, versions. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from envkit.arc.kube import Kube, kube_of
from envkit.arc.preflight import LEAST_KUBERNETES, parse_version
from envkit.arc.settings import has_runners
from envkit.errors import CommandFailedError, UserError
from envkit.existing import ownership
from envkit.existing.cluster import ExistingCluster
from envkit.existing.kubeconfig import write_kubeconfigs
from envkit.existing.problems import rights_problems
from envkit.paths import just_command
from envkit.preflight import Check, Verdict
from envkit.process import find_tool


def check_cluster(cluster: ExistingCluster) -> Iterator[Check]:
    """Each thing that was looked at; what cannot be asked of a cluster that does not answer is left out."""
    try:
        written = write_kubeconfigs(cluster)
    except UserError as error:
        yield Check("Context", Verdict.FAIL, f"{error.what} {error.why}", error.next_step)
        return
    yield Check("Context", Verdict.OK, f"{cluster.context}  {written.server}")
    yield from (Check("Dev container", Verdict.WARN, hint, "") for hint in written.hints)
    yield _check_builder()
    kube = kube_of(cluster)
    try:
        version = kube.server_version()
    except CommandFailedError as error:
        last = (error.output.splitlines() or [error.what])[-1]
        yield Check("Cluster", Verdict.FAIL, f"it does not answer: {last}", cluster.how_to_reach)
        return
    yield _check_version(version, cluster)
    if has_runners():
        yield from _check_runners(cluster, kube)


def _check_version(text: str, cluster: ExistingCluster) -> Check:
    version = parse_version(text)
    if version is None:
        return Check("Kubernetes", Verdict.WARN, f"{text} is no version that can be compared", "")
    if has_runners() and version < LEAST_KUBERNETES:
        detail = f"{version} is too old: BuildKit runs as a sidecar, which needs {LEAST_KUBERNETES}"
        return Check("Kubernetes", Verdict.FAIL, detail, cluster.how_to_upgrade)
    return Check("Kubernetes", Verdict.OK, str(version))


def _check_runners(cluster: ExistingCluster, kube: Kube) -> Iterator[Check]:
    controller = None
    with suppress(CommandFailedError):  # without the right to look, which is told below
        kube, controller = ownership.kube_with_controller(kube, cluster.name)
        if controller and not ownership.has_own_scale_set(kube.resources(), cluster.name):
            place = f"{controller['metadata']['namespace']}/{controller['metadata']['name']}"
            detail = f"a controller of another team's is there: {place}; install-arc uses it with --adopt"
            yield Check("Controller", Verdict.WARN, detail, "")
    missing = list(rights_problems(kube, with_controller=controller is None))
    yield from (Check("Permissions", Verdict.FAIL, what, fix) for what, fix in missing)
    if not missing:
        yield Check("Permissions", Verdict.OK, "all that the runners need")


def _check_builder() -> Check:
    if tool := next((name for name in ("buildah", "docker") if find_tool(name)), ""):
        return Check("Images", Verdict.OK, f"built with {tool}")
    return Check(
        "Images", Verdict.WARN, "neither Buildah nor Docker is there to build any", f"{just_command()} install"
    )
