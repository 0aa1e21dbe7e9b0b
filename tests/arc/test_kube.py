"""What is asked of kubectl, for which a program stands in that remembers the question."""

from __future__ import annotations

from pathlib import Path

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
