"""Running the playbooks, with Ansible from an environment of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from envkit.errors import CommandFailedError, UserError
from envkit.paths import ROOT, just_command
from envkit.process import StartedTool, started
from envkit.tool_versions import ansible_python_pin, tool_statuses

_FOLDER = ROOT / "ansible"
_VENV = ROOT / ".venv-ansible"
_REQUIREMENTS = _FOLDER / "requirements.txt"
_FACTS_FILE = "/dev/fd/3"
"""Where a playbook reads its facts. Ansible's own processes have no standard input, but keep what else is open."""

_WITH_FACTS_FROM_STDIN = 'exec "$@" 3<&0 </dev/null'


@dataclass(frozen=True)
class Recap:
    """What a playbook has done.

    Attributes:
        changed: How many tasks changed something.
        changed_tasks: Their names.
    """

    changed: int
    changed_tasks: frozenset[str]


def is_prepared() -> bool:
    """Whether the virtual environment has what `ansible/requirements.txt` asks for, and its Python is still there."""
    stamp = _VENV / "requirements.installed"
    if not (stamp.exists() and os.access(_VENV / "bin" / "python", os.X_OK)):
        return False
    return stamp.read_bytes() == _REQUIREMENTS.read_bytes()


def prepare_ansible(recipe: str) -> None:
    """Makes the virtual environment, or brings it in line with `ansible/requirements.txt`; quick where it is.

    `recipe` is what to run again if that fails. Raises UserError where there is no Python that is new enough, or where
    the packages cannot be installed.
    """
    if is_prepared():
        return
    python = next(iter(tool_statuses(["python"])))
    if not python.ok or python.path is None:
        raise UserError(
            f"Ansible needs Python {python.accepted}, which was not found.",
            f"`install` can bring {ansible_python_pin()}.",
            f"{just_command()} install",
        )
    done = subprocess.run(
        [str(ROOT / "bin" / "python-env"), str(_VENV), str(_REQUIREMENTS)],
        env={**os.environ, "PYTHON": str(python.path)},
        check=False,
    )
    if done.returncode:
        raise UserError("Ansible could not be installed.", "The lines above say why.", f"{just_command()} {recipe}")


class StartedPlaybook:
    """A playbook that waits for its facts."""

    def __init__(self, tool: StartedTool) -> None:
        self._tool = tool

    def finish(self, facts: Mapping[str, Any], on_task: Callable[[str], None], *, next_step: str) -> Recap:
        """Lets it go on; returns what it has done.

        Args:
            facts: What it calls `arc_preflight_facts`; no credential may be among them.
            on_task: Gets the name of each task as Ansible tells it.
            next_step: What the person should do if it fails.

        Raises:
            CommandFailedError: A task failed; the error carries its message.
        """
        lines: list[str] = []

        def see(line: str) -> None:
            lines.append(line)
            if task := _task(line):
                on_task(task)

        try:
            self._tool.finish(json.dumps(facts), see)
        except CommandFailedError as error:
            raise CommandFailedError(
                f"Ansible could not carry out the task: {_failed_task(lines)}.",
                status=error.status,
                output=_message(lines),
                next_step=next_step,
            ) from error
        return _recap(lines)


@contextmanager
def started_playbook(name: str, **variables: Any) -> Iterator[StartedPlaybook]:
    """Starts a playbook, named without `.yml`, so that it is at its first task when its facts are known.

    Args:
        name: Which one.
        variables: Its other variables. Everybody on the machine can read them.
    """
    extra_variables = json.dumps({"arc_preflight_file": _FACTS_FILE, **variables})
    argv = [
        *("sh", "-c", _WITH_FACTS_FROM_STDIN, "sh", str(_VENV / "bin" / "ansible-playbook")),
        *(str(_FOLDER / f"{name}.yml"), "--extra-vars", extra_variables),
    ]
    env = {
        "ANSIBLE_CONFIG": str(_FOLDER / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        # macOS ends processes that Ansible has forked, unless told otherwise (the FAQ of Ansible, "Running on macOS").
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        # Python would read the modules, which come through a pipe, in steps of one byte.
        "PYTHONUNBUFFERED": "",
    }
    with started(argv, env=env) as tool:
        yield StartedPlaybook(tool)


def _task(line: str) -> str:
    """The task that begins with this line, without its role; empty where none does."""
    match = re.match(r"TASK \[(.+?)\] \**$", line)
    return (match[1].partition(" : ")[2] or match[1]) if match else ""


def _failed_task(lines: list[str]) -> str:
    last = ""
    for line in lines:
        if task := _task(line):
            last = task
        elif line.startswith(("fatal:", "[ERROR]")):
            return last or "starting"
    return last or "starting"


def _message(lines: list[str]) -> str:
    """What the failed task says, without the fields that only a developer of modules reads."""
    heads = [i for i, line in enumerate(lines) if line.startswith(("PLAY ", "TASK "))]
    errors = [i for mark in ("[ERROR]", "fatal:") for i, line in enumerate(lines) if line.startswith(mark)]
    # Without such a line Ansible itself has ended, and its last words are those after the last head.
    start = errors[0] if errors else (heads[-1] + 1 if heads else 0)
    # What goes on beside it may have more to say.
    end = next((i for i in heads if i > start), len(lines))
    return "\n".join(line for line in lines[start:end] if line.strip())[-1500:]


def _recap(lines: list[str]) -> Recap:
    counted, task, changed = 0, "", set()
    for line in lines:
        task = _task(line) or task
        if line.startswith("changed: "):
            changed.add(task)
        if match := re.match(r"\S+\s+: ok=\d+\s+changed=(\d+)", line):
            counted += int(match[1])
    return Recap(counted, frozenset(changed))
