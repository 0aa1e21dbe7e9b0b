"""The cluster's load balancer: its container, and the list of nodes behind each port.

k3d makes a load balancer only together with a cluster and never tells it about agents that come later. The file is
that of k3d 5.9 (`pkg/client/loadbalancer.go`, `pkg/types/loadbalancer.go`); its container watches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envkit.engine import (
    CHANGE_TIMEOUT,
    CLUSTER_LABEL,
    PULL_TIMEOUT,
    ROLE_LABEL,
    Container,
    docker,
    inspect,
    read_file,
    write_file,
)
from envkit.environment import Environment, parse_port_mapping
from envkit.go_yaml import read_yaml, yaml_text
from envkit.mirrors import helper_images

_CONFIG = "/etc/confd/values.yaml"
_SETTINGS = {"workerConnections": 1024}
_CHANGEABLE = {f"settings.{name}".lower(): name for name in ("workerConnections", "defaultProxyTimeout")}
_EVERY_NODE = ("servers:*", "agents:*")
_NODE_FILTER = re.compile(r"(server|agent)s?:(?:(\*)|([0-9]*)-([0-9]*)|([0-9,]+))(?::[A-Za-z]+)?")


def update_targets(environment: Environment, nodes: Sequence[Container]) -> bool:
    """Tells the load balancer which nodes there are; returns whether that was news to it.

    A name that no longer resolves would keep the proxy from starting at all.
    """
    text = _targets(environment, nodes)
    present = read_file(environment.load_balancer, _CONFIG)
    if present is not None and read_yaml(present) == read_yaml(text):
        return False
    write_file(environment.load_balancer, _CONFIG, text.encode(), 0o744)
    return True


def run_load_balancer_container(environment: Environment, server: Container, nodes: Sequence[Container]) -> None:
    """Makes and starts the load balancer's container anew, with the labels that the server carries of the cluster."""
    description = inspect("container", server.name)[0]
    labels = {k: v for k, v in description["Config"]["Labels"].items() if k.startswith("k3d.")}
    labels |= {"app": "k3d", CLUSTER_LABEL: environment.cluster, ROLE_LABEL: "loadbalancer"}
    version = labels.get("k3d.version", "").lstrip("v")
    api = next(use for use in environment.ports if use.variable == "API_PORT")
    mappings = [(text, parse_port_mapping(text)) for text, _ in _balanced_ports(environment, nodes)]
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
        timeout=PULL_TIMEOUT,
    )
    write_file(environment.load_balancer, _CONFIG, _targets(environment, nodes).encode(), 0o744)
    docker("start", environment.load_balancer, timeout=CHANGE_TIMEOUT)


def image_of_load_balancer(k3d_version: str) -> str:
    """The image that k3d would take; the same two variables change it as for k3d itself."""
    return helper_images(k3d_version)["K3D_IMAGE_LOADBALANCER"]


def _balanced_ports(environment: Environment, nodes: Sequence[Container]) -> Iterator[tuple[str, list[str]]]:
    """The port mappings that lead through the load balancer, each with the nodes behind it.

    k3d binds only what ends in `:direct` to a node (`TransformPorts` in `pkg/client/ports.go`). It leaves out a port
    without any node, and so must we: with one the proxy would not start.
    """
    for entry in environment.effective.get("ports") or []:
        filters = entry.get("nodeFilters") or _EVERY_NODE
        if any(text.startswith("loadbalancer") for text in filters):
            filters = _EVERY_NODE
        through = [text for text in filters if not text.endswith(":direct")]
        if names := list(dict.fromkeys(name for text in through for name in _filtered(text, nodes))):
            yield entry["port"], names


def _filtered(node_filter: str, nodes: Sequence[Container]) -> list[str]:
    """The names of the nodes that a filter such as `agent:0,2` or `servers:*` chooses, as `pkg/util/filter.go` does."""
    match = _NODE_FILTER.fullmatch(node_filter)
    if not match:
        return []
    role, star, first, last, listed = match.groups()
    names = _names(nodes, role)
    if listed:
        return [names[int(index)] for index in listed.split(",") if index and int(index) < len(names)]
    return names if star else names[int(first or 0) : int(last) + 1 if last else None]


def _names(nodes: Sequence[Container], role: str) -> list[str]:
    """The nodes of a role in the order in which k3d counts them, so agent 10 comes after agent 9."""
    names = [node.name for node in nodes if node.role == role]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def _targets(environment: Environment, nodes: Sequence[Container]) -> str:
    ports = {"6443.tcp": _names(nodes, "server")}
    for text, names in _balanced_ports(environment, nodes):
        port = f"{parse_port_mapping(text)[2]}.{text.partition('/')[2] or 'tcp'}"
        ports[port] = list(dict.fromkeys([*ports.get(port, []), *names]))
    return yaml_text({"ports": ports, "settings": _settings(environment)}, sort_keys=True)


def _settings(environment: Environment) -> dict[str, int]:
    """The proxy's settings, changed by `configOverrides` such as `settings.workerConnections=2048` of `k3d.yaml`.

    k3d takes the keys in any case, and a zero for no value.
    """
    options = (environment.effective.get("options") or {}).get("k3d") or {}
    settings = dict(_SETTINGS)
    for override in (options.get("loadbalancer") or {}).get("configOverrides") or []:
        key, _, value = override.partition("=")
        if (name := _CHANGEABLE.get(key.lower())) and re.fullmatch("[0-9]+", value) and int(value):
            settings[name] = int(value)
    return settings
