"""The runners' state, for people and for machines."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from envkit.arc.causes import RAISE_BASE, error_lines, find_cause
from envkit.arc.kube import CONTROLLER_SELECTOR, LISTENER_SELECTOR, Kube
from envkit.arc.listener import with_session
from envkit.arc.state import ArcState, Part, assess
from envkit.paths import just_command
from envkit.report import new_table, plain, print_report
from envkit.wording import counted

_PHASES = ("idle", "busy", "starting", "ending", "failed", "outdated")
_PATIENCE_SECONDS, _POLL_SECONDS = 5.0, 0.5
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Wanted:
    """What the files say that there should be.

    Attributes:
        version: Version of the controller.
        image: Image of the runners.
        config_url: Where on GitHub they belong.
    """

    version: str
    image: str
    config_url: str


def look(kube: Kube, wanted: str) -> tuple[ArcState, list[str]]:
    """The state of the scale set `wanted`, and the last lines of both logs that tell of an error.

    Looks again for some seconds where a listener is about to run: one that GitHub turns away runs for a moment, again
    and again, and its log goes with it. What the controller's log still has of an earlier trouble says nothing of it.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        state = with_session(kube, assess(kube.resources(), wanted))
        if state.ready and state.has_enough:
            return state, []
        listeners = _errors(kube, LISTENER_SELECTOR)
        if listeners or state.ready or not state.is_to_be_served or time.monotonic() > deadline:
            return state, [*_errors(kube, CONTROLLER_SELECTOR), *listeners]
        time.sleep(_POLL_SECONDS)


def _errors(kube: Kube, selector: str) -> list[str]:
    return error_lines(kube.log(namespace=kube.controllers, target=f"--selector={selector}"), most=2)


def next_step(state: ArcState, errors: list[str], wanted: Wanted) -> str:
    """The command to run next; empty where all is well."""
    just = just_command()
    if state.scale_set and state.scale_set.phase == "Outdated":
        return f"{RAISE_BASE} {just} build-runner && {just} install-arc"
    if not state.ready:
        cause = find_cause(errors)
        return f"{cause.what}\n{cause.next_step}" if cause else f"{just} install-arc"
    if state.controller.version != wanted.version:
        return f"{just} install-arc   (installs {wanted.version})"
    if state.scale_set and not state.scale_set.belongs_to(wanted.config_url):
        return f"{just} install-arc   (moves the runners to {wanted.config_url})"
    if state.scale_set and state.scale_set.image != wanted.image:
        return f"{just} install-arc   (gives the runners {wanted.image})"
    return ""


def print_json(state: ArcState, errors: list[str], step: str) -> None:
    """Prints one JSON object."""
    counts = {phase: sum(runner.phase == phase for runner in state.runners) for phase in _PHASES}
    document = {
        **asdict(state),
        "ready": state.ready,
        "counts": {"current": len(state.runners), **counts},
        "errors": errors,
        "next_step": step,
    }
    print(json.dumps(document, indent=2))


def print_table(state: ArcState, errors: list[str], step: str) -> None:
    """Prints the state for a person."""
    table = new_table(columns=2)
    table.add_row("Controller", _part_line(state.controller))
    table.add_row("Listener", _part_line(state.listener))
    if scale_set := state.scale_set:
        colour = "green" if state.ready else "red" if scale_set.phase == "Outdated" else "yellow"
        known = "registered" if scale_set.registered else "[yellow]not registered at GitHub[/]"
        phase = "being removed" if scale_set.deleting else scale_set.phase
        table.add_row("Scale set", f"{scale_set.name}  [{colour}]{phase}[/]  {known}  {scale_set.config_url}")
        limit = "no limit" if scale_set.maximum is None else scale_set.maximum
        counts = ", ".join(f"{state_count} {phase}" for phase in _PHASES if (state_count := _count(state, phase)))
        table.add_row("Runners", f"{len(state.runners)} of min {scale_set.minimum}, max {limit}: {counts or 'none'}")
        table.add_row("Image", plain(scale_set.image))
    for other in state.others:
        table.add_row("", f"[yellow]also there, under an earlier name: {other}[/]")
    for runner in state.runners:
        job = f"{runner.job} ({runner.repository}, run {runner.run})" if runner.job else runner.detail
        table.add_row("", plain(f"{runner.name}  {runner.phase}  {age(runner.seconds)}  {job}".rstrip()))
    for index, line in enumerate(errors):
        table.add_row("Errors" if not index else "", f"[yellow]{plain(line)}[/]")
    for index, line in enumerate(step.splitlines()):
        table.add_row("Next" if not index else "", f"[bold]{plain(line)}[/]")
    print_report(table)


def age(seconds: int) -> str:
    """A duration in its largest unit, as kubectl shows it."""
    for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _count(state: ArcState, phase: str) -> int:
    return sum(runner.phase == phase for runner in state.runners)


def _part_line(part: Part) -> str:
    if not part.pod and not part.version:
        return "[dim]not installed[/]"
    word = "[green]running[/]" if part.running else "[yellow]not running[/]"
    restarts = counted(part.restarts, "restart") if part.restarts else ""
    return "  ".join(filter(None, (part.pod, word, part.version, restarts, plain(part.detail))))
