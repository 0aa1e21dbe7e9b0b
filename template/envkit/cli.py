"""The command line behind the recipes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from envkit.arc.commands import add_arc_commands
from envkit.cluster import load_cluster
from envkit.cluster_kubeconfigs import write_kubeconfigs
from envkit.corporate_network import tell_programs
from envkit.engine import Container, inspect
from envkit.environment import load_environment
from envkit.errors import UserError
from envkit.existing.cluster import ExistingCluster
from envkit.image_commands import add_image_commands
from envkit.lock import cluster_lock
from envkit.merge_target import why_left_alone
from envkit.paths import ROOT, just_command
from envkit.progress import Steps
from envkit.provider import is_existing
from envkit.reconciler import Outcome, Reconciler
from envkit.registry import push
from envkit.removal import delete, remove_local_images
from envkit.runner.commands import add_runner_commands
from envkit.session import Session


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns its exit status. Errors a person can act on are printed, never raised."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        tell_programs()
        status = run(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(_interrupted(arguments.command), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away, as in `just status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may Python's own flush fail at the end
        return 141
    except OSError as error:  # a full disk, a folder that is not writable
        print(UserError(f"{error.strerror or error}.", str(error.filename or ""), _look_at_disk()), file=sys.stderr)
        return 1
    return status


def _look_at_disk() -> str:
    # In quotes the shell would take ~ for a name.
    notes = "~/Library/Application\\ Support" if sys.platform == "darwin" else "~/.local/state"
    return f"df -h && ls -ld ~ ~/.kube {notes}   (is there space, and is it yours to write?)"


def _interrupted(command: str) -> str:
    if command == "update":
        from envkit.copier_run import way_back

        return (
            "\nInterrupted. Files that have changed may lack your own edits, which come back at the end of an update.\n"
            f"To go back: {way_back(ROOT)}"
        )
    # What was being started may lack more than a start brings.
    again = "create" if command in ("start", "restart") and not is_existing() else command
    status = "arc-status" if command.endswith("-arc") else "status"
    return (
        f"\nInterrupted. Nothing is lost: `{just_command()} {again}` continues from what is there,"
        f" `{just_command()} {status}` shows it."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="envkit", description="This environment's cluster, images and runners.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, command=name)
        return command

    setup = add("setup", _setup, "install, create and install-lens in one")
    install = add("install", _install, "install the tools that are missing, at their pinned versions")
    install.add_argument("--only", choices=["create"], help="only the tools that `create` needs")
    install_lens = add("install-lens", _install_lens, "install the Kubernetes IDE")
    for command in (setup, install, install_lens):
        command.add_argument("--yes", action="store_true", help="do not ask before using sudo")
    add("create", _create, "create, start or repair the cluster, whatever it needs")
    add("start", _start, "start the stopped cluster")
    add("stop", _stop, "stop the cluster; everything in it stays")
    add("restart", _restart, "stop and start the cluster")
    delete = add("delete", _delete, "delete cluster, registry and kubeconfigs; images in the registry stay")
    delete.add_argument("--all", action="store_true", help="delete the registry's images too")
    add("clean", _clean, "delete all that this environment has made on this machine")
    status = add("status", _status, "show the cluster, its registry and kubeconfigs")
    status.add_argument("--json", action="store_true", help="for machines")
    ports = add("ports", _ports, "show the ports of all environments of this machine, and who holds those of this one")
    ports.add_argument("--json", action="store_true", help="for machines")
    add("kubeconfig", _kubeconfig, "write the kubeconfigs again")
    add("doctor", _doctor, "check this machine; changes nothing")
    push = add("push", _push, "put a local image into the registry")
    push.add_argument("image", help="name of an image in Docker or Buildah")
    add("lens", _lens, "start the Kubernetes IDE with this environment's kubeconfig")
    add_image_commands(add)
    add_runner_commands(add)
    add_arc_commands(add)
    update = add(
        "update",
        _update,
        "bring the newest version of the template into this repository; no cluster is touched. Exit status: 0 done, or"
        " up to date; 1 an error; 3 a newer version is there (--check); 4 done, with conflicts",
    )
    update.add_argument("--check", action="store_true", help="only say whether there is a newer version")
    update.add_argument("--to", default="", metavar="VERSION", help="a tag of the template in place of the newest")
    update.add_argument(
        "-d", "--data", action="append", default=[], metavar="KEY=VALUE", help="change an answer; may be repeated"
    )
    return parser


@contextmanager
def _session(action: str) -> Iterator[Session]:
    """A run that holds the cluster's lock, with progress shown as long as it works."""
    environment = load_environment()
    with Steps() as steps, cluster_lock(environment.cluster, action, steps.say) as fd:
        yield Session(environment, steps, fd)


def _create(_: argparse.Namespace) -> int:
    return _bring_up("create", lambda reconciler: reconciler.bring_up())


def _start(_: argparse.Namespace) -> int:
    return _bring_up("start", lambda reconciler: reconciler.bring_up(may_create=False))


def _restart(_: argparse.Namespace) -> int:
    return _bring_up("restart", lambda reconciler: reconciler.restart())


