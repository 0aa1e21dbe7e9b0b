"""A cluster from its creation to its deletion, in the order of a developer's days."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.conftest import NewEnvironment
from e2e.generated import (
    Finished,
    Generated,
    foreign_entries,
    original_foreign_entries,
    original_foreign_kubeconfig,
)
from e2e.machine import docker, free_ports, inspect, push, skip_without
from e2e.workload import HELLO_IMAGE, assert_it_works, deploy, image_name, in_pod, pull, push_hello

pytestmark = pytest.mark.e2e

_AGENTS = 1
_REGISTRY_HOSTS = (
    "{registry}.localhost:{port}",
    "localhost:{port}",
    "{registry}:{port}",
    "{registry}:5000",
)
_DEVCONTAINER_USER = "vscode"
_DEVCONTAINER_UID = 1000


@pytest.fixture(scope="module")
def environment(new_environment: NewEnvironment) -> Generated:
    return new_environment(agents=_AGENTS)


@pytest.fixture(scope="module")
def creation(environment: Generated) -> Finished:
    """The first creation, from nothing."""
    environment.assert_nothing_is_left()
    return environment.envkit("create")


@pytest.fixture
def running(environment: Generated, creation: Finished) -> Generated:
    """The environment with its cluster running, whatever an earlier test has left."""
    assert creation.status == 0
    environment.envkit("create")
    return environment


@pytest.fixture(scope="module")
def text(environment: Generated, creation: Finished) -> str:
    """What a config map keeps in the cluster, beside a web server on every node."""
    assert creation.status == 0
    return deploy(environment, image_name(environment, push_hello(environment)))


# -- creation -------------------------------------------------------------------------------------------------------


def test_create_makes_every_node_ready(environment: Generated, creation: Finished) -> None:
    agents = {f"{environment.context}-agent-{index}" for index in range(_AGENTS)}
    assert environment.ready_nodes() == {environment.server, *agents}
    assert set(environment.containers()) == {
        environment.server,
        environment.load_balancer,
        environment.registry,
        *agents,
    }
    assert f"The cluster {environment.cluster} is running: created the cluster" in creation.stdout


def test_the_server_carries_the_labels_of_its_environment(running: Generated) -> None:
    labels = running.containers()[running.server]["Config"]["Labels"]
    assert labels["envkit.root"] == str(running.root)
    assert len(labels["envkit.config-hash"]) == 16


def test_every_port_listens_on_the_loopback_address_only(running: Generated) -> None:
    bindings = [
        (binding["HostIp"], int(binding["HostPort"]))
        for entry in running.containers().values()
        for group in entry["NetworkSettings"]["Ports"].values()
        for binding in group or []
    ]
    wanted = {running.answers[key] for key in ("http_port", "https_port", "api_port", "registry_port")}
    assert sorted(bindings) == sorted(("127.0.0.1", port) for port in wanted)


def test_both_kubeconfigs_are_private_and_name_the_api_as_seen_from_their_side(running: Generated) -> None:
    servers = {}
    for path in (running.kubeconfig, running.devcontainer_kubeconfig):
        assert path.stat().st_mode & 0o777 == 0o600
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert document["current-context"] == running.context
        servers[path] = document["clusters"][0]["cluster"]["server"]
    assert servers[running.kubeconfig] == f"https://127.0.0.1:{running.answers['api_port']}"
    assert servers[running.devcontainer_kubeconfig] == f"https://{running.load_balancer}:6443"


def test_the_context_stands_beside_that_of_another_cluster(running: Generated) -> None:
    text = running.merged_kubeconfig.read_text(encoding="utf-8")
    assert foreign_entries(text) == original_foreign_entries()
    assert running.merged_kubeconfig.stat().st_mode & 0o777 == 0o600
    backups = list(running.merged_kubeconfig.parent.glob("config.backup-*"))
    assert [backup.read_text(encoding="utf-8") for backup in backups] == [original_foreign_kubeconfig()]
    nodes = _kubectl_without_arguments(running, "get", "nodes", "--output=name").split()
    assert len(nodes) == _AGENTS + 1


def test_tools_are_told_the_registrys_name_on_this_machine(running: Generated) -> None:
    data = running.kubectl("get", "configmap", "local-registry-hosting", "--namespace=kube-public", "--output=json")
    hosting = yaml.safe_load(json.loads(data)["data"]["localRegistryHosting.v1"])
    assert hosting["host"] == f"localhost:{running.answers['registry_port']}"
    assert hosting["hostFromClusterNetwork"] == f"{running.registry}:5000"


def test_a_second_create_changes_nothing_and_says_so(running: Generated) -> None:
    before, files = running.identities(), _kubeconfig_files(running)
    nodes = _specs(running)
    again = running.envkit("create")
    assert again.stdout == f"The cluster {running.cluster} is running; nothing had to be done.\n"
    assert again.stderr == ""
    assert running.identities() == before
    assert _kubeconfig_files(running) == files
    assert _specs(running) == nodes


def test_no_output_holds_the_token_of_the_cluster(running: Generated, creation: Finished) -> None:
    variables = running.containers()[running.server]["Config"]["Env"]
    token = next(line.partition("=")[2] for line in variables if line.startswith("K3S_TOKEN="))
    assert len(token) > 10
    outputs = [
        creation.output,
        *(running.envkit(*command.split()).output for command in ("create", "status", "status --json", "kubeconfig")),
        running.envkit("doctor", expect=None).output,
    ]
    assert not [output for output in outputs if token in output]


# -- registry and load balancer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", _REGISTRY_HOSTS)
def test_a_pushed_image_is_pulled_in_the_cluster_by_each_name(running: Generated, host: str) -> None:
    name = push_hello(running)
    pull(running, image_name(running, name, host))


def test_docker_pushes_to_the_registry_by_its_port(running: Generated) -> None:
    image = image_name(running, "by-docker:1", "localhost:{port}")
    push(HELLO_IMAGE, image)
    pull(running, image)


def test_docker_pushes_to_the_registry_by_its_name_where_the_engine_resolves_that(running: Generated) -> None:
    """An engine that asks DNS for names under localhost, and not this machine, says so; `push` works there, too."""
    image = image_name(running, "by-docker:2")
    docker("tag", HELLO_IMAGE, image)
    pushed = running.run("docker", "push", image, expect=None)
    docker("rmi", image)
    if pushed.status:
        assert "no such host" in pushed.output
        image = image_name(running, push_hello(running))
    pull(running, image)


def test_buildah_pushes_to_the_registry(running: Generated, tmp_path: Path) -> None:
    if not shutil.which("buildah"):
        skip_without("buildah is not on PATH")
    image = image_name(running, "by-buildah:1")
    _skip_if_unknown(image)
    archive = tmp_path / "hello.tar"
    docker("save", f"--output={archive}", HELLO_IMAGE)
    push = ["buildah", "push", "--tls-verify=false"]
    store = {"CONTAINERS_STORAGE_CONF": _own_storage(tmp_path)}
    local = running.run("buildah", "pull", f"docker-archive:{archive}", variables=store).stdout.split()[-1]
    running.run(*push, local, image, variables=store)
    pull(running, image)


def test_every_node_serves_http_through_the_load_balancers_port(running: Generated, text: str) -> None:
    assert_it_works(running, text)


@pytest.mark.usefixtures("text")
def test_pods_resolve_the_registry_and_this_machine(running: Generated) -> None:
    network = running.containers()[running.registry]["NetworkSettings"]["Networks"][running.context]
    assert in_pod(running, "lookup", running.registry).split() == [network["IPAddress"]]
    assert in_pod(running, "lookup", "host.k3d.internal").split()


def test_an_image_that_nobody_has_is_refused_with_what_to_do(running: Generated) -> None:
    done = running.just("push", "no-such-image:1", expect=1)
    assert "There is no local image no-such-image:1" in done.stderr
    assert "docker images" in done.stderr


@pytest.mark.usefixtures("text")
def test_status_tells_what_is_there(running: Generated) -> None:
    status = running.status()
    assert status["state"] == "running"
    assert status["reasons"] == []
    assert {node["name"] for node in status["nodes"] if node["ready"]} == running.ready_nodes()
    assert status["registry"]["answers"]
    assert status["registry"]["repositories"] >= 1
    assert status["registry"]["bytes"] > 1000
    assert all(file["present"] and file["current"] for file in status["kubeconfigs"])
    assert status["next_step"] == ""
    assert status["ingress"] == f"http://localhost:{running.answers['http_port']}"


# -- dev containers -------------------------------------------------------------------------------------------------


@pytest.fixture
def devcontainer(running: Generated) -> Iterator[str]:
    """A container as the rendered devcontainer.json describes it, as far as Docker alone can make it."""
    name = f"{running.project}-devcontainer"
    settings = _devcontainer_settings(running)
    for command in settings["initializeCommand"].values():
        running.run("sh", "-c", command)
    docker("run", "--detach", f"--name={name}", *_docker_arguments(running, settings), "sleep", "600")
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def test_kubectl_and_helm_work_in_a_dev_container(running: Generated, devcontainer: str) -> None:
    if not docker("exec", devcontainer, "sh", "-c", "command -v kubectl && command -v helm", check=False):
        skip_without("the dev container's image has no kubectl and helm, which a feature would add")
    assert docker("exec", devcontainer, "id", "-u") == str(_uid())
    nodes = docker("exec", devcontainer, "kubectl", "get", "nodes", "--output=name").split()
    assert {node.removeprefix("node/") for node in nodes} == running.ready_nodes()
    assert docker("exec", devcontainer, "helm", "list", "-A").startswith("NAME")


def test_a_dev_container_outlives_its_cluster_and_reaches_the_next(running: Generated, devcontainer: str) -> None:
    deleted = running.just("--yes", "delete")
    assert f"The network {running.context} stays: it is in use by {devcontainer}." in deleted.stderr
    assert running.containers() == {}
    running.envkit("create")
    _give_to_developer(running)
    assert running.ready_nodes() == set(
        docker("exec", devcontainer, "kubectl", "get", "nodes", "--output=jsonpath={.items[*].metadata.name}").split()
    )


# -- stop and start -------------------------------------------------------------------------------------------------


def test_what_runs_in_the_cluster_survives_stop_and_start(running: Generated) -> None:
    name = push_hello(running)
    text = deploy(running, image_name(running, name))
    containers = {name: ident for name, (ident, _) in running.identities().items()}

    assert "Stopped." in running.just("stop").stdout
    assert {entry["State"]["Status"] for entry in running.containers().values()} == {"exited"}
    status = running.status()
    assert status["state"] == "stopped"
    assert status["next_step"].endswith("start")
    assert "It was stopped already" in running.just("stop").stdout

    assert "started the cluster" in running.just("start").stdout
    assert running.status()["state"] == "running"
    assert {name: ident for name, (ident, _) in running.identities().items()} == containers
    assert_it_works(running, text)
    pull(running, image_name(running, name))

    before = running.identities()
    assert "nothing had to be done" in running.just("start").stdout
    assert running.identities() == before


def test_status_does_not_wait_for_a_paused_api_and_create_wakes_it(running: Generated) -> None:
    docker("pause", running.server)
    try:
        done = running.envkit("status", "--json")
        status = json.loads(done.stdout)
        assert done.seconds < 3  # kubectl would be given 4
        assert status["state"] == "stopped"
        assert status["next_step"].endswith("start")
        running.envkit("create")
        assert running.status()["state"] == "running"
    finally:
        docker("unpause", running.server, check=False)


def test_status_says_soon_that_an_api_hangs(running: Generated) -> None:
    def signal(name: str) -> None:
        docker("exec", running.server, "sh", "-c", f"kill -{name} $(pidof kube-apiserver k3s-server)")

    signal("STOP")
    try:
        done = running.envkit("status", "--json")
        status = json.loads(done.stdout)
        assert done.seconds < 6
        assert status["state"] == "broken"
        assert any("no answer within" in reason for reason in status["reasons"])
    finally:
        signal("CONT")


# -- a changed configuration ----------------------------------------------------------------------------------------


def test_a_changed_configuration_is_shown_and_not_applied(running: Generated) -> None:
    path = running.root / "k3d.yaml"
    original = path.read_text(encoding="utf-8")
    before = running.identities()
    path.write_text(original.replace(f"agents: {_AGENTS}", f"agents: {_AGENTS + 1}"), encoding="utf-8")
    try:
        status = running.status()
        created = running.envkit("create")
    finally:
        path.write_text(original, encoding="utf-8")
    assert status["state"] == "running"
    assert status["drift"] == [f"agents: {_AGENTS} -> {_AGENTS + 1}"]
    assert "delete" in status["next_step"]
    assert f"agents: {_AGENTS} -> {_AGENTS + 1}" in created.stdout
    assert "nothing had to be done" in created.stdout
    assert running.identities() == before
    assert running.status()["drift"] == []


@pytest.mark.parametrize("variable", ["HTTP_PORT", "API_PORT", "REGISTRY_PORT"])
def test_a_port_changed_in_dotenv_is_shown_and_not_applied(running: Generated, variable: str) -> None:
    dotenv = running.root / ".env"
    before = running.identities()
    dotenv.write_text(f"{variable}={free_ports(1)[0]}\n", encoding="utf-8")
    try:
        status = running.status()
        created = running.envkit("create")
    finally:
        dotenv.unlink()
    assert status["state"] == "running"
    assert status["drift"]
    assert str(running.answers[variable.lower()]) in created.stdout
    assert "nothing had to be done" in created.stdout
    assert running.identities() == before


@pytest.mark.parametrize("same", ["cluster_name", "project"])
def test_an_environment_with_the_name_of_another_is_refused(
    running: Generated, new_environment: NewEnvironment, same: str
) -> None:
    names = {"cluster_name": running.cluster, "project": running.project}
    different = {"cluster_name": f"{running.cluster}-b", "project": f"x{running.project}"}
    other = new_environment(**{**running.answers, **different, same: names[same]})
    belongs_to = f"environment in {running.root}" if same == "cluster_name" else f"cluster {running.cluster}"
    before, files, volumes = running.identities(), _kubeconfig_files(running), running.volumes()
    developer = {name: running.variables()[name] for name in ("HOME", "ENVKIT_STATE_DIR")}
    for recipe in ("create", "start", "stop", "restart", "delete", "clean"):
        refused = other.envkit(recipe, expect=1, variables=developer)
        assert f"belongs to the {belongs_to}" in refused.stderr
        assert running.identities() == before
        assert _kubeconfig_files(running) == files
        assert running.volumes() == volumes


# -- deletion -------------------------------------------------------------------------------------------------------


def test_delete_asks_first(running: Generated) -> None:
    before = running.identities()
    running.just("delete", expect=1)
    assert running.identities() == before


def test_delete_leaves_nothing_but_the_images_of_the_registry(running: Generated) -> None:
    name = push_hello(running)
    deleted = running.just("--yes", "delete")
    running.assert_nothing_is_left(volumes=True)
    assert running.volumes() == {running.registry}
    assert running.registry in deleted.stdout
    text = running.merged_kubeconfig.read_text(encoding="utf-8")
    assert foreign_entries(text) == original_foreign_entries()
    assert running.status()["state"] == "absent"

    again = running.just("--yes", "delete")
    assert "There was nothing to remove." in again.stdout

    running.envkit("create")
    pull(running, image_name(running, name))


def test_delete_all_deletes_the_images_of_the_registry_too(running: Generated) -> None:
    running.just("--yes", "delete", "--all")
    running.assert_nothing_is_left()


def test_clean_leaves_what_other_projects_have_in_docker(running: Generated) -> None:
    mine = image_name(running, "mine:1", "localhost:{port}")
    docker("tag", HELLO_IMAGE, mine)
    stopped = docker("create", f"--name={running.project[:-1]}-other", HELLO_IMAGE)
    dangling = docker("commit", stopped)
    volume = docker("volume", "create", f"{running.project[:-1]}-other")
    try:
        cleaned = running.just("--yes", "clean")
        running.assert_nothing_is_left()
        assert inspect("image", mine) is None
        assert mine in cleaned.stdout
        assert inspect("container", stopped)
        assert inspect("image", dangling)
        assert inspect("image", HELLO_IMAGE)
        assert inspect("volume", volume)
    finally:
        docker("rm", stopped)
        docker("rmi", dangling)
        docker("volume", "rm", volume)


# -- helpers --------------------------------------------------------------------------------------------------------


def _kubectl_without_arguments(environment: Generated, *arguments: str) -> str:
    """kubectl as it is typed: with the developer's own kubeconfig and its current context."""
    return environment.run("kubectl", *arguments).stdout


