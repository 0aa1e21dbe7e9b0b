from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tools import Machine
from samples import AGENTS, REGISTRY, SERVER, changed, healthy, sample_container, sample_environment

from envkit import observation
from envkit.engine import Container, Published
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.kubeconfig import kubeconfig_paths
from envkit.observation import ApiFacts, asked_api, observe, split


def _node(name: str, ready: str = "True", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}]
    status = {"conditions": conditions, "nodeInfo": {"kubeletVersion": "v1.36.2"}} | status
    return {"kind": "Node", "metadata": {"name": name}, "status": status}


COREDNS = {
    "kind": "ConfigMap",
    "metadata": {"name": "coredns"},
    "data": {"NodeHosts": "10.0.0.1 host.k3d.internal\n\n10.0.0.2 a b\n"},
}


def _ask(machine: Machine, items: object) -> ApiFacts:
    machine.add("kubectl", f"cat <<'END'\n{json.dumps({'items': items})}\nEND")
    return _answer(Path("/home/jo/.kube/k3d-shop.yaml"))


def _answer(kubeconfig: Path) -> ApiFacts:
    with asked_api(kubeconfig, "k3d-shop") as answer:
        return answer()


# -- the Kubernetes API -------------------------------------------------------------------------------------------


def test_nodes_and_records_come_in_one_bounded_call(machine: Machine) -> None:
    facts = _ask(machine, [_node(SERVER), _node(AGENTS[0], "Unknown"), COREDNS])

    assert facts.ready == {SERVER: True, AGENTS[0]: False}
    assert facts.versions == ("v1.36.2",)
    assert facts.dns_records == {"host.k3d.internal": "10.0.0.1", "a": "10.0.0.2", "b": "10.0.0.2"}
    (call,) = machine.calls
    assert "--kubeconfig=/home/jo/.kube/k3d-shop.yaml" in call
    assert "--context=k3d-shop" in call
    assert "--request-timeout=3s" in call


@pytest.mark.parametrize(
    "items",
    [
        [_node(SERVER, nodeInfo=None)],
        [_node(SERVER, conditions=None), {"kind": "ConfigMap", "metadata": {"name": "coredns"}, "data": None}],
        [{"kind": "Node", "metadata": {"name": SERVER}}],
    ],
)
def test_a_node_that_has_not_joined_completely_is_no_error(machine: Machine, items: list[object]) -> None:
    facts = _ask(machine, items)

    assert facts.error == ""
    assert facts.ready is not None
    assert set(facts.ready) == {SERVER}


@pytest.mark.parametrize("items", [None, "text", [None], [{}], [{"kind": "Node"}], {"kind": "Node"}])
def test_an_answer_that_is_none_of_kubernetes_is_an_error_and_never_raised(machine: Machine, items: object) -> None:
    assert _ask(machine, items) == ApiFacts(error="what answers is no Kubernetes API")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("echo 'E1001 memcache.go' >&2; echo 'The connection was refused' >&2; exit 1", "The connection was refused"),
        ("exit 1", "--output=json` failed with exit status 1"),
        ("echo nothing", "what answers is no Kubernetes API"),
        ("exec /bin/sleep 30", "no answer within"),
    ],
)
def test_an_api_that_does_not_answer_says_why_in_one_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, body: str, error: str
) -> None:
    machine.add("kubectl", body)
    if "sleep" in body:
        monkeypatch.setattr(observation, "API_TIMEOUT", -0.9)

    facts = _answer(Path("/x"))

    assert error in facts.error
    assert facts.ready is None


def test_a_machine_without_kubectl_is_an_error_and_never_raised(machine: Machine) -> None:
    assert machine.calls == []

    assert "looked for" in _answer(Path("/x")).error


# -- all of it ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment with a kubeconfig, on a machine where nothing is remembered."""
    shop = sample_environment(machine.folder / "shop")
    whole = healthy(shop)
    monkeypatch.setattr(observation, "k3d_containers", lambda _: [*whole.nodes, whole.registry])
    monkeypatch.setattr(observation, "asked_api", lambda *_: nullcontext(lambda: whole.api))
    monkeypatch.setattr(observation, "answers", lambda _: True)
    monkeypatch.setattr(observation, "read_file", lambda *_: b"10.0.0.1 host.k3d.internal\n")
    path = kubeconfig_paths(shop.context).host
    path.parent.mkdir(parents=True)
    path.touch()
    return shop


