"""The cluster's load balancer: its container, and the list of nodes behind each port.

k3d makes a load balancer only together with a cluster and never tells it about agents that come later. The file is
that of k3d 5.9 (`pkg/client/loadbalancer.go`, `pkg/types/loadbalancer.go`); its container watches it.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from envkit.engine import CLUSTER_LABEL, ROLE_LABEL, Container, docker, inspect, read_file, write_file
from envkit.environment import Environment, parse_port_mapping
from envkit.mirrors import helper_images

_CONFIG = "/etc/confd/values.yaml"
_WORKER_CONNECTIONS = 1024
_COPIED_LABELS = ("app", "k3d.")


def update_targets(environment: Environment, nodes: Sequence[Container]) -> bool:
    """Tells the load balancer which nodes there are; returns whether that was news to it.

    A name that no longer resolves would keep the proxy from starting at all.
    """
    text = _targets(environment, nodes)
    present = read_file(environment.load_balancer, _CONFIG)
    if present is not None and yaml.safe_load(present) == yaml.safe_load(text):
        return False
    write_file(environment.load_balancer, _CONFIG, text.encode(), 0o744)
    return True


def run_load_balancer_container(environment: Environment, server: Container, nodes: Sequence[Container]) -> None:
    """Makes and starts the load balancer's container anew, with the labels that the server carries of the cluster."""
    description = inspect("container", server.name)[0]
    labels = {k: v for k, v in description["Config"]["Labels"].items() if k.startswith(_COPIED_LABELS)}
    labels |= {"app": "k3d", CLUSTER_LABEL: environment.cluster, ROLE_LABEL: "loadbalancer"}
    version = labels.get("k3d.version", "").lstrip("v")
    api = next(use for use in environment.ports if use.variable == "API_PORT")
    mappings = [(text, parse_port_mapping(text)) for text in _balanced_ports(environment)]
    docker(
        "create",
        f"--name={environment.load_balancer}",
        f"--hostname={environment.load_balancer}",
        "--restart=unless-stopped",
        f"--network={environment.network}",
        f"--publish={api.address}:{api.number}:6443",
        *(
            f"--publish={f'[{address}]' if ':' in address else address}:{host}:{container}"
            f"{'/udp' if text.endswith('/udp') else ''}"
            for text, (address, host, container) in mappings
        ),
        *(f"--label={key}={value}" for key, value in labels.items() if not key.startswith("k3d.server.api")),
        image_of_load_balancer(version),
        timeout=300,
    )
    write_file(environment.load_balancer, _CONFIG, _targets(environment, nodes).encode(), 0o744)
    docker("start", environment.load_balancer, timeout=60)


def image_of_load_balancer(k3d_version: str) -> str:
    """The image that k3d would take; the same two variables change it as for k3d itself."""
    return helper_images(k3d_version)["K3D_IMAGE_LOADBALANCER"]


def _balanced_ports(environment: Environment) -> list[str]:
    """The port mappings that lead through the load balancer; k3d binds the others to single nodes."""
    entries = environment.effective.get("ports") or []
    return [entry["port"] for entry in entries if any("loadbalancer" in name for name in entry.get("nodeFilters", []))]


def _targets(environment: Environment, nodes: Sequence[Container]) -> str:
    servers = sorted(node.name for node in nodes if node.role == "server")
    every = servers + sorted(node.name for node in nodes if node.role == "agent")
    ports = {"6443.tcp": servers}
    for text in _balanced_ports(environment):
        protocol = text.partition("/")[2] or "tcp"
        ports[f"{parse_port_mapping(text)[2]}.{protocol}"] = every
    return yaml.safe_dump({"ports": ports, "settings": {"workerConnections": _WORKER_CONNECTIONS}}, sort_keys=True)
