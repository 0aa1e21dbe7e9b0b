"""Makes missing parts of a cluster that holds somebody's work anew, and touches no other part."""

from __future__ import annotations

import json
import time

from envkit.corporate_network import CA_PATH_IN_NODES
from envkit.engine import CHANGE_TIMEOUT, Container, docker, read_file, remove_containers, write_file
from envkit.errors import CommandFailedError, UserError
from envkit.load_balancer import run_load_balancer_container, update_targets
from envkit.observation import HOST_RECORD, Observation, records_in
from envkit.paths import just_command
from envkit.progress import Step
from envkit.registry import run_registry_container, wait_until_it_answers
from envkit.session import Session
from envkit.shared_registry import ensure_shared_registry, registry_lock
from envkit.state import Assessment

_HOSTS = "/etc/hosts"
_REGISTRY_SECONDS = 30
_MOST_AGENTS = 1000
_API_SECONDS = 60
_KUBECTL_SECONDS = 20
_JOIN_SECONDS = 300
"""Seconds that an agent gets to join; without a limit k3d waits for ever for one that cannot."""

_POLL = 0.2


def add_missing_parts(session: Session, observation: Observation, assessment: Assessment) -> list[str]:
    """Makes what is missing; returns what was done.

    Raises UserError where a server is missing: what ran in it is lost, and only a person may decide to go on.
    """
    missing = dict(assessment.missing or {})
    server = observation.server
    if "server" in missing or server is None:
        raise UserError(
            f"The cluster {session.environment.cluster} has lost a server node.",
            "A server cannot be made anew, because it holds the state of the cluster; images in the registry stay.",
            f"{just_command()} delete && {just_command()} create",
        )
    actions = []
    if stopped := [node.name for node in observation.role("server") if not node.running]:
        with session.steps.step("Starting the server"):  # new nodes join a running server only
            docker("start", *stopped, timeout=CHANGE_TIMEOUT)
    if "registry" in missing:
        actions.append(_add_registry(session, observation))
    balancer_is_missing = "loadbalancer" in missing
    if number := missing.get("agent", 0):
        agents = "an agent" if number == 1 else f"{number} agents"
        with session.steps.step(f"Adding {agents}") as step:
            # Made by a k3d that was killed before it could give them their files.
            unfinished = [node.name for node in observation.role("agent") if node.state == "created"]
            remove_containers(unfinished)
            if len(unfinished) == len(observation.role("agent")):
                # k3d would have the first agent join through the load balancer, which it starts after the agents:
                # such a cluster never starts again. Without a load balancer it takes the server.
                remove_containers([session.environment.load_balancer])
                balancer_is_missing = True
            _forget_lost_nodes(session, server)
            for _ in range(number):
                _add_agent(session, server, step)
            if not balancer_is_missing:
                update_targets(session.environment, session.containers()[0])
        actions.append(f"added {agents}")
    if balancer_is_missing:
        with session.steps.step("Making the load balancer anew"):
            remove_containers([session.environment.load_balancer])
            run_load_balancer_container(session.environment, server, session.containers()[0])
        actions.append("made the load balancer anew")
    if not stopped:  # k3d will start the others, and write the records then
        correct_dns_records(session, server)
    return actions


def _add_registry(session: Session, observation: Observation) -> str:
    if session.environment.registry.shared:
        with registry_lock(session, "create"), session.steps.step("Joining the shared registry"):
            ensure_shared_registry(session)
        return "joined the shared registry"
    with session.steps.step("Making the registry anew"):
        _make_registry(session, observation.registry)
    return "made the registry anew"


def _make_registry(session: Session, present: Container | None) -> None:
    remove_containers([present.name] if present else [])
    run_registry_container(session.environment)
    wait_until_it_answers(session.environment.registry, _REGISTRY_SECONDS)


def replace_new_registry(session: Session) -> None:
    """Makes the registry that k3d has just made once more, with what k3d has no settings for: proxy and authorities."""
    nodes, registry = session.containers()
    _make_registry(session, registry)
    if server := next((node for node in nodes if node.role == "server"), None):
        correct_dns_records(session, server)


