"""What is asked of kubectl, for which a program stands in that remembers the question."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fake_tools import Machine, machine

from envkit.arc import kube as arc_kube
from envkit.arc.kube import (
    DEFINITIONS,
    Kube,
    Resources,
    is_selected,
    label_path,
    labels,
    namespace,
    notes,
    rfc3339,
    status,
)
from envkit.errors import CommandFailedError

__all__ = ["machine"]

KUBE = Kube(Path("/kubeconfig"), "team")
QUESTION = "kubectl --kubeconfig=/kubeconfig --context=team --request-timeout=15s "
CONTROLLERS = "app.kubernetes.io/part-of=gha-rs-controller"
PROTECTED = """\
v1   Secret   shop-runners-github-secret   [actions.github.com/cleanup-protection]
v1   Secret   token   <none>
rbac.authorization.k8s.io/v1   Role   shop-runners-manager   [other/finalizer,actions.github.com/cleanup-protection]
"""


def resource(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **metadata}}


def answering(machine: Machine, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Has kubectl answer with the resources of the first of these words that is in the question."""
    cases = "".join(f"*{word}*) echo '{json.dumps({'items': items})}' ;;\n" for word, items in answers.items())
    machine.add("kubectl", f'case "$*" in\n{cases}esac')


def test_every_question_names_the_cluster_and_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], dict[str, Any]]] = []

    def capture(argv: list[str], **options: Any) -> str:
        asked.append((argv, options))
        return ""

    monkeypatch.setattr(arc_kube, "capture", capture)
    KUBE.run("apply", "-f", "-", stdin="kind: Secret")
    KUBE.run("delete", "pod", timeout=50)
    Kube(Path("/kubeconfig"), "team", seconds=4).run("get", "pods")
    assert [" ".join(argv) for argv, _ in asked] == [
        f"{QUESTION}apply -f -",
        f"{QUESTION.replace('15s', '50s')}delete pod",
        f"{QUESTION.replace('15s', '4s')}get pods",
    ]
    # kubectl itself may say first that the time is over.
    assert [(options["timeout"], options["stdin"]) for _, options in asked] == [
        (20, "kind: Secret"),
        (55, None),
        (9, None),
    ]
    assert all(options["next_step"].endswith("just status") for _, options in asked)


def test_kinds_that_the_cluster_does_not_know_are_none_and_another_refusal_is_an_error(machine: Machine) -> None:
    machine.add("kubectl", "echo 'error: the server doesn'\\''t have a resource type \"runners\"' >&2; exit 1")
    assert KUBE.get("runners") == ()
    machine.add("kubectl", "echo")
    assert KUBE.get("runners", "--ignore-not-found") == ()
    machine.add("kubectl", "echo forbidden >&2; exit 1")
    with pytest.raises(CommandFailedError, match="forbidden"):
        KUBE.get("runners")
    assert machine.calls == [f"{QUESTION}get runners --output=json{more}" for more in ("", " --ignore-not-found", "")]


def test_version_is_that_of_the_server(machine: Machine) -> None:
    machine.add("kubectl", """echo '{"clientVersion": {}, "serverVersion": {"gitVersion": "v1.36.4+k3s1"}}'""")
    assert KUBE.server_version() == "v1.36.4+k3s1"
    assert machine.calls == [f"{QUESTION}version --output=json"]


