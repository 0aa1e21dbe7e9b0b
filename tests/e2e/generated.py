"""A generated environment, used as its developers use it, and looked at from outside."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import yaml
from copier import run_copy
from e2e.machine import docker, docker_host, free_ports, inspect

PORTS = ("http_port", "https_port", "api_port", "registry_port")
_SECONDS = 480
"""Longer than `create` needs to wait for a new cluster in vain, restart it and wait again."""

_FOREIGN = """\
apiVersion: v1
kind: Config
clusters:
- name: company
  cluster:
    server: https://kubernetes.example.com
contexts:
- name: company
  context: {cluster: company, user: me}
current-context: company
users:
- name: me
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: login
      args: [--since, 2024-01-01, --flag, "yes"]
      interactiveMode: Never
"""


class NodeFacts(TypedDict):
    """What `status --json` says of a container."""

    name: str
    role: str
    container: str
    ready: bool | None


@dataclass(frozen=True)
class Finished:
    """How a program ended.

    Attributes:
        status: Its exit status.
        stdout: What it printed as its result.
        stderr: What it printed besides.
        seconds: How long it ran.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Running:
    """A program that still runs, in a process group of its own as a shell starts it."""

    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)

    def signal_group(self, number: signal.Signals) -> None:
        """What a terminal does at Ctrl-C, or a machine that loses power; no error where all have ended."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def finish(self, seconds: float = _SECONDS) -> Finished:
        """Waits for the end."""
        stdout, stderr = self.process.communicate(timeout=seconds)
        return Finished(self.process.returncode, stdout, stderr, time.monotonic() - self.started)


@dataclass(frozen=True)
class Generated:
    """An environment in a folder of its own, with a home folder of its own.

    Attributes:
        root: The repository.
        home: The home folder of the developer who uses it.
        answers: What was answered.
    """

    root: Path
    home: Path
    answers: dict[str, Any]

    @property
    def project(self) -> str:
        """Its name; no other environment has the same."""
        return str(self.answers["project"])

    @property
    def cluster(self) -> str:
        """Name of its cluster."""
        return str(self.answers.get("cluster_name", f"{self.project}-dev"))

    @property
    def context(self) -> str:
        """Name of its kubectl context, also of its network."""
        return f"k3d-{self.cluster}"

    @property
    def registry(self) -> str:
        """Name of its registry's container and volume, also where it shares them."""
        return f"k3d-{self.answers.get('registry_name', f'{self.project}-registry')}"

    @property
    def server(self) -> str:
        """Name of its server's container."""
        return f"{self.context}-server-0"

    @property
    def load_balancer(self) -> str:
        """Name of its load balancer's container."""
        return f"{self.context}-serverlb"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for this machine."""
        return self.home / ".kube" / f"{self.context}.yaml"

    @property
    def devcontainer_kubeconfig(self) -> Path:
        """The kubeconfig for containers."""
        return self.home / ".kube" / f"{self.context}.devcontainer.yaml"

    @property
    def merged_kubeconfig(self) -> Path:
        """The developer's own kubeconfig."""
        return self.home / ".kube" / "config"

    # -- using it -----------------------------------------------------------------------------------------------

    def variables(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The process environment of the developer."""
        variables = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "ENVKIT_JUST")}
        return {
            **variables,
            "HOME": str(self.home),
            "ENVKIT_STATE_DIR": str(self.home / "state"),
            "DOCKER_HOST": docker_host(),
            **(extra or {}),
        }

    def start(self, *command: str | Path, variables: Mapping[str, str] | None = None) -> Running:
        """Starts a program in the repository; Ctrl-C and kill reach its whole process group."""
        return Running(
            subprocess.Popen(
                command,
                cwd=self.root,
                env=self.variables(variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # A test runner in the background of a shell ignores Ctrl-C and would hand that on.
                preexec_fn=_heed_interrupts,  # noqa: PLW1509 - no threads here
            )
        )

    def run(
        self,
        *command: str | Path,
        expect: int | None = 0,
        seconds: float = _SECONDS,
        variables: Mapping[str, str] | None = None,
    ) -> Finished:
        """Runs a program in the repository; the test fails where it ends otherwise than expected."""
        running = self.start(*command, variables=variables)
        try:
            done = running.finish(seconds)
        finally:
            running.signal_group(signal.SIGKILL)
        shown = " ".join(map(str, command))
        assert "Traceback" not in done.output, f"{shown} printed a traceback:\n{done.output}"
        assert expect is None or done.status == expect, f"{shown} ended with {done.status}:\n{done.output}"
        return done

    def envkit(self, *arguments: str, expect: int | None = 0, variables: Mapping[str, str] | None = None) -> Finished:
        """Runs a recipe's program."""
        return self.run(self.root / "bin" / "envkit", *arguments, expect=expect, variables=variables)

    def just(self, *arguments: str, expect: int | None = 0) -> Finished:
        """Runs a recipe as it is typed."""
        return self.run(self.root / "bin" / "just", *arguments, expect=expect)

    def start_create(self) -> Running:
        """Starts `create` and does not wait for it."""
        return self.start(self.root / "bin" / "envkit", "create")

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints on this cluster."""
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig}", "--request-timeout=30s", *arguments],
            input=stdin if stdin is not None else "",
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)} failed: {done.stderr}"
        return done.stdout

    # -- looking at it ------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        status: dict[str, Any] = json.loads(self.envkit("status", "--json").stdout)
        return status

    def objects(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Kubernetes objects."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"]
        return items

    def ready_nodes(self) -> set[str]:
        """Names of the nodes that are Ready."""
        return {
            node["metadata"]["name"]
            for node in self.objects("nodes")
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
        }

    def containers(self) -> dict[str, dict[str, Any]]:
        """Docker's description of each container of the cluster and of its registry, by name."""
        by_label = docker("ps", "--all", "--quiet", "--filter", f"label=k3d.cluster={self.cluster}").split()
        by_name = docker("ps", "--all", "--quiet", "--filter", f"name=^{self.registry}$").split()
        idents = sorted({*by_label, *by_name})
        if not idents:
            return {}
        found = json.loads(docker("container", "inspect", *idents, check=False) or "[]")
        return {entry["Name"].lstrip("/"): entry for entry in found}

    def identities(self) -> dict[str, tuple[str, str]]:
        """For each container its id and when it was started: equal as long as nobody touched it."""
        return {name: (entry["Id"], entry["State"]["StartedAt"]) for name, entry in self.containers().items()}

    def volumes(self) -> set[str]:
        """Names of Docker's volumes that belong to it."""
        names = docker("volume", "ls", "--format", "{{.Name}}").split()
        return {name for name in names if self.project in name or name == self.registry}

    def has_network(self) -> bool:
        """Whether Docker has its network."""
        return inspect("network", self.context) is not None

    def assert_nothing_is_left(self, *, volumes: bool = False) -> None:
        """No container, network or kubeconfig; unless told otherwise no volume either."""
        assert self.containers() == {}
        assert not self.has_network()
        assert not self.kubeconfig.exists()
        assert not self.devcontainer_kubeconfig.exists()
        merged = self.merged_kubeconfig
        assert not merged.exists() or self.context not in merged.read_text(encoding="utf-8")
        assert volumes or self.volumes() == set()

    def remove(self) -> None:
        """Removes all that it has in Docker, whatever state that is in."""
        attached = (inspect("network", self.context) or {}).get("Containers") or {}
        docker("rm", "--force", "--volumes", *self.containers(), *attached, check=False)
        docker("network", "rm", self.context, check=False)
        docker("volume", "rm", *self.volumes(), check=False)
        names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
        ports = (f":{self.answers['registry_port']}/", self.project)
        docker("rmi", *(name for name in names if any(part in name for part in ports)), check=False)
        for path in (self.kubeconfig, self.devcontainer_kubeconfig, self.merged_kubeconfig):
            path.unlink(missing_ok=True)


def generate(template: Path, folder: Path, python_environment: Path | None = None, **answers: Any) -> Generated:
    """Generates an environment with free ports and a name of its own, and a home folder with a foreign context.

    Args:
        template: The snapshot of the template.
        folder: Where repository and home folder are made.
        python_environment: The `.venv` of another environment, to share it; it is the same in each.
        answers: Answers that differ from those for tests.
    """
    answers = {**answers_for_tests(), **answers}
    root, home = folder / "env", folder / "home"
    run_copy(str(template), root, answers, defaults=True, quiet=True, unsafe=True, skip_tasks=True)
    if python_environment:
        (root / ".venv").symlink_to(python_environment)
    (home / ".kube").mkdir(parents=True)
    generated = Generated(root, home, answers)
    write_foreign_kubeconfig(generated)
    return generated


def answers_for_tests() -> dict[str, Any]:
    """A name that no other environment has, free ports, and the node image that the machine may name."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    answers = {"project": f"e2e{secrets.token_hex(3)}", "lens": "none", "ingress": "none", "agents": 0, **ports}
    if image := os.environ.get("LAB_K3S_IMAGE"):
        answers["k3s_image"] = image
    return answers


def write_foreign_kubeconfig(generated: Generated) -> None:
    """Gives the developer a kubeconfig with a context of another cluster."""
    generated.merged_kubeconfig.write_text(_FOREIGN, encoding="utf-8")


def foreign_entries(text: str) -> dict[str, Any]:
    """The entries of the foreign context in a kubeconfig, each value as it is spelled; empty where one is missing."""
    document = yaml.load(text, Loader=yaml.BaseLoader)
    names = {"clusters": "company", "contexts": "company", "users": "me"}
    found = {}
    for section, name in names.items():
        entry = next((entry for entry in document[section] or [] if entry["name"] == name), None)
        if entry is None:
            return {}
        found[section] = entry
    return found


def original_foreign_entries() -> dict[str, Any]:
    """The entries of the foreign context as they were written."""
    return foreign_entries(_FOREIGN)


def original_foreign_kubeconfig() -> str:
    """The developer's kubeconfig as it was before."""
    return _FOREIGN


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
