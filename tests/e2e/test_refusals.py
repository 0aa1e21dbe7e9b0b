"""What stands in the way is said before anything is made, with the line that puts it right."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator

import pytest
import yaml
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.machine import docker, free_ports
from e2e.workload import HELLO_IMAGE, image_name, pull, push_hello

pytestmark = pytest.mark.e2e

_NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
_QUICK = 5


@pytest.fixture(scope="module")
def environment(new_environment: NewEnvironment) -> Generated:
    return new_environment()


@pytest.fixture
def process_on_the_http_port(environment: Generated) -> Iterator[int]:
    """This test runner listens there; its number."""
    with socket.create_server(("127.0.0.1", environment.answers["http_port"])):
        yield os.getpid()


@pytest.fixture
def container_on_the_registry_port(environment: Generated) -> Iterator[str]:
    """A container of somebody else publishes it; its name."""
    name = f"{environment.project}-squatter"
    port = environment.answers["registry_port"]
    docker("run", "--detach", f"--name={name}", f"--publish=127.0.0.1:{port}:8080", HELLO_IMAGE)
    yield name
    docker("rm", "--force", name)


def test_busy_ports_are_refused_before_anything_is_made_and_the_named_lines_help(
    environment: Generated, process_on_the_http_port: int, container_on_the_registry_port: str
) -> None:
    http, registry = environment.answers["http_port"], environment.answers["registry_port"]

    refused = environment.envkit("create", expect=1)
    environment.assert_nothing_is_left()
    assert f"HTTP on 127.0.0.1:{http}: held by " in refused.stderr
    assert f"(process {process_on_the_http_port})" in refused.stderr
    assert f"registry on 127.0.0.1:{registry}: held by the container {container_on_the_registry_port}" in refused.stderr
    lines = re.findall(r"\b(HTTP_PORT|REGISTRY_PORT)=(\d+)", refused.stderr)
    assert [name for name, _ in lines] == ["HTTP_PORT", "REGISTRY_PORT"]

    examined = environment.envkit("doctor", expect=1)
    assert container_on_the_registry_port in examined.stdout
    assert "2 would stop" in examined.stdout

    api = free_ports(1)[0]
    chosen = {**dict(lines), "API_PORT": str(api)}
    dotenv = environment.root / ".env"
    dotenv.write_text("".join(f"{name}={port}\n" for name, port in chosen.items()), encoding="utf-8")
    environment.envkit("create")
    status = environment.status()
    assert status["state"] == "running"
    assert status["drift"] == []
    assert set(status["ports"].values()) == {
        f"127.0.0.1:{port}" for port in (*chosen.values(), environment.answers["https_port"])
    }
    document = yaml.safe_load(environment.kubeconfig.read_text(encoding="utf-8"))
    assert document["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{api}"
    assert environment.ready_nodes() == {environment.server}
    name = push_hello(environment)
    pull(environment, image_name(environment, name))  # by the team's port, as manifests have it
    pull(environment, f"localhost:{chosen['REGISTRY_PORT']}/{name}")


@pytest.mark.parametrize(
    ("recipe", "status"), [("status", 0), ("create", 1), ("doctor", 1), ("stop", 1), ("delete", 1)]
)
def test_without_docker_each_recipe_ends_soon_and_says_what_to_do(
    environment: Generated, recipe: str, status: int
) -> None:
    """No engine is known for this socket that could be started; tests of envkit have those that are."""
    done = environment.envkit(recipe, expect=status, variables=_NO_DOCKER)
    assert done.seconds < _QUICK
    assert "Docker is not reachable." in done.output
    assert "docker context ls   (which engine is meant? the variable DOCKER_HOST goes before a context)" in done.output


def test_status_for_machines_is_json_without_docker_too(environment: Generated) -> None:
    document = yaml.safe_load(environment.envkit("status", "--json", variables=_NO_DOCKER).stdout)
    assert document["state"] == "unknown"
    assert document["next_step"]


def test_a_mistake_in_dotenv_is_named(environment: Generated) -> None:
    dotenv = environment.root / ".env"
    before = dotenv.read_text(encoding="utf-8") if dotenv.exists() else None
    dotenv.write_text("HTTPPORT=8080\n", encoding="utf-8")
    try:
        refused = environment.envkit("create", expect=1)
    finally:
        dotenv.unlink()
        if before is not None:
            dotenv.write_text(before, encoding="utf-8")
    assert "Did you mean HTTP_PORT?" in refused.stderr


def test_settings_of_k3d_in_the_process_environment_change_nothing(new_environment: NewEnvironment) -> None:
    environment = new_environment()
    environment.envkit("create", variables={"K3D_CLUSTER": "other", "K3D_SERVERS": "3", "K3D_AGENTS": "2"})
    assert environment.ready_nodes() == {environment.server}
    assert environment.status()["state"] == "running"