def test_all_that_is_looked_for_is_looked_for_in_all_namespaces(machine: Machine) -> None:
    own = [
        resource("AutoscalingRunnerSet", "set"),
        resource("EphemeralRunner", "runner"),
        resource("AutoscalingListener", "listener"),
    ]
    controllers = [
        resource("Deployment", "of-others", namespace="others"),
        resource("Deployment", "arc", namespace="team-arc"),
    ]
    answering(
        machine,
        {
            "deployments": controllers,
            "team-arc": [resource("Pod", "controller")],
            "arc-runners": [resource("Pod", "runner")],
            "autoscalingrunnersets": own,
        },
    )
    found = Kube(Path("/kubeconfig"), "team", controllers="team-arc").resources()
    assert found == Resources(
        deployments=tuple(controllers),
        pods=(resource("Pod", "controller"), resource("Pod", "runner")),
        scale_sets=(own[0],),
        runners=(own[1],),
        listeners=(own[2],),
        controllers="team-arc",
    )
    assert found.controller == controllers[1]
    kinds = ",".join(f"{kind}.actions.github.com" for kind in ("autoscalingrunnersets", "ephemeralrunners"))
    assert sorted(machine.calls) == [
        f"{QUESTION}get {kinds},autoscalinglisteners.actions.github.com --output=json --all-namespaces",
        f"{QUESTION}get deployments --output=json --all-namespaces --selector={CONTROLLERS}",
        f"{QUESTION}get pods --output=json --namespace=arc-runners",
        f"{QUESTION}get pods --output=json --namespace=team-arc",
    ]


def test_who_looks_again_and_again_asks_for_the_two_namespaces_alone(machine: Machine) -> None:
    key, _, value = CONTROLLERS.partition("=")
    system = [
        resource("Deployment", "arc", namespace="team-arc", labels={key: value}),
        resource("Deployment", "dashboard", namespace="team-arc", labels={key: "another"}),
        resource("Pod", "controller"),
    ]
    runners = [
        resource("AutoscalingRunnerSet", "set"),
        resource("EphemeralRunner", "runner"),
        resource("Pod", "runner"),
    ]
    answering(machine, {"team-arc": system, "arc-runners": runners})
    found = Kube(Path("/kubeconfig"), "team", controllers="team-arc").own_resources()
    assert found == Resources(
        deployments=(system[0],),
        pods=(system[2], runners[2]),
        scale_sets=(runners[0],),
        runners=(runners[1],),
        controllers="team-arc",
    )
    assert found.controller == system[0]
    kinds = "autoscalingrunnersets.actions.github.com,ephemeralrunners.actions.github.com"
    assert sorted(machine.calls) == [
        f"{QUESTION}get {kinds},pods --output=json --namespace=arc-runners",
        f"{QUESTION}get deployments,pods --output=json --namespace=team-arc",
    ]


@pytest.mark.parametrize(
    ("found", "are_traces"),
    [
        ("namespace/arc-systems", True),
        ("namespace/arc-runners", True),
        ("customresourcedefinition.apiextensions.k8s.io/ephemeralrunners.actions.github.com", True),
        ("namespace/default customresourcedefinition.apiextensions.k8s.io/addons.k3s.cattle.io", False),
        ("", False),
    ],
)
def test_traces_are_a_namespace_or_a_definition(found: str, are_traces: bool, machine: Machine) -> None:
    machine.add("kubectl", f"printf '%s\\n' {found}")
    assert KUBE.has_traces() is are_traces
    kinds = "namespaces,customresourcedefinitions.apiextensions.k8s.io"
    assert machine.calls == [f"{QUESTION}get {kinds} --output=name"]


def test_releases_are_those_of_the_namespace_in_this_cluster(machine: Machine) -> None:
    machine.add("helm", "printf 'shop-runners\\nother\\n'")
    assert KUBE.releases("arc-runners") == ["shop-runners", "other"]
    assert machine.calls == ["helm list --short --namespace arc-runners --kubeconfig /kubeconfig --kube-context team"]


def test_only_what_the_charts_protect_is_freed(machine: Machine) -> None:
    machine.add("kubectl", f"cat <<'END'\n{PROTECTED}END")
    assert KUBE.protected("arc-runners") == [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "namespace": "arc-runners", "finalizers": None},
        }
        for version, kind, name in (
            ("v1", "Secret", "shop-runners-github-secret"),
            ("rbac.authorization.k8s.io/v1", "Role", "shop-runners-manager"),
        )
    ]
    kinds = "secrets,serviceaccounts,roles,rolebindings"
    columns = "custom-columns=A:.apiVersion,K:.kind,N:.metadata.name,F:.metadata.finalizers"
    assert machine.calls == [f"{QUESTION}get {kinds} --namespace=arc-runners --no-headers --output={columns}"]


