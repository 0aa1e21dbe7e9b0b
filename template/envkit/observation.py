"""What is there: containers, network, Kubernetes API, registry, kubeconfig files. Looks only, changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envkit.engine import TIMEOUT, Container, k3d_containers, read_file
from envkit.environment import Environment, Registry
from envkit.errors import TIMED_OUT, CommandFailedError, UserError
from envkit.kubeconfig import kubeconfig_paths
from envkit.process import RunningTool, running
from envkit.registry import answers
from envkit.verified import were_verified

HOST_RECORD = "host.k3d.internal"
"""The name by which nodes and pods reach this machine. k3d writes it at each start of a cluster; a restart of Docker
alone loses it (https://github.com/k3d-io/k3d/issues/1221)."""

API_TIMEOUT = 3
"""Seconds to wait for one answer of the Kubernetes API; kubectl as a whole gets one more, so that a status takes less
than five."""


@dataclass(frozen=True)
class ApiFacts:
    """What the Kubernetes API says.

    Attributes:
        error: Why it does not answer; empty where it does.
        ready: For each node whether it is Ready.
        versions: The kubelets' versions, one of each.
        dns_records: Names that the cluster's DNS knows besides Services (containers and this machine), with addresses.
    """

    error: str = ""
    ready: dict[str, bool] | None = None
    versions: tuple[str, ...] = ()
    dns_records: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """What was found of one environment.

    Attributes:
        nodes: Containers of the cluster that run Kubernetes, the load balancer or k3d's helpers; not the registry.
        registry: The registry's container, whichever cluster it says it belongs to.
        registry_answers: Whether `/v2/` answers.
        registry_port: The port of this machine that the registry has, where the configuration has changed since it was
            made, or where another environment has made a shared one; 0 where it is the configured one.
        registry_address: The same of the address that it listens on; empty where it is the configured one.
        api: What the Kubernetes API says; None where it was not asked because the server does not run.
        hosts_lost: Running nodes that no longer know the name of this machine.
        verified: The same containers, running since the same moment, were seen to work before.
    """

    nodes: tuple[Container, ...]
    registry: Container | None
    registry_answers: bool = False
    registry_port: int = 0
    registry_address: str = ""
    api: ApiFacts | None = None
    hosts_lost: tuple[str, ...] = ()
    verified: bool = False

    @property
    def containers(self) -> tuple[Container, ...]:
        """The nodes and, where there is one, the registry."""
        return (*self.nodes, self.registry) if self.registry else self.nodes

    def role(self, name: str) -> tuple[Container, ...]:
        """The containers with one of k3d's roles."""
        return tuple(node for node in self.nodes if node.role == name)

    @property
    def server(self) -> Container | None:
        """The first server, which holds the cluster's state."""
        return next(iter(sorted(self.role("server"), key=lambda node: node.name)), None)


def observe(environment: Environment, timeout: float = TIMEOUT) -> Observation:
    """Looks at everything at once; bounded in time even where parts are dead.

    Args:
        environment: The environment.
        timeout: Seconds that Docker gets to answer.

    Raises UserError where Docker does not answer.
    """
    kubeconfig = kubeconfig_paths(environment.context).host
    # Asked before it is known whether the cluster runs: on the usual morning it does, and this is the slowest part.
    is_there = os.access(kubeconfig, os.R_OK)
    asked_beside = asked_api(kubeconfig, environment.context) if is_there else nullcontext(_has_no_kubeconfig)
    with asked_beside as api, ThreadPoolExecutor(max_workers=8) as pool:
        asked = pool.submit(answers, environment.registry)
        containers = k3d_containers(timeout)
        nodes, registry = split(containers, environment)
        kubernetes = [node for node in nodes if node.running and node.role in ("server", "agent")]
        verified = bool(nodes) and were_verified(environment.cluster, nodes)
        lost = [] if verified else _failing(pool, kubernetes, _knows_host)
        port, address = _registry_place(environment, nodes, registry)
        present = replace(environment.registry, port=port, address=address)
        is_asked = present == environment.registry
        server_runs = any(node.role == "server" for node in kubernetes)
        return Observation(
            nodes=nodes,
            registry=registry,
            registry_answers=bool(registry and registry.running and (asked.result() if is_asked else answers(present))),
            registry_port=port if port != environment.registry.port else 0,
            registry_address=address if address != environment.registry.address else "",
            api=api() if server_runs else None,
            hosts_lost=tuple(lost),
            verified=verified,
        )


def present_registry(environment: Environment, observation: Observation) -> Registry:
    """The registry as it is: where the configuration has changed since, it is still where it was made to listen."""
    registry = environment.registry
    return replace(
        registry,
        port=observation.registry_port or registry.port,
        address=observation.registry_address or registry.address,
    )


def split(containers: Iterable[Container], environment: Environment) -> tuple[tuple[Container, ...], Container | None]:
    """Sorts k3d's containers into those of the environment's cluster and its registry."""
    containers = list(containers)
    registry = next((c for c in containers if c.name == environment.registry.name), None)
    nodes = tuple(c for c in containers if c.cluster == environment.cluster and c is not registry)
    return nodes, registry


@contextmanager
def asked_api(kubeconfig: Path, context: str) -> Iterator[Callable[[], ApiFacts]]:
    """Asks for nodes and DNS records, in one call that runs beside us.

    With the context, because the file's current one may be another: `kubectl config use-context` writes into the file
    that `$KUBECONFIG` names.

    What it yields waits for the answer and never raises: an error is part of the answer. Where nobody waits, the
    question is taken back.
    """
    command = [
        *("kubectl", f"--kubeconfig={kubeconfig}", f"--context={context}", f"--request-timeout={API_TIMEOUT}s"),
        *("get", "nodes,configmaps", "--namespace=kube-system", "--output=json"),
    ]
    with ExitStack() as stack:
        try:
            kubectl = stack.enter_context(running(command))
        except UserError as error:
            no_answer = _no_answer(error)
            yield lambda: no_answer
        else:
            yield lambda: _read_answer(kubectl)


def _read_answer(kubectl: RunningTool) -> ApiFacts:
    try:
        return _facts(json.loads(kubectl.output(timeout=API_TIMEOUT + 1))["items"])
    except UserError as error:
        return _no_answer(error)
    except (ValueError, LookupError, TypeError, AttributeError):
        return ApiFacts(error="what answers is no Kubernetes API")


def _no_answer(error: UserError) -> ApiFacts:
    if isinstance(error, CommandFailedError) and error.status == TIMED_OUT:
        return ApiFacts(error=f"no answer within {API_TIMEOUT + 1} s")
    why = (error.why or error.what).strip()
    return ApiFacts(error=why.splitlines()[-1].rstrip(".") if why else "no answer")


def _facts(items: list[dict[str, Any]]) -> ApiFacts:
    nodes = [item for item in items if item["kind"] == "Node"]
    coredns = next((i for i in items if i["kind"] == "ConfigMap" and i["metadata"]["name"] == "coredns"), None)
    records = ((coredns or {}).get("data") or {}).get("NodeHosts", "")
    return ApiFacts(
        ready={node["metadata"]["name"]: _is_ready(node) for node in nodes},
        versions=tuple(sorted({_kubelet(node) for node in nodes} - {""})),
        dns_records=records_in(records),
    )


def records_in(hosts: str) -> dict[str, str]:
    """The addresses of names in the form of a hosts file, which the cluster's DNS has its records in."""
    return {name: line.split()[0] for line in hosts.splitlines() for name in line.split()[1:]}


def _kubelet(node: dict[str, Any]) -> str:
    # A node that has not joined completely has none.
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", ""))


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _registry_place(
    environment: Environment, nodes: Iterable[Container], registry: Container | None
) -> tuple[int, str]:
    """The port and the address of this machine that the registry has."""
    # One that is shared may have been made anew by another environment, whatever this cluster's configuration is.
    drifted = any(node.config_hash not in ("", environment.config_hash) for node in nodes)
    ports = registry.published if registry and (drifted or registry.shared) else ()
    places = [(port.number, port.address) for port in ports]
    configured = (environment.registry.port, environment.registry.address)
    return configured if configured in places or not places else places[0]


def _has_no_kubeconfig() -> ApiFacts:
    return ApiFacts(error="there is no kubeconfig for it yet")


def _knows_host(node: str) -> bool:
    content = read_file(node, "/etc/hosts")
    return content is not None and HOST_RECORD.encode() in content


def _failing(pool: ThreadPoolExecutor, nodes: list[Container], check: Callable[[str], bool]) -> list[str]:
    results = {node.name: pool.submit(check, node.name) for node in nodes}
    return [name for name, result in results.items() if not result.result()]
