from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fake_tools import Machine
from samples import AGENTS, K3D_YAML, LOAD_BALANCER, SERVER, healthy, sample_container, sample_environment

from envkit import load_balancer
from envkit.environment import Environment

EVERY = [SERVER, *AGENTS]


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    text = K3D_YAML.replace(
        "registries:\n",
        "  - {port: '127.0.0.1:5353:53/udp', nodeFilters: [loadbalancer]}\n"
        "  - {port: '[::1]:9000:9000', nodeFilters: ['loadbalancer:*']}\n"
        "  - {port: '127.0.0.1:9100:9100', nodeFilters: ['server:0:direct']}\n"  # a node's own, not the balancer's
        "  - {port: '127.0.0.1:9200:30080', nodeFilters: ['agent:0']}\n"
        "registries:\n",
    )
    return sample_environment(tmp_path / "shop", k3d_yaml=text)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    contents: list[bytes] = []

    def write(container: str, path: str, content: bytes, mode: int) -> None:
        assert (container, path, mode) == (LOAD_BALANCER, "/etc/confd/values.yaml", 0o744)
        contents.append(content)

    monkeypatch.setattr(load_balancer, "write_file", write)
    monkeypatch.setattr(load_balancer, "read_file", lambda *_: contents[-1] if contents else None)
    return contents


def test_every_port_has_its_nodes_and_the_api_only_servers(shop: Environment, written: list[bytes]) -> None:
    assert load_balancer.update_targets(shop, healthy(shop).nodes)

    assert yaml.safe_load(written[0]) == {
        "ports": {
            "6443.tcp": [SERVER],
            "80.tcp": EVERY,
            "443.tcp": EVERY,
            "53.udp": EVERY,
            "9000.tcp": EVERY,
            "30080.tcp": [AGENTS[0]],
        },
        "settings": {"workerConnections": 1024},
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("[settings.workerConnections=2048]", {"workerConnections": 2048}),
        (
            "[settings.WORKERCONNECTIONS=1, settings.defaultProxyTimeout=900]",
            {"workerConnections": 1, "defaultProxyTimeout": 900},
        ),
        ("[settings.workerConnections=0, settings.other=3, settings.workerConnections]", {"workerConnections": 1024}),
        ("null", {"workerConnections": 1024}),
    ],
)
def test_settings_that_the_team_has_changed_stay(
    overrides: str, expected: dict[str, int], tmp_path: Path, written: list[bytes]
) -> None:
    text = f"options:\n  k3d:\n    loadbalancer:\n      configOverrides: {overrides}\n"
    document = yaml.safe_load(K3D_YAML)
    document["options"]["k3d"] |= yaml.safe_load(text)["options"]["k3d"]
    shop = sample_environment(tmp_path / "shop", k3d_yaml=yaml.safe_dump(document))
    load_balancer.update_targets(shop, healthy(shop).nodes)
    assert yaml.safe_load(written[0])["settings"] == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("nodeFilters: ['agent:0']", [AGENTS[0]]),
        ("nodeFilters: ['agent:1:proxy']", [AGENTS[1]]),
        ("nodeFilters: ['agents:*']", list(AGENTS)),
        ("nodeFilters: ['server:0', 'agent:1']", [SERVER, AGENTS[1]]),
        ("nodeFilters: ['agent:0,1,7', 'agents:*']", list(AGENTS)),
        ("nodeFilters: ['agent:1-', 'server:0-0']", [AGENTS[1], SERVER]),
        ("nodeFilters: ['agent:-0']", [AGENTS[0]]),
        ("nodeFilters: ['agent:0', 'server:0:direct']", [AGENTS[0]]),
        ("nodeFilters: ['server:0:direct', 'loadbalancer']", EVERY),
        ("nodeFilters: []", EVERY),
        ("enforcePortMatch: false", EVERY),
        ("nodeFilters: ['server:0:direct']", None),
        ("nodeFilters: ['agent:2']", None),
        ("nodeFilters: ['agent:7']", None),
        ("nodeFilters: ['all']", None),  # k3d refuses it for ports: the balancer would lead to itself
    ],
)
def test_a_port_leads_to_the_nodes_that_k3d_would_take_for_its_filters(
    tmp_path: Path, written: list[bytes], filters: str, expected: list[str] | None
) -> None:
    text = K3D_YAML.replace("registries:\n", f"  - {{port: '127.0.0.1:8082:30080', {filters}}}\nregistries:\n")
    shop = sample_environment(tmp_path / "shop", k3d_yaml=text)

    load_balancer.update_targets(shop, healthy(shop).nodes)

    ports = yaml.safe_load(written[0])["ports"]
    assert ports.pop("30080.tcp", None) == expected
    assert ports == {"6443.tcp": [SERVER], "80.tcp": EVERY, "443.tcp": EVERY}


