"""What of Actions Runner Controller in a cluster is this environment's, so that nothing of another team's is touched.

Ours is what carries the label `envkit.cluster` with our name: `install-arc` gives it to all that it makes in a cluster
that is there already, the namespaces and resource definitions included, if they were not there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envkit.arc.corporate import AUTHORITIES, PROXY_SECRETS
from envkit.arc.credentials import CREDENTIALS_SECRET
from envkit.arc.kube import (
    CONTROLLER_SELECTOR,
    DEFINITIONS,
    Kube,
    Resource,
    Resources,
    label_path,
    labels,
    name,
    namespace,
    scale_set_selectors,
)
from envkit.arc.settings import CONTROLLER_NAMESPACE, OWNER_LABEL, RUNNERS_NAMESPACE, ArcSettings
from envkit.paths import just_command

_LEVEL = "pod-security.kubernetes.io/enforce"
_OBJECTS = (CREDENTIALS_SECRET, *PROXY_SECRETS, "arc-registries", AUTHORITIES)


@dataclass(frozen=True)
class Claims:
    """Who has what.

    Attributes:
        owner: The value of our label.
        namespaces: Those of the two that are there, with their labels.
        definitions: Resource definitions that are there, with their labels.
        objects: Our Secret's and config maps' namesakes that are there, with their labels.
    """

    owner: str
    namespaces: dict[str, dict[str, str]]
    definitions: dict[str, dict[str, str]]
    objects: dict[str, dict[str, str]]

    def is_ours(self, found: dict[str, str]) -> bool:
        """Whether labels say that something is ours."""
        return found.get(OWNER_LABEL) == self.owner

    def own_namespaces(self) -> list[str]:
        """Those of the two namespaces that are ours."""
        return [each for each, found in self.namespaces.items() if self.is_ours(found)]

    def own_or_new(self, name: str) -> bool:
        """Whether a namespace is ours, or is not there and will be."""
        return name not in self.namespaces or self.is_ours(self.namespaces[name])


def read_claims(kube: Kube, owner: str) -> Claims:
    """Looks at the labels. Raises CommandFailedError where the API does not answer."""

    def found(kinds: str, *arguments: str, only: Sequence[str]) -> dict[str, dict[str, str]]:
        # Only these fields: a listing as JSON would hold the Secrets' content.
        columns = f"custom-columns=K:.kind,N:.metadata.name,O:{label_path(OWNER_LABEL)},L:{label_path(_LEVEL)}"
        text = kube.run("get", kinds, "--no-headers", "--ignore-not-found", f"--output={columns}", *arguments)
        rows = [line.split() for line in text.splitlines()]
        keys = (OWNER_LABEL, _LEVEL)
        return {
            row[1] if row[0] in ("Namespace", "CustomResourceDefinition") else f"{row[0]} {row[1]}": {
                key: value for key, value in zip(keys, row[2:4], strict=True) if value != "<none>"
            }
            for row in rows
            if row[1] in only
        }

    return Claims(
        owner,
        found("namespaces", only=(CONTROLLER_NAMESPACE, RUNNERS_NAMESPACE)),
        found("customresourcedefinitions.apiextensions.k8s.io", only=DEFINITIONS),
        found("secrets,configmaps", f"--namespace={RUNNERS_NAMESPACE}", only=_OBJECTS),
    )


def foreign_controllers(resources: Resources, owner: str) -> list[Resource]:
    """Controllers that another team has installed."""
    return [item for item in resources.deployments if labels(item).get(OWNER_LABEL) != owner]


def has_own_scale_set(resources: Resources, owner: str) -> bool:
    """Whether a scale set of ours is there."""
    return any(labels(item).get(OWNER_LABEL) == owner for item in resources.scale_sets)


def has_own(claims: Claims, resources: Resources, where: str, release: str) -> bool:
    """Whether a release of Helm's in a namespace is ours: by the namespace, or by what is there of it."""
    of_it = [item for item in resources.deployments if namespace(item) == where]
    of_it += [item for item in resources.scale_sets if (namespace(item), name(item)) == (where, release)]
    return claims.is_ours(claims.namespaces.get(where, {})) or any(claims.is_ours(labels(item)) for item in of_it)


def kube_with_controller(kube: Kube, owner: str) -> tuple[Kube, Resource | None]:
    """The calls with the namespace of the controller that watches over our runners, and that one if it is another's.

    Ours, where there is one; else the only one that there is. Raises CommandFailedError.
    """
    found = kube.get("deployments", "--all-namespaces", f"--selector={CONTROLLER_SELECTOR}")
    foreign = foreign_controllers(Resources(deployments=found), owner)
    if len(foreign) == len(found) == 1:
        return replace(kube, controllers=namespace(foreign[0])), foreign[0]
    return kube, None


