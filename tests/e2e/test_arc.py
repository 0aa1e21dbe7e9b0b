"""Runners in a cluster, from the first refusal to the cluster's deletion, in the order of a team's days.

What is real: the cluster, Helm, Ansible, the resource definitions of Actions Runner Controller (ARC), the client by
which controller and listener talk to GitHub, BuildKit, Buildah, the registry. What stands in: ARC's controller,
listener and charts (programs and templates with the names, order, phases, finalizers and peculiarities of 0.14.2),
GitHub itself (all in memory, made to refuse by the tests), and the runner (it runs a job's script with bash, and knows
no actions). The image of the runners is the lab's, with BuildKit's client and Buildah; test_runner_image builds the
real Dockerfile. So these tests say that values, objects, order and clean-up are right, and nothing about GitHub's own
rules.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import pytest
from copier import run_update
from e2e.arc_lab import (
    GitHub,
    Key,
    arc_answers,
    arc_status,
    build_images_with_docker,
    build_runner_image_with_buildah,
    new_key,
    prepare_runners,
    push_runner_image,
    traces,
    write_dotenv,
    write_key,
)
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.late_api import late_api
from e2e.machine import docker, wait_until
from e2e.workload import image_name, pull, push_hello

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("arc_lab")]

_NAMESPACE = ("--namespace", "arc-runners")
_SYSTEM = ("--namespace", "arc-systems")
_CONTROLLER = "--selector=app.kubernetes.io/part-of=gha-rs-controller"


_LIKE_NUMBERS = {"build": '"12e4"', "since": "2026-01-01", "map": "2222:22", "is": '"y"'}
"""A team's annotations for the runners: text to Helm, but a number, a date or a truth value in other YAML."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the runners, by its local name."""
    return build_runner_image_with_buildah(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def environment(new_environment: NewEnvironment, ansible: Path, image: str, github: GitHub, key: Key) -> Generated:
    """An environment with its cluster running, the image pushed and everything filled in."""
    environment = new_environment(**arc_answers())
    annotations = "".join(f"      {key}: {text}\n" for key, text in _LIKE_NUMBERS.items())
    own = environment.root / "helm" / "arc-runners.local.yaml"
    own.write_text(f"template:\n  metadata:\n    annotations:\n{annotations}", encoding="utf-8")
    environment.envkit("create")
    prepare_runners(environment, github, ansible=ansible, image=image, key=key)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=all"]):
        environment.run("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *command)
    return environment


@pytest.fixture
def installed(environment: Generated, github: GitHub) -> Generated:
    """The environment with its runners, whatever an earlier test has left."""
    github.accept()
    if not arc_status(environment)["ready"]:
        environment.envkit("install-arc")
    return environment


def test_every_problem_is_named_at_once_and_nothing_is_changed(
    environment: Generated, github: GitHub, key: Key
) -> None:
    write_dotenv(environment, github, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="12a")
    (environment.root / ".github-app-private-key.pem").chmod(0o644)
    note = environment.root / ".tools" / "runner-image"
    pushed = note.read_text(encoding="utf-8")
    note.write_text(pushed.replace(":first", ":missing"), encoding="utf-8")
    try:
        done = environment.envkit("install-arc", expect=1)
    finally:
        write_dotenv(environment, github)
        write_key(environment, key)
        note.write_text(pushed, encoding="utf-8")
    for part in ("4 things", "GITHUB_APP_ID is empty", "'12a'", "chmod 600", "build-runner"):
        assert part in done.stderr, done.stderr
    assert traces(environment) == []


def test_each_refusal_of_github_ends_the_installation_with_its_cause(
    environment: Generated, github: GitHub, key: Key
) -> None:
    """One is put right after the other, the last step of signing in first: nothing registers in between."""
    if not github.is_empty():  # what is registered already needs none of it
        environment.just("--yes", "delete-arc")
    github.refuse("/runner-registration", 404)
    _assert_refused(environment, "reach Actions", "404")
    github.refuse("/registration-token", 403)
    _assert_refused(environment, "a permission is missing", "403")
    write_dotenv(environment, github, GITHUB_APP_INSTALLATION_ID="9999")
    _assert_refused(environment, "GITHUB_APP_INSTALLATION_ID", "404")
    write_dotenv(environment, github)
    write_key(environment, new_key())
    _assert_refused(environment, "GitHub refuses the App's key", "401")
    write_key(environment, key)
    github.accept()


def _assert_refused(environment: Generated, told: str, status: str) -> None:
    """The installation and the status tell why, and what to do."""
    done = environment.envkit("install-arc", expect=1)
    shown = environment.envkit("arc-status").stdout
    for part in (told, status, "next:"):
        assert part in done.stderr
    assert done.seconds < 60
    assert "not registered at GitHub" in shown
    assert told in shown


def test_corrected_key_takes_effect_at_once(environment: Generated, github: GitHub) -> None:
    # GitHub has trouble for a moment, too: that passes, and is no reason to give up.
    github.refuse("/registration-token", 500, times=2)
    environment.envkit("install-arc")
    status = arc_status(environment)
    assert status["ready"]
    assert status["counts"]["idle"] == 1
    assert [item["name"] for item in github.state()["scaleSets"]] == [f"{environment.project}-runners"]


def test_listener_that_another_keeps_out_is_told(installed: Generated, github: GitHub) -> None:
    github.refuse("/sessions", 409, kind="RunnerScaleSetSessionConflictException")
    installed.kubectl("delete", "autoscalinglisteners", "--all", *_SYSTEM)
    try:
        done = installed.envkit("install-arc", expect=1)
    finally:
        github.accept()
    assert "Another listener" in done.stderr
    assert "409" in done.stderr
    assert "RUNNER_NAME" in done.stderr


def test_second_installation_changes_nothing(installed: Generated) -> None:
    done = installed.envkit("install-arc")
    assert "changed=0" in done.stdout
    assert set(re.findall(r"changed=(\d+)", _play(installed, "install-arc"))) == {"0"}


def test_five_jobs_get_five_runners_and_never_six(installed: Generated, github: GitHub) -> None:
    github.queue(count=7, hold=True)
    wait_until("five runners are busy", lambda: arc_status(installed)["counts"]["busy"] == 5, 90)
    time.sleep(3)  # long enough for a sixth: the listener hears every second
    assert arc_status(installed)["counts"]["current"] == 5
    shown = installed.envkit("arc-status").stdout
    assert "5 of min 1, max 5: 5 busy" in shown
    assert "lab job" in shown
    github.call("POST", "finish", {})
    wait_until("all jobs are done", lambda: github.state()["jobStates"] == {"done": 7}, 90)
    wait_until("one idle runner is left", lambda: _counts(installed) == (1, 1), 90)
    assert github.state()["peakRunners"] == 5


def test_job_builds_an_image_through_the_sidecar_and_the_image_runs(installed: Generated, github: GitHub) -> None:
    base = image_name(installed, push_hello(installed))
    github.run_job(
        f"echo 'FROM {base}' >Dockerfile\n"
        "buildctl build --frontend=dockerfile.v0 --local=context=. --local=dockerfile=. "
        "--output=type=image,name=$REGISTRY/by-buildkit:1,push=true "
        "--export-cache=type=registry,ref=$REGISTRY/cache/by-buildkit,mode=max"
    )
    image = image_name(installed, "by-buildkit:1")
    installed.kubectl("create", "deployment", "by-buildkit", f"--image={image}")
    installed.kubectl("rollout", "status", "deployment/by-buildkit", "--timeout=60s")


def test_job_builds_an_image_with_buildah(installed: Generated, github: GitHub) -> None:
    base = image_name(installed, push_hello(installed))
    github.run_job(
        f"echo 'FROM {base}' >Dockerfile\n"
        "buildah build --tag $REGISTRY/by-buildah:1 .\n"
        "buildah push $REGISTRY/by-buildah:1"
    )
    port = installed.answers["registry_port"]
    docker("pull", "--quiet", f"localhost:{port}/by-buildah:1")


def test_jobs_get_a_docker_engine_where_the_answer_says_so(
    installed: Generated, github: GitHub, image: str, tmp_path: Path
) -> None:
    """A service beside a container, and a built image that is pushed, by an engine that the answer has brought."""
    runner, engine = build_images_with_docker(tmp_path, image)
    name = push_hello(installed)
    built = (installed.root / ".tools" / "runner-image").read_text(encoding="utf-8")
    answers = {"docker_in_docker": True, "dind_image": push_runner_image(installed, engine, "engine")}
    run_update(installed.root, data=answers, defaults=True, overwrite=True, quiet=True, unsafe=True, skip_tasks=True)
    try:
        push_runner_image(installed, runner, "docker")
        installed.envkit("install-arc")
        output = github.run_job(_WITH_DOCKER.format(name=name), seconds=240)
    finally:
        installed.run("git", "checkout", "--quiet", "--", ".")
        (installed.root / ".tools" / "runner-image").write_text(built, encoding="utf-8")
        installed.envkit("install-arc")
    assert "the service answers" in output
    pull(installed, image_name(installed, "built-by-docker:1"))


_WITH_DOCKER = """
echo "FROM $REGISTRY/{name}" >Dockerfile
docker run --detach --name service "$REGISTRY/{name}"
docker run --network container:service "$REGISTRY/{name}" get http://127.0.0.1:8080/ && echo the service answers
docker build --tag "$REGISTRY/built-by-docker:1" .
docker push "$REGISTRY/built-by-docker:1"
"""


@pytest.mark.usefixtures("installed")
def test_job_has_no_key_to_the_cluster(github: GitHub) -> None:
    output = github.run_job("ls /var/run/secrets/kubernetes.io 2>&1 || true; id")
    assert "No such file" in output
    assert "uid=1001" in output


def test_text_that_is_like_a_number_stays_text(installed: Generated) -> None:
    (pod, *_) = json.loads(installed.kubectl("get", "pods", *_NAMESPACE, "--output=json"))["items"]
    wanted = {key: text.strip('"') for key, text in _LIKE_NUMBERS.items()}
    assert pod["metadata"]["annotations"] | wanted == pod["metadata"]["annotations"]


def test_changed_numbers_reach_the_runners(installed: Generated, github: GitHub) -> None:
    path = installed.root / "helm" / "arc-runners.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("minRunners: 1", "minRunners: 2").replace("maxRunners: 5", "maxRunners: 3"))
    done = installed.envkit("install-arc")
    assert "1 changed" in done.stdout
    wait_until("two runners are idle", lambda: _counts(installed) == (2, 2), 60)
    wait_until("GitHub knows the maximum", lambda: github.state()["scaleSets"][0]["maxCapacity"] == 3)
    path.write_text(before, encoding="utf-8")
    installed.envkit("install-arc")


def test_job_outlives_the_controller(installed: Generated, github: GitHub) -> None:
    number = github.queue(hold=True)[0]
    wait_until("the job runs", lambda: github.call("GET", f"jobs/{number}")["state"] == "running")
    installed.kubectl("delete", "pod", *_SYSTEM, _CONTROLLER)
    github.call("POST", "finish", {})
    wait_until("the job is done", lambda: github.call("GET", f"jobs/{number}")["state"] == "done")
    assert github.call("GET", f"jobs/{number}")["result"] == "succeeded"
    wait_until("all is well again", lambda: arc_status(installed)["ready"], 60)


def test_status_tells_whenever_it_is_asked_why_a_listener_is_turned_away(installed: Generated, github: GitHub) -> None:
    github.refuse("/access_tokens", 401)
    listener = arc_status(installed)["listener"]["pod"]
    installed.kubectl("delete", "pod", *_SYSTEM, listener)
    wait_until("the listener is turned away", lambda: arc_status(installed)["errors"], 60)
    # It starts, runs and ends every few seconds, and its log goes with it.
    for _ in range(6):
        assert "refuses the App's key" in installed.envkit("arc-status").stdout
    github.accept()
    wait_until("all is well again", lambda: arc_status(installed)["ready"], 60)


def test_key_appears_nowhere_but_in_its_file_and_the_secret(installed: Generated) -> None:
    # A line of the key's, and what its Secret holds.
    text = (installed.root / ".github-app-private-key.pem").read_text(encoding="utf-8")
    marked = [
        text.splitlines()[5],
        *installed.kubectl(
            "get", "secret", "arc-github", *_NAMESPACE, "--output=jsonpath={.data.github_app_private_key}"
        ).split(),
    ]
    marked = [marked[0], marked[1][200:260]]
    installed.kubectl("delete", "secret", "arc-github", *_NAMESPACE)
    with _Watch(marked) as watch:
        output = _play(installed, "install-arc", "-vvvv", "--diff")
    assert not [part for part in marked if part in output]
    assert watch.looks > 5
    assert watch.found == set()
    for folder in (installed.root, installed.home):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != ".github-app-private-key.pem":
                assert not [part for part in marked if part.encode() in path.read_bytes()], path


def test_runners_that_github_finds_too_old_are_recognised_and_recover(
    installed: Generated, github: GitHub, image: str
) -> None:
    github.call("POST", "reject_runner_version", {"version": "*"})
    github.queue(seconds=0)
    installed.kubectl("delete", "ephemeralrunners", "--all", "--wait=false", *_NAMESPACE)
    scale_set = wait_until(
        "the scale set is parked", lambda: (s := arc_status(installed)["scale_set"])["phase"] == "Outdated" and s, 60
    )
    assert scale_set["name"] == f"{installed.project}-runners"
    assert "build-runner" in installed.envkit("arc-status").stdout
    assert "too old" in installed.envkit("install-arc", expect=1).stderr
    github.call("POST", "reject_runner_version", {})
    push_runner_image(installed, image, "newer")
    installed.envkit("install-arc")
    assert arc_status(installed)["ready"]


def test_other_minor_version_is_removed_first_and_only_after_a_yes(installed: Generated, github: GitHub) -> None:
    installed.kubectl("label", "deployment", *_SYSTEM, "--all", "--overwrite", "app.kubernetes.io/version=0.13.1")
    before = _uid(installed, "customresourcedefinition/autoscalingrunnersets.actions.github.com")
    done = installed.envkit("install-arc", expect=1)
    assert "0.13.1 is installed" in done.stderr
    assert "install-arc --yes" in done.stderr
    assert _uid(installed, "customresourcedefinition/autoscalingrunnersets.actions.github.com") == before
    installed.envkit("install-arc", "--yes")
    assert _uid(installed, "customresourcedefinition/autoscalingrunnersets.actions.github.com") != before
    assert arc_status(installed)["controller"]["version"] == os.environ["LAB_ARC_VERSION"]
    assert len(github.state()["scaleSets"]) == 1


def test_own_name_takes_the_place_of_the_teams(installed: Generated, github: GitHub) -> None:
    write_dotenv(installed, github, RUNNER_NAME="mine")
    installed.envkit("install-arc")
    assert [item["name"] for item in github.state()["scaleSets"]] == ["mine"]
    write_dotenv(installed, github)


def test_token_in_place_of_the_app(environment: Generated, github: GitHub) -> None:
    write_dotenv(environment, github, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="", GITHUB_TOKEN="")
    with (environment.root / ".env").open("a", encoding="utf-8") as dotenv:
        dotenv.write("export GITHUB_TOKEN='lab_token'   # the last line counts\n")
    environment.envkit("install-arc")
    secret = json.loads(environment.kubectl("get", "secret", "arc-github", *_NAMESPACE, "--output=jsonpath={.data}"))
    assert {key: base64.b64decode(value) for key, value in secret.items()} == {"github_token": b"lab_token"}
    write_dotenv(environment, github)
    assert [item["name"] for item in github.state()["scaleSets"]] == [f"{environment.project}-runners"]


def test_runners_of_another_repository_leave_the_first_place_before(installed: Generated, github: GitHub) -> None:
    for repository in ("/shop", ""):
        place = github.config_url + repository
        write_dotenv(installed, github, GITHUB_CONFIG_URL=place)
        done = installed.envkit("install-arc")
        assert f"and move to {place}." in done.stderr
        assert [item["scope"] for item in github.state()["scaleSets"]] == [f"lab-org{repository}"]
        assert [item["set"] for item in github.state()["sessions"]] == [github.state()["scaleSets"][0]["id"]]
    write_dotenv(installed, github)


def test_what_goes_while_it_is_being_removed_is_no_failure(installed: Generated, tmp_path: Path) -> None:
    name = "things.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    installed.kubectl("create", "--filename=-", stdin=json.dumps(definition))
    with late_api(installed, "customresourcedefinition", name) as address:
        kubeconfig = tmp_path / "kubeconfig"
        installed.run(
            "kubectl", f"--kubeconfig={kubeconfig}", "config", "set-cluster", "late", f"--server=http://{address}"
        )
        installed.run("kubectl", f"--kubeconfig={kubeconfig}", "config", "set-context", "late", "--cluster=late")
        variables = {
            "arc_delete_kubeconfig": str(kubeconfig),
            "arc_delete_context": "late",
            "arc_delete_releases": [],
            "arc_delete_controller": False,
            "arc_delete_definitions": [definition],
            "arc_delete_namespaces": [],
        }
        task = {"ansible.builtin.include_role": {"name": "arc_delete"}, "vars": variables}
        cluster = {"group/kubernetes.core.k8s": {"kubeconfig": str(kubeconfig), "context": "late"}}
        play = {"hosts": "localhost", "gather_facts": False, "module_defaults": cluster, "tasks": [task]}
        (tmp_path / "remove.yml").write_text(json.dumps([play]), encoding="utf-8")
        _play(installed, str(tmp_path / "remove"))
    assert not installed.kubectl("get", "customresourcedefinitions", "--ignore-not-found", name)


def test_scale_set_that_github_has_lost_is_made_anew(installed: Generated, github: GitHub, key: Key) -> None:
    github.reset(key.public)
    assert "made anew" in installed.envkit("install-arc").stderr
    github.run_job("true")


def test_removal_that_was_left_is_finished_with_credentials_that_are_right_by_now(
    installed: Generated, github: GitHub
) -> None:
    wrong = json.dumps({"data": {"github_app_installation_id": base64.b64encode(b"12").decode()}})
    installed.kubectl("patch", "secret", "arc-github", *_NAMESPACE, "--type=merge", f"--patch={wrong}")
    installed.kubectl("delete", "autoscalingrunnersets", *_NAMESPACE, "--all", "--wait=false")
    assert "The runners are still being removed" in installed.envkit("install-arc").stderr
    github.run_job("true")


def test_upgrade_that_was_cut_off_is_put_right(installed: Generated) -> None:
    *_, latest = installed.kubectl("get", "secrets", *_NAMESPACE, "--selector=owner=helm", "--output=name").split()
    installed.kubectl("label", latest, *_NAMESPACE, "--overwrite", "status=pending-upgrade")
    assert "Helm was cut off" in installed.envkit("install-arc").stderr
    assert arc_status(installed)["ready"]


def test_what_somebody_has_removed_or_begun_to_remove_is_installed_anew(installed: Generated, github: GitHub) -> None:
    # Without the controller, and its pod, the scale set cannot go.
    installed.kubectl("delete", "deployments", *_SYSTEM, "--all", "--cascade=foreground")
    helm = ("helm", f"--kubeconfig={installed.kubeconfig}", f"--kube-context={installed.context}")
    (runners,) = installed.run(*helm, "list", "--short", *_NAMESPACE).stdout.split()
    deleted = ("get", "autoscalingrunnersets", *_NAMESPACE, "--output=jsonpath={.items[*].metadata.deletionTimestamp}")
    with subprocess.Popen([*helm, "uninstall", runners, *_NAMESPACE, "--wait"], env=installed.variables()) as removal:
        wait_until("the scale set is to go", lambda: installed.kubectl(*deleted))
        removal.kill()
    done = installed.envkit("install-arc")
    assert "The runners are still being removed" in done.stderr
    assert "Somebody has removed what Helm has installed (arc)" in done.stderr
    github.run_job("true")


def test_removal_leaves_nothing(installed: Generated, github: GitHub) -> None:
    installed.just("--yes", "delete-arc")
    assert traces(installed) == []
    assert github.is_empty()
    assert "nothing to remove" in installed.just("--yes", "delete-arc").stdout


def test_definitions_that_an_earlier_installation_has_left_are_replaced(environment: Generated) -> None:
    if traces(environment):
        environment.just("--yes", "delete-arc")
    chart = os.environ["LAB_ARC_CONTROLLER_CHART"]
    left = subprocess.run(["helm", "show", "crds", chart], capture_output=True, text=True, check=True).stdout
    environment.kubectl("apply", "--server-side", "--filename=-", stdin=left)
    before = {name: _uid(environment, name) for name in traces(environment)}
    assert before
    environment.envkit("install-arc")
    assert not {name for name, uid in before.items() if _uid(environment, name) == uid}


def test_removal_by_force_needs_neither_controller_nor_github(installed: Generated, github: GitHub) -> None:
    installed.kubectl("scale", "deployment", *_SYSTEM, "--all", "--replicas=0")
    refused = installed.just("--yes", "delete-arc", expect=1)
    assert "The controller is scaled to 0 in arc-systems" in refused.stderr
    assert "delete-arc --force" in refused.stderr
    assert refused.seconds < 60
    github.call("POST", "outage", {"seconds": 600})
    try:
        done = installed.just("--yes", "delete-arc", "--force")
    finally:
        github.call("POST", "outage", {"seconds": 0})
    assert traces(installed) == []
    assert "remove that by hand: http" in done.stdout
    assert not github.is_empty()


def test_deleting_the_cluster_takes_its_runners_off_github(environment: Generated, github: GitHub, key: Key) -> None:
    github.reset(key.public)
    environment.envkit("install-arc")
    assert not github.is_empty()
    done = environment.just("--yes", "delete")
    assert "Taking the runners off GitHub" in done.stderr
    assert github.is_empty()


def _counts(environment: Generated) -> tuple[int, int]:
    counts = arc_status(environment)["counts"]
    return counts["current"], counts["idle"]


def _uid(environment: Generated, what: str) -> str:
    return environment.kubectl("get", what, "--output=jsonpath={.metadata.uid}")


def _play(environment: Generated, playbook: str, *options: str) -> str:
    """Runs a playbook as a person without envkit does; returns all that it printed."""
    program = environment.root / ".venv-ansible" / "bin" / "ansible-playbook"
    done = subprocess.run(
        [program, f"{playbook}.yml", *options],
        cwd=environment.root / "ansible",
        env=environment.variables(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class _Watch:
    """Looks at the command lines of all processes, again and again, for pieces of text."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = [piece.encode() for piece in pieces]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.found: set[str] = set()
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.looks += 1
            for name in ("cmdline", "environ"):
                for path in Path("/proc").glob(f"[0-9]*/{name}"):
                    try:
                        text = path.read_bytes()
                    except OSError:
                        continue
                    if any(piece in text for piece in self._pieces):
                        self.found.add(str(path))
