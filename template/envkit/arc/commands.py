"""The subcommands about runners in the cluster."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime

from envkit.environment import load_environment
from envkit.lock import cluster_lock
from envkit.progress import Steps

_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_arc_commands(add: _Add) -> None:
    """Adds them by `add(name, function, text)`."""
    install = add("install-arc", _install, "install the runners, or bring them to what the files say")
    install.add_argument("--verify", action="store_true", help="ask GitHub beforehand whether the credentials are good")
    install.add_argument("--yes", action="store_true", help="do not ask before another version is replaced")
    delete = add("delete-arc", _delete, "take the runners off GitHub and out of the cluster")
    delete.add_argument("--force", action="store_true", help="also where controller or GitHub do not answer")
    status = add("arc-status", _status, "show controller, listener, scale set and runners")
    status.add_argument("--json", action="store_true", help="for machines")
    status.add_argument("--wait", action="store_true", help="wait until jobs would be run, or say why not")
    logs = add("arc-logs", _logs, "show the log of the controller, the listener or a runner")
    logs.add_argument("of", nargs="?", default="controller", help="controller (default), listener, or a runner's name")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as lines come")
    plan = add("arc-plan", _plan, "check everything and print what the playbooks have to know, as JSON")
    plan.add_argument("purpose", choices=["install", "delete"])
    add(
        "arc-secrets",
        _secrets,
        "print the Secrets with the proxy's password, for the playbooks",
    )


def _install(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import install
    from envkit.arc.report import print_table

    environment = load_environment()
    with Steps() as steps, cluster_lock(environment.cluster, "install-arc", steps.say):
        result = install(environment, steps, verify=arguments.verify, assume_yes=arguments.yes)
    print_table(result.state, [], "")
    name = result.state.scale_set.name if result.state.scale_set else ""
    word = f"{result.changed} changed" if result.changed else "nothing had to be changed (changed=0)"
    print(f"\nThe runners are ready: {word}. In workflows: runs-on: {name}")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import remove
    from envkit.arc.settings import read_arc_settings

    environment = load_environment()
    with Steps() as steps, cluster_lock(environment.cluster, "delete-arc", steps.say):
        names, changed = remove(environment, steps, force=arguments.force)
    if not changed:
        print("There was nothing to remove.")
        return 0
    print(
        f"Removed: {', '.join(names) or 'no scale set'}, the controller, its resource definitions and both namespaces."
    )
    if arguments.force and names:
        url = read_arc_settings(environment).config_url
        print(
            f"GitHub was not asked. Where it still shows {', '.join(names)}, remove that by hand: {runners_page(url)}"
        )
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from envkit.arc.kube import kube_of
    from envkit.arc.report import next_step, print_json, print_table, recent_errors
    from envkit.arc.settings import read_arc_settings
    from envkit.arc.state import assess
    from envkit.arc.wait import wait_until_ready

    environment = load_environment()
    settings = read_arc_settings(environment)
    kube = kube_of(environment)
    if arguments.wait:
        with Steps() as steps, steps.step("Waiting for the runners") as step:
            state = wait_until_ready(kube, settings.name, since=datetime.now(UTC), on_state=step.note)
    else:
        state = assess(kube.resources(), settings.name)
    errors = recent_errors(kube, state)
    step_text = next_step(state, errors, wanted_version=settings.version, wanted_image=settings.image)
    (print_json if arguments.json else print_table)(state, errors, step_text)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from envkit.arc.kube import CONTROLLER_SELECTOR, LISTENER_SELECTOR, kube_of
    from envkit.arc.settings import CONTROLLER_NAMESPACE, RUNNERS_NAMESPACE, require_runners
    from envkit.process import require_tool, tool_environment

    require_runners()
    kube = kube_of(load_environment())
    selectors = {"controller": CONTROLLER_SELECTOR, "listener": LISTENER_SELECTOR}
    if selector := selectors.get(arguments.of):
        target = [f"--namespace={CONTROLLER_NAMESPACE}", f"--selector={selector}", "--tail=200"]
    else:
        target = [f"--namespace={RUNNERS_NAMESPACE}", arguments.of, "--all-containers", "--tail=200"]
    follow = ["--follow"] if arguments.follow else []
    kubectl = require_tool("kubectl")
    # In place of this program: the log goes straight to the terminal, and Ctrl-C ends it.
    os.execve(  # noqa: S606
        kubectl,
        [kubectl, f"--kubeconfig={kube.kubeconfig}", f"--context={kube.context}", "logs", *target, *follow],
        tool_environment(),
    )


def _plan(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import plan_for_ansible

    print(json.dumps(plan_for_ansible(load_environment(), arguments.purpose)))
    return 0


def _secrets(_: argparse.Namespace) -> int:
    from envkit.arc.corporate import secret_manifests
    from envkit.arc.settings import RUNNERS_NAMESPACE
    from envkit.corporate_network import read_own_proxies

    print(json.dumps(secret_manifests(read_own_proxies(), load_environment().corporate, RUNNERS_NAMESPACE)))
    return 0


def runners_page(config_url: str) -> str:
    """The page of GitHub's that lists runners."""
    head, _, place = config_url.rstrip("/").partition("://")
    host, _, path = place.partition("/")
    if "/" in path:
        return f"{head}://{host}/{path}/settings/actions/runners"
    return f"{head}://{host}/organizations/{path}/settings/actions/runners"
