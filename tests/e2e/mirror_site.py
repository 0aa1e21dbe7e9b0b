"""Mirrors of a site that reaches no other registry: containers that anyone may push to, and what is asked of them.

Docker takes plain HTTP from this machine alone, by the name `localhost`, which to a node is the node itself, where
nothing answers. A host alias of k3d (`host_alias`) gives the nodes another address of that name, Docker's bridge.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from e2e.machine import docker, free_ports, push, wait_until
from loopback_server import serving

HOST = "localhost"

_IMAGE = "registry:3"
_MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Mirror:
    """A registry in a container.

    Attributes:
        container: Name of the container.
        host: Name and port by which this machine and the nodes reach it.
    """

    container: str
    host: str

    def push(self, image: str, path: str) -> None:
        """Puts an image of the engine into it, under this path and tag."""
        push(image, f"{self.host}/{path}")

    def digest(self, name: str) -> str:
        """The digest that it has for an image's name, which begins with its host."""
        path, _, tag = name.removeprefix(f"{self.host}/").rpartition(":")
        url = f"http://{self.host}/v2/{path}/manifests/{tag}"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": _MANIFESTS}), timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def repositories(self) -> list[str]:
        """The paths of all images that it has."""
        with urllib.request.urlopen(f"http://{self.host}/v2/_catalog?n=1000", timeout=10) as answer:
            return list(json.loads(answer.read())["repositories"])

    def log(self) -> str:
        """Every request so far, with the program that made it."""
        return docker("logs", self.container)

    def remove(self) -> None:
        """Removes it with all it has, and the engine's images of its name."""
        docker("rm", "--force", "--volumes", self.container, check=False)
        names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
        docker("rmi", *(name for name in names if name.startswith(f"{self.host}/")), check=False)


@contextmanager
def new_mirror() -> Iterator[Mirror]:
    """An empty mirror that listens for this machine and its containers alone."""
    (port,) = free_ports(1)
    mirror = Mirror(f"e2e-mirror-{secrets.token_hex(3)}", f"{HOST}:{port}")
    published = [f"--publish={address}:{port}:5000" for address in ("127.0.0.1", _bridge_address())]
    docker("run", "--detach", f"--name={mirror.container}", *published, _IMAGE)
    try:
        wait_until("the mirror answers", lambda: _answers(mirror))
        yield mirror
    finally:
        mirror.remove()


@dataclass(frozen=True)
class Downloads:
    """A web server that has the files of a folder.

    Attributes:
        folder: The folder.
        address: Where the server lists and serves it.
        asked: The paths that were asked for, in order.
    """

    folder: Path
    address: str
    asked: list[str]

    @property
    def python_index(self) -> str:
        """The index of Python packages in it; a listing of files is one."""
        return f"{self.address}/python/simple"

    def add_python_packages(self, requirements: Path) -> None:
        """Puts packages into the index, from where this machine has its own."""
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
            fetch = [f"{scratch}/bin/python", "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run([*fetch, f"--requirement={requirements}", f"--dest={scratch}/files"], check=True)
            for file in Path(scratch, "files").iterdir():
                folder = self.folder / "python" / "simple" / file.name.partition("-")[0].lower().replace("_", "-")
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder)


@contextmanager
def new_downloads(folder: Path) -> Iterator[Downloads]:
    """A web server on this machine for the files of a folder."""
    asked: list[str] = []
    with serving(partial(_Listing, asked, directory=str(folder))) as host:
        yield Downloads(folder, f"http://{host}", asked)


def host_alias() -> dict[str, Any]:
    """What leads the nodes to mirrors, as k3d's configuration has it."""
    return {"ip": _bridge_address(), "hostnames": [HOST]}


def _bridge_address() -> str:
    """The address by which containers reach this machine on Docker's own network."""
    (config, *_) = json.loads(docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"))
    return str(config.get("Gateway") or next(ipaddress.ip_network(config["Subnet"]).hosts()))


def _answers(mirror: Mirror) -> bool:
    try:
        return mirror.repositories() == []
    except OSError:
        return False


class _Listing(SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *arguments: Any, **options: Any) -> None:
        self._asked = asked
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        self._asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing."""