def test_protection_is_looked_for_by_label_and_not_by_how_a_name_begins(machine: Machine) -> None:
    machine.add("kubectl", "true")
    KUBE.protected("arc-runners", ["mine", "shop-runners"])
    KUBE.protected("arc-runners", [])
    some, none = machine.calls
    assert "--selector=actions.github.com/scale-set-name in (mine,shop-runners)," in some
    assert some.endswith("actions.github.com/scale-set-namespace=arc-runners")
    assert "--selector=envkit.none," in none


@pytest.mark.parametrize(("changed", "expected"), [("<none>", {}), ("1700000000", {"modifiedAt": "1700000000"})])
def test_what_helm_remembers_is_listed_without_its_content(
    changed: str, expected: dict[str, str], machine: Machine
) -> None:
    machine.add("kubectl", f"echo 'sh.helm.release.v1.arc.v1   2026-11-28T00:00:00Z   arc   deployed   {changed}'")
    (secret,) = KUBE.release_secrets("arc-systems")
    assert secret["metadata"]["labels"] == {"name": "arc", "status": "deployed", **expected}
    assert secret["metadata"]["creationTimestamp"] == "2026-11-28T00:00:00Z"
    fields = ("name", "creationTimestamp", "labels.name", "labels.status", "labels.modifiedAt")
    columns = ",".join(f"C{number}:.metadata.{field}" for number, field in enumerate(fields))
    ours = "--namespace=arc-systems --no-headers --selector=owner=helm"
    assert machine.calls == [f"{QUESTION}get secrets {ours} --output=custom-columns={columns}"]


def test_definitions_that_are_there(machine: Machine) -> None:
    name = "ephemeralrunners.actions.github.com"
    machine.add("kubectl", f"echo customresourcedefinition.apiextensions.k8s.io/{name}")
    assert KUBE.definitions() == [name]
    kind = "customresourcedefinitions.apiextensions.k8s.io"
    # One that is not there would be an error without it.
    assert machine.calls == [f"{QUESTION}get {kind} --ignore-not-found --output=name {' '.join(DEFINITIONS)}"]
    assert DEFINITIONS == (
        "autoscalinglisteners.actions.github.com",
        "autoscalingrunnersets.actions.github.com",
        "ephemeralrunners.actions.github.com",
        "ephemeralrunnersets.actions.github.com",
    )
    machine.add("kubectl", "true")
    assert KUBE.definitions() == []


def test_log_is_its_end_or_nothing(machine: Machine) -> None:
    machine.add("kubectl", "printf 'one\\ntwo\\n'")
    assert KUBE.log(namespace="arc-systems", target="listener") == ["one", "two"]
    KUBE.log(namespace="arc-systems", target="listener", since="2026-11-28T00:00:00Z", lines=5, container="main")
    assert machine.calls == [
        f"{QUESTION}logs --namespace=arc-systems listener --tail=200",
        f"{QUESTION}logs --namespace=arc-systems listener --tail=5 --since-time=2026-11-28T00:00:00Z --container=main",
    ]
    machine.add("kubectl", "echo 'Error from server (NotFound)' >&2; exit 1")
    assert KUBE.log(namespace="arc-systems", target="gone") == []


def test_what_a_resource_does_not_say_is_empty() -> None:
    bare = resource("Namespace", "arc-systems", labels=None, annotations=None)
    assert (labels(bare), notes(bare), namespace(bare), status({**bare, "status": None})) == ({}, {}, "", {})
    assert Resources(deployments=(bare,)).controller is None
    assert not is_selected(bare, "app=arc")
    assert is_selected(resource("Pod", "a", labels={"app": "arc=1"}), "app=arc=1")


def test_label_and_time_are_written_as_kubernetes_takes_them() -> None:
    assert label_path("actions.github.com/scale-set-name") == r".metadata.labels.actions\.github\.com/scale-set-name"
    moment = datetime(2026, 11, 28, 1, 30, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-27T23:30:05Z"