def problems(
    claims: Claims, resources: Resources, settings: ArcSettings, kube: Kube, *, adopt: bool
) -> Iterator[tuple[str, str]]:
    """What of others is in the way, each with what helps."""
    foreign = foreign_controllers(resources, claims.owner)
    may_adopt = adopt or has_own_scale_set(resources, claims.owner)
    for item in foreign:
        place = f"{namespace(item)}/{name(item)}"
        if len(resources.deployments) > 1:
            yield (
                f"There are several controllers of runners: {place} is not this environment's.",
                f"Ask its owners: kubectl --context '{kube.context}' get deployments -A -l {CONTROLLER_SELECTOR}",
            )
        elif not may_adopt:
            yield (
                f"A controller of runners that this environment did not install is in the cluster: {place}.",
                f"{just_command()} install-arc --adopt   (uses it as it is; it is neither upgraded nor removed)",
            )
        elif (watched := _watched(item)) not in ("", RUNNERS_NAMESPACE):
            yield (
                f"The controller {place} watches over the namespace {watched} alone, and not over {RUNNERS_NAMESPACE}.",
                "Ask its owners to let it watch all namespaces (flags.watchSingleNamespace).",
            )
    for what, found in claims.objects.items():
        if not claims.is_ours(found):
            yield (
                f"{what} is in {RUNNERS_NAMESPACE} already, and not this environment's.",
                "Another environment uses the namespace; a cluster has room for one. Ask its owners.",
            )
    level = claims.namespaces.get(RUNNERS_NAMESPACE, {}).get(_LEVEL, "privileged")
    if not claims.own_or_new(RUNNERS_NAMESPACE) and level != "privileged":
        yield (
            f"The namespace {RUNNERS_NAMESPACE} enforces the pod security level {level}, which refuses BuildKit.",
            f"kubectl --context '{kube.context}' label namespace {RUNNERS_NAMESPACE} {_LEVEL}=privileged --overwrite",
        )
    for item in resources.scale_sets:
        if (
            name(item) == settings.name
            and namespace(item) == RUNNERS_NAMESPACE
            and labels(item).get(OWNER_LABEL) != claims.owner
        ):
            yield (
                f"A scale set {settings.name} that this environment did not install is in {RUNNERS_NAMESPACE}.",
                f"Choose another name: RUNNER_NAME in .env, or {just_command()} update -d runner_name=NAME",
            )


def adopted(settings: ArcSettings, controller: Resource) -> ArcSettings:
    """The settings with which runners belong to a controller that is there: its version, its service account."""
    account = {
        "namespace": namespace(controller),
        "name": controller["spec"]["template"]["spec"].get("serviceAccountName", name(controller)),
    }
    return replace(
        settings,
        version=labels(controller).get("app.kubernetes.io/version", settings.version),
        runner_values={**settings.runner_values, "controllerServiceAccount": account},
    )


def marked(item: dict[str, Any], owner: str) -> dict[str, Any]:
    """A resource or the values of a chart with our label; a resource has its labels in its metadata."""
    if "metadata" in item:
        return {**item, "metadata": marked(item["metadata"], owner)}
    return {**item, "labels": {**(item.get("labels") or {}), OWNER_LABEL: owner}}


def namespaces_to_make(claims: Claims, *, with_controller: bool) -> list[dict[str, Any]]:
    """The namespaces that are ours, or will be."""
    wanted = {RUNNERS_NAMESPACE: {_LEVEL: "privileged"}, **({CONTROLLER_NAMESPACE: {}} if with_controller else {})}
    return [
        marked({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": key, "labels": own}}, claims.owner)
        for key, own in wanted.items()
        if claims.own_or_new(key)
    ]


def definitions_to_mark(claims: Claims) -> list[dict[str, Any]]:
    """The resource definitions that come with our controller; none where some were there before it."""
    if not all(claims.is_ours(found) for found in claims.definitions.values()):
        return []
    return [marked(item, claims.owner) for item in all_definitions()]


def removal(claims: Claims, resources: Resources, releases: Sequence[str]) -> dict[str, Any]:
    """What `delete-arc` removes beside our scale sets.

    Args:
        claims: Who has what.
        resources: What is in the cluster.
        releases: Names of our scale sets.
    """
    is_used = any(labels(item).get(OWNER_LABEL) != claims.owner for item in resources.scale_sets)
    is_ours = any(labels(item).get(OWNER_LABEL) == claims.owner for item in resources.deployments)
    own_definitions = [key for key, found in claims.definitions.items() if claims.is_ours(found)]
    objects = [
        {
            "apiVersion": "v1",
            "kind": what.partition(" ")[0],
            "metadata": {"name": what.partition(" ")[2], "namespace": RUNNERS_NAMESPACE},
        }
        for what, found in claims.objects.items()
        if claims.is_ours(found)
    ]
    return {
        "controller": is_ours and not is_used,
        "definitions": [] if is_used else definitions_of(own_definitions),
        "objects": objects,
        "namespaces": claims.own_namespaces(),
        "only_empty": True,
        "selector": scale_set_selectors(releases),
    }


def all_definitions() -> list[dict[str, Any]]:
    """The resource definitions of Actions Runner Controller."""
    return definitions_of(DEFINITIONS)


def definitions_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Resource definitions by their names, for a removal."""
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return [{**kind, "metadata": {"name": each}} for each in names]


def _watched(controller: Resource) -> str:
    """The one namespace that a controller watches; empty where it watches all."""
    flag = "--watch-single-namespace="
    containers = controller["spec"]["template"]["spec"].get("containers") or []
    arguments = [argument for container in containers for argument in container.get("args") or []]
    return next((argument.removeprefix(flag) for argument in arguments if argument.startswith(flag)), "")
