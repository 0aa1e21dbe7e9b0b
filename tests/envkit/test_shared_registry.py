"""A registry that several environments share: its configuration, its state, and who may stop or remove it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from samples import (
    AGENTS,
    LOAD_BALANCER,
    NETWORK,
    REGISTRY,
    SERVER,
    changed,
    healthy,
    sample_container,
    sample_environment,
    without,
)

from envkit import preflight, registry, shared_registry
from envkit.config import k3d_input
from envkit.engine import Container, Published
from envkit.environment import Environment, load_environment
from envkit.errors import CommandFailedError, UserError
from envkit.lock import cluster_lock
from envkit.observation import Observation
from envkit.ownership import clashes
from envkit.progress import Steps
from envkit.registry import registry_name
from envkit.session import Session
from envkit.state import State, assess

OTHER = sample_container("k3d-other-server-0", "server", cluster="other", addresses={"k3d-other": "10.1.0.2"})
BOTH = {"bridge": "172.17.0.2", NETWORK: "10.0.0.6", "k3d-other": "10.1.0.6"}


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    return sample_environment(tmp_path / "shop", shared=True)


def _registry(shop: Environment, **changes: object) -> Container:
    container = healthy(shop).registry
    assert container
    return replace(container, **changes)  # type: ignore[arg-type]


# -- configuration ------------------------------------------------------------------------------------------------


def test_k3d_finds_a_shared_registry_by_its_name_and_never_makes_it(shop: Environment) -> None:
    registries = yaml.safe_load(k3d_input(shop))["registries"]

    assert registries["use"] == ["k3d-shop-registry:5000"]
    assert "create" not in registries
    assert set(yaml.safe_load(registries["config"])["mirrors"]) == {
        "k3d-shop-registry.localhost:5050",
        "localhost:5050",
    }
    assert (shop.registry.shared, shop.registry.address) == (True, "127.0.0.1")
    assert registry_name(shop.effective) == "k3d-shop-registry"


def test_sharing_is_a_change_of_the_configuration_and_not_sharing_is_none(tmp_path: Path, shop: Environment) -> None:
    own = sample_environment(tmp_path / "own")

    assert own.config_hash != shop.config_hash
    assert registry_name(own.effective) == "k3d-shop-registry"
    assert registry_name({}) == ""


def test_a_remembered_configuration_is_the_same(
    tmp_path: Path, shop: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))

    assert load_environment(tmp_path / "shop") == load_environment(tmp_path / "shop") == shop


# -- state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        pytest.param(lambda o: o, State.RUNNING, "", id="healthy"),
        pytest.param(lambda o: without(o, SERVER, LOAD_BALANCER, *AGENTS), State.ABSENT, "", id="registry alone"),
        pytest.param(
            lambda o: changed(o, REGISTRY, addresses={"bridge": "172.17.0.2"}),
            State.PARTIAL,
            "The registry k3d-shop-registry is not on the network k3d-shop.",
            id="not joined",
        ),
        pytest.param(lambda o: without(o, REGISTRY), State.PARTIAL, "Missing: 1 registry.", id="removed"),
        pytest.param(
            lambda o: changed(o, REGISTRY, state="exited"),
            State.STOPPED,
            "Not running: k3d-shop-registry.",
            id="stopped",
        ),
    ],
)
def test_the_state_of_a_cluster_with_a_shared_registry(
    shop: Environment, change: Callable[[Observation], Observation], state: State, reason: str
) -> None:
    found = assess(change(healthy(shop)), shop, None)

    assert (found.state, found.reasons) == (state, (reason,) if reason else ())


# -- whose it is --------------------------------------------------------------------------------------------------


_OTHER_WAYS = (f"docker rm --force {REGISTRY}", "k3d cluster delete other", "shared = true")


@pytest.mark.parametrize(
    ("shared", "container", "detail", "other_way"),
    [
        (True, {"cluster": "", "shared": True}, "", ""),
        # Its name is given up, and not the cluster that it belongs to.
        (True, {"cluster": "shop", "shared": False}, "belongs to the cluster shop", f"docker rm --force {REGISTRY}"),
        (True, {"cluster": "other", "shared": False}, "belongs to the cluster other", f"docker rm --force {REGISTRY}"),
        (True, {"cluster": "", "shared": False}, "that no environment has made", ""),
        (False, {"cluster": "", "shared": True}, "that environments of this machine share", "shared = true"),
        (False, {"cluster": "other", "shared": False}, "belongs to the cluster other", "k3d cluster delete other"),
        (False, {"cluster": "shop", "shared": False}, "", ""),
        (False, {"cluster": "", "shared": False}, "", ""),
    ],
)
def test_a_registry_is_shared_by_both_sides_or_by_none(
    tmp_path: Path, shared: bool, container: dict[str, object], detail: str, other_way: str
) -> None:
    environment = sample_environment(tmp_path / "shop", shared=shared)

    found = clashes(environment, (), _registry(environment, **container))

    assert len(found) == bool(detail)
    for clash in found:
        assert detail in clash.detail
        assert "registries.create.name in k3d.yaml" in clash.fix
        assert [way for way in _OTHER_WAYS if way in clash.fix] == [other_way] * bool(other_way)


def test_only_clusters_on_whose_network_it_is_use_a_registry(shop: Environment) -> None:
    shared = _registry(shop, addresses=BOTH)
    stranger = sample_container("k3d-x-server-0", "server", cluster="x", addresses={"k3d-x": "", "bridge": ""})
    containers = [*healthy(shop).nodes, shared, OTHER, stranger, replace(OTHER, name="k3d-other-agent-0", role="agent")]

    assert shared_registry.other_clusters(shared, "shop", containers) == [OTHER]


def test_another_port_than_that_of_the_present_registry_would_stop_create(shop: Environment) -> None:
    observation = replace(healthy(shop), registry_port=5060)

    (check,) = preflight.check_shared_registry(shop, observation)

    assert check.verdict is preflight.Verdict.FAIL
    assert check.fix.startswith("REGISTRY_PORT=5060 ")
    assert preflight.check_shared_registry(shop, healthy(shop)) == []


# -- making, joining, stopping ------------------------------------------------------------------------------------


class Engine:
    """What is there of Docker's, and what was called."""

    def __init__(self) -> None:
        self.nodes: tuple[Container, ...] = ()
        self.registry: Container | None = None
        self.calls: list[str] = []
        self.failing = ""

    def docker(self, *arguments: str, **_: object) -> str:
        call = " ".join(arguments)
        self.calls.append(call if arguments[0] != "run" else f"run {' '.join(a for a in arguments if 'label' in a)}")
        if self.failing and call.startswith(self.failing):
            raise CommandFailedError("docker failed", status=1, output="network k3d-gone not found")
        return ""


