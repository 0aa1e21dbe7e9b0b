"""Brings the host tools that are missing, and leaves those alone that are right."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from envkit import consent, localhost_names, mise
from envkit.errors import CommandFailedError, UserError
from envkit.mirrors import read_mirrors
from envkit.paths import TOOLS_BIN, just_command
from envkit.process import capture, find_tool, stream
from envkit.progress import Step, Steps
from envkit.tool_versions import (
    ToolStatus,
    ansible_python_pin,
    host_tools,
    is_right_beyond_links,
    pins,
    tool_statuses,
)
from envkit.wording import quoted

_LOCALHOST_PACKAGE = "libnss-myhostname"
_PYTHON_MIRROR = "UV_PYTHON_INSTALL_MIRROR"
_PYTHONS = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""Where uv fetches Pythons from."""


@dataclass(frozen=True)
class _Action:
    """One thing to do. `line` tells it to the person beforehand, a command of the system verbatim."""

    title: str
    line: str
    run: Callable[[Step], object]
    tool: str = ""


@dataclass
class _Plan:
    actions: list[_Action] = field(default_factory=list)
    impossible: list[UserError] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    needs_sudo: bool = False
    uses_mise: bool = False


def run_install(
    steps: Steps,
    *,
    registry_host: str,
    only: Literal["create"] | None = None,
    assume_yes: bool = False,
) -> None:
    """Finds what is missing or has a wrong version, shows what it will do, and does it.

    Args:
        steps: Shows the progress.
        registry_host: The registry's name on this machine, which has to resolve.
        only: `create` restricts it to the tools that `create` needs.
        assume_yes: Does not ask.

    Raises:
        UserError: Something is still missing at the end, or the person said no.
    """
    _remove_dangling_links()
    names = [t.name for t in host_tools().values() if t.name != "mise" and (t.needed_by_create or only is None)]
    statuses = tool_statuses(names)
    plan = _plan(statuses, registry_host if only is None else None)
    for status in statuses:
        if status.ok and status.note:
            steps.say(f"{status.name} {status.note}.")
    for hint in plan.hints:
        steps.say(hint)
    if not plan.actions and not plan.impossible:
        steps.say("Nothing to install: " + ", ".join(f"{s.name} {s.version}" for s in statuses if s.version) + ".")
        return
    _show(plan, steps)
    _confirm(plan, assume_yes)
    failed, failures = _carry_out(plan, steps)
    failures = plan.impossible + failures + _still_wrong(plan, failed, registry_host)
    if plan.uses_mise and any(s.is_link for s in tool_statuses(names)):
        steps.say("The recipes use these tools by themselves. For your own shell:")
        steps.say(f"  {mise.activation_hint()}")
    if failures:
        raise _summary(failures)


def _plan(statuses: Sequence[ToolStatus], registry_host: str | None) -> _Plan:
    plan = _Plan()
    wanted = [status for status in statuses if status.needs_install and not _freed_from_link(status)]
    by_name = {status.name: status for status in wanted}
    from_mise = [name for name in by_name if name in pins()]
    if "python" in by_name and find_tool("uv") is None:
        from_mise.append("uv")
    if from_mise:
        _plan_mise(plan, from_mise, by_name)
    if status := by_name.get("python"):
        _plan_python(plan, status)
    packages: list[str] = []
    if "buildah" in by_name:
        packages.append("buildah")
    if registry_host and not localhost_names.resolves(registry_host):
        if shutil.which("apt-get"):
            packages.append(_LOCALHOST_PACKAGE)
        else:
            plan.hints.append(_hosts_hint(registry_host))
    _plan_packages(plan, packages)
    return plan


