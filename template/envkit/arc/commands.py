"""The subcommands about runners in the cluster."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime

from envkit.cluster import Cluster, load_cluster
from envkit.errors import UserError
from envkit.existing.cluster import ExistingCluster
from envkit.lock import cluster_lock
from envkit.paths import just_command
from envkit.progress import Steps

_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_arc_commands(add: _Add) -> None:
    """Adds them by `add(name, function, text)`."""
    install = add("install-arc", _install, "install the runners, or bring them to what the files say")
    install.add_argument("--verify", action="store_true", help="ask GitHub beforehand whether the credentials are good")
    install.add_argument("--yes", action="store_true", help="do not ask before another version is replaced")
    install.add_argument(
        "--adopt", action="store_true", help="use the controller that another team has installed, as it is"
    )
    delete = add("delete-arc", _delete, "take the runners off GitHub and out of the cluster")
    delete.add_argument("--force", action="store_true", help="also where controller or GitHub do not answer")
    for command in (install, delete):
        command.add_argument(
            "--context", default="", help="name of the context that may be changed, without a question"
        )
    status = add("arc-status", _status, "show controller, listener, scale set and runners")
    status.add_argument("--json", action="store_true", help="for machines")
    status.add_argument("--wait", action="store_true", help="wait until jobs would be run, or say why not")
    logs = add("arc-logs", _logs, "show the log of the controller, the listener or a runner")
    logs.add_argument("of", nargs="?", default="controller", help="controller (default), listener, or a runner's name")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as lines come")
    plan = add("arc-plan", _plan, "check everything and print what the playbooks have to know, as JSON")
    plan.add_argument("purpose", choices=["install", "delete", "empty-namespaces"])
    add(
        "arc-secrets",
        _secrets,
        "print the Secrets with the proxy's password and the token, for the playbooks",
    )


def _install(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import install
    from envkit.arc.report import print_table

    cluster = _confirmed("install-arc", arguments.context)
    if arguments.adopt and not isinstance(cluster, ExistingCluster):
        raise UserError(
            "--adopt is for clusters that are there already.",
            "In a cluster that this environment makes the controller is its own.",
            f"{just_command()} install-arc",
        )
    with Steps() as steps, cluster_lock(cluster.name, "install-arc", steps.say):
        result = install(cluster, steps, verify=arguments.verify, assume_yes=arguments.yes, adopt=arguments.adopt)
    print_table(result.state, [], "")
    name = result.state.scale_set.name if result.state.scale_set else ""
    word = f"{result.changed} changed" if result.changed else "nothing had to be changed (changed=0)"
    print(f"\nThe runners are ready: {word}. In workflows: runs-on: {name}")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import remove

    cluster = _confirmed("delete-arc", arguments.context)
    with Steps() as steps, cluster_lock(cluster.name, "delete-arc", steps.say):
        removed = remove(cluster, steps, force=arguments.force)
    if not removed.changed:
        print("There was nothing to remove.")
        return 0
    names = ", ".join(removed.scale_sets)
    *parts, last = [names or "no scale set", *removed.others]
    print(f"Removed: {', '.join(parts) + ' and ' if parts else ''}{last}.")
    if arguments.force and names:
        page = runners_page(removed.config_url)
        print(f"GitHub was not asked. Where it still shows {names}, remove that by hand: {page}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from envkit.arc.api_proxy import proxied
    from envkit.arc.install import find_controller
    from envkit.arc.report import Wanted, look, next_step, print_json, print_table
    from envkit.arc.settings import read_arc_settings
    from envkit.arc.wait import wait_until_ready

    cluster = _reached()
    settings = read_arc_settings(cluster)
    kube, controller = find_controller(cluster)
    with proxied(kube) as kube:
        if arguments.wait:
            with Steps() as steps, steps.step("Waiting for the runners") as step:
                state = wait_until_ready(
                    kube,
                    settings.name,
                    since=datetime.now(UTC),
                    on_state=step.note,
                    nodes_may_come=isinstance(cluster, ExistingCluster),
                )
            errors: list[str] = []  # with one it would not have ended
        else:
            state, errors = look(kube, settings.name)
    version = state.controller.version if controller else settings.version
    step_text = next_step(state, errors, Wanted(version, settings.image, settings.config_url))
    (print_json if arguments.json else print_table)(state, errors, step_text)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from envkit.arc.install import find_controller
    from envkit.arc.kube import CONTROLLER_SELECTOR, LISTENER_SELECTOR
    from envkit.arc.settings import RUNNERS_NAMESPACE
    from envkit.process import require_tool, tool_environment

    kube, _ = find_controller(_reached())
    selectors = {"controller": CONTROLLER_SELECTOR, "listener": LISTENER_SELECTOR}
    if selector := selectors.get(arguments.of):
        target = [f"--namespace={kube.controllers}", f"--selector={selector}", "--tail=200"]
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

    asks = arguments.purpose == "empty-namespaces"  # which changes nothing
    cluster = _reached() if asks else _confirmed(f"{arguments.purpose}-arc", "")
    print(json.dumps(plan_for_ansible(cluster, arguments.purpose)))
    return 0


def _secrets(_: argparse.Namespace) -> int:
    from envkit.arc.corporate import secret_manifests
    from envkit.arc.credentials import token_manifests
    from envkit.arc.settings import RUNNERS_NAMESPACE
    from envkit.corporate_network import read_own_proxies
    from envkit.existing.ownership import marked

    cluster = load_cluster()
    secrets = secret_manifests(read_own_proxies(), cluster.corporate, RUNNERS_NAMESPACE)
    secrets += token_manifests(RUNNERS_NAMESPACE)  # the last: the role looks there for changed credentials
    if isinstance(cluster, ExistingCluster):
        secrets = [marked(dict(secret), cluster.name) for secret in secrets]
    print(json.dumps(secrets))
    return 0


def _cluster_with_runners() -> Cluster:
    """The cluster. Without runners nobody need have a context, nor confirm it, to be told so by a UserError."""
    from envkit.arc.settings import require_runners

    require_runners()
    return load_cluster()


def _reached() -> Cluster:
    """The cluster; of one that is there already the kubeconfig is brought in line with the developer's own.

    Raises UserError where this environment has no runners.
    """
    cluster = _cluster_with_runners()
    if isinstance(cluster, ExistingCluster):
        from envkit.existing.kubeconfig import write_kubeconfigs

        write_kubeconfigs(cluster)
    return cluster


def _confirmed(recipe: str, given: str) -> Cluster:
    """The cluster that may be changed.

    Raises UserError where this environment has no runners, or where a name was given that is not the context's.
    """
    cluster = _cluster_with_runners()
    if isinstance(cluster, ExistingCluster):
        from envkit.existing.consent import confirm_context
        from envkit.existing.kubeconfig import write_kubeconfigs

        confirm_context(cluster, write_kubeconfigs(cluster).server, recipe=recipe, given=given)
    elif given and given != cluster.context:
        raise UserError(
            f"Nothing was changed: --context says {given}, and the cluster's context is {cluster.context}.",
            "k3d.yaml names the cluster.",
            f"{just_command()} {recipe}",
        )
    return cluster


def runners_page(config_url: str) -> str:
    """The page of GitHub's that lists runners."""
    head, _, place = config_url.rstrip("/").partition("://")
    host, _, path = place.partition("/")
    if "/" in path:
        return f"{head}://{host}/{path}/settings/actions/runners"
    return f"{head}://{host}/organizations/{path}/settings/actions/runners"