def test_a_port_of_the_cluster_that_two_ports_of_the_machine_lead_to_has_the_nodes_of_both(
    tmp_path: Path, written: list[bytes]
) -> None:
    entries = "".join(
        f"  - {{port: '127.0.0.1:{port}:30080', nodeFilters: [{filters}]}}\n"
        for port, filters in ((8082, "'agent:1'"), (8083, "'server:0', 'agent:1'"))
    )
    shop = sample_environment(tmp_path / "shop", k3d_yaml=K3D_YAML.replace("registries:\n", f"{entries}registries:\n"))

    load_balancer.update_targets(shop, healthy(shop).nodes)

    assert yaml.safe_load(written[0])["ports"]["30080.tcp"] == [AGENTS[1], SERVER]


def test_agents_are_counted_by_their_number_and_not_by_the_alphabet(tmp_path: Path, written: list[bytes]) -> None:
    text = K3D_YAML.replace(
        "registries:\n", "  - {port: '127.0.0.1:8082:30080', nodeFilters: ['agent:2']}\nregistries:\n"
    )
    shop = sample_environment(tmp_path / "shop", k3d_yaml=text)
    agents = [sample_container(f"k3d-shop-agent-{number}", "agent") for number in range(12)]

    load_balancer.update_targets(shop, [*healthy(shop).nodes[:1], *agents])

    assert yaml.safe_load(written[0])["ports"]["30080.tcp"] == ["k3d-shop-agent-2"]


def test_targets_that_are_known_are_not_written_again(shop: Environment, written: list[bytes]) -> None:
    nodes = healthy(shop).nodes
    load_balancer.update_targets(shop, nodes)

    assert not load_balancer.update_targets(shop, nodes[::-1])
    assert load_balancer.update_targets(shop, nodes[:2])
    assert len(written) == 2
    assert yaml.safe_load(written[1])["ports"]["80.tcp"] == EVERY[:2]


def test_the_container_is_made_with_ports_and_labels_of_the_cluster(
    machine: Machine, shop: Environment, written: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("K3D_HELPER_IMAGE_TAG", raising=False)
    monkeypatch.delenv("K3D_IMAGE_LOADBALANCER", raising=False)
    labels = {
        "k3d.version": "v5.9.0",
        "k3d.cluster": "shop",
        "k3d.role": "server",
        "k3d.server.api.port": "6443",
        "org.label": "x",
    }
    machine.add("docker", f"[ $1 = container ] && echo '{json.dumps([{'Config': {'Labels': labels}}])}'; exit 0")
    observation = healthy(shop)
    server = observation.server
    assert server

    load_balancer.run_load_balancer_container(shop, server, observation.nodes)

    _, create, start = machine.calls
    words = create.split()
    assert words[-1] == "ghcr.io/k3d-io/k3d-proxy:5.9.0"
    assert "--restart=unless-stopped" in words  # as k3d has it: with Docker it comes back
    assert [word.partition("=")[2] for word in words if word.startswith("--publish")] == [
        "127.0.0.1:6550:6443",
        "127.0.0.1:8080:80",
        "127.0.0.1:8443:443",
        "127.0.0.1:5353:53/udp",
        "[::1]:9000:9000",
        "127.0.0.1:9200:30080",
    ]
    assert sorted(word.partition("=")[2] for word in words if word.startswith("--label")) == [
        "app=k3d",
        "k3d.cluster=shop",
        "k3d.role=loadbalancer",
        "k3d.version=v5.9.0",
    ]
    assert len(written) == 1
    assert start == f"docker start {LOAD_BALANCER}"


def test_the_image_is_the_one_that_k3d_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K3D_IMAGE_LOADBALANCER", raising=False)
    monkeypatch.setenv("K3D_HELPER_IMAGE_TAG", "5.8.0")
    assert load_balancer.image_of_load_balancer("5.9.0") == "ghcr.io/k3d-io/k3d-proxy:5.8.0"

    monkeypatch.setenv("K3D_IMAGE_LOADBALANCER", "mirror/proxy:1")
    assert load_balancer.image_of_load_balancer("5.9.0") == "mirror/proxy:1"
