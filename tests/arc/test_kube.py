"""What is asked of kubectl, for which a program stands in that remembers the question."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tools import Machine, machine

from envkit.arc.kube import Kube

__all__ = ["machine"]

KUBE = Kube(Path("/kubeconfig"), "team")
PROTECTED = """\
v1   Secret   shop-runners-github-secret   [actions.github.com/cleanup-protection]
v1   Secret   token   <none>
rbac.authorization.k8s.io/v1   Role   shop-runners-manager   [other/finalizer,actions.github.com/cleanup-protection]
"""


def test_only_what_the_charts_protect_is_freed(machine: Machine) -> None:
    machine.add("kubectl", f"cat <<'END'\n{PROTECTED}END")
    freed = KUBE.protected("arc-runners")
    assert [item["metadata"]["name"] for item in freed] == ["shop-runners-github-secret", "shop-runners-manager"]
    assert {item["metadata"]["namespace"] for item in freed} == {"arc-runners"}
    assert all(item["metadata"]["finalizers"] is None for item in freed)
    assert "--selector" not in machine.calls[0]


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
    assert "--selector=owner=helm " in machine.calls[0]
    assert "json" not in machine.calls[0]


def test_definitions_that_are_there(machine: Machine) -> None:
    name = "ephemeralrunners.actions.github.com"
    machine.add("kubectl", f"echo customresourcedefinition.apiextensions.k8s.io/{name}")
    assert KUBE.definitions() == [name]
    machine.add("kubectl", "true")
    assert KUBE.definitions() == []
