"""Looking at the cluster through one kubectl proxy, for which a server on the same kind of socket stands in."""

from __future__ import annotations

import json
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_tools import Machine, machine

from envkit.arc.api_proxy import proxied
from envkit.arc.kube import Kube
from envkit.errors import CommandFailedError
from envkit.paths import just_command

__all__ = ["machine"]

PROXY = """\
import json, os, socketserver, sys, time
from http.server import BaseHTTPRequestHandler

folder, path = sys.argv[1], next(word for word in sys.argv if word.startswith("--unix-socket=")).partition("=")[2]

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with open(f"{folder}/asked", "a") as asked:
            print(self.path, self.headers["Host"], *filter(None, [self.headers["Accept"]]), file=asked)
        status, text = json.load(open(f"{folder}/answers")).get(self.path, (404, "no such page"))
        if status <= 0:
            time.sleep(-3 * status)
            self.close_connection = True
            return self.wfile.write(text.encode())
        self.send_response(status)
        content = text.encode(errors="surrogateescape")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def address_string(self):
        return "a socket"

socketserver.ThreadingUnixStreamServer(path, Handler).serve_forever()
"""

SYSTEM, RUNNERS = "namespaces/arc-systems", "namespaces/arc-runners"
DEPLOYMENTS = f"/apis/apps/v1/{SYSTEM}/deployments?labelSelector=app.kubernetes.io%2Fpart-of%3Dgha-rs-controller"
SCALE_SETS = f"/apis/actions.github.com/v1alpha1/{RUNNERS}/autoscalingrunnersets"
EPHEMERAL_RUNNERS = f"/apis/actions.github.com/v1alpha1/{RUNNERS}/ephemeralrunners"

WHOLE = {
    DEPLOYMENTS: {"items": [{"metadata": {"name": "arc"}}]},
    f"/api/v1/{SYSTEM}/pods": {"items": [{"metadata": {"name": "controller"}}]},
    f"/api/v1/{RUNNERS}/pods": {"items": None},
    SCALE_SETS: {"items": [{"kind": "AutoscalingRunnerSet", "metadata": {"name": "set"}}]},
    EPHEMERAL_RUNNERS: {"items": []},
}

Answers = Callable[[dict[str, tuple[int, str]]], None]


@pytest.fixture
def answers(machine: Machine) -> Answers:
    """A function that says what the API answers, by path: status and text."""
    program = machine.folder / "proxy.py"
    program.write_text(PROXY, encoding="utf-8")
    machine.add("kubectl", f'exec {sys.executable} {program} {machine.folder} "$@"')

    def write(pages: dict[str, tuple[int, str]]) -> None:
        (machine.folder / "answers").write_text(json.dumps(pages), encoding="utf-8")

    write({})
    return write


@pytest.fixture
def kube(answers: Answers) -> Iterator[Kube]:
    answers({path: (200, json.dumps(content)) for path, content in WHOLE.items()})
    with proxied(Kube(Path("/kubeconfig"), "k3d-shop-dev")) as kube:
        yield kube


def asked(machine: Machine) -> list[str]:
    return (machine.folder / "asked").read_text(encoding="utf-8").splitlines()


def names(resources: tuple[dict[str, Any], ...]) -> list[str]:
    return [f"{item['kind']}/{item['metadata']['name']}" for item in resources]


def test_all_is_asked_of_one_program(kube: Kube, machine: Machine) -> None:
    for _ in range(3):
        found = kube.own_resources()

    assert names(found.deployments) == ["Deployment/arc"]
    assert names(found.pods) == ["Pod/controller"]
    assert names(found.scale_sets) == ["AutoscalingRunnerSet/set"]
    assert found.runners == ()
    assert found.controllers == "arc-systems"
    (call,) = machine.calls
    assert call.startswith("kubectl --kubeconfig=/kubeconfig --context=k3d-shop-dev proxy ")
    assert asked(machine) == [f"{path} localhost" for path in (*WHOLE,)] * 3


def test_controller_is_looked_for_where_it_watches_from(answers: Answers) -> None:
    answers({path.replace("arc-systems", "team-arc"): (200, json.dumps(WHOLE[path])) for path in WHOLE})
    with proxied(Kube(Path("/kubeconfig"), "c", controllers="team-arc")) as kube:
        found = kube.own_resources()
    assert (names(found.deployments), names(found.pods)) == (["Deployment/arc"], ["Pod/controller"])
    assert found.controllers == "team-arc"


