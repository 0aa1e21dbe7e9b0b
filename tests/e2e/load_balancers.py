"""Keeps k3d from waiting in vain for a load balancer that was ready too soon.

k3d takes a load balancer for ready by a line in its log, and looks for it from the second on in which Docker says that
the container was started (k3d 5.9, `NodeStart` in pkg/client/node.go). Docker takes that time when the process runs
already. k3d's own image prints the line six seconds later. One that stands in for it and starts at once may print it in
the second before; k3d then waits until its time is up, and takes the cluster away again.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.machine import docker, inspect

_READY = "start worker processes"
_SECONDS = 3.0
"""After its start; the line comes at once, or k3d sees it."""


@contextmanager
def repeated_ready_lines() -> Iterator[None]:
    """Has each load balancer that is started meanwhile say once more that it is ready, if k3d cannot have seen it."""
    argv = ["docker", "events", "--format={{.ID}}", "--filter=type=container", "--filter=event=start"]
    with subprocess.Popen([*argv, "--filter=label=k3d.role=loadbalancer"], stdout=subprocess.PIPE, text=True) as events:
        watcher = threading.Thread(target=_watch, args=[events], daemon=True)
        watcher.start()
        try:
            yield
        finally:
            events.terminate()
            watcher.join()


def _watch(events: subprocess.Popen[str]) -> None:
    for container in events.stdout or ():
        timer = threading.Timer(_SECONDS, _look, [container.strip()])
        timer.daemon = True
        timer.start()


def _look(container: str) -> None:
    described = inspect("container", container)
    if described and described["State"]["Running"] and missed(container, described):
        docker("exec", container, "nginx", "-s", "reload", check=False)  # it prints the line anew


def missed(container: str, described: dict[str, Any]) -> bool:
    """Whether the line is not in what k3d reads of the log.

    Args:
        container: Its ID or name.
        described: What Docker says of it.
    """
    second = described["State"]["StartedAt"][: len("2026-01-01T00:00:00")]
    done = subprocess.run(
        ["docker", "logs", f"--since={second}Z", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode == 0 and _READY not in done.stdout
