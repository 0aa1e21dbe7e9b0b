"""Remembers which containers were last seen to work, so that the usual morning needs no closer look.

What k3d writes into a node when it starts a cluster is lost only when the node's container is started again. As long
as the same containers run since the same moment, looking into them again would tell nothing new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from envkit.engine import Container
from envkit.files import write_private
from envkit.paths import state_dir


def were_verified(cluster: str, containers: Iterable[Container]) -> bool:
    """Whether exactly these containers, running since then, were seen to work."""
    path = state_dir() / f"{cluster}.verified"
    return path.is_file() and path.read_bytes() == _fingerprint(containers).encode()


def remember_verified(cluster: str, containers: Iterable[Container]) -> None:
    """Notes that these containers work."""
    write_private(state_dir() / f"{cluster}.verified", _fingerprint(containers))


def forget_verified(cluster: str) -> None:
    """Removes the note."""
    (state_dir() / f"{cluster}.verified").unlink(missing_ok=True)


def _fingerprint(containers: Iterable[Container]) -> str:
    lines = sorted(f"{container.id} {container.started_at} {container.state}" for container in containers)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
