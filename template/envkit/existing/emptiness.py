"""Which namespaces hold nothing that anybody would miss, so that they may be deleted, and what keeps the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from envkit.arc.kube import Kube, label_path
from envkit.arc.settings import OWNER_LABEL
from envkit.errors import CommandFailedError

_SECONDS = 60.0
"""How long one look may take: a cluster may have some hundred kinds of resources."""

_NAMED = 3
"""How many objects that keep a namespace are named."""

_BY_KUBERNETES = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}

_TRACES = {
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
}
"""Kinds of which only what other resources do leaves something behind."""

_OWNERS = {"Deployment", "ReplicaSet", "Pod", "AutoscalingListener", "EphemeralRunner", "EphemeralRunnerSet"}
"""Kinds that are in the same namespace as what they own: either they are there and count, or what they own is going."""


def empty_namespaces(kube: Kube, names: Sequence[str], owner: str) -> list[str]:
    """Those of these namespaces that hold nothing but what Kubernetes puts into each, and what is ours and going.

    Right after Helm has removed the controller its pods are still there, and after a removal by force roles that it
    would have deleted.

    Args:
        kube: The cluster.
        names: The namespaces.
        owner: The value of our label.
    """
    return [name for name, kept in _occupants(kube, names, owner).items() if kept == []]


def why_namespaces_stay(kube: Kube, names: Sequence[str], owner: str) -> Iterator[str]:
    """A sentence for each of these namespaces that is still there after a removal. Arguments as `empty_namespaces`."""
    try:
        found = kube.run("get", "namespaces", *names, "--ignore-not-found", "--output=name").split()
    except CommandFailedError:
        return
    for name, kept in _occupants(kube, [each.partition("/")[2] for each in found], owner).items():
        if kept is None:
            yield f"The namespace {name} stays, because not all that is in it can be seen."
        elif kept:
            more = f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else ""
            yield f"The namespace {name} stays, because this is in it: {', '.join(kept[:_NAMED])}{more}."


def _occupants(kube: Kube, names: Sequence[str], owner: str) -> Mapping[str, list[str] | None]:
    """What somebody would miss in each of these namespaces.

    None for one that cannot be looked into wholly, for want of rights or because a part of the API does not answer.
    """
    if not names:
        return {}
    try:
        kinds = _kinds(kube)
    except CommandFailedError:
        return dict.fromkeys(names)
    return {each: _missed(kube, each, kinds, owner) for each in names}


def _kinds(kube: Kube) -> str:
    # What cannot be deleted is no object of its own, such as the measurements of pods.
    wanted = ("--namespaced", "--verbs=list,delete", "--output=name")
    found = kube.run("api-resources", *wanted, timeout=_SECONDS).split()
    return ",".join(kind for kind in found if kind not in _TRACES)


def _missed(kube: Kube, namespace: str, kinds: str, owner: str) -> list[str] | None:
    # Only these fields: a listing as JSON would hold the Secrets' content.
    columns = (
        f"custom-columns=K:.kind,N:.metadata.name,L:{label_path(OWNER_LABEL)},"
        "D:.metadata.deletionTimestamp,W:.metadata.ownerReferences[*].kind"
    )
    try:
        text = kube.run(
            *("get", kinds, f"--namespace={namespace}", "--no-headers", "--ignore-not-found", f"--output={columns}"),
            timeout=_SECONDS,
        )
    except CommandFailedError:
        return None
    found = [line.split() for line in text.splitlines()]
    return [f"{kind} {name}" for kind, name, *rest in found if _counts(kind, name, *rest, owner=owner)]


def _counts(kind: str, name: str, label: str, deleted: str, owners: str, *, owner: str) -> bool:
    """Whether somebody would miss an object, `<none>` standing for what it does not have."""
    is_by_kubernetes = (kind, name) in _BY_KUBERNETES
    # Our controller stays where other teams' runners need it, and its namespace with it.
    is_ours = label == owner and kind != "Deployment"
    goes_with_its_owner = set(owners.split(",")) <= _OWNERS
    return not (is_by_kubernetes or is_ours or deleted != "<none>" or goes_with_its_owner)
