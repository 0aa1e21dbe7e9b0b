"""Generated environments on the real Docker of this machine, removed whatever happens."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.arc_lab import GitHub, Key, build_runner_image, new_key, require_lab, started_github
from e2e.generated import Generated, generate
from e2e.load_balancers import repeated_ready_lines
from e2e.machine import inspect, missing_part, skip_without
from e2e.workload import HELLO_IMAGE

NewEnvironment = Callable[..., Generated]


@pytest.fixture(scope="session", autouse=True)
def _machine() -> Iterator[None]:
    """Docker, the tools and the image are there; otherwise the tests are skipped, or fail with E2E=required."""
    if missing := missing_part():
        skip_without(missing)
    if not inspect("image", HELLO_IMAGE):
        skip_without(
            f"Docker has no image {HELLO_IMAGE} (E2E_HELLO_IMAGE names another; workload.py says what it must do)"
        )
    with repeated_ready_lines():
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that all its processes have, for what `python-env` makes once for them; it has a lock."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def python_environment(template: Path, shared_folder: Path) -> Path:
    """The Python packages of envkit, installed once for all environments."""
    venv = shared_folder / "python"
    source = template / "template"
    subprocess.run([source / "bin" / "python-env", venv, source / "requirements.txt"], check=True)
    return venv


@pytest.fixture(scope="module")
def new_environment(
    template: Path, python_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewEnvironment]:
    """A function that generates an environment with these answers; all are removed after the module."""
    made: list[Generated] = []

    def new(**answers: Any) -> Generated:
        made.append(generate(template, tmp_path_factory.mktemp("environment"), python_environment, **answers))
        return made[-1]

    try:
        yield new
    finally:
        for environment in made:
            environment.remove()


@pytest.fixture(scope="session")
def ansible(template: Path, shared_folder: Path) -> Path:
    """Ansible's Python packages, installed once."""
    venv = shared_folder / "ansible"
    source = template / "template"
    python = next((name for name in ("python3.13", "python3.12", "python3.14") if shutil.which(name)), "")
    if not python:
        skip_without("there is no Python 3.12 or later for Ansible")
    subprocess.run(
        [source / "bin" / "python-env", venv, source / "ansible" / "requirements.txt"],
        env={**os.environ, "PYTHON": python},
        check=True,
    )
    return venv


@pytest.fixture(scope="session")
def arc_lab() -> None:
    """A GitHub stands in; otherwise the tests that use this are skipped, or fail with E2E=required."""
    require_lab()


@pytest.fixture(scope="session")
def key() -> Key:
    """The key of the App that the GitHub of these tests knows."""
    return new_key()


@pytest.fixture(scope="module")
def github(key: Key) -> Iterator[GitHub]:
    """A GitHub of the module's own, empty, and knowing one App."""
    with started_github(key.public) as github:
        yield github


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the runners, by its local name."""
    return build_runner_image(tmp_path_factory.mktemp("image"))
