"""Sample environments, containers and observations, as tests of envkit need them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from envkit.config import read_environment
from envkit.engine import Container
from envkit.environment import Environment
from envkit.observation import HOST_RECORD, ApiFacts, Observation

K3D_YAML = """\
apiVersion: k3d.io/v1alpha5
kind: Simple
metadata:
  name: shop
servers: 1
agents: 2
image: rancher/k3s:v1.36.2-k3s1
kubeAPI:
  hostIP: 127.0.0.1
  hostPort: "6550"
ports:
  - port: 127.0.0.1:8080:80
    nodeFilters: [loadbalancer]
  - port: 127.0.0.1:8443:443
    nodeFilters: [loadbalancer]
registries:
  create:
    name: k3d-shop-registry
    host: 127.0.0.1
    hostPort: "5050"
    image: registry:2.8.3
    volumes:
      - k3d-shop-registry:/var/lib/registry
  config: |
    mirrors:
      "k3d-shop-registry.localhost:5050":
        endpoint: [http://k3d-shop-registry:5000]
      "localhost:5050":
        endpoint: [http://k3d-shop-registry:5000]
options:
  k3d:
    wait: true
"""

KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6550
  name: k3d-shop
contexts:
- context:
    cluster: k3d-shop
    user: admin@k3d-shop
  name: k3d-shop
current-context: k3d-shop
kind: Config
preferences: {}
users:
- name: admin@k3d-shop
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
"""
"""What `k3d kubeconfig get shop` prints."""

NETWORK = "k3d-shop"


def write_repo(
    folder: Path, *, k3d_yaml: str = K3D_YAML, dotenv: str = "", lens: str = "none", shared: bool = False
) -> Path:
    """Writes the files of an environment's configuration into a folder, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "k3d.yaml").write_text(k3d_yaml, encoding="utf-8")
    registry = "[registry]\nshared = true\n" if shared else ""
    settings = f'project = "shop"\n{registry}[ide]\nlens = "{lens}"\n'
    (folder / "environment.toml").write_text(settings, encoding="utf-8")
    if dotenv:
        (folder / ".env").write_text(dotenv, encoding="utf-8")
    return folder


def sample_environment(
    folder: Path, *, k3d_yaml: str = K3D_YAML, dotenv: str = "", shared: bool = False
) -> Environment:
    """The environment of those files."""
    return read_environment(write_repo(folder, k3d_yaml=k3d_yaml, dotenv=dotenv, shared=shared))


def sample_container(name: str, role: str, address: str = "10.0.0.9", **changes: Any) -> Container:
    """A running container of the cluster `shop`."""
    container = Container(
        id=f"id-of-{name}",
        name=name,
        state="running",
        started_at="2026-10-01T08:00:00Z",
        image="rancher/k3s:v1.36.2-k3s1",
        addresses={NETWORK: address},
        cluster="shop",
        role=role,
        config_hash="",
        root="",
    )
    return replace(container, **changes)


SERVER, LOAD_BALANCER, REGISTRY = "k3d-shop-server-0", "k3d-shop-serverlb", "k3d-shop-registry"
AGENTS = ("k3d-shop-agent-0", "k3d-shop-agent-1")
ADDRESSES = {
    HOST_RECORD: "10.0.0.1",
    SERVER: "10.0.0.2",
    AGENTS[0]: "10.0.0.3",
    AGENTS[1]: "10.0.0.4",
    LOAD_BALANCER: "10.0.0.5",
    REGISTRY: "10.0.0.6",
}


def healthy(environment: Environment) -> Observation:
    """What is found of a cluster that envkit made from this configuration, and in which everything works."""
    server = sample_container(SERVER, "server", ADDRESSES[SERVER], config_hash=environment.config_hash)
    registry = sample_container(REGISTRY, "registry", ADDRESSES[REGISTRY])
    if environment.registry.shared:
        registry = replace(registry, cluster="", shared=True)
    return Observation(
        nodes=(
            server,
            *(sample_container(name, "agent", ADDRESSES[name]) for name in AGENTS),
            sample_container(LOAD_BALANCER, "loadbalancer", ADDRESSES[LOAD_BALANCER]),
        ),
        registry=registry,
        registry_answers=True,
        api=ApiFacts(ready=dict.fromkeys((SERVER, *AGENTS), True), versions=("v1.36.2",), dns_records=ADDRESSES),
    )


def without(observation: Observation, *names: str) -> Observation:
    """The observation as if these containers did not exist; Kubernetes no longer lists them either."""
    registry = observation.registry
    gone = registry is not None and registry.name in names
    return replace(
        observation,
        nodes=tuple(node for node in observation.nodes if node.name not in names),
        registry=None if gone else registry,
        registry_answers=observation.registry_answers and not gone,
    )


def changed(observation: Observation, *names: str, **changes: Any) -> Observation:
    """The observation with other attributes for these containers."""
    registry = observation.registry
    return replace(
        observation,
        nodes=tuple(replace(node, **changes) if node.name in names else node for node in observation.nodes),
        registry=replace(registry, **changes) if registry and registry.name in names else registry,
    )