class EngineSession(Session):
    """A session that looks at an `Engine`."""

    engine: Engine

    def containers(self) -> tuple[tuple[Container, ...], Container | None]:
        return self.engine.nodes, self.engine.registry


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    engine = Engine()
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(shared_registry, "docker", engine.docker)
    monkeypatch.setattr(registry, "docker", engine.docker)
    monkeypatch.setattr(shared_registry, "remove_containers", lambda names: engine.docker("rm", *names))
    monkeypatch.setattr(shared_registry, "inspect", lambda _, name: [] if name == "k3d-gone" else [{}])
    monkeypatch.setattr(
        shared_registry, "wait_until_it_answers", lambda r, _: engine.calls.append(f"wait {r.endpoint}")
    )
    monkeypatch.setattr(
        shared_registry, "k3d_containers", lambda: [*engine.nodes, *filter(None, [engine.registry]), OTHER]
    )
    return engine


def _session(shop: Environment, engine: Engine) -> EngineSession:
    session = EngineSession(shop, Steps(io.StringIO()), -1)
    object.__setattr__(session, "engine", engine)
    return session


JOIN = "network connect k3d-shop k3d-shop-registry"


def test_the_first_environment_makes_it_without_a_cluster(shop: Environment, engine: Engine) -> None:
    assert shared_registry.ensure_shared_registry(_session(shop, engine))

    made = next(call for call in engine.calls if call.startswith("run"))
    assert "--label=k3d.cluster= " in f"{made} "
    assert "--label=envkit.registry=shared" in made
    assert engine.calls[-1] == "wait 127.0.0.1:5050"
    assert JOIN not in engine.calls  # k3d does that when it makes the cluster


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({}, []),
        ({"addresses": {"bridge": "1"}}, [JOIN, "wait 127.0.0.1:5050"]),
        ({"state": "exited"}, ["start k3d-shop-registry", "wait 127.0.0.1:5050"]),
        ({"state": "paused"}, ["unpause k3d-shop-registry", "wait 127.0.0.1:5050"]),
        (
            {"state": "exited", "published": (Published("192.168.1.5", 5060, 5000),)},
            ["start k3d-shop-registry", "wait 192.168.1.5:5060"],
        ),
    ],
)
def test_what_it_lacks_is_done_and_no_more(
    shop: Environment, engine: Engine, changes: dict[str, object], calls: list[str]
) -> None:
    engine.nodes, engine.registry = healthy(shop).nodes, _registry(shop, **changes)

    assert shared_registry.ensure_shared_registry(_session(shop, engine)) is bool(calls)
    assert engine.calls == calls


def test_one_whose_network_was_removed_is_made_anew_on_those_that_are_left(shop: Environment, engine: Engine) -> None:
    engine.nodes, engine.failing = healthy(shop).nodes, "start"
    engine.registry = _registry(shop, state="exited", addresses={**BOTH, "k3d-gone": ""})

    assert shared_registry.ensure_shared_registry(_session(shop, engine))

    connected = [call.split()[2] for call in engine.calls if call.startswith("network connect")]
    assert connected == ["k3d-other", "k3d-shop"]
    assert engine.calls[1] == "rm k3d-shop-registry"


@pytest.mark.parametrize("shared", [True, False])
def test_only_one_environment_at_a_time_acts_on_a_shared_registry(tmp_path: Path, engine: Engine, shared: bool) -> None:
    session = _session(sample_environment(tmp_path / "one", shared=shared), engine)
    refused = pytest.raises(UserError, match="is busy") if shared else nullcontext()

    with (
        shared_registry.registry_lock(session, "create"),
        refused,
        cluster_lock(f"{REGISTRY}.registry", "delete", lambda _: None, wait=-1),
    ):
        pass


@pytest.mark.parametrize(("others_state", "stopped"), [("running", False), ("exited", True)])
def test_it_stops_with_the_last_cluster_that_runs(
    shop: Environment, engine: Engine, monkeypatch: pytest.MonkeyPatch, others_state: str, stopped: bool
) -> None:
    shared = _registry(shop, addresses=BOTH)
    monkeypatch.setattr(shared_registry, "k3d_containers", lambda: [shared, replace(OTHER, state=others_state)])

    assert shared_registry.stop_shared_registry(_session(shop, engine), shared) is stopped
    assert engine.calls == (["stop k3d-shop-registry"] if stopped else [])