def test_it_only_reads_and_only_this_person_reaches_it(kube: Kube, machine: Machine) -> None:
    kube.own_resources()
    (call,) = machine.calls
    socket = Path(call.partition("--unix-socket=")[2].split()[0])
    assert "--reject-methods=^(POST|PUT|PATCH|DELETE)$" in call
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("answers")
def test_nothing_of_it_is_left(machine: Machine) -> None:
    with proxied(Kube(Path("/kubeconfig"), "c")) as kube:
        kube.own_resources()
    socket = Path(machine.calls[0].partition("--unix-socket=")[2].split()[0])
    assert not socket.parent.exists()


def test_all_namespaces_and_the_version_are_asked_of_it_too(kube: Kube, answers: Answers, machine: Machine) -> None:
    everywhere = "/apis/actions.github.com/v1alpha1"
    of_the_controller = "?labelSelector=app.kubernetes.io%2Fpart-of%3Dgha-rs-controller"
    listed = {
        f"/apis/apps/v1/deployments{of_the_controller}": "arc",
        f"/api/v1/{SYSTEM}/pods": "controller",
        f"/api/v1/{RUNNERS}/pods": "runner",
        f"{everywhere}/autoscalingrunnersets": "set",
        f"{everywhere}/ephemeralrunners": "runner",
        f"{everywhere}/autoscalinglisteners": "listener",
    }
    pages = {path: (200, json.dumps({"items": [{"metadata": {"name": name}}]})) for path, name in listed.items()}
    answers({**pages, "/version": (200, '{"gitVersion": "v1.36.4+k3s1"}')})

    found = kube.resources()

    assert kube.server_version() == "v1.36.4+k3s1"
    assert names(found.deployments) == ["Deployment/arc"]
    assert names(found.pods) == ["Pod/controller", "Pod/runner"]
    assert names(found.scale_sets) == ["AutoscalingRunnerSet/set"]
    assert names(found.runners) == ["EphemeralRunner/runner"]
    assert names(found.listeners) == ["AutoscalingListener/listener"]
    assert len(machine.calls) == 1


def test_what_it_does_not_get_kubectl_is_asked_for(kube: Kube, answers: Answers, machine: Machine) -> None:
    refused = (502, "dial tcp 127.0.0.1:6550: connect: connection refused")
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    listeners = "/apis/actions.github.com/v1alpha1/autoscalinglisteners"
    answers({"/version": refused, listeners: (200, "<html>"), definitions: refused})
    kube.own_resources()  # with which the proxy is up
    machine.add("kubectl", "echo 'The connection to the server was refused' >&2; exit 1")
    for ask in (kube.server_version, kube.resources, kube.definitions):
        with pytest.raises(CommandFailedError, match="The connection to the server was refused"):
            ask()


def test_server_that_does_not_tell_its_version_has_none(kube: Kube) -> None:
    assert kube.server_version() == ""


def test_kinds_that_the_cluster_does_not_know_yet_are_none(kube: Kube, answers: Answers) -> None:
    answers({path: (200, json.dumps(WHOLE[path])) for path in WHOLE if path not in (SCALE_SETS, EPHEMERAL_RUNNERS)})
    found = kube.own_resources()
    assert found.scale_sets == found.runners == ()
    assert names(found.pods) == ["Pod/controller"]
    answers({SCALE_SETS: (200, "[]")})
    assert kube.own_resources().scale_sets == ()


def test_a_refusal_is_an_error_that_says_why(kube: Kube, answers: Answers) -> None:
    for told in ("deployments is forbidden", "l\udce4ng" * 200):
        answers({DEPLOYMENTS: (403, told)})
        with pytest.raises(CommandFailedError, match="The Kubernetes API does not answer") as error:
            kube.own_resources()
        assert error.value.output == told.replace("\udce4", "\ufffd")[:500]
        assert error.value.next_step == f"{just_command()} status"


def test_an_answer_that_is_none_is_an_error_and_the_next_question_is_answered(kube: Kube, answers: Answers) -> None:
    answers({DEPLOYMENTS: (0, "nonsense\n\n")})
    with pytest.raises(CommandFailedError) as error:
        kube.own_resources()
    assert error.value.output == "nonsense\n"
    answers({path: (200, json.dumps(content)) for path, content in WHOLE.items()})
    assert names(kube.own_resources().pods) == ["Pod/controller"]


