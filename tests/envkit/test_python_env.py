"""Where `bin/python-env` takes Python packages from."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy2

import pytest
from support import ROOT

LED = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_TRUSTED_HOST", "UV_PYTHON_INSTALL_MIRROR")


@dataclass(frozen=True)
class Repository:
    """An environment's repository, as far as `python-env` sees it, and a person's machine.

    Attributes:
        root: The repository.
        variables: The person's environment variables.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *index: str, expect: int = 0) -> str:
        """Makes the virtual environment; returns what is said."""
        command: list[str | Path] = [
            self.root / "bin" / "python-env",
            self.root / ".venv",
            self.root / "requirements.txt",
            *index,
        ]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stderr
        return done.stderr

    def name_mirrors(self, text: str) -> None:
        """Writes the table of mirrors."""
        (self.root / "environment.toml").write_text(f'project = "shop"\n\n[mirrors]\n{text}\n', encoding="utf-8")

    def add_uv(self) -> None:
        """Puts a uv on PATH that writes down where it is led to."""
        shown = "\n".join(f'echo "{name}=${{{name}:-}}"' for name in LED)
        uv = self.root / "path" / "uv"
        uv.parent.mkdir()
        python = self.root / ".venv" / "bin" / "python"
        made = f'mkdir -p "{python.parent}" && : >"{python}" && chmod +x "{python}"'
        uv.write_text(f'#!/bin/sh\n{made}\n{{\n{shown}\n}} >"{self.root}/led"\n', encoding="utf-8")
        uv.chmod(0o755)
        self.variables["PATH"] = f"{uv.parent}:{self.variables['PATH']}"

    def led(self) -> dict[str, str]:
        """Where that uv was led to."""
        lines = (line.partition("=") for line in (self.root / "led").read_text(encoding="utf-8").splitlines())
        return {name: value for name, _, value in lines if value}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "env"
    (root / "bin").mkdir(parents=True)
    copy2(ROOT / "template" / "bin" / "python-env", root / "bin")
    (root / "requirements.txt").write_text("demo==1.0\n", encoding="utf-8")
    return Repository(root, {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHON": sys.executable})


def test_the_index_that_did_not_serve_is_named(repository: Repository) -> None:
    python = repository.root / "path" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\n[ "$1" != -m ] || { echo "no such package"; exit 1; }\n', encoding="utf-8")
    python.chmod(0o755)
    repository.variables["PYTHON"] = str(python)

    said = repository.run("https://mirror.example/simple", expect=1)

    assert "    no such package\n" in said
    assert "They were looked for at https://mirror.example/simple, as the answer python_index says." in said
    assert not (repository.root / ".venv" / "requirements.installed").exists()


def test_nothing_is_led_elsewhere_without_mirrors(repository: Repository) -> None:
    repository.add_uv()
    repository.run()
    assert repository.led() == {}


@pytest.mark.parametrize("line", ['python_index = "{}"', "python_index='{}'  # ours", '  python_index   =   "{}"'])
def test_the_index_is_read_however_the_line_is_written(repository: Repository, line: str) -> None:
    repository.add_uv()
    repository.name_mirrors(line.format("https://mirror.example/simple"))
    repository.run()
    assert repository.led() == dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL"), "https://mirror.example/simple")


def test_a_host_of_plain_http_is_named_to_pip(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('python_index = "http://mirror.example:8081/simple"')
    repository.run()
    assert repository.led()["PIP_TRUSTED_HOST"] == "mirror.example:8081"


def test_an_index_that_is_given_goes_before_the_environment_s(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('python_index = "https://mirror.example/simple"')
    repository.run("https://given.example/simple")
    assert repository.led()["UV_INDEX_URL"] == "https://given.example/simple"


@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_the_person_s_own_index_goes_before_all(repository: Repository, variable: str) -> None:
    repository.add_uv()
    repository.variables[variable] = "https://own.example/simple"
    repository.name_mirrors('python_index = "https://mirror.example/simple"')
    repository.run("https://given.example/simple")
    assert repository.led() == {variable: "https://own.example/simple"}


def test_a_python_that_uv_brings_comes_from_the_download_mirror(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('downloads = "https://mirror.example/downloads/"')
    repository.run()
    assert repository.led() == {
        "UV_PYTHON_INSTALL_MIRROR": "https://mirror.example/downloads"
        "/github.com/astral-sh/python-build-standalone/releases/download"
    }
