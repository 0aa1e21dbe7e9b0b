"""What a cluster's end means for its runners: they leave GitHub first, and no job is cut off unawares."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from envkit.arc.causes import find_cause
from envkit.arc.kube import CONTROLLER_SELECTOR, SCALE_SETS, Kube, Resource, kube_of, name, namespace, notes, rfc3339
from envkit.arc.settings import CONTROLLER_NAMESPACE, has_runners
from envkit.arc.state import SCALE_SET_ID
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command
from envkit.progress import Steps

_SECONDS = 45
"""How long GitHub may take to let the scale sets go. Without a job on them it takes two."""

_LOOK_SECONDS = 4
"""How long a cluster that is to be stopped may take to tell of its runners."""


def deregister(environment: Environment, steps: Steps, *, running: bool) -> None:
    """Takes all scale sets off GitHub before their cluster is deleted; where that cannot be, says so and what is left.

    Args:
        environment: The environment.
        steps: Where progress and complaints are shown.
        running: Whether the cluster runs.
    """
    if not has_runners():
        return
    if not running:
        steps.say(
            "The cluster does not run, so runners that it may have had stay registered at GitHub. To have them gone"
            f" there: {just_command()} start && {just_command()} delete-arc, then {just_command()} delete;"
            f" or {_by_hand(_team_url(environment))}"
        )
        return
    kube = kube_of(environment)
    try:
        registered = [item for item in kube.get(SCALE_SETS, "--all-namespaces") if SCALE_SET_ID in notes(item)]
    except UserError as error:
        steps.say(f"Runners may stay registered at GitHub: the cluster cannot be asked for them ({error.what})")
        return
    if registered:
        _take_off(kube, registered, steps)


def _take_off(kube: Kube, registered: list[Resource], steps: Steps) -> None:
    names = ", ".join(name(item) for item in registered)
    since = rfc3339(datetime.now(UTC))
    try:
        with steps.step(f"Taking the runners off GitHub: {names}"):
            for item in registered:
                kube.run(
                    *("delete", SCALE_SETS, name(item), f"--namespace={namespace(item)}"),
                    *("--wait", f"--timeout={_SECONDS}s"),
                    timeout=_SECONDS + 5,
                )
    except CommandFailedError:
        lines = kube.log(namespace=CONTROLLER_NAMESPACE, target=f"--selector={CONTROLLER_SELECTOR}", since=since)
        cause = find_cause(lines)
        why = cause.what if cause else "The controller did not do it in time."
        by_hand = _by_hand(registered[0]["spec"]["githubConfigUrl"])
        steps.say(f"{names} stays registered at GitHub. {why} The cluster is deleted all the same; {by_hand}")


def busy_runners(environment: Environment) -> int:
    """How many runners have a job; 0 also where that cannot be told."""
    if not has_runners():
        return 0
    from envkit.arc.kube import RUNNERS, status

    kube = kube_of(environment, seconds=_LOOK_SECONDS)
    try:
        return sum(bool(status(item).get("jobId")) for item in kube.get(RUNNERS, "--all-namespaces"))
    except UserError:
        return 0


def warn_of_busy_runners(environment: Environment, say: Callable[[str], None]) -> None:
    """Says how many jobs the cluster's end will cut off, if any."""
    if busy := busy_runners(environment):
        say(f"Runners with a job: {busy}. The cluster's end cancels these jobs.")


def _team_url(environment: Environment) -> str:
    from envkit.arc.settings import read_arc_settings

    try:
        return read_arc_settings(environment).config_url
    except UserError:
        return "https://github.com/ORGANISATION"


def _by_hand(config_url: str) -> str:
    from envkit.arc.commands import runners_page

    return f"remove it by hand where it is in the way: {runners_page(config_url)}"
