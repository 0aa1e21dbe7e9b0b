"""The cluster's resources of Actions Runner Controller, read through kubectl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from envkit.arc.settings import CONTROLLER_NAMESPACE, RUNNERS_NAMESPACE
from envkit.cluster import Cluster
from envkit.errors import CommandFailedError
from envkit.paths import just_command
from envkit.process import capture

_SECONDS = 15

# What the charts really set; the selectors of GitHub's troubleshooting page match nothing
# (actions-runner-controller, charts/gha-runner-scale-set-controller/templates/deployment.yaml).
CONTROLLER_SELECTOR = "app.kubernetes.io/part-of=gha-rs-controller"
LISTENER_SELECTOR = "app.kubernetes.io/component=runner-scale-set-listener"

RUNNER_GROUP = "actions.github.com"
SCALE_SETS = f"autoscalingrunnersets.{RUNNER_GROUP}"
RUNNER_SETS = f"ephemeralrunnersets.{RUNNER_GROUP}"
RUNNERS = f"ephemeralrunners.{RUNNER_GROUP}"
LISTENERS = f"autoscalinglisteners.{RUNNER_GROUP}"

SCALE_SET_NAME = f"{RUNNER_GROUP}/scale-set-name"
SCALE_SET_NAMESPACE = f"{RUNNER_GROUP}/scale-set-namespace"
"""Labels of all that belongs to a scale set: its name and where it is, also of its listener, which is elsewhere."""

DEFINITIONS = tuple(sorted((LISTENERS, SCALE_SETS, RUNNERS, RUNNER_SETS)))
"""The names of the resource definitions, which are those of their kinds."""

RELEASES = "owner=helm"
"""Label selector of the Secrets in which Helm remembers its releases; their labels tell which and in what state."""

_PROTECTION = f"{RUNNER_GROUP}/cleanup-protection"

Resource = dict[str, Any]


@dataclass(frozen=True)
class Resources:
    """What is in the cluster, in all namespaces.

    Attributes:
        deployments: The controllers.
        pods: Pods of the two namespaces.
        scale_sets: AutoscalingRunnerSets.
        runners: EphemeralRunners.
        listeners: AutoscalingListeners.
        controllers: Namespace of the controller that watches over this environment's runners.
    """

    deployments: tuple[Resource, ...] = ()
    pods: tuple[Resource, ...] = ()
    scale_sets: tuple[Resource, ...] = ()
    runners: tuple[Resource, ...] = ()
    listeners: tuple[Resource, ...] = ()
    controllers: str = CONTROLLER_NAMESPACE

    @property
    def controller(self) -> Resource | None:
        """The Deployment of the controller that watches over this environment's runners."""
        return next((item for item in self.deployments if namespace(item) == self.controllers), None)


