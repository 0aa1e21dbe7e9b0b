"""The dev container fits the cluster that envkit makes, and can be opened before it exists."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy
from jsonc import parse
from jsonschema import Draft201909Validator
from support import SCHEMAS

from envkit.config import read_environment
from envkit.devcontainer_files import env_file
from envkit.kubeconfig import kubeconfig_paths

from .conftest import Generated

DEVCONTAINER = ".devcontainer/devcontainer.json"
IMAGE_USER_HOME = "/home/vscode"


def value_of(text: str) -> Any:
    return parse(text).value


@pytest.fixture
def devcontainer(generated: Generated) -> Any:
    return value_of((generated.folder / DEVCONTAINER).read_text(encoding="utf-8"))


def test_dev_container_is_valid(devcontainer: Any) -> None:
    schema = SCHEMAS / "devContainer.base.schema.json"
    if not schema.exists():
        pytest.skip(f"{schema.name} is not there")
    validator = Draft201909Validator(value_of(schema.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(devcontainer)] == []
    assert [*validator.iter_errors(devcontainer | {"runArgs": "--network"})], "the schema checks nothing"


def test_dev_container_joins_the_clusters_network(generated: Generated, devcontainer: Any) -> None:
    environment = read_environment(generated.folder)
    variables = f"${{localEnv:HOME}}/{env_file(environment).relative_to(Path.home())}"
    assert devcontainer["runArgs"] == [f"--network={environment.network}", f"--env-file={variables}"]


def test_dev_container_reads_the_kubeconfig_that_is_written_for_it(generated: Generated, devcontainer: Any) -> None:
    written = kubeconfig_paths(read_environment(generated.folder).context).devcontainer
    inside = f"{IMAGE_USER_HOME}/{written.relative_to(Path.home())}"
    assert devcontainer["containerEnv"]["KUBECONFIG"] == inside


def test_dev_container_mounts_the_kubeconfigs_read_only_and_caches_elsewhere(devcontainer: Any) -> None:
    target = f"{IMAGE_USER_HOME}/.kube"
    assert devcontainer["mounts"] == [f"source=${{localEnv:HOME}}/.kube,target={target},type=bind,readonly"]
    assert not devcontainer["containerEnv"]["KUBECACHEDIR"].startswith(target)
    assert devcontainer["remoteUser"] == "vscode"


def test_dev_container_has_the_pinned_tools(generated: Generated, devcontainer: Any) -> None:
    pins = tomllib.loads((generated.folder / "mise.toml").read_text(encoding="utf-8"))["tools"]
    (options,) = devcontainer["features"].values()
    assert options == {"version": pins["kubectl"], "helm": pins["helm"], "minikube": "none"}


def test_snippet_for_service_repositories_is_the_environments_own(
    generated: Generated, template: Path, tmp_path: Path
) -> None:
    answers = {key: generated.answers[key] for key in ("project", "cluster_name") if key in generated.answers}
    snippet = tmp_path / "service"
    run_copy(str(template), snippet, answers | {"scope": "devcontainer"}, defaults=True, quiet=True, unsafe=True)
    assert (snippet / DEVCONTAINER).read_bytes() == (generated.folder / DEVCONTAINER).read_bytes()


def command(devcontainer: Any) -> str:
    """What runs on the host before the container; it has a name, so that others can stand beside it."""
    ((name, text),) = devcontainer["initializeCommand"].items()
    assert devcontainer["runArgs"][0] == f"--network={name}"
    return str(text)


@pytest.mark.parametrize(
    ("docker", "calls"),
    [
        ("exit 1", ["network inspect", "network create"]),
        ('[ "$2" = create ]', ["network inspect", "network create"]),
        ("exit 0", ["network inspect"]),
        (None, []),
    ],
    ids=["docker does not answer", "network is missing", "network is there", "docker is not installed"],
)
def test_preparation_on_the_host_never_fails(
    devcontainer: Any, tmp_path: Path, docker: str | None, calls: list[str]
) -> None:
    tools, home, log = tmp_path / "tools", tmp_path / "home", tmp_path / "log"
    tools.mkdir()
    (tools / "mkdir").symlink_to("/bin/mkdir")
    if docker is not None:
        script = f'#!/bin/sh\necho "$1 $2 $3" >>"{log}"\n{docker}\n'
        (tools / "docker").write_text(script, encoding="utf-8")
        (tools / "docker").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", command(devcontainer)],
        env={"PATH": str(tools), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    variables = devcontainer["runArgs"][1].removeprefix("--env-file=").replace("${localEnv:HOME}", str(home))
    assert Path(variables).read_text(encoding="utf-8") == ""
    network = devcontainer["runArgs"][0].removeprefix("--network=")
    seen = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    assert seen == [f"{call} {network}" for call in calls]


def test_preparation_leaves_the_variables_that_are_there(devcontainer: Any, tmp_path: Path) -> None:
    variables = devcontainer["runArgs"][1].removeprefix("--env-file=").replace("${localEnv:HOME}", str(tmp_path))
    Path(variables).parent.mkdir()
    Path(variables).write_text("HTTPS_PROXY=http://proxy.example.com\n", encoding="utf-8")
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}
    subprocess.run(["/bin/sh", "-c", command(devcontainer)], env=environment, check=True)
    assert Path(variables).read_text(encoding="utf-8") == "HTTPS_PROXY=http://proxy.example.com\n"


def test_preparation_on_the_host_works_where_the_home_folder_has_spaces(devcontainer: Any, tmp_path: Path) -> None:
    home = tmp_path / "a b"
    home.mkdir()
    environment = {"PATH": os.defpath, "HOME": str(home), "DOCKER_HOST": "unix:///nowhere"}
    subprocess.run(["/bin/sh", "-c", command(devcontainer)], env=environment, check=True)
    assert [path.name for path in home.iterdir()] == [".kube"]
