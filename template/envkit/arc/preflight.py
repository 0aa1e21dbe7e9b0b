"""Everything that can be wrong with an installation of the runners, found before anything is changed, in one list."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from packaging.version import InvalidVersion, Version

from envkit.arc import credentials
from envkit.arc import settings as arc_settings
from envkit.arc.kube import Kube, Resources
from envkit.arc.settings import RUNNERS_NAMESPACE, ArcSettings
from envkit.arc.state import foreign_controllers
from envkit.cluster import Cluster
from envkit.engine import docker
from envkit.errors import CommandFailedError, UserError
from envkit.existing.cluster import ExistingCluster
from envkit.paths import just_command
from envkit.process import capture

Problem = tuple[str, str]
"""What is wrong, and what puts it right."""

LEAST_KUBERNETES = Version("1.29")
"""The first in which a sidecar that restarts is on by default; BuildKit is one."""

_LEAST_HELM = Version("4.0")

# By file: a pattern of the contents with which an unprivileged process may not make user namespaces.
_FORBIDDEN_NAMESPACES = {
    "/proc/sys/user/max_user_namespaces": r"0",
    "/proc/sys/kernel/unprivileged_userns_clone": r"0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": r"[1-9]",
}


def find_problems(
    cluster: Cluster, settings: ArcSettings, kube: Kube, *, verify: bool = False, adopt: bool = False
) -> tuple[list[Problem], Resources]:
    """All problems, those of one kind after the other, and what is in the cluster.

    Args:
        cluster: The cluster.
        settings: What the runners should be.
        kube: The calls for it.
        verify: Ask GitHub too whether the credentials are good.
        adopt: Use a controller that another team has installed.
    """
    found: list[Problem] = [*arc_settings.problems(settings), *credentials.problems(settings)]
    with ThreadPoolExecutor(max_workers=5) as pool:
        resources = pool.submit(kube.resources)
        checks: list[Callable[[], Sequence[Problem]]] = [
            lambda: list(_charts(settings)),
            lambda: list(_helm()),
            lambda: list(_image(cluster, settings)),
            lambda: list(_kubernetes(cluster, kube)),
            lambda: list(_user_namespaces(cluster, settings)),
        ]
        results = [pool.submit(check) for check in checks]
        for result in results:
            found += result.result()
        try:
            present = resources.result()
        except UserError:  # the check of Kubernetes has said that it does not answer, or the one of rights says why
            if isinstance(cluster, ExistingCluster):
                from envkit.existing.problems import rights_problems

                found += rights_problems(kube, with_controller=True)
            return found, Resources()
    if isinstance(cluster, ExistingCluster):
        from envkit.existing import problems

        found += problems.find_problems(cluster.name, settings, kube, present, adopt=adopt)
    else:
        found += _occupied(present, settings.name, kube)
    if verify and not found:
        from envkit.arc.verify import verify_credentials

        found += verify_credentials(settings)
    return found, present


def refusal(problems: Sequence[Problem]) -> UserError:
    """One error that lists all problems, each with its remedy."""
    count = "1 thing stands" if len(problems) == 1 else f"{len(problems)} things stand"
    lines = [line for what, fix in problems for line in (f"- {what}", f"    {fix}")]
    return UserError(
        f"{count} in the way; nothing was changed.",
        "\n".join(lines),
        f"Put that right, then: {just_command()} install-arc",
    )


def _charts(settings: ArcSettings) -> Iterator[Problem]:
    try:
        for kind in ("controller", "runners"):
            settings.chart(kind)
    except UserError as error:
        yield f"{error.what} {error.why}", error.next_step


def _helm() -> Iterator[Problem]:
    try:
        text = capture(["helm", "version", "--short"], timeout=15)
    except UserError as error:
        yield f"{error.what} {error.why}", f"{just_command()} install"
        return
    version = parse_version(text)
    if version and version < _LEAST_HELM:
        yield f"Helm {version} is too old: Ansible's modules are used with Helm 4.", f"{just_command()} install"


def _kubernetes(cluster: Cluster, kube: Kube) -> Iterator[Problem]:
    try:
        version = parse_version(kube.server_version())
    except CommandFailedError as error:
        last = (error.output.splitlines() or [error.what])[-1]
        yield f"The cluster {kube.context} does not answer: {last}", cluster.how_to_reach
        return
    if version and version < LEAST_KUBERNETES:
        yield (
            f"Kubernetes {version} is too old: BuildKit runs as a sidecar, which needs {LEAST_KUBERNETES}.",
            cluster.how_to_upgrade,
        )


def _image(cluster: Cluster, settings: ArcSettings) -> Iterator[Problem]:
    """Complains where the image should be among this environment's own and is not."""
    reference = settings.image
    if not cluster.images.owns(reference):
        return
    path, _, tag = cluster.images.inside(reference).partition("@")[0].rpartition(":")
    try:
        there = cluster.images.has(path or tag, tag if path else "latest")
    except UserError as error:
        yield f"{error.what} {error.why}", error.next_step
        return
    if not there:
        yield f"The image of the runners is not in the registry: {reference}.", f"{just_command()} build-runner"


