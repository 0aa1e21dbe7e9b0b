"""What a person has to be allowed to do in the cluster for the runners, asked of the cluster itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envkit.arc.kube import RUNNER_GROUP, Kube
from envkit.arc.settings import CONTROLLER_NAMESPACE, RUNNERS_NAMESPACE


@dataclass(frozen=True)
class Right:
    """A right.

    Attributes:
        verb: What is done.
        group: The API group; empty for the core.
        resource: To what, in the plural.
        namespace: Where; empty for the whole cluster.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{where}"


_RBAC = "rbac.authorization.k8s.io"

LOOKING = (
    Right("list", "apps", "deployments"),
    Right("list", RUNNER_GROUP, "autoscalingrunnersets"),
    Right("get", "", "namespaces"),
)
RUNNERS = (
    *(
        Right(verb, group, resource, RUNNERS_NAMESPACE)
        for group, resource in (("", "secrets"), ("", "configmaps"), ("", "serviceaccounts"), (_RBAC, "roles"))
        for verb in ("create", "delete")
    ),
    Right("create", RUNNER_GROUP, "autoscalingrunnersets", RUNNERS_NAMESPACE),
    Right("delete", RUNNER_GROUP, "autoscalingrunnersets", RUNNERS_NAMESPACE),
)
CONTROLLER = (
    Right("create", "", "namespaces"),
    Right("create", "apiextensions.k8s.io", "customresourcedefinitions"),
    Right("create", _RBAC, "clusterroles"),
    Right("create", _RBAC, "clusterrolebindings"),
    Right("create", "apps", "deployments", CONTROLLER_NAMESPACE),
    Right("create", "", "secrets", CONTROLLER_NAMESPACE),
)


def missing_rights(kube: Kube, rights: tuple[Right, ...]) -> list[Right]:
    """Those of these rights that the context's user does not have; as `kubectl auth can-i` asks, but all at once.

    Raises CommandFailedError where the API does not answer.
    """
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {
                "resourceAttributes": {
                    "verb": right.verb,
                    "group": right.group,
                    "resource": right.resource,
                    **({"namespace": right.namespace} if right.namespace else {}),
                }
            },
        }
        for right in rights
    ]
    document = {"apiVersion": "v1", "kind": "List", "items": reviews}
    results = _documents(kube.run("create", "--filename=-", "--output=json", stdin=json.dumps(document)))
    return [right for right, result in zip(rights, results, strict=True) if not result["status"].get("allowed")]


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Each of the JSON documents that kubectl prints one after the other where it has made several things."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()
