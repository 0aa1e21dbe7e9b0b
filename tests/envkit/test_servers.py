"""Clusters with three servers, as far as that can be told without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from samples import AGENTS, K3D_YAML, LOAD_BALANCER, SERVER, changed, healthy, sample_container, sample_environment

from envkit import load_balancer, preflight
from envkit.environment import Environment
from envkit.observation import Observation
from envkit.state import State, assess

SERVERS = (SERVER, "k3d-shop-server-1", "k3d-shop-server-2")


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    return sample_environment(tmp_path / "shop", k3d_yaml=K3D_YAML.replace("servers: 1", "servers: 3"))


@pytest.fixture
def whole(shop: Environment) -> Observation:
    seen = healthy(shop)
    assert seen.api
    more = tuple(sample_container(name, "server", f"10.0.0.1{i}") for i, name in enumerate(SERVERS[1:]))
    api = replace(seen.api, ready=dict.fromkeys((*SERVERS, *AGENTS), True))
    return replace(seen, nodes=(*more, *seen.nodes), api=api)


def test_all_servers_belong_to_a_healthy_cluster(shop: Environment, whole: Observation) -> None:
    assert assess(whole, shop, None).state is State.RUNNING
    assert whole.server
    assert whole.server.name == SERVER  # k3d's first, which carries the labels and the mark of the creation


def test_a_server_that_is_stopped_or_removed_is_seen(shop: Environment, whole: Observation) -> None:
    stopped = assess(changed(whole, SERVERS[1], state="exited"), shop, None)
    removed = assess(replace(whole, nodes=whole.nodes[1:]), shop, None)

    assert (stopped.state, stopped.reasons) == (State.STOPPED, (f"Not running: {SERVERS[1]}.",))
    assert (removed.state, removed.missing) == (State.PARTIAL, {"server": 1})


def test_the_load_balancer_leads_to_all_servers(
    shop: Environment, whole: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(load_balancer, "read_file", lambda *_: None)
    monkeypatch.setattr(load_balancer, "write_file", lambda _, __, content, ___: written.append(content))

    assert load_balancer.update_targets(shop, whole.nodes)

    ports = yaml.safe_load(written[0])["ports"]
    assert ports["6443.tcp"] == list(SERVERS)
    assert ports["80.tcp"] == [*SERVERS, *sorted(AGENTS)]
    assert LOAD_BALANCER not in ports["80.tcp"]


def test_doctor_says_how_many_there_are(shop: Environment) -> None:
    assert preflight.check_config(shop).detail.startswith("3 servers, 2 agents, ")
    assert preflight.check_config(replace(shop, servers=1, agents=1)).detail.startswith("1 server, 1 agent, ")