def _bring_up(action: str, bring_up: Callable[[Reconciler], Outcome]) -> int:
    with _session(action) as session:
        outcome = bring_up(Reconciler(session))
        environment = session.environment
    if outcome.actions:
        print(f"The cluster {environment.cluster} is running: {', '.join(outcome.actions)}.")
        print(f"Next: kubectl get nodes   (context {environment.context}), {just_command()} status")
    else:
        print(f"The cluster {environment.cluster} is running; nothing had to be done.")
    if outcome.drift:
        print(
            "The configuration has changed since the cluster was created; the cluster keeps what it was created with:"
        )
        print("\n".join(f"  {line}" for line in outcome.drift))
        print(f"To apply it: {just_command()} delete && {just_command()} create   (images in the registry stay)")
    if outcome.unknown_origin:
        print("It was created by k3d itself, so changes of k3d.yaml since then cannot be seen.")
    return 0


def _stop(_: argparse.Namespace) -> int:
    from envkit.arc.removal import warn_of_busy_runners

    with _session("stop") as session:
        warn_of_busy_runners(session.environment, session.steps.say)
        stopped = Reconciler(session).stop()
    print("Stopped." if stopped else "It was stopped already.", f"{just_command()} start brings it back.")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    with _session("delete") as session:
        removed = delete(session, registry_data=arguments.all)
        volume = session.environment.registry.volume
        registry = _kept_registry(session)
    _print_removed(removed)
    if registry:
        print(f"The registry {registry.name} stays with its images: other environments use it.")
    elif volume and not arguments.all and inspect("volume", volume):
        print(f"The registry's images stay in the volume {volume}; {just_command()} delete --all removes them too.")
    return 0


def _clean(_: argparse.Namespace) -> int:
    from envkit.runner.image import remove_built_images

    with _session("clean") as session:
        removed = delete(session, registry_data=True)
        if not _kept_registry(session):  # else others use its names
            removed += remove_local_images(session)
        removed += remove_built_images(session.environment)
    _print_removed(removed)
    return 0


def _kept_registry(session: Session) -> Container | None:
    """The registry that is left after a deletion, because other environments share it."""
    return session.containers()[1] if session.environment.registry.shared else None


def _print_removed(removed: Sequence[str]) -> None:
    print("\n".join(["Removed:", *(f"  {item}" for item in removed)]) if removed else "There was nothing to remove.")


def _ports(arguments: argparse.Namespace) -> int:
    from envkit.port_list import gather, print_json, print_table

    ports = gather(load_environment())
    (print_json if arguments.json else print_table)(ports)
    return 0


def _kubeconfig(_: argparse.Namespace) -> int:
    cluster = load_cluster()
    if isinstance(cluster, ExistingCluster):
        return _kubeconfig_of_existing(cluster)
    with _session("kubeconfig") as session:
        changed = write_kubeconfigs(session)
        paths = session.kubeconfigs
    # Of a file that is left alone it has been said.
    for path in (paths.host, paths.devcontainer, *([] if why_left_alone(paths.merged) else [paths.merged])):
        print(f"{'written' if str(path) in changed else 'current'}  {path}")
    return 0


def _kubeconfig_of_existing(cluster: ExistingCluster) -> int:
    from envkit.existing import kubeconfig

    written = kubeconfig.write_kubeconfigs(cluster)
    for path in (cluster.kubeconfigs.host, cluster.kubeconfigs.devcontainer):
        print(f"{'written' if str(path) in written.changed else 'current'}  {path}")
    for hint in written.hints:
        print(hint)
    return 0


def _push(arguments: argparse.Namespace) -> int:
    images = load_cluster().images
    with Steps() as steps, steps.step(f"Pushing {arguments.image}") as step:
        name = push(arguments.image, images, step.note)
    print(f"Pushed. In manifests: image: {name}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    cluster = load_cluster()
    if isinstance(cluster, ExistingCluster):
        from envkit.existing import status as existing

        (existing.print_json if arguments.json else existing.print_table)(existing.gather(cluster))
        return 0
    from envkit.status import gather, print_json, print_table

    status = gather(cluster)
    (print_json if arguments.json else print_table)(status)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from envkit.doctor import diagnose, print_checks

    return print_checks(diagnose())


def _update(arguments: argparse.Namespace) -> int:
    from envkit.update import Wishes, update

    return update(Wishes(arguments.check, arguments.to, tuple(arguments.data)))


def _install(arguments: argparse.Namespace) -> int:
    from envkit.install import run_install

    with Steps() as steps:
        run_install(steps, registry_host=_registry_host(), only=arguments.only, assume_yes=arguments.yes)
    return 0


def _install_lens(arguments: argparse.Namespace) -> int:
    from envkit.lens import run_install_lens

    with Steps() as steps:
        run_install_lens(steps, lens=load_cluster().lens, assume_yes=arguments.yes)
    return 0


def _lens(_: argparse.Namespace) -> int:
    from envkit.lens import run_lens

    cluster = load_cluster()
    if isinstance(cluster, ExistingCluster):
        from envkit.existing import kubeconfig

        kubeconfig.write_kubeconfigs(cluster)
    run_lens(lens=cluster.lens, kubeconfig=cluster.kubeconfig)
    return 0


def _setup(arguments: argparse.Namespace) -> int:
    arguments.only = None
    _install(arguments)
    cluster = load_cluster()
    if isinstance(cluster, ExistingCluster):
        _kubeconfig_of_existing(cluster)
        print(f"Next: {just_command()} doctor, {just_command()} status")
    else:
        _create(arguments)
    if cluster.lens != "none":
        _install_lens(arguments)
    return 0


def _registry_host() -> str:
    cluster = load_cluster()
    return "" if isinstance(cluster, ExistingCluster) else f"{cluster.registry.name}.localhost"
