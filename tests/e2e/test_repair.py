"""Whatever is broken or taken away, `create` puts it right and touches no other part."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import yaml
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.machine import docker, free_ports, wait_until
from e2e.workload import assert_it_works, deploy, get, image_name, pull, push_hello

pytestmark = pytest.mark.e2e

_AGENTS = 2
_NODE_PORT = 30080


@pytest.fixture(scope="module")
def environment(new_environment: NewEnvironment) -> Generated:
    """An environment with two ports of its team: one leads through the load balancer to an agent, one to the server."""
    environment = new_environment(agents=_AGENTS)
    path = environment.root / "k3d.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for port, node in zip(free_ports(2), ("agent:0", "server:0:direct"), strict=True):
        document["ports"].append({"port": f"127.0.0.1:{port}:{_NODE_PORT}", "nodeFilters": [node]})
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return environment


@pytest.fixture(scope="module")
def deployed(environment: Generated) -> tuple[str, str]:
    """The name of an image in the registry, and what a config map keeps in the cluster."""
    environment.envkit("create")
    name = push_hello(environment)
    text = deploy(environment, image_name(environment, name))
    environment.kubectl("create", "service", "nodeport", "web", "--tcp=8080", f"--node-port={_NODE_PORT}")
    return name, text


@pytest.fixture
def running(environment: Generated, deployed: tuple[str, str]) -> Generated:
    """The environment with its cluster running and in use, whatever an earlier test has left."""
    environment.envkit("create")
    assert_it_works(environment, deployed[1])
    return environment


def test_containers_that_were_killed_and_started_by_docker_are_repaired(
    running: Generated, deployed: tuple[str, str]
) -> None:
    before = running.identities()
    docker("kill", *before)
    assert running.status()["state"] == "stopped"
    docker("start", *before)

    status = running.status()
    assert status["state"] == "broken"
    assert "host.k3d.internal" in " ".join(status["reasons"])
    assert status["next_step"].endswith("create")
    created = running.envkit("create")
    assert "restarted the cluster" in created.stdout
    assert _ids(running) == {name: ident for name, (ident, _) in before.items()}
    _assert_all_is_well(running, deployed)


def test_what_the_dns_has_forgotten_is_written_without_a_restart(running: Generated, deployed: tuple[str, str]) -> None:
    before = _dns_records(running)
    kept = "".join(f"{address} {name}\n" for name, address in before.items() if name.startswith(running.context))
    patch = json.dumps({"data": {"NodeHosts": kept}})
    running.kubectl("patch", "configmap", "coredns", "--namespace=kube-system", "--type=merge", f"--patch={patch}")
    docker("restart", running.load_balancer)  # what has been started since is looked at closely
    identities = running.identities()

    reasons = " ".join(running.status()["reasons"])
    assert f"Unknown to the cluster's DNS, or under an old address: host.k3d.internal, {running.registry}" in reasons
    assert "corrected the cluster's DNS" in running.envkit("create").stdout
    assert _dns_records(running) == before
    assert running.identities() == identities
    _assert_all_is_well(running, deployed)


def _dns_records(environment: Generated) -> dict[str, str]:
    output = "--output=jsonpath={.data.NodeHosts}"
    lines = environment.kubectl("get", "configmap", "coredns", "--namespace=kube-system", output).splitlines()
    return {name: line.split()[0] for line in lines for name in line.split()[1:]}


def _agent(environment: Generated) -> list[str]:
    return [f"{environment.context}-agent-1"]


def _agents(environment: Generated) -> list[str]:
    return sorted(name for name, entry in environment.containers().items() if _role(entry) == "agent")


def _load_balancer(environment: Generated) -> list[str]:
    return [environment.load_balancer]


def _registry(environment: Generated) -> list[str]:
    return [environment.registry]


def _all_but_the_server(environment: Generated) -> list[str]:
    return sorted(set(environment.containers()) - {environment.server})


@pytest.mark.parametrize(
    ("parts", "reason", "action"),
    [
        pytest.param(_agent, "Missing: 1 agent node.", "added an agent", id="an agent"),
        pytest.param(_agents, "Missing: 2 agent nodes.", "added 2 agents", id="all agents"),
        pytest.param(_load_balancer, "Missing: 1 load balancer.", "made the load balancer anew", id="load balancer"),
        pytest.param(_registry, "Missing: 1 registry.", "made the registry anew", id="registry"),
        pytest.param(_all_but_the_server, "Missing: 2 agent nodes.", "added 2 agents", id="all but the server"),
    ],
)
def test_what_was_removed_by_hand_is_made_anew(
    running: Generated, deployed: tuple[str, str], parts: Any, reason: str, action: str
) -> None:
    removed = parts(running)
    docker("rm", "--force", "--volumes", *removed)
    kept = running.identities()
    assert running.server in kept

    status = running.status()
    assert status["state"] == "partial"
    assert reason in status["reasons"]
    assert action in running.envkit("create").stdout

    if parts is _agents:
        del kept[running.load_balancer]  # k3d cannot make the first agent rightly while there is one
    now = running.identities()
    assert {name: now[name] for name in kept} == kept
    _assert_agents_join_at_the_server(running)
    _assert_all_is_well(running, deployed)
    docker("restart", running.load_balancer)  # it would not start with the name of a node that is gone
    wait_until("the API answers", lambda: running.kubectl("get", "--raw=/readyz", check=False) == "ok")
    assert_it_works(running, deployed[1])


def test_create_starts_a_stopped_cluster_and_makes_what_it_lost_meanwhile(
    running: Generated, deployed: tuple[str, str]
) -> None:
    before = _ids(running)
    running.envkit("stop")
    assert running.status()["state"] == "stopped"
    lost = (running.registry, running.load_balancer)
    docker("rm", "--force", "--volumes", *lost)
    started = running.envkit("create").stdout
    for action in ("started the cluster", "made the registry anew", "made the load balancer anew"):
        assert action in started
    after = _ids(running)
    assert {name: after[name] for name in before if name not in lost} == {
        name: ident for name, ident in before.items() if name not in lost
    }
    _assert_all_is_well(running, deployed)


def test_a_lost_kubeconfig_is_written_again(running: Generated) -> None:
    before = running.identities()
    contents = {}
    for path in (running.kubeconfig, running.devcontainer_kubeconfig, running.merged_kubeconfig):
        contents[path] = path.read_text(encoding="utf-8")
        path.unlink()
        assert "nothing had to be done" not in running.envkit("create").stdout
        assert path.stat().st_mode & 0o777 == 0o600
    assert running.kubeconfig.read_text(encoding="utf-8") == contents[running.kubeconfig]
    assert running.context in running.merged_kubeconfig.read_text(encoding="utf-8")
    assert running.identities() == before


def test_a_cluster_that_lost_its_server_is_made_anew_with_the_registrys_images(
    running: Generated, deployed: tuple[str, str]
) -> None:
    docker("rm", "--force", "--volumes", running.server)
    status = running.status()
    assert status["state"] == "partial"
    assert "Missing: 1 server node." in status["reasons"]
    running.envkit("create")
    assert len(running.ready_nodes()) == _AGENTS + 1
    pull(running, image_name(running, deployed[0]))


def _assert_all_is_well(environment: Generated, deployed: tuple[str, str]) -> None:
    """The workload is there and answers, images are pulled, and there is nothing more to do."""
    name, text = deployed
    agents = [entry for entry in environment.containers().values() if _role(entry) == "agent"]
    assert len(agents) == _AGENTS
    assert len(environment.ready_nodes()) == _AGENTS + 1
    assert_it_works(environment, text)
    for port in _node_ports(environment):
        wait_until(f"the port {port} leads to the web server", partial(get, port), 30)
    pull(environment, image_name(environment, name))
    before = environment.identities()
    assert "nothing had to be done" in environment.envkit("create").stdout
    assert environment.identities() == before


def _node_ports(environment: Generated) -> list[int]:
    """The ports of this machine that lead to the node port."""
    document = yaml.safe_load((environment.root / "k3d.yaml").read_text(encoding="utf-8"))
    mappings = [str(entry["port"]).split(":") for entry in document["ports"]]
    return [int(port) for _, port, inside in mappings if int(inside) == _NODE_PORT]


def _assert_agents_join_at_the_server(environment: Generated) -> None:
    """k3d starts the load balancer last and waits for the agents before: they must not wait for it."""
    for entry in environment.containers().values():
        if _role(entry) == "agent":
            assert f"K3S_URL=https://{environment.server}:6443" in entry["Config"]["Env"]


def _ids(environment: Generated) -> dict[str, str]:
    return {name: ident for name, (ident, _) in environment.identities().items()}


def _role(entry: dict[str, Any]) -> str:
    return str(entry["Config"]["Labels"]["k3d.role"])