def _plan_mise(plan: _Plan, names: Sequence[str], by_name: dict[str, ToolStatus]) -> None:
    plan.uses_mise = True
    found = mise.find_mise()
    if found is None:
        plan.actions.append(
            _Action(
                f"mise {mise.VERSION}",
                f"mise {mise.VERSION}: download {mise.release_url()}, check its SHA-256",
                lambda step: mise.fetch_mise(step.note),
            )
        )
    for name in names:
        why = _why(by_name[name]) if name in by_name else "to fetch Python with"
        plan.actions.append(
            _Action(
                f"{name} {pins()[name]}",
                f"{name} {pins()[name]}: mise ({why})",
                functools.partial(_by_mise, name),
                tool=name,
            )
        )


def _by_mise(name: str, step: Step) -> None:
    program = mise.find_mise()
    if program is None:
        raise UserError(f"{name} was not installed, because mise is missing.")
    mise.install(program, [name], step.note)
    if not mise.link(program, name):
        raise UserError(
            f"mise reports success, but {name} {pins()[name]} is not there.",
            next_step=f"{quoted(program)} doctor",
        )


def _plan_python(plan: _Plan, status: ToolStatus) -> None:
    pin = ansible_python_pin()
    plan.actions.append(
        _Action(
            f"Python {pin}",
            f"Python {pin} for Ansible: uv ({_why(status)})",
            functools.partial(_python_by_uv, pin),
            tool="python",
        )
    )


def _python_by_uv(pin: str, step: Step) -> None:
    if find_tool("uv") is None:
        raise UserError(f"Python {pin} was not installed, because uv is missing.")
    env = {"UV_OFFLINE": "1"} if mise.is_offline() else {}
    mirrors = read_mirrors()
    if mirrors.downloads and not os.environ.get(_PYTHON_MIRROR):
        env[_PYTHON_MIRROR] = mirrors.download(_PYTHONS)
    hint = f"Check the network, or set {_PYTHON_MIRROR} to a mirror; then {just_command()} install"
    stream(["uv", "python", "install", "--no-bin", pin], step.note, env=env, next_step=hint)
    found = capture(["uv", "python", "find", "--no-project", "--managed-python", pin], env=env, next_step=hint)
    mise.link_executable(f"python{pin}", Path(found.strip()))


def _plan_packages(plan: _Plan, packages: Sequence[str]) -> None:
    if not packages:
        return
    manager = next((name for name in ("apt-get", "dnf") if shutil.which(name)), None)
    if manager is None:
        plan.impossible += [
            UserError(
                f"{package} was not installed: neither apt nor dnf is here.",
                next_step=f"Install the package {package} with the package manager of your system.",
            )
            for package in packages
        ]
        return
    if manager == "apt-get" and not all(_apt_knows(package) for package in packages):
        plan.actions.append(_package_action("apt's lists of packages", ["apt-get", "update"]))
    for package in packages:
        plan.actions.append(_package_action(package, [manager, "install", "--yes", package]))
    plan.needs_sudo = not _is_root()


def _package_action(title: str, command: list[str]) -> _Action:
    shown = " ".join(command if _is_root() else ["sudo", *command])
    return _Action(title, f"{title}: {shown}", functools.partial(_as_root, command), tool=title)


def _as_root(command: list[str], step: Step) -> None:
    """Runs a command as root. Without a terminal sudo is not allowed to ask for a password."""
    by_hand = " ".join(["sudo", *command])
    if _is_root():
        argv = command
    elif find_tool("sudo") is None:
        raise UserError(
            f"`{' '.join(command)}` needs root, and there is no sudo.",
            next_step=f"As root: {' '.join(command)}",
        )
    else:
        argv = ["sudo", *([] if consent.can_ask() else ["-n"]), *command]
    try:
        stream(argv, step.note, env={"DEBIAN_FRONTEND": "noninteractive"}, next_step=by_hand)
    except CommandFailedError as error:
        if error.output.startswith("sudo:"):
            raise UserError(f"sudo refused to run `{' '.join(command)}`.", error.output, by_hand) from error
        raise