def _find(monkeypatch: pytest.MonkeyPatch, containers: list[Container | None]) -> None:
    monkeypatch.setattr(observation, "k3d_containers", lambda _: containers)


def test_a_whole_cluster_is_seen(shop: Environment) -> None:
    assert observe(shop) == healthy(shop)


def test_nodes_without_the_record_of_this_machine_are_named(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "read_file", lambda name, _: None if name == SERVER else b"127.0.0.1 localhost")

    assert set(observe(shop).hosts_lost) == {SERVER, *AGENTS}


def test_what_was_verified_is_not_looked_into(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "were_verified", lambda *_: True)
    monkeypatch.setattr(observation, "read_file", lambda *_: pytest.fail("looked into a node"))

    assert observe(shop).verified


def test_a_stopped_cluster_is_not_asked(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = changed(healthy(shop), SERVER, *AGENTS, REGISTRY, state="exited")
    _find(monkeypatch, [*stopped.nodes, stopped.registry])

    seen = observe(shop)

    assert seen.api is None
    assert not seen.registry_answers
    assert seen.hosts_lost == ()


def test_nobody_waits_for_the_api_of_a_stopped_cluster(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "asked_api", lambda *_: nullcontext(lambda: pytest.fail("waited for it")))
    stopped = changed(healthy(shop), SERVER, state="paused")
    _find(monkeypatch, [*stopped.nodes, stopped.registry])

    assert observe(shop).api is None


def test_a_question_that_nobody_waits_for_is_taken_back(machine: Machine) -> None:
    pids = machine.folder / "pid"
    machine.add("kubectl", f"echo $$ >{pids}; exec /bin/sleep 60")

    with asked_api(Path("/x"), "k3d-shop"):
        while not (pids.exists() and pids.read_text()):
            time.sleep(0.01)

    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_a_running_cluster_without_a_kubeconfig_says_so(shop: Environment) -> None:
    kubeconfig_paths(shop.context).host.unlink()

    assert observe(shop).api == ApiFacts(error="there is no kubeconfig for it yet")


def test_a_dead_engine_is_an_error(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: float) -> list[Container]:
        raise UserError("Docker is not reachable.")

    monkeypatch.setattr(observation, "k3d_containers", fail)

    with pytest.raises(UserError, match="Docker is not reachable"):
        observe(shop)


@pytest.mark.parametrize(
    ("config_hash", "published", "asked", "elsewhere"),
    [
        ("another", ("127.0.0.1", 5050), "127.0.0.1:5050", (0, "127.0.0.1")),
        ("another", ("127.0.0.1", 5060), "127.0.0.1:5060", (5060, "127.0.0.1")),
        ("another", ("192.168.1.5", 5050), "192.168.1.5:5050", (0, "")),
        ("", ("127.0.0.1", 5050), "192.168.1.5:5050", (0, "")),  # what k3d made has no hash to tell it by
    ],
)
def test_a_registry_is_asked_where_it_was_made_to_listen(
    shop: Environment,
    monkeypatch: pytest.MonkeyPatch,
    config_hash: str,
    published: tuple[str, int],
    asked: str,
    elsewhere: tuple[int, str],
) -> None:
    edited = replace(shop, registry=replace(shop.registry, address="192.168.1.5"))
    found = changed(healthy(shop), SERVER, config_hash=config_hash)
    found = changed(found, REGISTRY, published=(Published(*published, 5000),))
    _find(monkeypatch, [*found.nodes, found.registry])
    monkeypatch.setattr(observation, "answers", lambda registry: registry.endpoint == asked)

    seen = observe(edited)

    assert seen.registry_answers
    assert (seen.registry_port, seen.registry_address) == elsewhere
    assert observation.present_registry(edited, seen).endpoint == asked


def test_clusters_of_others_are_not_seen(shop: Environment) -> None:
    own = healthy(shop)
    theirs = [
        sample_container("k3d-other-server-0", "server", cluster="other"),
        sample_container("k3d-shop-registry-2", "registry", cluster="other"),
    ]

    assert split([*theirs, *own.nodes, own.registry], shop) == (own.nodes, own.registry)  # type: ignore[list-item]
    assert split(theirs, shop) == ((), None)
