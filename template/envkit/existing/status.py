"""What `status` shows of a cluster that is there already."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from envkit.arc.kube import kube_of
from envkit.arc.settings import has_runners
from envkit.corporate_network import as_json, as_lines
from envkit.errors import CommandFailedError, UserError
from envkit.existing.cluster import ExistingCluster
from envkit.existing.kubeconfig import write_kubeconfigs
from envkit.paths import just_command
from envkit.report import new_table, plain, print_report


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: Its name.
        kubelet: Its version of Kubernetes.
        architecture: Such as `amd64`.
        ready: Whether it is Ready.
    """

    name: str
    kubelet: str
    architecture: str
    ready: bool


@dataclass(frozen=True)
class Status:
    """All that `status` shows.

    Attributes:
        cluster: What this environment calls the cluster.
        context: Its context.
        server: Address of its API; empty where there is no such context.
        state: `running`, `unreachable` or `unknown`, where there is no such context.
        reason: Why it is not running.
        nodes: Its nodes.
        images: Where images are kept; empty where there is no such place.
        kubeconfigs: The two files.
        corporate_network: Authorities and proxies of the runners, without passwords; None for none.
        next_step: The command to run next; empty where all is well.
    """

    cluster: str
    context: str
    server: str
    state: str
    reason: str
    nodes: tuple[Node, ...]
    images: str
    kubeconfigs: tuple[str, ...]
    corporate_network: dict[str, Any] | None
    next_step: str


def gather(cluster: ExistingCluster) -> Status:
    """Looks at everything; where the cluster does not answer, says why and what else is known."""
    server, state, reason, step = "", "running", "", ""
    nodes: tuple[Node, ...] = ()
    try:
        server = write_kubeconfigs(cluster).server
        nodes = _nodes(cluster)
        step = f"{just_command()} arc-status" if has_runners() else ""
    except CommandFailedError as error:
        state, reason, step = "unreachable", (error.output.splitlines() or [error.what])[-1], cluster.how_to_reach
    except UserError as error:
        state, reason, step = "unknown", f"{error.what} {error.why}", error.next_step
    files = tuple(str(path) for path in (cluster.kubeconfigs.host, cluster.kubeconfigs.devcontainer) if path.exists())
    return Status(
        cluster=cluster.name,
        context=cluster.context,
        server=server,
        state=state,
        reason=reason,
        nodes=nodes,
        images=cluster.images.place,
        kubeconfigs=files,
        corporate_network=as_json(cluster.corporate),
        next_step=step,
    )


def print_json(status: Status) -> None:
    """Prints one JSON object."""
    print(json.dumps(asdict(status), indent=2))


def print_table(status: Status) -> None:
    """Prints the status for a person."""
    colour = "green" if status.state == "running" else "red"
    table = new_table(columns=2)
    table.add_row("Cluster", f"{status.cluster}  [{colour}]{status.state}[/]")
    if status.reason:
        table.add_row("", f"[yellow]{plain(status.reason)}[/]")
    table.add_row("Context", plain(status.context))
    if status.server:
        table.add_row("API server", status.server)
    for index, node in enumerate(status.nodes):
        ready = "Ready" if node.ready else "[red]NotReady[/]"
        table.add_row("Nodes" if not index else "", f"{node.name}  {node.kubelet}  {node.architecture}  {ready}")
    if status.images:
        table.add_row("Images", status.images)
    for index, file in enumerate(status.kubeconfigs):
        table.add_row("Kubeconfigs" if not index else "", file)
    for index, line in enumerate(as_lines(status.corporate_network)):
        table.add_row("Network" if not index else "", plain(line))
    if status.next_step:
        table.add_row("Next", f"[bold]{plain(status.next_step)}[/]")
    print_report(table)


def _nodes(cluster: ExistingCluster) -> tuple[Node, ...]:
    return tuple(
        Node(
            item["metadata"]["name"],
            item["status"]["nodeInfo"]["kubeletVersion"],
            item["status"]["nodeInfo"]["architecture"],
            any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions") or []),
        )
        for item in kube_of(cluster).get("nodes")
    )
