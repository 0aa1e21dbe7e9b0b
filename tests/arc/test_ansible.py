"""Running playbooks, with a program in Ansible's place; and what the playbooks themselves must keep to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, wait_for

from envkit.arc import ansible as arc_ansible
from envkit.arc.ansible import Recap, started_playbook
from envkit.arc.install import _RESTART_TASK, needs_replacement
from envkit.errors import CommandFailedError

ANSIBLE = ROOT / "template" / "ansible"
_TASKS = sorted([*ANSIBLE.glob("roles/*/tasks/*.yml"), *ANSIBLE.glob("tasks/*.yml")])
_GOOD = """
PLAY [Install] ****************
TASK [arc_runners : Make the namespace] ********
ok: [localhost]
TASK [Wait] ********
changed: [localhost]
PLAY RECAP ********
arc_controller             : ok=4    changed=1    unreachable=0    failed=0    skipped=1
localhost                  : ok=12   changed=2    unreachable=0    failed=0    skipped=7
"""
_BAD = """
TASK [arc_controller : Install the controller's chart] ********
[ERROR]: Task failed: Module failed: Error: chart not found
fatal: [arc_controller]: FAILED! =>
    changed: false
TASK [arc_runners : Install the scale set's chart] ********
changed: [arc_runners]
PLAY RECAP ********
arc_controller             : ok=1    changed=0    unreachable=0    failed=1
"""

Play = Callable[..., Recap]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a program that prints this and ends with this status."""

    def run(text: str, status: int = 0, on_task: Callable[[str], None] = lambda _: None) -> Recap:
        program = tmp_path / "bin" / "ansible-playbook"
        program.parent.mkdir(exist_ok=True)
        (tmp_path / "text").write_text(text)
        program.write_text(
            # It reads what its arguments name, long after it was started and not from its standard input.
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\nenv >{tmp_path}/variables\ncat >{tmp_path}/stdin\n'
            f": >{tmp_path}/facts\ntouch {tmp_path}/started\n"
            f"cat {arc_ansible._FACTS_FILE} >{tmp_path}/facts\ncat {tmp_path}/text\nexit {status}\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(arc_ansible, "_VENV", tmp_path)
        with started_playbook("delete-arc", force=True) as playbook:
            wait_for(tmp_path / "started")
            return playbook.finish({"name": "x"}, on_task, next_step="again")

    return run


def test_counts_and_names_of_tasks_come_from_its_output(play: Play, tmp_path: Path) -> None:
    tasks: list[str] = []
    assert play(_GOOD, on_task=tasks.append).changed == 3
    assert play(_GOOD).changed_tasks == {"Wait"}
    assert tasks == ["Make the namespace", "Wait"]
    assert json.loads((tmp_path / "facts").read_text()) == {"name": "x"}
    assert (tmp_path / "stdin").read_text() == ""
    playbook, option, variables = (tmp_path / "arguments").read_text().splitlines()
    assert (Path(playbook), option) == (ANSIBLE / "delete-arc.yml", "--extra-vars")
    assert json.loads(variables) == {"arc_preflight_file": arc_ansible._FACTS_FILE, "force": True}


def test_failed_task_is_named_with_its_message(play: Play) -> None:
    with pytest.raises(CommandFailedError, match="Install the controller's chart") as error:
        play(_BAD, status=2)
    assert "chart not found" in error.value.why
    assert "RECAP" not in error.value.why
    assert "scale set" not in error.value.why
    assert error.value.next_step == "again"


def test_playbook_ends_without_its_facts_when_nobody_finishes_it(play: Play, tmp_path: Path) -> None:
    play(_GOOD)
    (tmp_path / "facts").unlink()
    (tmp_path / "started").unlink()
    with started_playbook("install-arc"):
        wait_for(tmp_path / "started")
    assert not (tmp_path / "facts").read_text()


@pytest.mark.parametrize(
    ("installed", "wanted", "replaced"),
    [
        ("", "0.15.0", False),
        ("0.15.0", "0.15.0", False),
        ("0.15.0", "0.15.1", False),
        ("0.14.2", "0.15.0", True),
        ("0.15.0", "0.14.2", True),
        ("1.15.0", "0.15.0", True),
    ],
)
def test_another_minor_version_is_replaced_and_a_patch_is_not(installed: str, wanted: str, replaced: bool) -> None:
    assert needs_replacement(installed, wanted) is replaced


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """Every task of a file, those of blocks too."""
    tasks = []
    for task in yaml.safe_load(path.read_text()):
        inner = [inner for part in ("block", "rescue", "always") for inner in task.get(part, [])]
        tasks += inner or [task]
    return tasks


def test_every_role_says_what_its_arguments_are() -> None:
    for role in (ANSIBLE / "roles").iterdir():
        options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"][
            "options"
        ]
        defaults = role / "defaults" / "main.yml"
        for name, value in (yaml.safe_load(defaults.read_text()) if defaults.exists() else {}).items():
            assert options[name]["default"] == value, name
        assert all("default" in option or option.get("required") for option in options.values())


def test_short_way_to_the_runners_leaves_out_only_what_the_playbook_has_ruled_out() -> None:
    tasks = ANSIBLE / "roles/arc_runners/tasks"
    plain, whole = tasks_of(tasks / "plain.yml"), tasks_of(tasks / "main.yml")
    left_out = [task for task in whole if task not in plain]
    assert [task for task in whole if task in plain] == plain
    assert left_out
    (install,) = (
        task["ansible.builtin.include_role"]
        for play in yaml.safe_load((ANSIBLE / "install-arc.yml").read_text())
        for task in play["tasks"]
        if task["name"] == "Install the runners"
    )
    ruled_out = set(re.findall(r"runners\.(\w+)", install["tasks_from"]))
    for task in left_out:
        assert ruled_out & set(re.findall(r"arc_runners_(\w+)", f"{task.get('when')} {task.get('loop')}")), task["name"]


def test_whatever_has_to_go_before_the_installation_is_looked_at() -> None:
    (included,) = (
        task["when"]
        for play in yaml.safe_load((ANSIBLE / "install-arc.yml").read_text())
        for task in play["tasks"]
        if task["name"] == "Remove what cannot stay"
    )
    facts = [
        re.findall(r"arc_preflight_facts\.(\w+)", task["when"])
        for task in tasks_of(ANSIBLE / "tasks/remove_before_install.yml")
    ]
    assert [*facts] == [["forget"], ["lost"], ["remove"]]
    assert [fact for found in facts for fact in found if f"arc_preflight_facts.{fact}" not in included] == []


def test_task_that_changes_credentials_goes_by_the_name_that_is_looked_for() -> None:
    assert _RESTART_TASK in [task["name"] for task in tasks_of(ANSIBLE / "roles/arc_runners/tasks/restart.yml")]


def test_what_handles_credentials_prints_nothing() -> None:
    for path in _TASKS:
        for task in tasks_of(path):
            text = json.dumps(task)
            signs = (
                "private_key",
                '"Secret"',
                "arc_delete_protected }}",
                "arc-secrets",
                "arc_runners_others.",
                "facts.forget }}",
            )
            if any(sign in text for sign in signs):
                assert task.get("no_log") is True, task["name"]


def test_playbooks_leave_the_reading_of_dotenv_to_envkit() -> None:
    for path in _TASKS:
        text = path.read_text(encoding="utf-8")
        assert "GITHUB_TOKEN" not in text
        assert not re.search(r"lookup\('ansible.builtin.file'.*(env|token)", text), path


def test_no_task_can_reach_another_cluster() -> None:
    for name in ("install-arc", "delete-arc"):
        for play in yaml.safe_load((ANSIBLE / f"{name}.yml").read_text()):
            roles = {str(task[key]["name"]) for task in play["tasks"] for key in task if key.endswith("_role")}
            if roles <= {"arc_status"}:
                continue
            for group in ("group/kubernetes.core.k8s", "group/kubernetes.core.helm"):
                assert play["module_defaults"][group]["context"] == "{{ arc_preflight_facts.context }}"


def test_helm_is_called_by_its_name_because_its_path_may_have_a_space_in_it() -> None:
    for name in ("install-arc", "delete-arc"):
        for play in yaml.safe_load((ANSIBLE / f"{name}.yml").read_text()):
            defaults = play.get("module_defaults", {}).get("group/kubernetes.core.helm", {"binary_path": "helm"})
            assert defaults["binary_path"] == "helm"


def test_macos_is_told_to_leave_ansible_s_processes_alone(play: Play, tmp_path: Path) -> None:
    play(_GOOD)
    assert "OBJC_DISABLE_INITIALIZE_FORK_SAFETY=YES" in (tmp_path / "variables").read_text().splitlines()


def test_programs_of_the_cluster_are_told_its_context() -> None:
    """What is no module has none of the defaults."""
    for path in _TASKS:
        for task in tasks_of(path):
            command = json.dumps(task.get("ansible.builtin.command", {}))
            assert "kubectl" not in command
            assert "helm" not in command or "arc_delete_helm" in command
    roles = ANSIBLE / "roles"
    helm = yaml.safe_load((roles / "arc_delete/vars/main.yml").read_text())["arc_delete_helm"]
    assert helm[1:] == ["--kubeconfig={{ arc_delete_kubeconfig }}", "--kube-context={{ arc_delete_context }}"]
    for role, entry in (("arc_delete", "main"), ("arc_delete", "release"), ("arc_runners", "main")):
        options = yaml.safe_load((roles / role / "meta/argument_specs.yml").read_text())["argument_specs"][entry][
            "options"
        ]
        assert options[f"{role}_kubeconfig"]["required"]
        assert options[f"{role}_context"]["required"]


def test_no_module_leaves_its_arguments_in_a_file() -> None:
    assert "pipelining = true" in (ANSIBLE / "ansible.cfg").read_text().splitlines()


def test_bundle_is_new_enough_for_helm_4() -> None:
    """Kubernetes.core 6.6, the first that works with Helm 4.2, came with Ansible 14.5."""
    lines = (ANSIBLE / "requirements.txt").read_text().splitlines()
    version = next(line for line in lines if line.startswith("ansible==")).split("==")[1].split()[0]
    assert tuple(int(part) for part in version.split(".")[:2]) >= (14, 5)
    assert not [line for line in lines if "://" in line]
