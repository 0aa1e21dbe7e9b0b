"""The Kubernetes API without a program for each question: by one `kubectl proxy`, which signs in as kubectl does."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import ClassVar
from urllib.parse import quote, urlencode

from envkit.arc.kube import CONTROLLER_SELECTOR, DEFINITIONS, RELEASES, RUNNER_GROUP, Kube, Resource, Resources, name
from envkit.arc.settings import RUNNERS_NAMESPACE
from envkit.errors import CommandFailedError
from envkit.paths import just_command
from envkit.process import RunningTool, running

_START_SECONDS = 5.0
"""How long the proxy gets to listen; it takes a tenth of a second."""

_PAUSE = 0.02

_GROUP = f"/apis/{RUNNER_GROUP}/v1alpha1"
"""Where all kinds of ARC are, from its first release on."""


_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@contextmanager
def proxied(kube: Kube) -> Iterator[Kube]:
    """The calls of `kube` that are made again and again, by a proxy that runs as long as this is held.

    It listens on a socket that only this person can reach, and passes on what only reads. Where it does not come up,
    every call is made as `kube` makes it.
    """
    with tempfile.TemporaryDirectory(prefix="envkit-api-") as folder:  # which is made with mode 0700
        path = Path(folder) / "socket"
        command = [
            *("kubectl", f"--kubeconfig={kube.kubeconfig}", f"--context={kube.context}", "proxy"),
            # A server whose address has a path, as those behind Rancher.
            *(f"--unix-socket={path}", "--append-server-path", "--reject-methods=^(POST|PUT|PATCH|DELETE)$"),
        ]
        with running(command) as proxy, closing(_UnixConnection(path, kube.seconds)) as connection:
            yield _ProxiedKube(**vars(kube), api=_Api(connection, proxy))


class _Api:
    """Questions to the proxy, of one thread after the other, over one connection."""

    def __init__(self, connection: _UnixConnection, proxy: RunningTool) -> None:
        self._connection = connection
        self._proxy = proxy
        self._deadline = time.monotonic() + _START_SECONDS
        self._lock = Lock()

    def is_up(self) -> bool:
        """Whether the proxy listens; waits for one that has just been started."""
        while self._proxy.is_running():
            with self._lock:
                if self._connection.is_open():
                    return True
            if time.monotonic() > self._deadline:
                return False
            time.sleep(_PAUSE)
        return False

    def text(self, path: str, query: Mapping[str, str | int] | None = None, *, accept: str = "") -> str | None:
        """What the API answers; None where there is no such thing. Raises CommandFailedError."""
        with self._lock:
            try:
                url = f"{path}?{urlencode(query)}" if query else path
                self._connection.request("GET", url, headers={"Accept": accept} if accept else {})
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                raise _failed(str(error) or type(error).__name__) from error
        if response.status == http.client.NOT_FOUND:
            return None
        if response.status != http.client.OK:
            raise _failed(content.decode(errors="replace")[:500])
        return content.decode(errors="replace")

    def document(self, path: str, query: Mapping[str, str | int] | None = None, *, accept: str = "") -> Resource:
        """The same as JSON; empty where there is no such thing. Raises CommandFailedError."""
        text = self.text(path, query, accept=accept)
        try:
            document = json.loads(text or "{}")
        except ValueError as error:
            raise _failed(f"what answers is no Kubernetes API: {error}") from error
        return document if isinstance(document, dict) else {}

    def list(self, path: str, kind: str, **query: str) -> tuple[Resource, ...]:
        """Resources of a kind; none where the cluster does not know it. Raises CommandFailedError."""
        # In a list, those that Kubernetes itself has do not name their kind.
        return tuple({"kind": kind, **item} for item in self.document(path, query).get("items") or ())

    def metadata(self, path: str, **query: str) -> tuple[Resource, ...]:
        """Of resources their metadata alone: not what is in a Secret, nor the megabyte of a definition.

        Raises CommandFailedError.
        """
        return tuple(self.document(path, query, accept=_METADATA).get("items") or ())


@dataclass(frozen=True)
class _ProxiedKube(Kube):
    poll_seconds: ClassVar[float] = 0.1

    api: _Api = field(kw_only=True)

    def server_version(self) -> str:
        if self.api.is_up():
            with suppress(CommandFailedError):  # kubectl says better why
                return str(self.api.document("/version").get("gitVersion", ""))
        return super().server_version()

    def resources(self) -> Resources:
        if self.api.is_up():
            with suppress(CommandFailedError):  # as of one who may not look into all namespaces
                return self._listed(
                    "", listeners=self.api.list(f"{_GROUP}/autoscalinglisteners", "AutoscalingListener")
                )
        return super().resources()

    def own_resources(self) -> Resources:
        if not self.api.is_up():
            return super().own_resources()
        return self._listed(f"/namespaces/{RUNNERS_NAMESPACE}", f"/namespaces/{self.controllers}")

    def release_secrets(self, namespace: str) -> tuple[Resource, ...]:
        if self.api.is_up():
            with suppress(CommandFailedError):  # kubectl says better why
                return self.api.metadata(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=RELEASES)
        return super().release_secrets(namespace)

    def definitions(self) -> list[str]:
        if self.api.is_up():
            with suppress(CommandFailedError):  # the same
                found = {name(item) for item in self.api.metadata(_DEFINITIONS)}
                return [each for each in DEFINITIONS if each in found]
        return super().definitions()

    def _listed(self, runners: str, controllers: str = "", listeners: tuple[Resource, ...] = ()) -> Resources:
        """What is there: runners and controllers in these places, or everywhere."""
        listed = self.api.list
        deployments = f"/apis/apps/v1{controllers}/deployments"
        return Resources(
            deployments=listed(deployments, "Deployment", labelSelector=CONTROLLER_SELECTOR),
            pods=(
                *listed(f"/api/v1/namespaces/{self.controllers}/pods", "Pod"),
                *listed(f"/api/v1/namespaces/{RUNNERS_NAMESPACE}/pods", "Pod"),
            ),
            scale_sets=listed(f"{_GROUP}{runners}/autoscalingrunnersets", "AutoscalingRunnerSet"),
            runners=listed(f"{_GROUP}{runners}/ephemeralrunners", "EphemeralRunner"),
            listeners=listeners,
            controllers=self.controllers,
        )

    def log(self, *, namespace: str, target: str, since: str = "", lines: int = 200, container: str = "") -> list[str]:
        if target.startswith("--") or not self.api.is_up():
            return super().log(namespace=namespace, target=target, since=since, lines=lines, container=container)
        query: dict[str, str | int] = {"tailLines": lines}
        query |= {"sinceTime": since} if since else {}
        query |= {"container": container} if container else {}
        try:
            text = self.api.text(f"/api/v1/namespaces/{namespace}/pods/{quote(target)}/log", query)
        except CommandFailedError:
            return []
        return (text or "").splitlines()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def is_open(self) -> bool:
        """Whether there is a connection, which is made where there is none."""
        if self.sock:
            return True
        try:
            self.connect()
        except OSError:
            self.close()
            return False
        return True


def _failed(why: str) -> CommandFailedError:
    return CommandFailedError(
        "The Kubernetes API does not answer.", status=1, output=why, next_step=f"{just_command()} status"
    )
