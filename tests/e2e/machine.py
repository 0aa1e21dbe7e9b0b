"""Docker and this machine as the tests look at them: through the commands that a person types, never through envkit."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

_POLL = 0.3
_SECONDS = 120
# Below the range from which the kernel takes the ports of outgoing connections.
# Each process of a run has its own.
_PORTS = range(
    20000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    30000,
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
_given: set[int] = set()


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """What a docker command prints; unless told otherwise its failure fails the test."""
    done = subprocess.run(
        ["docker", *arguments],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)} failed: {done.stderr}"
    return done.stdout.strip()


def push(image: str, reference: str) -> None:
    """Puts an image of Docker's into a registry under another name, which Docker forgets afterwards."""
    docker("tag", image, reference)
    try:
        docker("push", reference)
    finally:
        docker("rmi", reference)


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """Docker's description of a container, network, volume or image; None where there is none."""
    found: list[dict[str, Any]] = json.loads(docker(kind, "inspect", name, check=False) or "[]")
    return found[0] if found else None


@functools.cache
def docker_host() -> str:
    """The engine's address, which a docker context in the person's home folder may hold."""
    return docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")


def wait_until(what: str, check: Callable[[], T | None], seconds: float = 60, *, pause: float = _POLL) -> T:
    """The first true value of the check; the test fails where there is none in that time.

    Args:
        what: What is waited for, in words.
        check: Most checks start a program, which takes the processor from what is waited for.
        seconds: How long to wait.
        pause: Seconds between two checks.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"within {seconds} s it did not happen that {what}; last: {value!r}"
        time.sleep(pause)


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens at the moment, and which no other test of this process was given."""
    found: list[int] = []
    while len(found) < number:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            if port not in _given and probe.connect_ex(("127.0.0.1", port)):
                _given.add(port)
                found.append(port)
    return found


def skip_without(missing: str) -> None:
    """Skips the test and says what is missing; with E2E=required that is a failure."""
    if os.environ.get("E2E") == "required":
        pytest.fail(f"{missing}, and E2E=required", pytrace=False)
    pytest.skip(missing)


def missing_part() -> str:
    """What keeps clusters from being created here; empty where nothing does."""
    for tool in ("docker", "k3d", "kubectl", "helm"):
        if not shutil.which(tool):
            return f"{tool} is not on PATH"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    return "" if done.returncode == 0 else f"Docker does not answer: {done.stderr.strip()}"
