"""The kubeconfigs of a cluster as a whole: written, checked and removed together."""

from __future__ import annotations

from envkit.devcontainer_files import (
    devcontainer_files_are_current,
    remove_devcontainer_files,
    write_devcontainer_files,
)
from envkit.errors import CommandFailedError, UserError
from envkit.files import write_private
from envkit.kubeconfig import (
    KubeconfigPaths,
    devcontainer_kubeconfig,
    developers_kubeconfigs,
    has_current_entries,
    merge,
    unmerge,
)
from envkit.process import capture
from envkit.session import Session

_SECONDS = 30


def write_kubeconfigs(session: Session, *, text: str = "", switch: bool = False) -> list[str]:
    """Writes both files from what k3d knows, and what dev containers need besides, and merges the entries.

    Returns the files that changed.

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
    if not _is_own(paths) and merge(paths.merged, text, session.environment.context, switch=switch):
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
    private = all(path.stat().st_mode & 0o077 == 0 for path in (paths.host, paths.devcontainer))
    return (
        private
        and container == wanted
        and devcontainer_files_are_current(session.environment)
        and (_is_own(paths) or has_current_entries(paths.merged, text))
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
    removed.extend(f"context {context} in {path}" for path in developers_kubeconfigs() if unmerge(path, context))
    return removed


def _is_own(paths: KubeconfigPaths) -> bool:
    """Whether `$KUBECONFIG` names one of the files of this environment, where nothing is to be merged."""
    return paths.merged in (paths.host, paths.devcontainer)


def _from_k3d(session: Session) -> str:
    text = capture(["k3d", "kubeconfig", "get", session.environment.cluster], timeout=_SECONDS)
    return text.removeprefix("---\n")
