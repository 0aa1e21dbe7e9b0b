"""A GitHub for runners that stands in on this machine, and environments whose runners belong to it.

Its control API is told of by the variables `LAB_*`, which the machine's set-up exports. Without them these tests cannot
run: they need a GitHub that can be made to refuse.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from e2e.generated import Generated
from e2e.machine import docker, inspect, skip_without, wait_until

APP_ID, INSTALLATION_ID = "1001", "2002"
KEY_FILE = ".github-app-private-key.pem"

# What the real image has of its own; the lab's base has only the runner, and around it much that no job reads: that
# would be compressed, pushed, pulled and unpacked for each of the clusters.
_BUILDCTL = """\
FROM {buildkit} AS buildkit
FROM {base}
COPY --from=buildkit /usr/bin/buildctl /usr/local/bin/buildctl
USER root
RUN rm -rf /var/cache/apt /usr/share/doc /usr/share/locale /usr/share/man \
 /usr/share/perl /usr/lib/*/perl /usr/lib/git-core /usr/lib/python3*
USER 1001
"""
_BUILDAH = """\
FROM {buildctl}
USER root
RUN apt-get update -q && apt-get install -y -q --no-install-recommends buildah uidmap libcap2-bin crun \\
 && rm -rf /var/lib/apt/lists /var/cache/apt \\
 && chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap \\
 && setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap \\
 && (grep -q ^runner: /etc/subuid || echo runner:100000:65536 | tee -a /etc/subuid >>/etc/subgid)
ENV BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
USER 1001
"""
# Debian's Docker engine stands in for the image docker:dind. It is older, and knows less of daemon.json.
_DOCKER = """\
FROM {base}
USER root
RUN apt-get update -q && apt-get install -y -q --no-install-recommends docker.io iptables \\
 && rm -rf /var/lib/apt/lists /var/cache/apt \\
 && mkdir -p /home/runner/externals
USER 1001
"""
_DIND = """\
FROM {docker}
USER root
COPY start /start
ENTRYPOINT ["sh", "/start"]
"""
_START = """\
jq 'del(."default-network-opts")' /etc/docker/daemon.json >/run/daemon.json
exec "$@" --config-file=/run/daemon.json
"""

_LAYERS = "arc-test.layers"
"""Label of a flattened image: the image that it was made of."""


def missing_lab() -> str:
    """What is missing for these tests; empty where nothing is."""
    wanted = ("LAB_ARC_VERSION", "LAB_ARC_CONTROLLER_CHART", "LAB_GITHUB_CONTROL", "LAB_GITHUB_URL", "LAB_RUNNER_IMAGE")
    missing = [name for name in wanted if not os.environ.get(name)]
    return f"there is no GitHub that stands in ({', '.join(missing)} not set)" if missing else ""


def require_lab() -> None:
    """Without a GitHub that stands in nothing can be tried; half of one is a fault of the machine's set-up."""
    if missing := missing_lab():
        pytest.skip(missing) if "LAB_ARC_VERSION" not in os.environ else skip_without(missing)


@dataclass(frozen=True)
class GitHub:
    """One that stands in.

    Attributes:
        control: Address of its control API, as this machine reaches it.
        config_url: An organisation, as pods reach it.
    """

    control: str
    config_url: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Calls it; its failure fails the test."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.control}/{path}", data=data, method=method), timeout=30
        ) as response:
            return json.loads(response.read() or b"null")

    def state(self) -> Any:
        """All that it knows."""
        return self.call("GET", "state")

    def answers(self) -> bool:
        """Whether it does."""
        try:
            return bool(self.state())
        except OSError:
            return False

    def reset(self, public_key: str) -> None:
        """Forgets everything, and accepts one App alone."""
        self.call("POST", "reset", {})
        app = {"app_id": APP_ID, "installation_id": INSTALLATION_ID, "public_key": public_key}
        self.call("POST", "credentials", {"apps": [app], "tokens": ["lab_token"]})

    def refuse(self, path: str, status: int, *, times: int = 0, kind: str = "LabException") -> None:
        """Answers what is posted to this path with a status, `times` times or (0) until `accept`."""
        body = {"path": path, "method": "POST", "status": status, "times": times, "type": kind, "message": "refused"}
        self.call("POST", "faults", body)

    def accept(self) -> None:
        """Ends all refusals."""
        self.call("DELETE", "faults")

    def queue(self, **job: Any) -> list[int]:
        """Queues jobs; returns their numbers."""
        numbers: list[int] = self.call("POST", "jobs", job)["jobs"]
        return numbers

    def run_job(self, script: str, *, seconds: float = 120, **job: Any) -> str:
        """Queues a job with this script and waits for its end; returns what it printed. A failed job fails the test."""
        number = self.queue(script=script, **job)[0]

        def ended() -> Any:
            job = self.call("GET", f"jobs/{number}")
            return job if job["state"] == "done" else None

        job = wait_until(f"job {number} is done", ended, seconds)
        assert job["result"] == "succeeded", job["output"]
        return str(job["output"])

    def is_empty(self) -> bool:
        """Whether nothing is registered."""
        state = self.state()
        return not (state["scaleSets"] or state["runners"] or state["sessions"])


@contextmanager
def started_github(public_key: str) -> Iterator[GitHub]:
    """Another one like the machine's, which accepts one App alone; the tests of several files do not meet in it.

    Args:
        public_key: Of the App.

    Yields:
        It, answering.
    """
    control, config_url = os.environ["LAB_GITHUB_CONTROL"], os.environ["LAB_GITHUB_URL"]
    origin = urlsplit(control)
    (running,) = docker("ps", "--quiet", f"--filter=publish={origin.port}").split()
    described = inspect("container", running)
    assert described
    bindings = described["HostConfig"]["PortBindings"].items()
    (port,) = (inside for inside, hosts in bindings if any(host["HostPort"] == str(origin.port) for host in hosts))
    container = docker("run", "--detach", "--rm", f"--publish={port}", described["Config"]["Image"])
    try:
        own = docker("port", container, port).partition("\n")[0].rpartition(":")[2]
        github = GitHub(*(address.replace(f":{origin.port}/", f":{own}/") for address in (control, config_url)))
        wait_until("the GitHub that stands in answers", github.answers)
        github.reset(public_key)
        yield github
    finally:
        docker("rm", "--force", container)


@dataclass(frozen=True)
class Key:
    """A key of an App.

    Attributes:
        private: In PEM, as GitHub gives it.
        public: In PEM.
    """

    private: str
    public: str


def new_key() -> Key:
    """A key as GitHub makes them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Key(private, public)


def write_key(environment: Generated, key: Key) -> None:
    """Puts a key where `.env` says."""
    path = environment.root / KEY_FILE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(key.private, encoding="utf-8")


def write_dotenv(environment: Generated, github: GitHub, **lines: str) -> None:
    """Writes `.env` with the App's lines and these."""
    values = {
        "GITHUB_APP_ID": APP_ID,
        "GITHUB_APP_INSTALLATION_ID": INSTALLATION_ID,
        "GITHUB_APP_PRIVATE_KEY_PATH": KEY_FILE,
        "GITHUB_CONFIG_URL": github.config_url,
        **lines,
    }
    path = environment.root / ".env"
    path.touch(mode=0o600)
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")


def arc_answers() -> dict[str, Any]:
    """Answers that take version, charts and images from this machine."""
    return {
        "arc_version": os.environ["LAB_ARC_VERSION"],
        "arc_chart_repository": str(Path(os.environ["LAB_ARC_CONTROLLER_CHART"]).parent),
        "buildkit_image": os.environ["LAB_BUILDKIT_IMAGE"],
        "github_org": "lab-org",
    }


def build_runner_image(folder: Path) -> str:
    """An image of the lab's runner with BuildKit's client; returned by its local name."""
    text = _BUILDCTL.format(buildkit=os.environ["LAB_BUILDKIT_IMAGE"], base=os.environ["LAB_RUNNER_IMAGE"])
    return _flattened(_build(folder, text, "layers"), "buildctl")


def build_runner_image_with_buildah(folder: Path) -> str:
    """The same with Buildah, which is more than a third of it to compress, push, pull and unpack."""
    return _build(folder, _BUILDAH.format(buildctl=build_runner_image(folder)), "buildah")


def build_images_with_docker(folder: Path, base: str) -> tuple[str, str]:
    """An image of runners with Docker's client, and one of its engine, which has the same layers."""
    runner = _build(folder, _DOCKER.format(base=base), "docker")
    (folder / "start").write_text(_START, encoding="utf-8")
    return runner, _build(folder, _DIND.format(docker=runner), "dind")


def _local_name(kind: str) -> str:
    return f"arc-test-runner-{kind}:{os.environ['LAB_ARC_VERSION']}"


def _build(folder: Path, dockerfile: str, kind: str) -> str:
    name = _local_name(kind)
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    subprocess.run(
        ["docker", "build", "--quiet", "--network=host", f"--tag={name}", str(folder)],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=True,
    )
    return name


def _flattened(image: str, kind: str) -> str:
    """The same image as one layer, without what its later layers have removed from the earlier ones."""
    name = _local_name(kind)
    described = inspect("image", image)
    assert described
    made = inspect("image", name)
    if made and (made["Config"]["Labels"] or {}).get(_LAYERS) == described["Id"]:
        return name
    config = described["Config"]
    entrypoint = [f"ENTRYPOINT {json.dumps(config['Entrypoint'])}"] if config["Entrypoint"] else []
    changes = [
        *(f"ENV {key}={json.dumps(value)}" for key, _, value in (line.partition("=") for line in config["Env"])),
        *(
            f"LABEL {key}={json.dumps(value)}"
            for key, value in {**(config["Labels"] or {}), _LAYERS: described["Id"]}.items()
        ),
        *(f"WORKDIR {config['WorkingDir']}", f"USER {config['User']}", f"CMD {json.dumps(config['Cmd'] or [])}"),
        *entrypoint,
    ]
    container = docker("create", image)
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            command = ["docker", "import", *(f"--change={change}" for change in changes), "-", name]
            subprocess.run(command, stdin=export.stdout, capture_output=True, check=True)
        assert export.returncode == 0
    finally:
        docker("rm", container)
    return name


def push_runner_image(environment: Generated, image: str, tag: str) -> str:
    """Puts it into the environment's registry, and into the note that `build-runner` leaves; returns its name there."""
    name = f"{environment.project}-runners:{tag}"
    docker("tag", image, name)
    try:
        environment.just("push", name)
    finally:
        docker("rmi", name)
    reference = f"{environment.registry}.localhost:{environment.answers['registry_port']}/{name}"
    note = environment.root / ".tools" / "runner-image"
    note.parent.mkdir(exist_ok=True)
    note.write_text(f"{reference}\n", encoding="utf-8")
    return reference


def prepare_runners(environment: Generated, github: GitHub, *, ansible: Path, image: str, key: Key) -> None:
    """Brings all that `install-arc` needs besides a running cluster: Ansible's packages, the image, the credentials."""
    (environment.root / ".venv-ansible").symlink_to(ansible)
    push_runner_image(environment, image, "first")
    write_dotenv(environment, github)
    write_key(environment, key)


def arc_status(environment: Generated) -> Any:
    """What `arc-status --json` says."""
    return json.loads(environment.envkit("arc-status", "--json").stdout)


def traces(environment: Generated) -> list[str]:
    """Namespaces and resource definitions of ARC in the cluster."""
    names = environment.kubectl("get", "namespaces,customresourcedefinitions", "--output=name").split()
    return [name for name in names if "/arc-" in name or name.endswith(".actions.github.com")]
