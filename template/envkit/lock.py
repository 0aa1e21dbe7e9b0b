"""One envkit at a time for each cluster, also across repositories and after a kill."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from envkit.errors import UserError
from envkit.paths import just_command, state_dir
from envkit.wording import quoted

WAIT = 900.0
"""Seconds to wait for another envkit; a creation that pulls every image over a slow line takes minutes."""

_POLL = 0.2


@contextmanager
def cluster_lock(cluster: str, action: str, on_wait: Callable[[str], None], wait: float = WAIT) -> Iterator[int]:
    """Holds the lock of a cluster; yields its file descriptor.

    The lock is the kernel's (flock), so it ends with its holders, however they end. A k3d that inherits the
    descriptor holds it too: when envkit is killed and its k3d lives on, the next envkit waits for that k3d.

    Args:
        cluster: Name of the cluster.
        action: What this process is about to do; shown to others that wait.
        on_wait: Called once with a sentence that says who holds the lock, if it is held.
        wait: Seconds to wait.

    Raises UserError after that time, or where the file cannot be opened.
    """
    path = state_dir() / f"{cluster}.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:  # such as one that belongs to root, from a run with sudo
        raise UserError(
            f"The lock {path} cannot be opened.",
            str(error),
            f"ls -l {quoted(path)}   (if it is root's: sudo rm {quoted(path)})",
        ) from error
    try:
        deadline = time.monotonic() + wait
        said = False
        while not _try(fd):
            holder = _holder(fd)
            if not said:
                on_wait(f"Waiting for {holder}")
                said = True
            if time.monotonic() > deadline:
                raise UserError(
                    f"The cluster {cluster} is busy.",
                    f"Held by {holder}.",
                    f"Wait for it to end, or end it, then: {just_command()} {action}",
                )
            time.sleep(_POLL)
        note = {"pid": os.getpid(), "action": action, "since": datetime.now().astimezone().isoformat("T", "seconds")}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(note).encode(), 0)
        yield fd
    finally:
        os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        pid, action, since = int(note["pid"]), note["action"], note["since"]
    except (ValueError, KeyError, TypeError):
        return "another process"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"what `{action}` (process {pid}, killed) left running since {since}"
    except PermissionError:
        pass
    return f"`{action}` in process {pid}, running since {since}"
