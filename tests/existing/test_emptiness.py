"""Which namespaces are deleted: those in which nobody else has anything, of whatever kind. What is said of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tools import Machine, machine

from envkit.arc.kube import Kube
from envkit.existing.emptiness import empty_namespaces, why_namespaces_stay

__all__ = ["machine"]

OWNER = "shop-dev"
KUBE = Kube(Path("/kubeconfig"), "team")
KINDS = """\
configmaps
endpoints
events
limitranges
pods
resourcequotas
secrets
serviceaccounts
deployments.apps
leases.coordination.k8s.io
endpointslices.discovery.k8s.io
events.events.k8s.io
certificates.example.com
ingresses.networking.k8s.io
networkpolicies.networking.k8s.io
rolebindings.rbac.authorization.k8s.io
roles.rbac.authorization.k8s.io
"""
ALWAYS = """\
ConfigMap   kube-root-ca.crt   <none>   <none>   <none>
ServiceAccount   default   <none>   <none>   <none>
"""
NOW = "2026-11-28T00:00:00Z"


def cluster(machine: Machine, content: str, kinds: str = KINDS, status: int = 0) -> None:
    """A kubectl that knows these kinds, finds this in every namespace, and of the two one that is still there."""
    found = f"cat <<'END'\n{ALWAYS}{content}END\nexit {status}"
    there = "*'get namespaces'*) echo namespace/arc-runners;;"
    machine.add("kubectl", f"case $* in *api-resources*) cat <<'END'\n{kinds}END\n;; {there} *) {found};; esac")


def is_empty(machine: Machine, content: str, status: int = 0) -> bool:
    cluster(machine, content, status=status)
    return empty_namespaces(KUBE, ["arc-runners"], OWNER) == ["arc-runners"]


@pytest.mark.parametrize(
    "kind",
    [
        *("ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Ingress", "ResourceQuota", "LimitRange"),
        *("Certificate", "Deployment", "Secret", "ConfigMap", "Pod"),
    ],
)
def test_whatever_others_have_keeps_the_namespace(kind: str, machine: Machine) -> None:
    assert not is_empty(machine, f"{kind}   theirs   <none>   <none>   <none>\n")
    assert not is_empty(machine, f"{kind}   theirs   others   <none>   Certificate\n")


def test_namesakes_of_what_kubernetes_makes_keep_it_too(machine: Machine) -> None:
    assert not is_empty(machine, "Secret   default   <none>   <none>   <none>\n")
    assert not is_empty(machine, "ServiceAccount   kube-root-ca.crt   <none>   <none>   <none>\n")


def test_what_a_removal_has_just_left_does_not_keep_it(machine: Machine) -> None:
    """Pods of the controller that end, a pod's Secret that waits for its owner's end, what nobody is left to delete."""
    assert is_empty(
        machine,
        f"Pod   arc-gha-rs-controller-5f6b4755db-ngcpl   <none>   {NOW}   ReplicaSet\n"
        "Pod   arc-gha-rs-controller-5f6b4755db-xkwtl   <none>   <none>   ReplicaSet\n"
        "ReplicaSet   arc-gha-rs-controller-5f6b4755db   <none>   <none>   Deployment\n"
        "CiliumEndpoint   arc-gha-rs-controller-5f6b4755db-xkwtl   <none>   <none>   Pod\n"
        "Secret   shop-runners-7dd9b9b8-listener   <none>   <none>   AutoscalingListener\n"
        f"Role   shop-runners-7dd9b9b8-listener   {OWNER}   <none>   <none>\n"
        f"Secret   arc-github   <none>   {NOW}   <none>\n"
        "Secret   shop-runners-7kxrt-runner-qqz4x   <none>   <none>   EphemeralRunner\n"
        f"EphemeralRunner   shop-runners-7kxrt-runner-qqz4x   <none>   {NOW}   EphemeralRunnerSet\n",
    )


@pytest.mark.parametrize(
    "line",
    [
        f"Deployment   arc-gha-rs-controller   {OWNER}   <none>   <none>\n",
        "AutoscalingListener   theirs-listener   <none>   <none>   AutoscalingRunnerSet\n",
        "Secret   both   <none>   <none>   ReplicaSet,Certificate\n",
        "CiliumEndpoint   theirs   <none>   <none>   Pod\nPod   theirs   <none>   <none>   <none>\n",
    ],
    ids=["our-controller", "their-listener", "second-owner", "their-pod"],
)
def test_what_stays_keeps_it(line: str, machine: Machine) -> None:
    assert not is_empty(machine, line)


def test_namespace_that_cannot_be_looked_into_is_not_empty(machine: Machine) -> None:
    assert is_empty(machine, "")
    assert not is_empty(machine, "", status=1)
    machine.add("kubectl", "echo 'unable to retrieve the complete list of server APIs' >&2; exit 1")
    assert empty_namespaces(KUBE, ["arc-runners"], OWNER) == []


def test_all_kinds_but_traces_are_looked_at_in_one_call_for_each_namespace(machine: Machine) -> None:
    cluster(machine, "")
    assert empty_namespaces(KUBE, ["arc-runners", "arc-systems"], OWNER) == ["arc-runners", "arc-systems"]
    kinds, *looks = machine.calls
    assert "api-resources --namespaced --verbs=list,delete --output=name" in kinds
    assert [look.partition("--namespace=")[2].split()[0] for look in looks] == ["arc-runners", "arc-systems"]
    asked = looks[0].partition(" get ")[2].split()[0].split(",")
    traces = {"endpoints", "events", "endpointslices.discovery.k8s.io", "events.events.k8s.io"}
    assert set(asked) == set(KINDS.split()) - traces - {"leases.coordination.k8s.io"}
    assert "json" not in looks[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Role   theirs   <none>   <none>   <none>\n", ["stays, because this is in it: Role theirs."]),
        (
            "".join(f"Secret   s{number}   <none>   <none>   <none>\n" for number in range(5)),
            ["stays, because this is in it: Secret s0, Secret s1, Secret s2 and 2 more."],
        ),
        ("", []),
    ],
)
def test_what_keeps_a_namespace_is_named(content: str, told: list[str], machine: Machine) -> None:
    cluster(machine, content)
    expected = [f"The namespace arc-runners {sentence}" for sentence in told]
    assert list(why_namespaces_stay(KUBE, ["arc-runners", "arc-systems"], OWNER)) == expected


def test_namespace_that_is_gone_is_not_spoken_of(machine: Machine) -> None:
    machine.add("kubectl", "true")
    assert list(why_namespaces_stay(KUBE, ["arc-runners"], OWNER)) == []
    assert len(machine.calls) == 1


def test_namespace_that_cannot_be_looked_into_is_told_as_such(machine: Machine) -> None:
    cluster(machine, "", status=1)
    (sentence,) = why_namespaces_stay(KUBE, ["arc-runners"], OWNER)
    assert "not all that is in it can be seen" in sentence
    machine.add("kubectl", "exit 1")
    assert list(why_namespaces_stay(KUBE, ["arc-runners"], OWNER)) == []
