from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    ADDRESSES,
    AGENTS,
    K3D_YAML,
    LOAD_BALANCER,
    REGISTRY,
    SERVER,
    changed,
    healthy,
    sample_container,
    sample_environment,
    without,
)

from envkit.environment import Environment
from envkit.observation import HOST_RECORD, ApiFacts, Observation
from envkit.state import State, assess, drift_between, is_drifted

ALL = (SERVER, *AGENTS, LOAD_BALANCER, REGISTRY)
Change = Callable[[Observation], Observation]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return sample_environment(tmp_path_factory.mktemp("shop"))


def _with_api(observation: Observation, **changes: Any) -> Observation:
    assert observation.api
    return replace(observation, api=replace(observation.api, **changes))


def test_nothing_found_is_absent(environment: Environment) -> None:
    assessment = assess(Observation((), None), environment, None)

    assert assessment.state is State.ABSENT
    assert assessment.reasons == ()


def test_everything_working_is_running(environment: Environment) -> None:
    assessment = assess(healthy(environment), environment, None)

    assert assessment.state is State.RUNNING
    assert (assessment.reasons, assessment.restart, assessment.stale_nodes, assessment.drifted) == (
        (),
        False,
        (),
        False,
    )


@pytest.mark.parametrize(
    ("change", "missing", "sentence"),
    [
        pytest.param(lambda o: without(o, SERVER), {"server": 1}, "Missing: 1 server node.", id="server"),
        pytest.param(lambda o: without(o, AGENTS[0]), {"agent": 1}, "Missing: 1 agent node.", id="agent"),
        pytest.param(lambda o: without(o, *AGENTS), {"agent": 2}, "Missing: 2 agent nodes.", id="agents"),
        pytest.param(
            lambda o: without(o, LOAD_BALANCER), {"loadbalancer": 1}, "Missing: 1 load balancer.", id="load balancer"
        ),
        pytest.param(lambda o: without(o, REGISTRY), {"registry": 1}, "Missing: 1 registry.", id="registry"),
        pytest.param(
            lambda o: changed(o, AGENTS[1], state="created"),
            {"agent": 1},
            "Missing: 1 agent node.",
            id="agent that was never started",
        ),
        pytest.param(
            lambda o: changed(o, REGISTRY, state="created"),
            {"registry": 1},
            "Missing: 1 registry.",
            id="registry that was never started",
        ),
        pytest.param(
            lambda o: changed(without(o, AGENTS[0]), SERVER, LOAD_BALANCER, state="exited"),
            {"agent": 1},
            "Missing: 1 agent node.",
            id="agent of a stopped cluster",
        ),
    ],
)
def test_a_missing_container_makes_it_partial(
    environment: Environment, change: Change, missing: dict[str, int], sentence: str
) -> None:
    assessment = assess(change(healthy(environment)), environment, None)

    assert assessment.state is State.PARTIAL
    assert assessment.missing == missing
    assert assessment.reasons == (sentence,)


def test_a_registry_alone_is_partial(environment: Environment) -> None:
    assert assess(without(healthy(environment), *ALL[:-1]), environment, None).state is State.PARTIAL


def test_only_k3ds_helper_left_is_partial(environment: Environment) -> None:
    tools = sample_container("k3d-shop-tools", "noRole")

    assert assess(Observation((tools,), None), environment, None).state is State.PARTIAL


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("word", ["exited", "paused", "dead", "restarting"])
def test_a_container_that_does_not_run_makes_it_stopped(environment: Environment, name: str, word: str) -> None:
    assessment = assess(changed(healthy(environment), name, state=word), environment, None)

    assert assessment.state is State.STOPPED
    assert assessment.reasons == (f"Not running: {name}.",)


def test_k3ds_helper_need_not_run(environment: Environment) -> None:
    observation = healthy(environment)
    tools = sample_container("k3d-shop-tools", "noRole", state="exited")

    assert assess(replace(observation, nodes=(*observation.nodes, tools)), environment, None).state is State.RUNNING