def _apt_knows(package: str) -> bool:
    try:
        answer = capture(["apt-cache", "policy", package], env={"LC_ALL": "C"})
    except UserError:
        return False
    return "Candidate:" in answer and "Candidate: (none)" not in answer


def _show(plan: _Plan, steps: Steps) -> None:
    if plan.actions:
        steps.say("To do:")
        for action in plan.actions:
            steps.say(f"  {action.line}")


def _confirm(plan: _Plan, assume_yes: bool) -> None:
    if not plan.actions or not consent.can_ask():
        return
    if not assume_yes and not consent.agrees("Go on?"):
        raise UserError("Nothing was installed.", next_step=f"{just_command()} install")
    if plan.needs_sudo and (sudo := find_tool("sudo")):
        # The password is asked for now, because the list of steps would be drawn over the question.
        subprocess.run([sudo, "-v"], check=False)


def _carry_out(plan: _Plan, steps: Steps) -> tuple[set[str], list[UserError]]:
    """Does one thing after the other, whatever became of those before. Returns what failed, and why."""
    failed: set[str] = set()
    failures: list[UserError] = []
    for action in plan.actions:
        try:
            with steps.step(action.title) as step:
                action.run(step)
        except UserError as error:
            failed.add(action.tool)
            failures.append(error)
        except OSError as error:
            failed.add(action.tool)
            failures.append(UserError(f"{action.title} could not be installed.", str(error)))
    return failed, failures


def _still_wrong(plan: _Plan, failed: set[str], registry_host: str) -> list[UserError]:
    """What is not right although its action succeeded."""
    done = {action.tool for action in plan.actions} - failed
    errors = [
        UserError(
            f"{status.name} is still not right: {_why(status)}.",
            next_step=f"Take it off PATH, or bring it up to date; then {just_command()} install",
        )
        for status in tool_statuses(sorted(done & host_tools().keys()))
        if not status.ok
    ]
    if _LOCALHOST_PACKAGE in done and not localhost_names.resolves(registry_host):
        errors.append(
            UserError(
                f"{registry_host} still does not resolve.",
                f"{_LOCALHOST_PACKAGE} is there: does `hosts:` in /etc/nsswitch.conf name `myhostname`?",
                localhost_names.hosts_command(registry_host),
            )
        )
    return errors


def _summary(failures: Sequence[UserError]) -> UserError:
    if len(failures) == 1:
        (only,) = failures
        return UserError(only.what, only.why, only.next_step or f"{just_command()} install")
    details = []
    for failure in failures:
        details.append(failure.what)
        details += [f"  {line}" for line in failure.why.splitlines()]
    next_steps = list(dict.fromkeys(failure.next_step for failure in failures if failure.next_step))
    return UserError(
        f"{len(failures)} things could not be installed.",
        "\n".join(details),
        "\n".join(next_steps) or f"{just_command()} install",
    )


def _why(status: ToolStatus) -> str:
    if status.path is None:
        return "missing"
    if status.version is None:
        return f"{status.path} does not run"
    if status.ok:
        return f"{status.version} was brought here earlier, the pin has moved"
    return f"{status.path} is {status.version}; {status.accepted} is needed: {status.tool.reason}"


def _hosts_hint(name: str) -> str:
    return (
        f"{name} does not resolve here; localhost with the same port works for pushes. To make it resolve, "
        f"add the line `{localhost_names.hosts_line(name)}` to {localhost_names.HOSTS_FILE}:\n"
        f"  {localhost_names.hosts_command(name)}"
    )


def _remove_dangling_links() -> None:
    for path in TOOLS_BIN.glob("*"):
        if path.is_symlink() and not path.exists():
            path.unlink()


def _freed_from_link(status: ToolStatus) -> bool:
    """Removes an outdated link of ours in front of a right tool. Returns whether there was one."""
    if status.path is None or not status.is_link or not is_right_beyond_links(status.tool):
        return False
    status.path.unlink()
    return True


def _is_root() -> bool:
    return os.geteuid() == 0
