"""Two environments side by side on one machine, with one registry between them and runners in both.

The runners stand in as test_arc says.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.arc_lab import (
    GitHub,
    Key,
    arc_answers,
    arc_status,
    missing_lab,
    prepare_runners,
    traces,
)
from e2e.conftest import NewEnvironment
from e2e.generated import PORTS, Generated, answers_for_tests
from e2e.machine import inspect
from e2e.workload import image_name, pull, push_hello
from support import ROOT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def pair(new_environment: NewEnvironment) -> tuple[Generated, Generated]:
    """Two environments with one registry, both created."""
    name, port = f"e2e{secrets.token_hex(3)}", answers_for_tests()["registry_port"]
    runners = {"arc": False} if missing_lab() else arc_answers()
    shared = {"registry": "shared", "registry_name": name, "registry_port": port, **runners}
    first, second = new_environment(**shared), new_environment(agents=1, **shared)  # runners on one node, and on two
    for environment in (first, second):
        # As on the machine of one developer, who has one folder for envkit's locks.
        environment.envkit("create", variables={"ENVKIT_STATE_DIR": str(first.home / "state")})
    return first, second


def test_both_run_beside_each_other_and_each_lists_both(pair: tuple[Generated, Generated]) -> None:
    first, second = pair
    listed = json.loads(second.envkit("ports", "--json").stdout)
    found = {entry["cluster"] or entry["registry"]: entry for entry in listed["environments"]}
    for environment in pair:
        entry = found[environment.cluster]
        assert (entry["project"], entry["state"]) == (environment.project, "running")
        assert (entry["root"], entry["registry"]) == (str(environment.root), environment.registry)
        wanted = {environment.answers[key] for key in PORTS if key != "registry_port"}
        assert {port["number"] for port in entry["ports"]} == wanted
    assert [port["number"] for port in found[first.registry]["ports"]] == [first.answers["registry_port"]]
    assert {port["owner"] for port in listed["own"]} == {"this environment"}
    assert str(first.root) in second.just("ports").stdout


def test_a_third_one_with_their_ports_is_refused_before_it_is_made(
    pair: tuple[Generated, Generated], tmp_path: Path
) -> None:
    first, second = pair
    options = [f"--data={key}={first.answers[key]}" for key in ("http_port", "https_port")]
    options += [f"--data=api_port={second.answers['api_port']}", f"--data=project=e2e{secrets.token_hex(3)}"]
    command = [sys.executable, str(ROOT / "hooks" / "new.py"), str(tmp_path / "third"), "--defaults", *options]
    done = subprocess.run(command, env=first.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"http_port: {first.answers['http_port']} is held by the environment in {first.root}" in done.stderr
    assert f"api_port: {second.answers['api_port']} is held by the environment in {second.root}" in done.stderr
    assert not (tmp_path / "third").exists()


@pytest.fixture(scope="module")
def with_runners(
    pair: tuple[Generated, Generated], ansible: Path, image: str, github: GitHub, key: Key
) -> tuple[Generated, Generated]:
    """Both with their runners, of which GitHub knows none before."""
    assert github.is_empty()
    for environment in pair:
        prepare_runners(environment, github, ansible=ansible, image=image, key=key)
        environment.envkit("install-arc")
    return pair


@pytest.mark.usefixtures("arc_lab")
def test_runners_of_both_stand_beside_each_other_and_each_takes_its_own_jobs(
    with_runners: tuple[Generated, Generated], github: GitHub
) -> None:
    names = [f"{environment.project}-runners" for environment in with_runners]
    assert {item["name"] for item in github.state()["scaleSets"]} == set(names)
    for environment, other, name in zip(with_runners, reversed(with_runners), names, strict=True):
        base = image_name(environment, push_hello(environment))
        output = github.run_job(
            "echo on $HOSTNAME\n"
            f"echo 'FROM {base}' >Dockerfile\n"
            "buildctl build --frontend=dockerfile.v0 --local=context=. --local=dockerfile=. "
            f"--output=type=image,name=$REGISTRY/{name}:1,push=true",
            label=name,
        )
        assert f"on {name}-" in output
        pull(other, image_name(other, f"{name}:1"))


@pytest.mark.usefixtures("arc_lab")
def test_removing_the_runners_of_one_leaves_those_of_the_other(
    with_runners: tuple[Generated, Generated], github: GitHub
) -> None:
    first, second = with_runners
    first.just("--yes", "delete-arc")
    assert traces(first) == []
    assert [item["name"] for item in github.state()["scaleSets"]] == [f"{second.project}-runners"]
    assert arc_status(second)["ready"]
    assert "changed=0" in second.envkit("install-arc").stdout


def test_an_image_that_one_pushes_runs_in_the_other_also_when_the_first_is_deleted(
    pair: tuple[Generated, Generated],
) -> None:
    first, second = pair
    name = push_hello(first)
    for host in ("{registry}.localhost:{port}", "{registry}:5000"):
        pull(second, image_name(second, name, host))

    deleted = first.just("--yes", "clean")
    assert f"The volume {first.registry} stays: images of {second.root} are in it too." in deleted.stderr
    assert inspect("container", first.server) is None
    assert not first.has_network()

    pull(second, image_name(second, name))
    assert "nothing had to be done" in second.envkit("create").stdout

    second.just("--yes", "clean")
    assert inspect("container", second.registry) is None
    assert inspect("volume", second.registry) is None