@dataclass(frozen=True)
class Kube:
    """Calls of kubectl on one cluster, whatever the current context is.

    Attributes:
        kubeconfig: The file.
        context: The context in it.
        seconds: How long a call may take.
        controllers: Namespace of the controller that watches over this environment's runners.
    """

    poll_seconds: ClassVar[float] = 0.3
    """Seconds between two looks of those who wait."""

    kubeconfig: Path
    context: str
    seconds: float = _SECONDS
    controllers: str = CONTROLLER_NAMESPACE

    def run(self, *arguments: str, timeout: float | None = None, stdin: str | None = None) -> str:
        """What kubectl prints. Raises CommandFailedError."""
        timeout = timeout or self.seconds
        return capture(
            [
                "kubectl",
                f"--kubeconfig={self.kubeconfig}",
                f"--context={self.context}",
                f"--request-timeout={timeout:.0f}s",
                *arguments,
            ],
            stdin=stdin,
            timeout=timeout + 5,
            next_step=f"{just_command()} status",
        )

    def get(self, kinds: str, *arguments: str) -> tuple[Resource, ...]:
        """Resources as JSON; none where the cluster does not know their kind. Raises CommandFailedError."""
        try:
            text = self.run("get", kinds, "--output=json", *arguments)
        except CommandFailedError as error:
            if "the server doesn't have a resource type" in error.output:
                return ()
            raise
        return tuple(json.loads(text)["items"]) if text.strip() else ()

    def server_version(self) -> str:
        """Kubernetes' version as the API says it, such as `v1.36.4+k3s1`. Raises CommandFailedError."""
        return str(json.loads(self.run("version", "--output=json"))["serverVersion"]["gitVersion"])

    def resources(self) -> Resources:
        """Everything at once. Raises CommandFailedError where the API does not answer."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            own = pool.submit(self.get, f"{SCALE_SETS},{RUNNERS},{LISTENERS}", "--all-namespaces")
            controllers = pool.submit(self.get, "deployments", "--all-namespaces", f"--selector={CONTROLLER_SELECTOR}")
            system = pool.submit(self.get, "pods", f"--namespace={self.controllers}")
            runners = pool.submit(self.get, "pods", f"--namespace={RUNNERS_NAMESPACE}")
            items = own.result()
            return Resources(
                deployments=controllers.result(),
                pods=(*system.result(), *runners.result()),
                scale_sets=_of_kind(items, "AutoscalingRunnerSet"),
                runners=_of_kind(items, "EphemeralRunner"),
                listeners=_of_kind(items, "AutoscalingListener"),
                controllers=self.controllers,
            )

    def own_resources(self) -> Resources:
        """What is in the two namespaces alone, for those who look again and again: half as many programs are started.

        Nothing until the cluster knows the kinds. Raises CommandFailedError where the API does not answer.
        """
        with ThreadPoolExecutor(max_workers=2) as pool:
            system = pool.submit(self.get, "deployments,pods", f"--namespace={self.controllers}")
            runners = pool.submit(self.get, f"{SCALE_SETS},{RUNNERS},pods", f"--namespace={RUNNERS_NAMESPACE}")
            items = (*system.result(), *runners.result())
        deployments = _of_kind(items, "Deployment")
        return Resources(
            deployments=tuple(item for item in deployments if is_selected(item, CONTROLLER_SELECTOR)),
            pods=_of_kind(items, "Pod"),
            scale_sets=_of_kind(items, "AutoscalingRunnerSet"),
            runners=_of_kind(items, "EphemeralRunner"),
            controllers=self.controllers,
        )

    def has_traces(self) -> bool:
        """Whether anything of Actions Runner Controller is there. Raises CommandFailedError."""
        kinds = "namespaces,customresourcedefinitions.apiextensions.k8s.io"
        found = set(self.run("get", kinds, "--output=name").split())
        return bool(found & {f"namespace/{CONTROLLER_NAMESPACE}", f"namespace/{RUNNERS_NAMESPACE}"}) or any(
            name.endswith(f".{RUNNER_GROUP}") for name in found
        )

    def releases(self, namespace: str) -> list[str]:
        """Names of Helm's releases in a namespace, also of those that failed. Raises CommandFailedError."""
        text = capture(
            [
                *("helm", "list", "--short", "--namespace", namespace),
                *("--kubeconfig", str(self.kubeconfig), "--kube-context", self.context),
            ],
            timeout=_SECONDS,
            next_step=f"{just_command()} status",
        )
        return text.split()

    def release_secrets(self, namespace: str) -> tuple[Resource, ...]:
        """The Secrets in which Helm remembers its releases in a namespace, without what they hold.

        Raises CommandFailedError.
        """
        kept = ("name", "status", "modifiedAt")
        fields = ("name", "creationTimestamp", *(f"labels.{label}" for label in kept))
        columns = "custom-columns=" + ",".join(f"C{number}:.metadata.{field}" for number, field in enumerate(fields))
        selector = f"--selector={RELEASES}"
        text = self.run("get", "secrets", f"--namespace={namespace}", "--no-headers", selector, f"--output={columns}")
        found = []
        for secret, time, *values in map(str.split, text.splitlines()):
            known = {label: value for label, value in zip(kept, values, strict=True) if value != "<none>"}
            found.append({"metadata": {"name": secret, "creationTimestamp": time, "labels": known}})
        return tuple(found)

    def definitions(self) -> list[str]:
        """Those of the resource definitions that are there. Raises CommandFailedError."""
        kind = "customresourcedefinitions.apiextensions.k8s.io"
        names = self.run("get", kind, "--ignore-not-found", "--output=name", *DEFINITIONS)
        return [each for each in DEFINITIONS if each in {line.rpartition("/")[2] for line in names.split()}]

    def protected(self, namespace: str, names: Sequence[str] | None = None) -> list[Resource]:
        """Changes that free what the charts have put a finalizer on, which otherwise only the controller takes off.

        Args:
            namespace: Where.
            names: Of these scale sets alone; of every one without.

        Raises CommandFailedError.
        """
        only = [f"--selector={','.join(scale_set_selectors(names))}"] if names is not None else []
        # Only these fields: a listing as JSON would hold the Secrets' content.
        columns = "custom-columns=A:.apiVersion,K:.kind,N:.metadata.name,F:.metadata.finalizers"
        kinds = "secrets,serviceaccounts,roles,rolebindings"
        text = self.run("get", kinds, f"--namespace={namespace}", "--no-headers", f"--output={columns}", *only)
        lines = [line.split(None, 3) for line in text.splitlines()]
        return [
            {
                "apiVersion": line[0],
                "kind": line[1],
                "metadata": {"name": line[2], "namespace": namespace, "finalizers": None},
            }
            for line in lines
            if _PROTECTION in line[3]
        ]

    def log(self, *, namespace: str, target: str, since: str = "", lines: int = 200, container: str = "") -> list[str]:
        """The end of a log; empty where the pod is not there or has none yet.

        Args:
            namespace: Namespace of the pod.
            target: `--selector=...` or a pod's name.
            since: An RFC 3339 time; older lines are left out.
            lines: How many lines at most.
            container: Which container, where it is not the first.
        """
        arguments = ["logs", f"--namespace={namespace}", target, f"--tail={lines}"]
        arguments += [f"--since-time={since}"] if since else []
        arguments += [f"--container={container}"] if container else []
        try:
            return self.run(*arguments).splitlines()
        except CommandFailedError:
            return []


