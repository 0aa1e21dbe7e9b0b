"""Running playbooks, with a program in Ansible's place; and what the playbooks themselves must keep to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import ROOT, wait_for

from envkit.arc import ansible as arc_ansible
from envkit.arc.ansible import Recap, prepare_ansible, started_playbook
from envkit.arc.install import _RESTART_TASK, needs_replacement
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command

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
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\nenv >{tmp_path}/env\n'
            f"cat >{tmp_path}/stdin\n"
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


def test_playbook_is_told_its_settings_and_to_write_without_colours(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANSIBLE_FORCE_COLOR", "PYTHONUNBUFFERED"):
        monkeypatch.setenv(name, "1")
    play(_GOOD)
    assert {
        f"ANSIBLE_CONFIG={ANSIBLE / 'ansible.cfg'}",
        "ANSIBLE_FORCE_COLOR=0",
        "ANSIBLE_NOCOLOR=1",
        "PYTHONUNBUFFERED=",
    } <= set((tmp_path / "env").read_text(encoding="utf-8").splitlines())


def test_failed_task_is_named_with_its_message(play: Play) -> None:
    with pytest.raises(CommandFailedError, match="Install the controller's chart") as error:
        play(_BAD, status=2)
    assert "chart not found" in error.value.why
    assert "RECAP" not in error.value.why
    assert "scale set" not in error.value.why
    assert error.value.next_step == "again"


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("", "starting", ""),
        ("sh: ansible-playbook: not found\n", "starting", "sh: ansible-playbook: not found"),
        ("[ERROR]: the playbook could not be found\n", "starting", "[ERROR]: the playbook could not be found"),
        ("TASK [a] ***\nfatal: [x]: FAILED! =>\n\n  gone\nTASK [b] ***\n", "a", "fatal: [x]: FAILED! =>\n  gone"),
        ("TASK [a] ***\n[ERROR]: gone\nTASK [b] ***\nok: [x]\n", "a", "[ERROR]: gone"),
        ("TASK [a] ***\nfatal: [x]\n[ERROR]: gone\nPLAY RECAP ***\nx : ok=1\n", "a", "[ERROR]: gone"),
        ("PLAY [all] ***\nTASK [a] ***\nok: [x]\nTASK [r : b] ***\nMemoryError\n", "b", "MemoryError"),
        (f"TASK [a] ***\nfatal: {'x' * 1600}end\n", "a", f"{'x' * 1497}end"),
    ],
    ids=["silent", "no-ansible", "no-playbook", "fatal", "error", "both", "ansible-itself", "long"],
)
def test_message_of_a_failure_is_what_belongs_to_its_task(play: Play, text: str, task: str, message: str) -> None:
    with pytest.raises(CommandFailedError) as error:
        play(text, status=1)
    assert error.value.what == f"Ansible could not carry out the task: {task}."
    assert error.value.output == message


def test_playbook_ends_without_its_facts_when_nobody_finishes_it(play: Play, tmp_path: Path) -> None:
    play(_GOOD)
    (tmp_path / "facts").unlink()
    (tmp_path / "started").unlink()
    with started_playbook("install-arc"):
        wait_for(tmp_path / "started")
    assert not (tmp_path / "facts").read_text()


@dataclass
class Preparation:
    """A repository whose `bin/python-env` remembers how it was called and ends with a status."""

    root: Path
    python: SimpleNamespace

    def ends(self, status: int) -> None:
        program = self.root / "bin" / "python-env"
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "$PYTHON $* $UV_INDEX_URL" >>{self.root}/calls\nexit {status}\n', encoding="utf-8"
        )
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        calls = self.root / "calls"
        return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


@pytest.fixture
def preparation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preparation:
    """One in which the environment has what is asked for, and a Python is found."""
    python = SimpleNamespace(ok=True, path=Path("/usr/bin/python3.14"), accepted=">=3.12")
    made = Preparation(tmp_path, python)
    made.ends(0)
    (tmp_path / "requirements.txt").write_text("ansible==1\n", encoding="utf-8")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "venv" / "requirements.installed").write_text("ansible==1\n", encoding="utf-8")
    monkeypatch.setattr(arc_ansible, "ROOT", tmp_path)
    monkeypatch.setattr(arc_ansible, "_VENV", tmp_path / "venv")
    monkeypatch.setattr(arc_ansible, "_REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(arc_ansible, "tool_statuses", lambda names: [python] if names == ["python"] else [])
    return made


def test_environment_that_has_what_is_asked_for_is_left_alone(preparation: Preparation) -> None:
    preparation.python.ok = False
    prepare_ansible("install-arc")
    assert preparation.calls == []


@pytest.mark.parametrize("lacks", ["requirements.installed", "bin/python", "the newest requirement"])
def test_environment_that_lacks_something_is_made_with_the_python_that_was_found(
    preparation: Preparation, lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "https://a.example/simple")
    venv, requirements = preparation.root / "venv", preparation.root / "requirements.txt"
    if lacks == "bin/python":
        # As a newer Python of the distribution leaves it.
        (venv / lacks).unlink()
        (venv / lacks).symlink_to("/usr/bin/python3.none")
    elif lacks == "requirements.installed":
        (venv / lacks).unlink()
    else:
        requirements.write_text("ansible==2\n", encoding="utf-8")
    prepare_ansible("install-arc")
    assert preparation.calls == [f"/usr/bin/python3.14 {venv} {requirements} https://a.example/simple"]


@pytest.mark.parametrize("missing", [{"ok": False}, {"path": None}])
def test_python_that_is_missing_is_told_with_what_brings_it(preparation: Preparation, missing: dict[str, Any]) -> None:
    (preparation.root / "venv" / "requirements.installed").unlink()
    vars(preparation.python).update(missing)
    with pytest.raises(UserError, match=r"Ansible needs Python >=3\.12, which was not found\.") as error:
        prepare_ansible("install-arc")
    assert error.value.next_step == f"{just_command()} install"
    assert preparation.calls == []


def test_failed_preparation_names_the_recipe_to_repeat(preparation: Preparation) -> None:
    (preparation.root / "venv" / "requirements.installed").unlink()
    preparation.ends(1)
    with pytest.raises(UserError, match="Ansible could not be installed") as error:
        prepare_ansible("delete-arc")
    assert error.value.next_step == f"{just_command()} delete-arc"


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
    assert "OBJC_DISABLE_INITIALIZE_FORK_SAFETY=YES" in (tmp_path / "env").read_text().splitlines()


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