def test_the_log_of_a_pod(kube: Kube, answers: Answers) -> None:
    path = "/api/v1/namespaces/arc-systems/pods/listener/log"
    answers(
        {
            f"{path}?tailLines=200&sinceTime=2026-11-26T05%3A00%3A00Z": (200, "one\ntwo\n"),
            f"{path}?tailLines=5&container=main": (200, "main, l\udce4uft\n"),
            "/api/v1/namespaces/arc-systems/pods/starting/log?tailLines=200": (400, "container is waiting to start"),
        }
    )
    log = partial(kube.log, namespace="arc-systems")
    assert log(target="listener", since="2026-11-26T05:00:00Z") == ["one", "two"]
    assert log(target="listener", lines=5, container="main") == ["main, l\ufffduft"]
    assert log(target="starting") == []
    assert log(target="gone") == []


def test_log_of_what_a_selector_selects_is_asked_of_kubectl(kube: Kube, machine: Machine) -> None:
    kube.own_resources()  # with which the proxy is up
    machine.add("kubectl", "echo line")
    assert kube.log(namespace="arc-systems", target="--selector=app=arc", lines=7) == ["line"]
    assert machine.calls[-1].endswith(" logs --namespace=arc-systems --selector=app=arc --tail=7")


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_kubectls(answers: Answers) -> None:
    answers({DEPLOYMENTS: (-1, "late")})
    with (
        proxied(Kube(Path("/kubeconfig"), "c", seconds=0.1)) as kube,
        pytest.raises(CommandFailedError) as error,
    ):
        kube.own_resources()
    assert (error.value.output, error.value.status) == ("timed out", 1)


def test_leftovers_are_asked_of_it_without_their_content(kube: Kube, answers: Answers, machine: Machine) -> None:
    secrets = "/api/v1/namespaces/arc-systems/secrets?labelSelector=owner%3Dhelm"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = ("things.example.com", "ephemeralrunners.actions.github.com")
    listed = {secrets: ["sh.helm.release.v1.arc.v1"], definitions: names}
    answers(
        {
            path: (200, json.dumps({"items": [{"metadata": {"name": each}} for each in found]}))
            for path, found in listed.items()
        }
    )
    assert [item["metadata"]["name"] for item in kube.release_secrets("arc-systems")] == ["sh.helm.release.v1.arc.v1"]
    assert kube.definitions() == ["ephemeralrunners.actions.github.com"]
    assert len(machine.calls) == 1
    assert all("as=PartialObjectMetadataList" in line for line in asked(machine))
    answers({secrets: (403, "secrets is forbidden")})
    machine.add("kubectl", "echo 'sh.helm.release.v1.arc.v2   2026-11-28T00:00:00Z   arc   deployed   <none>'")
    assert [item["metadata"]["name"] for item in kube.release_secrets("arc-systems")] == ["sh.helm.release.v1.arc.v2"]


def _look(kube: Kube) -> tuple[list[str], list[str]]:
    return names(kube.own_resources().pods), kube.log(namespace="arc-systems", target="controller")


@pytest.mark.parametrize("ending", ["exit 1", 'rm -f "${4#*=}"; exec /bin/sleep 60'], ids=["ends", "never-listens"])
def test_without_a_proxy_kubectl_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr("envkit.arc.api_proxy._START_SECONDS", 0.1)
    items = json.dumps({"items": [{"kind": "Pod", "metadata": {"name": "controller"}}]})
    machine.add("kubectl", f"case $* in *proxy*) {ending};; *logs*) echo line;; *arc-systems*) echo '{items}';; esac")
    with proxied(Kube(Path("/kubeconfig"), "c")) as kube:
        assert _look(kube) == (["Pod/controller"], ["line"])


def test_a_proxy_that_ends_in_between_is_done_without(kube: Kube, machine: Machine) -> None:
    kube.own_resources()
    items = json.dumps({"items": [{"kind": "Pod", "metadata": {"name": "other"}}]})
    machine.add("kubectl", f"case $* in *logs*) echo line;; *arc-systems*) echo '{items}';; esac")

    _end_proxy(machine)

    assert _look_until(kube, "Pod/other") == (["Pod/other"], ["line"])


def _look_until(kube: Kube, pod: str) -> tuple[list[str], list[str]]:
    """What is seen when this pod is; those who wait ask again, too, where an answer fails."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(CommandFailedError):
            seen = _look(kube)
            if pod in seen[0]:
                return seen
        time.sleep(0.01)
    return [], []


def _end_proxy(machine: Machine) -> None:
    (process,) = (each for each in psutil.Process().children() if str(machine.folder / "proxy.py") in _words(each))
    process.kill()


def _words(process: psutil.Process) -> list[str]:
    """Its command line; none where it has ended meanwhile."""
    try:
        return process.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return []
