"""Generated environments on the real Docker of this machine, removed whatever happens."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.generated import Generated, generate
from e2e.machine import inspect, missing_part, skip_without
from e2e.workload import HELLO_IMAGE

NewEnvironment = Callable[..., Generated]


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """Docker, the tools and the image are there; otherwise the tests are skipped, or fail with E2E=required."""
    if missing := missing_part():
        skip_without(missing)
    if not inspect("image", HELLO_IMAGE):
        skip_without(
            f"Docker has no image {HELLO_IMAGE} (E2E_HELLO_IMAGE names another; workload.py says what it must do)"
        )


@pytest.fixture(scope="session")
def python_environment(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python packages of envkit, installed once for all environments of the session."""
    venv = tmp_path_factory.mktemp("python") / "venv"
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
