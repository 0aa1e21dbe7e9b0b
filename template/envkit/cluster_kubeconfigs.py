"""The kubeconfigs of a cluster as a whole: written, checked and removed together."""

from __future__ import annotations

from pathlib import Path

from envkit.devcontainer_files import (
    devcontainer_files_are_current,
    remove_devcontainer_files,
    write_devcontainer_files,
)
from envkit.errors import CommandFailedError, UserError
from envkit.files import is_private, write_private
from envkit.kubeconfig import (
    devcontainer_kubeconfig,
    developers_kubeconfigs,
    has_current_entries,
    holds_cluster,
    merge,
    unmerge,
)
from envkit.merge_target import is_own, why_left_alone
from envkit.process import capture
from envkit.session import Session
from envkit.wording import quoted

_SECONDS = 30


def write_kubeconfigs(session: Session, *, text: str = "", switch: bool = False) -> list[str]:
    """Writes both files from what k3d knows, and what dev containers need besides, and merges the entries.

    Returns the files that changed. Says it where the developer's own file is none to merge into.

    Args:
        session: The run.
        text: The kubeconfig where k3d was asked for it just now; without it, it is asked.
        switch: Make the cluster's context the current one.

    Raises UserError where k3d has no kubeconfig, or where a file cannot be written.
    """
    text = text or _from_k3d(session)
    paths = session.kubeconfigs
    changed = []
    if write_private(paths.host, text):
        changed.append(str(paths.host))
    if write_private(paths.devcontainer, devcontainer_kubeconfig(text, session.environment.load_balancer)):
        changed.append(str(paths.devcontainer))
    changed += write_devcontainer_files(session.environment)
    if is_own(paths):
        return changed
    context = session.environment.context
    if why := why_left_alone(paths.merged):
        if not _agrees(paths.merged, text):
            session.steps.say(
                f"The context {context} was not put into {paths.merged}, because {why}."
                f" To use it here: export KUBECONFIG={quoted(paths.host)}"
            )
    elif merge(paths.merged, text, context, switch=switch):
        changed.append(str(paths.merged))
    return changed


def refresh_host_kubeconfig(session: Session) -> str:
    """Renews the file that the API is asked with, where the server runs; it may be a new cluster's.

    Returns its text, which is empty where the server does not run.
    """
    try:
        text = _from_k3d(session)
    except CommandFailedError:  # the state of the cluster says better why
        return ""
    write_private(session.kubeconfigs.host, text)
    return text


def kubeconfigs_are_current(session: Session) -> bool:
    """Whether all files are there and agree. That the cluster accepts the first was seen when its API was asked."""
    paths = session.kubeconfigs
    try:
        text = paths.host.read_text(encoding="utf-8")
        container = paths.devcontainer.read_text(encoding="utf-8")
        wanted = devcontainer_kubeconfig(text, session.environment.load_balancer)
    except (OSError, UnicodeDecodeError, UserError):
        return False
    private = all(is_private(path) for path in (paths.host, paths.devcontainer))
    return (
        private
        and container == wanted
        and devcontainer_files_are_current(session.environment)
        and (is_own(paths) or bool(why_left_alone(paths.merged)) or has_current_entries(paths.merged, text))
    )


def remove_kubeconfigs(session: Session) -> list[str]:
    """Removes this environment's files and its entries in the developer's own; returns what was removed."""
    paths = session.kubeconfigs
    removed = []
    for path in (paths.host, paths.devcontainer):
        if path.exists():
            path.unlink()
            removed.append(str(path))
    removed += remove_devcontainer_files(session.environment)
    # $KUBECONFIG may have named another file when the cluster was created.
    context = session.environment.context
    for path in developers_kubeconfigs():
        if why := why_left_alone(path):
            if path.is_file() and holds_cluster(path, context):
                session.steps.say(f"The context {context} stays in {path}, because {why}.")
        elif unmerge(path, context):
            removed.append(f"context {context} in {path}")
    return removed


def _agrees(path: Path, text: str) -> bool:
    # Not read where it may be a pipe, which could keep us waiting for ever.
    return path.is_file() and has_current_entries(path, text)


def _from_k3d(session: Session) -> str:
    text = capture(["k3d", "kubeconfig", "get", session.environment.cluster], timeout=_SECONDS)
    return text.removeprefix("---\n")