def _user_namespaces(cluster: Cluster, settings: ArcSettings) -> Iterator[Problem]:
    """Complains where the nodes' kernel does not let rootless BuildKit work.

    https://github.com/moby/buildkit/blob/master/docs/rootless.md
    """
    if not settings.uses_rootless_buildkit or not cluster.node_container:
        return
    script = f"for f in {' '.join(_FORBIDDEN_NAMESPACES)}; do [ ! -e $f ] || echo $f $(cat $f); done"
    try:
        text = docker("exec", cluster.node_container, "sh", "-c", script)
    except UserError:  # the cluster does not run, which other checks say
        return
    for path, value in (line.split(" ", 1) for line in text.splitlines() if " " in line):
        if re.fullmatch(_FORBIDDEN_NAMESPACES.get(path, "-"), value.strip()):
            name = path.removeprefix("/proc/sys/").replace("/", ".")
            right = {"0": "1", "1": "0"}.get(value.strip(), "0") if "max_user" not in path else "28633"
            command = f"sudo sysctl -w {name}={right}"
            if sys.platform == "darwin":  # a node may change the kernel of the engine's virtual machine
                command = f"docker exec {cluster.node_container} sh -c 'echo {right} >{path}'"
            yield (
                f"The kernel forbids the user namespaces that rootless BuildKit needs ({name} = {value.strip()}).",
                f"{command}   (or: {just_command()} update -d buildkit_mode=privileged)",
            )


def _occupied(resources: Resources, wanted: str, kube: Kube) -> Iterator[Problem]:
    """Complains of a controller or a scale set under our name that somebody else has installed."""
    for place in foreign_controllers(resources):
        yield (
            f"Another controller of runners is in the namespace {place}; two would fight over the same resources.",
            f"helm --kube-context {kube.context} list --namespace {place}   (then: helm uninstall)",
        )
    for item in resources.scale_sets:
        meta = item["metadata"]
        is_ours = arc_settings.OWNER_LABEL in (meta.get("labels") or {})
        if meta["name"] == wanted and meta["namespace"] == RUNNERS_NAMESPACE and not is_ours:
            yield (
                f"A scale set {wanted} that this environment did not install is in {RUNNERS_NAMESPACE}.",
                (
                    f"helm --kube-context {kube.context} uninstall {wanted} --namespace {RUNNERS_NAMESPACE}"
                    "   (or set RUNNER_NAME in .env)"
                ),
            )


def parse_version(text: str) -> Version | None:
    """The version in what a tool says of itself; None where there is none."""
    match = re.search(r"v?(\d+\.\d+(\.\d+)?)", text)
    try:
        return Version(match[1]) if match else None
    except InvalidVersion:
        return None