@pytest.mark.parametrize(
    ("change", "reason", "restart"),
    [
        pytest.param(
            lambda o: replace(o, hosts_lost=(AGENTS[0],)),
            f"Lost its record of this machine ({HOST_RECORD}): {AGENTS[0]}.",
            True,
            id="hosts file of a node",
        ),
        pytest.param(
            lambda o: _with_api(o, ready=None, error="connection refused"),
            "The Kubernetes API does not answer: connection refused.",
            False,
            id="API is dead",
        ),
        pytest.param(
            lambda o: replace(o, api=None),
            "The Kubernetes API does not answer: its server does not run.",
            False,
            id="API was not asked",
        ),
        pytest.param(
            lambda o: _with_api(o, ready={SERVER: True, AGENTS[0]: False, AGENTS[1]: True}),
            f"Not Ready: {AGENTS[0]}.",
            False,
            id="node is not ready",
        ),
        pytest.param(
            lambda o: _with_api(o, ready={SERVER: True, AGENTS[0]: True}),
            f"Not Ready: {AGENTS[1]}.",
            False,
            id="node is unknown to Kubernetes",
        ),
        pytest.param(
            lambda o: _with_api(o, dns_records={k: v for k, v in ADDRESSES.items() if k != HOST_RECORD}),
            f"Unknown to the cluster's DNS, or under an old address: {HOST_RECORD}.",
            False,
            id="DNS record of this machine",
        ),
        pytest.param(
            lambda o: _with_api(o, dns_records={k: v for k, v in ADDRESSES.items() if k != REGISTRY}),
            f"Unknown to the cluster's DNS, or under an old address: {REGISTRY}.",
            False,
            id="DNS record of the registry",
        ),
        pytest.param(
            lambda o: _with_api(o, dns_records=ADDRESSES | {AGENTS[0]: "10.0.0.4"}),
            f"Unknown to the cluster's DNS, or under an old address: {AGENTS[0]}.",
            False,
            id="DNS record with another's address",
        ),
        pytest.param(
            lambda o: replace(o, registry_answers=False),
            "The registry does not answer on 127.0.0.1:5050.",
            False,
            id="registry is dead",
        ),
        pytest.param(
            lambda o: changed(o, REGISTRY, addresses={"bridge": "172.17.0.2"}),
            "The registry is not on the network k3d-shop.",
            False,
            id="registry on another network",
        ),
    ],
)
def test_what_does_not_work_makes_it_broken(
    environment: Environment, change: Change, reason: str, restart: bool
) -> None:
    assessment = assess(change(healthy(environment)), environment, None)

    assert assessment.state is State.BROKEN
    assert assessment.reasons == (reason,)
    assert assessment.restart is restart
    assert assessment.stale_nodes == ()
    assert bool(assessment.wrong_records) == ("DNS" in reason)


def test_a_node_without_a_container_is_stale(environment: Environment) -> None:
    ready = dict.fromkeys((SERVER, *AGENTS, "k3d-shop-agent-7"), True)
    assessment = assess(_with_api(healthy(environment), ready=ready), environment, None)

    assert assessment.state is State.BROKEN
    assert assessment.stale_nodes == ("k3d-shop-agent-7",)
    assert assessment.reasons == ("Listed by Kubernetes, without a container: k3d-shop-agent-7.",)


def test_a_record_of_a_container_without_an_address_is_not_wrong(environment: Environment) -> None:
    records = ADDRESSES | {"somebody-elses-host": "10.9.9.9"}

    assert assess(_with_api(healthy(environment), dns_records=records), environment, None).state is State.RUNNING


def test_a_cluster_from_another_configuration_has_drifted_and_runs(environment: Environment) -> None:
    observation = changed(healthy(environment), SERVER, config_hash="0123456789abcdef")
    assessment = assess(observation, environment, environment.effective)

    assert assessment.drifted
    assert assessment.state is State.RUNNING


def test_the_number_of_nodes_is_that_of_the_creation(environment: Environment) -> None:
    observation = changed(without(healthy(environment), AGENTS[1]), SERVER, config_hash="0123456789abcdef")
    observation = _with_api(observation, ready={SERVER: True, AGENTS[0]: True}, dns_records=ADDRESSES)

    created_from = environment.effective | {"agents": 1}
    assert assess(observation, environment, created_from).state is State.RUNNING
    assert assess(observation, environment, None).missing == {"agent": 1}