def _kubeconfig_files(environment: Generated) -> dict[str, tuple[int, str]]:
    paths = (environment.kubeconfig, environment.devcontainer_kubeconfig, environment.merged_kubeconfig)
    return {str(path): (path.stat().st_mtime_ns, path.read_text(encoding="utf-8")) for path in paths}


def _specs(environment: Generated) -> dict[str, Any]:
    """What makes a node the same node: its identity and all that does not follow its state.

    Kubernetes itself takes the taint of a node that was not ready away, some moments after the node is.
    """
    specs = {}
    for node in environment.objects("nodes"):
        taints = [taint for taint in node["spec"].get("taints", []) if taint["key"] != "node.kubernetes.io/not-ready"]
        specs[node["metadata"]["name"]] = (
            node["metadata"]["uid"],
            node["metadata"]["labels"],
            {**node["spec"], "taints": taints},
        )
    return specs


def _skip_if_unknown(image: str) -> None:
    host = image.partition(":")[0]
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        skip_without(f"{host} does not resolve on this machine (just install makes it)")


def _own_storage(folder: Path) -> str:
    """The settings of an image store in this folder; the plain driver works on every file system."""
    path = folder / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/store"\n', encoding="utf-8"
    )
    return str(path)


def _devcontainer_settings(environment: Generated) -> dict[str, Any]:
    text = (environment.root / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("//"))
    settings: dict[str, Any] = json.loads("\n".join(lines))
    return settings


def _uid() -> int:
    """The number that vscode gets: that of the machine's user, or its own where that is root."""
    return os.getuid() or _DEVCONTAINER_UID


def _give_to_developer(environment: Generated) -> None:
    """Makes the kubeconfigs the developer's where the tests run as root and all is root's."""
    if os.getuid() == 0:
        for path in (environment.home / ".kube").iterdir():
            os.chown(path, _DEVCONTAINER_UID, _DEVCONTAINER_UID)


def _docker_arguments(environment: Generated, settings: dict[str, Any]) -> list[str]:
    _give_to_developer(environment)
    mounts = [mount.replace("${localEnv:HOME}", str(environment.home)) for mount in settings["mounts"]]
    assert not [mount for mount in mounts if "${" in mount]
    return [
        *(argument.replace("${localEnv:HOME}", str(environment.home)) for argument in settings["runArgs"]),
        *(f"--mount={mount}" for mount in mounts),
        *(f"--env={key}={value}" for key, value in settings["containerEnv"].items()),
        f"--user={_DEVCONTAINER_USER if os.getuid() == 0 else os.getuid()}",
        settings["image"],
    ]
