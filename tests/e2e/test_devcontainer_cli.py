"""The dev containers of service repositories, started by the real Dev Container CLI, on a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.machine import docker
from jsonc import parse
from support import commit_all

pytestmark = pytest.mark.e2e

CLI = "@devcontainers/cli@0.89.0"
IMAGE = "mcr.microsoft.com/devcontainers/base:bookworm"
_UID = 1000
_SECONDS = 240

IN_IMAGE = f"""{{
  // Ours: stays.
  "name": "orders",
  "image": "{IMAGE}",
  "remoteUser": "vscode",
  "initializeCommand": "touch prepared",
  "runArgs": ["--init"],
}}
"""
IN_COMPOSE = """{
  "name": "orders", // with its database
  "dockerComposeFile": "../compose.yml",
  "service": "app",
  "workspaceFolder": "/workspace",
  "remoteUser": "vscode"
}
"""
COMPOSE = f"""services:
  app:
    image: {IMAGE}
    command: sleep infinity
    volumes: [".:/workspace"]
  db:
    image: {IMAGE}
    command: sleep infinity
"""

# What a builder does at the end: blobs first, then the manifest that names them.
PUSH = """
set -eu
registry=http://$1 name=$2
put() {
  printf %s "$1" >/tmp/blob
  digest=sha256:$(sha256sum /tmp/blob | cut -d' ' -f1)
  place=$(curl -fsS -X POST -D - -o /dev/null "$registry/v2/$name/blobs/uploads/" |
    tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
  case $place in *\\?*) place="$place&" ;; *) place="$place?" ;; esac
  case $place in /*) place=$registry$place ;; esac
  curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary @/tmp/blob "${place}digest=$digest"
}
put '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
type=application/vnd.oci.image
manifest='{"schemaVersion":2,"mediaType":"'$type'.manifest.v1+json","config":{"mediaType":"'$type'.config.v1+json",'
manifest=$manifest'"digest":"'$digest'","size":'$(wc -c </tmp/blob)'},"layers":[]}'
curl -fsS -X PUT -H "Content-Type: $type.manifest.v1+json" --data "$manifest" "$registry/v2/$name/manifests/latest"
"""


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Dev Container CLI.

    It is a program of Node.js that nothing else here needs, and comes over the network: where it cannot be had the
    tests are skipped, also with E2E=required.
    """
    if found := shutil.which("devcontainer"):
        return Path(found)
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no devcontainer on PATH, and no Node.js with npm to install it")
    folder = tmp_path_factory.mktemp("cli")
    options = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts", f"--prefix={folder}"]
    done = subprocess.run(["npm", "install", *options, CLI], capture_output=True, text=True, check=False)
    program = folder / "node_modules" / ".bin" / "devcontainer"
    if done.returncode or not program.exists():
        pytest.skip(f"npm cannot install {CLI}: {done.stderr.strip()[-300:]}")
    return program


@pytest.fixture(scope="module")
def environment(cli: Path, new_environment: NewEnvironment) -> Generated:  # noqa: ARG001 - no cluster without it
    """An environment whose cluster runs."""
    environment = new_environment(agents=0)
    environment.envkit("create")
    if os.getuid() == 0:
        # Where the tests run as root, the developer in the container is another user than that of the machine.
        for path in (environment.home / ".kube").iterdir():
            os.chown(path, _UID, _UID)
    return environment


class Service:
    """A service repository, and the dev container that it describes."""

    def __init__(self, root: Path, cli: Path, environment: Generated) -> None:
        self.root, self._cli, self._environment = root, cli, environment

    @property
    def settings(self) -> dict[str, Any]:
        """Its devcontainer.json."""
        settings: dict[str, Any] = parse(self._file.read_text(encoding="utf-8")).value
        return settings

    @property
    def _file(self) -> Path:
        return self.root / ".devcontainer" / "devcontainer.json"

    def merge_snippet(self, template: Path) -> None:
        """Merges the snippet, with the image's own kubectl and Helm: features come from the internet."""
        answers = {"scope": "devcontainer", "project": self._environment.project, "devcontainer_image": IMAGE}
        run_copy(str(template), self.root, answers, defaults=True, quiet=True, unsafe=True)

    def up(self) -> None:
        """Starts the dev container."""
        done = self._environment.run(
            self._cli, "up", f"--workspace-folder={self.root}", "--remove-existing-container", seconds=_SECONDS
        )
        assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "success"

    def inside(self, *command: str) -> str:
        """What a command prints in the dev container."""
        done = self._environment.run(self._cli, "exec", f"--workspace-folder={self.root}", *command, seconds=_SECONDS)
        return done.stdout.strip()

    def remove(self) -> None:
        """Removes its containers, networks and images."""
        label = f"label=devcontainer.local_folder={self.root}"
        mine = docker("ps", "--all", "--quiet", "--filter", label).split()
        project = f"label=com.docker.compose.project={self.root.name}"
        for kind in (project, f"{project}_devcontainer"):
            mine += docker("ps", "--all", "--quiet", "--filter", kind).split()
        docker("rm", "--force", "--volumes", *mine, check=False)
        for kind in (project, f"{project}_devcontainer"):
            names = docker("network", "ls", "--quiet", "--filter", kind).split()
            docker("network", "rm", *names, check=False)
        images = docker("image", "ls", "--quiet", "--filter", f"reference=vsc-{self.root.name}-*").split()
        docker("rmi", "--force", *images, check=False)


NewService = Callable[..., Service]


@pytest.fixture
def new_service(cli: Path, environment: Generated, template: Path, tmp_path: Path) -> Iterator[NewService]:
    """A function that makes a service repository of these files and merges the snippet into it."""
    root = tmp_path / f"orders-{environment.project}"
    service = Service(root, cli, environment)

    def new(**files: str) -> Service:
        (root / ".devcontainer").mkdir(parents=True)
        (root / ".devcontainer" / "devcontainer.json").write_text(files["settings"], encoding="utf-8")
        if "compose" in files:
            (root / "compose.yml").write_text(files["compose"], encoding="utf-8")
        root.chmod(0o777)
        commit_all(root, "the service")
        service.merge_snippet(template)
        return service

    try:
        yield new
    finally:
        service.remove()


def test_dev_container_of_a_service_reaches_the_cluster(new_service: NewService, environment: Generated) -> None:
    service = new_service(settings=IN_IMAGE)
    service.up()
    assert (service.root / "prepared").exists()
    assert_cluster_and_registry_are_reached(service, environment)


def test_dev_container_of_compose_reaches_the_cluster_and_its_own_services(
    new_service: NewService, environment: Generated
) -> None:
    if not _has_compose():
        pytest.skip("there is no Docker Compose here (docker compose version); environments do not need it")
    service = new_service(settings=IN_COMPOSE, compose=COMPOSE)
    service.up()
    assert service.settings["dockerComposeFile"] == ["../compose.yml", "compose.k3d.yaml"]
    assert_cluster_and_registry_are_reached(service, environment)
    assert service.inside("getent", "hosts", "db").endswith("db")
    assert service.inside("ls", "/workspace/compose.yml") == "/workspace/compose.yml"


def assert_cluster_and_registry_are_reached(service: Service, environment: Generated) -> None:
    nodes = service.inside("kubectl", "get", "nodes", "--output=name").split()
    assert {node.removeprefix("node/") for node in nodes} == environment.ready_nodes()
    assert service.inside("helm", "list", "-A").startswith("NAME")
    name = f"from-{'compose' if 'service' in service.settings else 'image'}"
    service.inside("sh", "-c", PUSH, "push", f"{environment.registry}:5000", name)
    port = environment.answers["registry_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/{name}/tags/list", timeout=10) as answer:
        assert json.load(answer) == {"name": name, "tags": ["latest"]}
    mounts = [line.split() for line in service.inside("cat", "/proc/mounts").splitlines()]
    assert [options.split(",")[0] for _, target, _, options, *_ in mounts if target == "/home/vscode/.kube"] == ["ro"]


def _has_compose() -> bool:
    for command in (["docker", "compose", "version"], ["docker-compose", "version"]):
        if shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return True
    return False
