"""A run on one cluster: its configuration, its progress and its lock, and calls of k3d and kubectl in its name."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from envkit.engine import Container, k3d_containers
from envkit.environment import Environment
from envkit.errors import CommandFailedError
from envkit.kubeconfig import KubeconfigPaths, kubeconfig_paths
from envkit.mirrors import k3d_variables
from envkit.observation import split
from envkit.paths import just_command
from envkit.process import capture, stream
from envkit.progress import Step, Steps

_KUBECTL_SECONDS = 20


@dataclass(frozen=True)
class Session:
    """What every action on a cluster needs.

    Attributes:
        environment: What should be there.
        steps: Where progress is shown.
        lock_fd: Descriptor of the cluster's lock. k3d inherits it, so the lock lives as long as k3d does.
    """

    environment: Environment
    steps: Steps
    lock_fd: int

    @property
    def kubeconfigs(self) -> KubeconfigPaths:
        """Where the kubeconfigs of the cluster lie."""
        return kubeconfig_paths(self.environment.context)

    def containers(self) -> tuple[tuple[Container, ...], Container | None]:
        """The cluster's containers and its registry, as they are now."""
        return split(k3d_containers(), self.environment)

    def k3d(self, step: Step, *arguments: str, stdin: str = "") -> None:
        """Runs k3d and shows its messages; CommandFailedError where it fails.

        k3d sees this environment's kubeconfig only: it would rewrite the developer's own when it deletes a cluster.
        """
        # k3d leaves a copy of its configuration among the temporary files, and a proxy's password may be in it.
        with TemporaryDirectory(prefix="envkit-k3d-") as folder:
            stream(
                ["k3d", *arguments],
                lambda line: step.note(_message(line)),
                env={"KUBECONFIG": str(self.kubeconfigs.host), "TMPDIR": folder, **k3d_variables()},
                stdin=stdin,
                pass_fds=[self.lock_fd],
                next_step=f"{just_command()} doctor   (then: {just_command()} create)",
            )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl on this cluster and returns its output; CommandFailedError where it fails."""
        return capture(
            [
                "kubectl",
                f"--kubeconfig={self.kubeconfigs.host}",
                f"--context={self.environment.context}",
                f"--request-timeout={_KUBECTL_SECONDS}s",
                *arguments,
            ],
            stdin=stdin,
            timeout=_KUBECTL_SECONDS * 1.5,
            next_step=f"{just_command()} status",
        )

    def wait_for_nodes(self, seconds: int) -> None:
        """Returns when the nodes that the API knows are Ready, when it does not answer, or after this time."""
        limits = [f"--timeout={seconds}s", f"--request-timeout={seconds}s"]
        with suppress(CommandFailedError):
            self.kubectl("wait", "nodes", "--all", "--for=condition=Ready", *limits)


def _message(line: str) -> str:
    """The message of a k3d log line, without colour, level and counter."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return re.sub(r"^[A-Z]{4}\[\d+\]\s*", "", plain).strip()