def kube_of(cluster: Cluster, *, seconds: float = _SECONDS) -> Kube:
    """The calls for an environment's cluster."""
    return Kube(cluster.kubeconfig, cluster.context, seconds)


def scale_set_selectors(names: Sequence[str]) -> list[str]:
    """Label selectors of all that belongs to scale sets of these names in our namespace; of nothing without a name.

    The name alone would also be that of another team's scale set in a namespace of its own.
    """
    wanted = f"{SCALE_SET_NAME} in ({','.join(names)})" if names else "envkit.none"
    return [wanted, f"{SCALE_SET_NAMESPACE}={RUNNERS_NAMESPACE}"]


def _of_kind(items: Sequence[Resource], kind: str) -> tuple[Resource, ...]:
    return tuple(item for item in items if item["kind"] == kind)


def labels(resource: Resource) -> dict[str, str]:
    """Its labels."""
    return resource["metadata"].get("labels") or {}


def is_selected(resource: Resource, selector: str) -> bool:
    """Whether a resource has the label that a selector `KEY=VALUE` asks for."""
    key, _, value = selector.partition("=")
    return labels(resource).get(key) == value


def label_path(label: str) -> str:
    """Where a label stands, as kubectl's columns have it."""
    return ".metadata.labels." + label.replace(".", r"\.")


def rfc3339(moment: datetime) -> str:
    """A time as the API takes and tells it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def notes(resource: Resource) -> dict[str, str]:
    """Its annotations."""
    return resource["metadata"].get("annotations") or {}


def name(resource: Resource) -> str:
    """Its name."""
    return str(resource["metadata"]["name"])


def namespace(resource: Resource) -> str:
    """Its namespace."""
    return str(resource["metadata"].get("namespace", ""))


def status(resource: Resource) -> Resource:
    """Its status; empty where it has none yet."""
    return resource.get("status") or {}