def test_a_configuration_without_numbers_is_that_of_one_server(environment: Environment) -> None:
    observation = without(healthy(environment), *AGENTS)

    assert assess(observation, environment, {"kind": "Simple"}).missing is None
    assert assess(without(observation, SERVER), environment, {"kind": "Simple"}).missing == {"server": 1}


def test_a_cluster_of_k3d_itself_has_not_drifted(environment: Environment) -> None:
    assert not is_drifted(changed(healthy(environment), SERVER, config_hash=""), environment)


def test_no_load_balancer_is_missed_where_none_is_wanted(tmp_path: Path) -> None:
    environment = sample_environment(tmp_path, k3d_yaml=K3D_YAML + "    disableLoadbalancer: true\n")

    assert assess(without(healthy(environment), LOAD_BALANCER), environment, None).state is State.RUNNING


# -- properties ---------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from([*ALL, "k3d-shop-agent-9", "k3d-shop-tools", HOST_RECORD])
_CONTAINERS = st.builds(
    sample_container,
    _NAMES,
    st.sampled_from(["server", "agent", "loadbalancer", "registry", "noRole", ""]),
    st.sampled_from([*ADDRESSES.values(), ""]),
    state=st.sampled_from(["running", "created", "exited", "paused"]),
    config_hash=st.sampled_from(["", "0123456789abcdef"]),
    cluster=st.sampled_from(["shop", "", "other"]),
    addresses=st.sampled_from([{}, {"k3d-shop": "10.0.0.2"}, {"bridge": "172.17.0.2"}]),
)
_API = st.builds(
    ApiFacts,
    error=st.sampled_from(["", "no answer"]),
    ready=st.none() | st.dictionaries(_NAMES, st.booleans()),
    dns_records=st.dictionaries(_NAMES, st.sampled_from(list(ADDRESSES.values()))),
)
_OBSERVATIONS = st.builds(
    Observation,
    nodes=st.lists(_CONTAINERS, max_size=6).map(tuple),
    registry=st.none() | _CONTAINERS,
    registry_answers=st.booleans(),
    api=st.none() | _API,
    hosts_lost=st.lists(_NAMES, max_size=2).map(tuple),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["a", "b ", "", "x.y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_CONFIGURATIONS = st.dictionaries(st.sampled_from("abc"), _JSON, min_size=1, max_size=3)


@given(observation=_OBSERVATIONS, created_from=st.none() | st.fixed_dictionaries({"agents": st.integers(0, 3)}))
def test_every_observation_has_a_state(
    environment: Environment, observation: Observation, created_from: dict[str, Any] | None
) -> None:
    assessment = assess(observation, environment, created_from)

    assert (assessment.reasons == ()) is (assessment.state in (State.ABSENT, State.RUNNING))
    assert bool(assessment.missing) is (assessment.state is State.PARTIAL)
    assert not assessment.restart or assessment.state is State.BROKEN
    assert not assessment.stale_nodes or assessment.state is State.BROKEN


@given(before=_CONFIGURATIONS, after=_CONFIGURATIONS)
def test_drift_is_empty_in_both_directions_or_in_none(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert bool(drift_between(before, after)) is bool(drift_between(after, before))
    assert drift_between(before, before) == []


def test_drift_names_each_key_with_both_values() -> None:
    before = {"agents": 2, "metadata": {"name": "shop"}, "ports": [{"port": "8080:80"}], "gone": True}
    after = {"agents": 3, "metadata": {"name": "shop"}, "ports": [{"port": "80:80"}, {"port": "443:443"}]}

    assert drift_between(before, after) == [
        "agents: 2 -> 3",
        "gone: true -> (not set)",
        "ports[0].port: 8080:80 -> 80:80",
        "ports[1].port: (not set) -> 443:443",
    ]


@pytest.mark.parametrize("nothing", [None, {}])
def test_drift_from_an_unknown_configuration_says_so(nothing: dict[str, Any] | None) -> None:
    assert drift_between(nothing, {"agents": 2}) == ["(what exactly is not known)"]