def _forget_lost_nodes(session: Session, server: Container) -> None:
    """Takes nodes without a container out of Kubernetes, which would refuse a new node of such a name."""
    names = _kubectl_inside(server, "get", "nodes", "--output=jsonpath={.items[*].metadata.name}").split()
    if lost := sorted(set(names) - {node.name for node in session.containers()[0]}):
        _kubectl_inside(server, "delete", "node", *lost, "--ignore-not-found")


def correct_dns_records(session: Session, server: Container) -> None:
    """Tells the cluster's DNS the addresses of the containers and of this machine.

    k3d writes them whenever it starts a cluster (`ClusterStart` in `pkg/client/cluster.go`); to start a cluster anew
    for them would interrupt what runs in it.
    """
    nodes, registry = session.containers()
    parts = [part for part in (*nodes, registry) if part]
    present = {part.name: part.addresses.get(session.environment.network, "") for part in parts}
    coredns = ("configmap", "coredns", "--namespace=kube-system")
    before = _kubectl_inside(server, "get", *coredns, "--output=jsonpath={.data.NodeHosts}")
    records = {
        name: address
        for name, address in records_in(before).items()
        if not _was_agent(session, name) or name in present
    }
    records |= {name: address for name, address in present.items() if address}
    for line in _host_lines(server.name):
        records[HOST_RECORD] = line.split()[0]
    text = "".join(f"{address} {name}\n" for name, address in records.items())
    patch = json.dumps({"data": {"NodeHosts": text}})
    _kubectl_inside(server, "patch", *coredns, "--type=merge", f"--patch={patch}")


def _was_agent(session: Session, name: str) -> bool:
    return name.startswith(f"{session.environment.context}-agent-")


def _kubectl_inside(server: Container, *arguments: str) -> str:
    """Runs kubectl in the server's container, because the way through the load balancer may be missing too.

    A server that has just been started gets its time.
    """
    deadline = time.monotonic() + _API_SECONDS
    while True:
        try:
            return docker("exec", server.name, "kubectl", *arguments, timeout=_KUBECTL_SECONDS)
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)


def _add_agent(session: Session, server: Container, step: Step) -> None:
    present = {node.name for node in session.containers()[0]}
    # k3d appends -0 to the name that it is given, so only the first agent can get its old name back.
    prefix = f"{session.environment.cluster}-agent"
    names = (prefix if i == 0 else f"{prefix}-{i}" for i in range(_MOST_AGENTS))
    name = next(name for name in names if not {f"k3d-{name}", f"k3d-{name}-0"} & present)
    cluster, limit = session.environment.cluster, f"{_JOIN_SECONDS}s"
    try:
        session.k3d(step, "node", "create", name, "--cluster", cluster, "--role", "agent", "--wait", "--timeout", limit)
    except CommandFailedError as error:
        if "deadline exceeded" not in error.output.lower():
            raise
        raise UserError(
            f"The new agent k3d-{name}-0 did not join the cluster {cluster} within {_JOIN_SECONDS} s.",
            error.output,
            f"docker logs --tail 50 k3d-{name}-0   (the cause; then: {just_command()} create)",
        ) from error
    if authorities := read_file(server.name, CA_PATH_IN_NODES):
        # k3d gives a new node the variables of the others, and not their files.
        node = next(node.name for node in session.containers()[0] if node.name not in present)
        _give_authorities(node, authorities)


def _give_authorities(node: str, authorities: bytes) -> None:
    """Has a node that runs trust these certificates; it reads them when it starts."""
    write_file(node, CA_PATH_IN_NODES, authorities, below="/")
    lines = _host_lines(node)
    docker("restart", node, timeout=CHANGE_TIMEOUT)
    # Docker writes the file anew, without what k3d has added, and k3d would have to restart the whole cluster for that.
    lost = "".join(f"{line}\n" for line in lines)
    docker("exec", "--interactive", node, "sh", "-c", f"cat >>{_HOSTS}", stdin=lost)


def _host_lines(node: str) -> list[str]:
    """The lines of a node's hosts file by which it knows this machine; k3d writes one."""
    hosts = (read_file(node, _HOSTS) or b"").decode(errors="replace").splitlines()
    return [line for line in hosts if HOST_RECORD in line.split()[1:]]
