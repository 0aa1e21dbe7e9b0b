"""The state of the environment, for people and for machines. Bounded in time also where Docker or the API is dead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from envkit.corporate_network import as_json, as_lines
from envkit.creation_marker import read_marker
from envkit.engine import Container
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.kubeconfig import devcontainer_kubeconfig, has_current_entries, kubeconfig_paths
from envkit.merge_target import is_own, why_left_alone
from envkit.observation import Observation, observe, present_registry
from envkit.paths import just_command
from envkit.registry import use_of
from envkit.report import new_table, plain, print_report
from envkit.state import State, assess, drift_between, is_drifted
from envkit.wording import counted

_DOCKER_SECONDS = 4.0
"""A person who asks for the status waits no longer for an engine that does not answer."""

UNKNOWN = "unknown"
"""Stands for the state where Docker does not answer."""


@dataclass(frozen=True)
class NodeStatus:
    """A container of the cluster.

    Attributes:
        name: Its name.
        role: k3d's word for its role.
        container: Docker's word for its state.
        ready: Whether Kubernetes says Ready; None for what is no node, or where the API does not answer.
    """

    name: str
    role: str
    container: str
    ready: bool | None


@dataclass(frozen=True)
class KubeconfigStatus:
    """A kubeconfig file.

    Attributes:
        path: Where it lies.
        present: Whether it is there, or for the developer's own file, whether it has this cluster's entries.
        current: Whether it agrees with the cluster; None where that cannot be told because the API does not answer.
        left_alone: Why the developer's own file gets no entries; empty where it does.
    """

    path: str
    present: bool
    current: bool | None
    left_alone: str = ""


@dataclass(frozen=True)
class Status:
    """All that `status` shows.

    Attributes:
        cluster: Name of the cluster.
        context: Name of its kubeconfig context.
        state: `absent`, `partial`, `stopped`, `broken`, `running`, or `unknown` where Docker does not answer.
        reasons: What is not as it should be.
        kubernetes: The kubelets' version; empty where the API does not answer.
        image: The node image of the configuration.
        nodes: The cluster's containers.
        ports: Purpose and address of each port on this machine.
        registry: Name in manifests, state, number of repositories, bytes.
        kubeconfigs: The three files.
        corporate_network: Authorities and proxies of the configuration, without passwords; None for none.
        ingress: Address of the cluster's HTTP entry on this machine; empty where it has none.
        drift: What has changed in the configuration since the cluster was made.
        next_step: The command to run next; empty where all is well.
    """

    cluster: str
    context: str
    state: str
    reasons: tuple[str, ...]
    kubernetes: str
    image: str
    nodes: tuple[NodeStatus, ...]
    ports: dict[str, str]
    registry: dict[str, Any]
    kubeconfigs: tuple[KubeconfigStatus, ...]
    corporate_network: dict[str, Any] | None
    ingress: str
    drift: tuple[str, ...]
    next_step: str


def gather(environment: Environment) -> Status:
    """Looks at everything; where Docker does not answer, says that and what else is known."""
    try:
        observation = observe(environment, _DOCKER_SECONDS)
    except UserError as error:
        reasons = tuple(part for part in (error.what, *error.why.splitlines()) if part)
        return _status(environment, Observation((), None), state=UNKNOWN, reasons=reasons, next_step=error.next_step)
    server = observation.server
    drifted = is_drifted(observation, environment)
    created_from = read_marker(server.name) if server and drifted else None
    assessment = assess(observation, environment, created_from)
    return _status(
        environment,
        observation,
        state=assessment.state,
        reasons=assessment.reasons,
        drift=drift_between(created_from, environment.described) if drifted else [],
    )


def print_json(status: Status) -> None:
    """Prints one JSON object."""
    print(json.dumps(asdict(status), indent=2))


def print_table(status: Status) -> None:
    """Prints the status for a person."""
    colour = {"running": "green", "absent": "dim", "stopped": "yellow"}.get(status.state, "red")
    table = new_table(columns=2)
    table.add_row("Cluster", f"{status.cluster}  [{colour}]{status.state}[/]")
    for reason in status.reasons:
        table.add_row("", f"[yellow]{plain(reason)}[/]")
    table.add_row("Context", status.context)
    table.add_row("Kubernetes", status.kubernetes or f"(not asked; image {status.image})")
    for index, node in enumerate(status.nodes):
        ready = {True: "Ready", False: "[red]NotReady[/]", None: ""}[node.ready]
        table.add_row("Nodes" if not index else "", f"{node.name}  {node.role}  {node.container}  {ready}".rstrip())
    for index, (purpose, address) in enumerate(status.ports.items()):
        table.add_row("Ports" if not index else "", f"{address}  {purpose}")
    if status.ingress:
        table.add_row("Ingress", status.ingress)
    table.add_row("Registry", _registry_line(status.registry))
    for index, file in enumerate(status.kubeconfigs):
        current = {True: "current", False: f"not current ({just_command()} kubeconfig)", None: "not checked"}
        absent = f"left alone, because {file.left_alone}" if file.left_alone else "missing"
        word = current[file.current] if file.present else absent
        table.add_row("Kubeconfigs" if not index else "", f"{file.path}  {word}")
    for index, line in enumerate(as_lines(status.corporate_network)):
        table.add_row("Network" if not index else "", plain(line))
    for index, line in enumerate(status.drift):
        table.add_row("Drift" if not index else "", f"[yellow]{plain(line)}[/]")
    if status.next_step:
        table.add_row("Next", f"[bold]{plain(status.next_step)}[/]")
    print_report(table)


def _registry_line(registry: dict[str, Any]) -> str:
    if not registry["answers"]:
        return f"{registry['host']}  [yellow]does not answer[/] ({registry['container']})"
    repositories = counted(registry["repositories"], "repository", "repositories")
    size = "" if registry["bytes"] is None else f", {registry['bytes'] / 2**20:.1f} MiB"
    return f"{registry['host']}  answers, {repositories}{size}"


def _status(
    environment: Environment,
    observation: Observation,
    *,
    state: str,
    reasons: tuple[str, ...],
    drift: Sequence[str] = (),
    next_step: str = "",
) -> Status:
    api = observation.api
    ready = api.ready if api else None
    http = environment.port("HTTP_PORT")
    registry = present_registry(environment, observation)
    use = use_of(registry) if observation.registry_answers else None
    return Status(
        cluster=environment.cluster,
        context=environment.context,
        state=str(state),
        reasons=reasons,
        kubernetes=", ".join(api.versions) if api else "",
        image=environment.image,
        nodes=tuple(_node(node, ready) for node in sorted(observation.nodes, key=_order)),
        ports=_ports(environment),
        registry={
            "host": registry.host_names[0],
            "container": observation.registry.state if observation.registry else "absent",
            "answers": observation.registry_answers,
            "repositories": use.repositories if use else None,
            "bytes": use.bytes if use else None,
        },
        kubeconfigs=_kubeconfigs(environment, api_answers=ready is not None),
        corporate_network=as_json(environment.corporate),
        ingress=f"http://localhost:{http}" if http else "",
        drift=tuple(drift),
        next_step=next_step or _next_step(state, drift),
    )


def _ports(environment: Environment) -> dict[str, str]:
    ports: dict[str, str] = {}
    for use in environment.ports:
        purpose = use.purpose if use.purpose not in ports else f"{use.purpose} ({use.number})"
        ports[purpose] = f"{use.address}:{use.number}"
    return ports


def _node(node: Container, ready: dict[str, bool] | None) -> NodeStatus:
    is_node = node.role in ("server", "agent")
    return NodeStatus(node.name, node.role, node.state, ready.get(node.name, False) if is_node and ready else None)


def _order(node: Container) -> tuple[int, str]:
    roles = ["server", "agent", "loadbalancer"]
    return (roles.index(node.role) if node.role in roles else len(roles), node.name)


def _kubeconfigs(environment: Environment, *, api_answers: bool) -> tuple[KubeconfigStatus, ...]:
    paths = kubeconfig_paths(environment.context)
    current = True if api_answers else None
    text, container = _text(paths.host), _text(paths.devcontainer)
    try:
        wanted = devcontainer_kubeconfig(text, environment.load_balancer)
    except UserError:
        wanted = ""
    left_alone = "" if is_own(paths) else why_left_alone(paths.merged)
    merged = bool(text) and paths.merged.is_file() and has_current_entries(paths.merged, text)
    return (
        KubeconfigStatus(str(paths.host), bool(text), current),
        KubeconfigStatus(str(paths.devcontainer), bool(container), current and container == wanted),
        KubeconfigStatus(str(paths.merged), merged, current, left_alone),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _next_step(state: str, drift: Sequence[str]) -> str:
    just = just_command()
    if state == State.STOPPED:
        return f"{just} start"
    if state != State.RUNNING:
        return f"{just} create"
    if drift:
        return f"{just} delete && {just} create   (applies the drift; images in the registry stay)"
    return ""
