"""A creation that was killed, interrupted or started twice: the next `create` ends with one whole cluster."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from e2e.conftest import NewEnvironment
from e2e.generated import Generated, Running
from e2e.machine import docker, wait_until

pytestmark = pytest.mark.e2e

_POINT_SECONDS = 60
_PAUSE = 0.05
"""A later look would find a later point."""
_CONVERGE_SECONDS = 150

Point = Callable[[Generated], bool]


@pytest.fixture(scope="module")
def environments(new_environment: NewEnvironment) -> dict[int, Generated]:
    """Environments by their number of agents: one is enough where it matters that they are made."""
    return {agents: new_environment(agents=agents) for agents in (0, 1)}


@pytest.fixture
def environment(environments: dict[int, Generated], request: pytest.FixtureRequest) -> Iterator[Generated]:
    """The environment without a cluster, before and after."""
    generated = environments[getattr(request, "param", 0)]
    generated.remove()
    yield generated
    generated.remove()


@pytest.fixture
def creation(environment: Generated) -> Iterator[Running]:
    """A creation that has just been started; nothing of it lives on after the test."""
    running = environment.start_create()
    yield running
    running.signal_group(signal.SIGKILL)
    running.process.communicate(timeout=10)


def _network_is_there(environment: Generated) -> bool:
    return environment.has_network()


def _registry_is_there(environment: Generated) -> bool:
    return environment.registry in environment.containers()


def _server_is_made(environment: Generated) -> bool:
    return environment.server in environment.containers()


def _server_runs(environment: Generated) -> bool:
    return _runs(environment, environment.server)


def _agent_runs(environment: Generated) -> bool:
    return _runs(environment, f"{environment.context}-agent-0")


def _load_balancer_runs(environment: Generated) -> bool:
    return _runs(environment, environment.load_balancer)


def _kubeconfig_is_there(environment: Generated) -> bool:
    return environment.kubeconfig.exists()


@pytest.mark.parametrize(
    ("environment", "point"),
    [
        pytest.param(0, _network_is_there, id="the network is there"),
        pytest.param(0, _registry_is_there, id="the registry is there"),
        pytest.param(0, _server_is_made, id="the server is made"),
        pytest.param(1, _server_runs, id="the server runs"),
        pytest.param(1, _agent_runs, id="the agent runs"),
        pytest.param(1, _load_balancer_runs, id="the load balancer runs"),
        pytest.param(0, _kubeconfig_is_there, id="the kubeconfig is there"),
    ],
    indirect=["environment"],
)
def test_a_creation_that_was_killed_is_completed_by_the_next(
    environment: Generated, creation: Running, point: Point
) -> None:
    wait_until(f"{point.__name__.strip('_')}", lambda: point(environment), _POINT_SECONDS, pause=_PAUSE)
    creation.signal_group(signal.SIGKILL)
    assert creation.finish().status == -signal.SIGKILL
    _assert_the_next_create_converges(environment)


def test_a_k3d_that_outlives_a_killed_creation_is_waited_for(environment: Generated, creation: Running) -> None:
    wait_until("the server runs", lambda: _server_runs(environment), _POINT_SECONDS, pause=_PAUSE)
    creation.process.kill()
    creation.process.wait()  # until then the kernel counts it as alive
    output = _assert_the_next_create_converges(environment)
    assert f"Waiting for what `create` (process {creation.process.pid}, killed) left running" in output


def test_ctrl_c_says_that_nothing_is_lost_and_the_next_create_goes_on(
    environment: Generated, creation: Running
) -> None:
    wait_until("the server runs", lambda: _server_runs(environment), _POINT_SECONDS, pause=_PAUSE)
    creation.signal_group(signal.SIGINT)
    done = creation.finish(30)
    assert done.status == 130
    assert "Traceback" not in done.output
    assert "Interrupted." in done.stderr
    assert "create` continues" in done.stderr
    _assert_the_next_create_converges(environment)


def test_two_creates_at_the_same_time_make_one_cluster(environment: Generated, creation: Running) -> None:
    second = environment.start_create()
    ended = [creation.finish(_CONVERGE_SECONDS), second.finish(_CONVERGE_SECONDS)]
    outputs = "\n".join(done.output for done in ended)
    assert [done.status for done in ended] == [0, 0], outputs
    assert "Traceback" not in outputs
    waiting = [done for done in ended if "Waiting for `create` in process" in done.stderr]
    assert len(waiting) == 1, outputs
    assert "nothing had to be done" in waiting[0].stdout
    _assert_one_whole_cluster(environment)


def _assert_the_next_create_converges(environment: Generated) -> str:
    done = environment.run(environment.root / "bin" / "envkit", "create", seconds=_CONVERGE_SECONDS)
    _assert_one_whole_cluster(environment)
    before = environment.identities()
    assert "nothing had to be done" in environment.envkit("create").stdout
    assert environment.identities() == before
    return done.output


def _assert_one_whole_cluster(environment: Generated) -> None:
    nodes = {environment.server, *(f"{environment.context}-agent-{n}" for n in range(environment.answers["agents"]))}
    assert set(environment.containers()) == {*nodes, environment.load_balancer, environment.registry}
    assert environment.ready_nodes() == nodes
    assert environment.status()["state"] == "running"
    assert environment.volumes() == {environment.registry, f"{environment.context}-images"}
    networks = docker("network", "ls", "--quiet", "--filter", f"name=^{environment.context}$").split()
    assert len(networks) == 1


def _runs(environment: Generated, name: str) -> bool:
    container = environment.containers().get(name)
    return bool(container and container["State"]["Running"])
