"""Runners, images and dev containers on a cluster that the environment did not make, next to others' things in it.

What is real: the cluster (made here by plain `k3d cluster create`, with a plain registry that machine and nodes call by
the same name), kubectl, Helm, Ansible, permissions, pod security, the registry. It stands in for any Kubernetes that a
context leads to. What stands in for ARC and GitHub is told in test_arc. The tests are in the order of a team's days.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from e2e.arc_lab import GitHub, Key, arc_answers, write_dotenv, write_key
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.machine import docker, free_ports, push
from e2e.workload import HELLO_IMAGE

from envkit.runner.image import describe

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("arc_lab")]

CONTEXT = "arn:aws:eks:eu-central-1:123456789012:cluster/team"
LIMITED = "team-limited"
_KINDS = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings"


@dataclass(frozen=True)
class Company:
    """A cluster with a registry, as a company has it.

    Attributes:
        name: Name of the cluster.
        registry: Where its nodes pull from, as HOST:PORT.
        kubeconfig: Its administrator's file.
        text: The kubeconfig of a developer: two contexts of the cluster and others.
    """

    name: str
    registry: str
    kubeconfig: Path
    text: str

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints for the administrator; its failure fails the test."""
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def everything(self) -> set[str]:
        """What is in the cluster as a whole: namespaces, resource definitions, roles."""
        return set(self.kubectl("get", _KINDS, "--output=name").split())


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The cluster, made by k3d alone."""
    folder = tmp_path_factory.mktemp("company")
    name = f"e2ex{secrets.token_hex(3)}"
    port, api_port = free_ports(2)
    registry = f"{name}-images"
    mirrors = {"mirrors": {f"localhost:{port}": {"endpoint": [f"http://{registry}:5000"]}}}
    (folder / "registries.yaml").write_text(yaml.safe_dump(mirrors), encoding="utf-8")
    node_image = [f"--image={os.environ['LAB_K3S_IMAGE']}"] if os.environ.get("LAB_K3S_IMAGE") else []
    try:
        docker(
            "run", "--detach", f"--name={registry}", f"--publish=127.0.0.1:{port}:5000", "docker.io/library/registry:3"
        )
        _k3d(
            *("cluster", "create", name, *node_image, f"--api-port=127.0.0.1:{api_port}"),
            *(f"--registry-config={folder / 'registries.yaml'}", "--kubeconfig-update-default=false", "--wait"),
        )
        docker("network", "connect", f"k3d-{name}", registry)
        kubeconfig = folder / "admin.yaml"
        text = _k3d("kubeconfig", "get", name)
        kubeconfig.write_text(text, encoding="utf-8")
        yield Company(name, f"localhost:{port}", kubeconfig, text)
    finally:
        # First what hangs on the cluster's network, which k3d then removes as well.
        docker("rm", "--force", "--volumes", registry, check=False)
        _k3d("cluster", "delete", name)


@pytest.fixture(scope="module")
def environment(
    new_environment: NewEnvironment, company: Company, ansible: Path, image: str, github: GitHub, key: Key
) -> Generated:
    """An environment for the cluster, with the image pushed and everything filled in."""
    made = new_environment(
        provider="existing",
        kube_context=CONTEXT,
        image_repository=f"{company.registry}/team/runner",
        image_repository_http=True,
        **arc_answers(),
    )
    (made.root / ".venv-ansible").symlink_to(ansible)
    made.run("git", "init", "--quiet")
    made.run("git", "add", "--all")
    made.merged_kubeconfig.write_text(_with_contexts(made.merged_kubeconfig, company.text), encoding="utf-8")
    # The image of test_runner_image takes minutes; this one has the name that the real one would have.
    reference = f"{company.registry}/team/{describe(made.root).tagged}"
    push(image, reference)
    write_dotenv(made, github)
    write_key(made, key)
    return made


@pytest.fixture(scope="module")
def before(company: Company) -> set[str]:
    """What was in the cluster before anybody has come near it."""
    return company.everything()


def test_recipes_that_make_no_sense_are_absent(environment: Generated) -> None:
    recipes = set(environment.just("--summary").stdout.split())
    assert {"setup", "status", "doctor", "kubeconfig", "push", "build-runner", "install-arc", "delete-arc"} <= recipes
    assert not recipes & {"create", "delete", "start", "stop", "restart", "ports", "clean"}
    assert not (environment.root / "k3d.yaml").exists()
    assert "is there already" in environment.envkit("create", expect=1).stderr


def test_doctor_and_status_look_at_the_cluster(environment: Generated, before: set[str], company: Company) -> None:
    shown = environment.envkit("doctor", expect=None).stdout
    assert "all that the runners need" in shown
    assert CONTEXT in shown
    status = json.loads(environment.envkit("status", "--json").stdout)
    assert (status["state"], len(status["nodes"])) == ("running", 1)
    assert company.everything() == before


def test_context_that_is_not_there_is_told_with_those_that_are_like_it(environment: Generated, github: GitHub) -> None:
    write_dotenv(environment, github, KUBE_CONTEXT="arn:aws:eks:eu-central-1:123456789012:cluster/taem")
    try:
        done = environment.envkit("install-arc", "--context", CONTEXT, expect=1)
    finally:
        write_dotenv(environment, github)
    assert "There is no context" in done.stderr
    assert CONTEXT in done.stderr


@pytest.mark.parametrize(
    ("recipe", "given", "variable", "told"),
    [
        ("install-arc", "", "", "nobody is here to confirm"),
        ("install-arc", "company", "", "--context says company"),
        ("delete-arc", "", "company", "ARC_CONTEXT says company"),
    ],
    ids=["nobody", "option", "variable"],
)
def test_cluster_is_not_changed_before_its_context_is_named(
    recipe: str, given: str, variable: str, told: str, environment: Generated, company: Company, before: set[str]
) -> None:
    options = ["--context", given] if given else []
    done = environment.envkit(recipe, *options, expect=1, variables={"ARC_CONTEXT": variable})
    assert told in done.stderr
    assert CONTEXT in done.stderr
    assert "https://127.0.0.1:" in done.stderr
    assert f"{recipe} --context '{CONTEXT}'" in done.stderr
    assert company.everything() == before


def test_rights_that_are_missing_are_listed(
    environment: Generated, github: GitHub, company: Company, before: set[str]
) -> None:
    write_dotenv(environment, github, KUBE_CONTEXT=LIMITED)
    try:
        doctor = environment.envkit("doctor", expect=1).stdout
        done = environment.envkit("install-arc", "--context", LIMITED, expect=1)
    finally:
        write_dotenv(environment, github)
    for shown in (doctor, done.stderr):
        assert "create customresourcedefinitions.apiextensions.k8s.io" in shown
        assert "list deployments.apps" in shown
    assert "nothing was changed" in done.stderr
    assert company.everything() == before


def test_runners_are_installed_run_a_job_and_stay_as_they_are(
    environment: Generated, github: GitHub, company: Company, before: set[str]
) -> None:
    assert "has it already" in environment.envkit("build-runner", "--builder", "docker").stdout
    first = environment.envkit("install-arc", "--context", CONTEXT)
    assert "The runners are ready" in first.stdout
    assert "uid=1001" in github.run_job("id && buildctl debug workers")
    pods = json.loads(company.kubectl("get", "pods", "--namespace=arc-runners", "--output=json"))["items"]
    images = {c["image"] for pod in pods for c in pod["spec"]["containers"]}
    assert images == {f"{company.registry}/team/{describe(environment.root).tagged}"}
    second = environment.envkit("install-arc", variables={"ARC_CONTEXT": CONTEXT})
    assert "changed=0" in second.stdout
    assert company.everything() > before


def test_tools_use_a_private_file_with_that_one_context(environment: Generated) -> None:
    path = environment.home / ".kube" / f"{environment.cluster}.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [context["name"] for context in found["contexts"]] == [CONTEXT]
    assert yaml.safe_load(environment.merged_kubeconfig.read_text(encoding="utf-8"))["current-context"] == "company"


def test_local_image_is_pushed_beside_that_of_the_runners(environment: Generated, company: Company) -> None:
    docker("tag", HELLO_IMAGE, "myapp:1")
    try:
        done = environment.just("push", "myapp:1")
    finally:
        docker("rmi", "myapp:1")
    assert f"image: {company.registry}/team/myapp:1" in done.stdout


def test_dev_container_reaches_the_cluster(environment: Generated, github: GitHub, company: Company) -> None:
    assert "Dev containers do not reach https://127.0.0.1" in environment.envkit("kubeconfig").stdout
    write_dotenv(environment, github, CONTAINER_API_SERVER=f"https://k3d-{company.name}-serverlb:6443")
    try:
        shown = environment.envkit("kubeconfig").stdout
    finally:
        write_dotenv(environment, github)
    assert "do not reach" not in shown
    file = f"{environment.cluster}.devcontainer.yaml"
    listed = docker(
        *("run", "--rm", f"--network=k3d-{company.name}", f"--volume={environment.home}/.kube:/kube:ro"),
        *("--user=root", f"--env=KUBECONFIG=/kube/{file}", "mcr.microsoft.com/devcontainers/base:ubuntu-24.04"),
        *("kubectl", "get", "nodes", "--output=name"),
    )
    assert listed == f"node/k3d-{company.name}-server-0"


def test_removal_leaves_the_cluster_as_it_was(
    environment: Generated, github: GitHub, company: Company, before: set[str]
) -> None:
    company.kubectl("create", "configmap", "of-others", "--namespace=arc-runners")
    done = environment.just("delete-arc", "--context", CONTEXT)
    assert "the controller, its resource definitions" in done.stdout
    assert "arc-runners stays, because this is in it: ConfigMap of-others." in done.stderr
    assert github.is_empty()
    assert company.everything() - before == {"namespace/arc-runners"}
    company.kubectl("delete", "configmap", "of-others", "--namespace=arc-runners")
    left = company.kubectl("get", "secrets,configmaps", "--namespace=arc-runners", "--output=name").split()
    assert left == ["configmap/kube-root-ca.crt"]
    company.kubectl("delete", "namespace", "arc-runners")
    assert company.everything() == before


def test_controller_of_another_team_is_used_only_when_that_was_said_and_stays(
    environment: Generated, github: GitHub, company: Company
) -> None:
    _helm(
        company,
        *("install", "arc", os.environ["LAB_ARC_CONTROLLER_CHART"], "--namespace=ci", "--create-namespace"),
    )
    theirs = company.everything()
    refused = environment.envkit("install-arc", "--context", CONTEXT, expect=1)
    assert "that this environment did not install" in refused.stderr
    assert "--adopt" in refused.stderr
    assert company.everything() == theirs
    environment.envkit("install-arc", "--adopt", "--context", CONTEXT)
    assert github.state()["scaleSets"]
    removed = environment.envkit("delete-arc", "--context", CONTEXT).stdout
    assert "controller" not in removed
    assert github.is_empty()
    assert company.everything() == theirs
    assert company.kubectl("get", "deployments", "--namespace=ci", "--output=name").strip()


def _with_contexts(path: Path, text: str) -> str:
    """A developer's kubeconfig with the cluster under a cloud's name, and once more as somebody with few rights."""
    own, added = (yaml.load(part, Loader=yaml.BaseLoader) for part in (path.read_text(encoding="utf-8"), text))
    (cluster,), (user,) = added["clusters"], added["users"]
    own["clusters"].append({**cluster, "name": "team"})
    limited = {**user["user"], "as": "system:serviceaccount:default:default"}
    for name, credentials in ((CONTEXT, user["user"]), (LIMITED, limited)):
        own["users"].append({"name": name, "user": credentials})
        own["contexts"].append({"name": name, "context": {"cluster": "team", "user": name}})
    return yaml.safe_dump(own)


def _k3d(*arguments: str) -> str:
    done = subprocess.run(["k3d", *arguments], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _helm(company: Company, *arguments: str) -> None:
    subprocess.run(["helm", f"--kubeconfig={company.kubeconfig}", *arguments], capture_output=True, check=True)
