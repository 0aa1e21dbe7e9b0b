"""What a company has between its machines and the world: registries with certificates of its own authority, a proxy.

The registries are real ones that speak TLS, and their names are known to the proxy alone: what reaches them has gone
through it. The proxy stands in for a company's: it passes on TLS connections (RFC 9110, 9.3.6) to them for those who
know its password, and notes each one.
"""

from __future__ import annotations

import base64
import secrets
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certificates import Authority
from e2e.machine import docker, free_ports, wait_until

_SECONDS = 30


class ForwardProxy(socketserver.ThreadingTCPServer):
    """A proxy in this process.

    Attributes:
        user: The user name that it asks for.
        password: The password that it asks for.
        routes: For each host name the port of this machine that stands behind it.
        passed: Every target that was let through, as `host:port`.
        refused: What was not, with the reason.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), _Connection)  # containers come from a bridge of Docker's
        self.user = "developer"
        self.password = f"pass-{secrets.token_hex(12)}"
        self.routes: dict[str, int] = {}
        self.passed: list[str] = []
        self.refused: list[str] = []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address for nodes and pods of a k3d cluster, password included."""
        return f"http://{self.user}:{self.password}@host.k3d.internal:{self.port}"


class _Connection(socketserver.StreamRequestHandler):
    server: ForwardProxy
    timeout = _SECONDS

    def handle(self) -> None:
        words = self.rfile.readline().decode("latin-1").split()
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        target = words[1] if len(words) > 1 else ""
        expected = base64.b64encode(f"{self.server.user}:{self.server.password}".encode()).decode()
        if words[:1] != ["CONNECT"]:
            self._refuse("405 Method Not Allowed", " ".join(words))
        elif headers.get("proxy-authorization") != f"Basic {expected}":
            self._refuse("407 Proxy Authentication Required", target)
        elif target.partition(":")[0] not in self.server.routes:
            self._refuse("502 Bad Gateway", target)
        else:
            self.server.passed.append(target)
            with socket.create_connection(("127.0.0.1", self.server.routes[target.partition(":")[0]])) as behind:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_copy, args=(behind, self.connection), daemon=True)
                back.start()
                _copy(self.connection, behind)
                back.join(_SECONDS)

    def _refuse(self, status: str, what: str) -> None:
        self.server.refused.append(f"{status}: {what}")
        self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one of them has gone
        return


@contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """A proxy that listens until the end of the block."""
    with ForwardProxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


@dataclass(frozen=True)
class TlsRegistry:
    """A registry that speaks TLS.

    Attributes:
        container: Its container.
        port: Its port on this machine.
    """

    container: str
    port: int

    def log(self) -> str:
        """What it has said."""
        command = ["docker", "logs", self.container]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


@contextmanager
def tls_registry(authority: Authority, host: str, image: str, folder: Path) -> Iterator[TlsRegistry]:
    """A registry of this host name until the end of the block."""
    name, (port,) = f"e2e-tls-{secrets.token_hex(4)}", free_ports(1)
    folder.mkdir()
    for file, text in zip(("tls.crt", "tls.key"), authority.issue(host), strict=True):
        (folder / file).write_text(text, encoding="ascii")
    try:
        docker(
            *("create", f"--name={name}", f"--publish=127.0.0.1:{port}:5000"),
            *("--env=REGISTRY_HTTP_TLS_CERTIFICATE=/tls/tls.crt", "--env=REGISTRY_HTTP_TLS_KEY=/tls/tls.key"),
            image,
        )
        docker("cp", f"{folder}/.", f"{name}:/tls")
        docker("start", name)
        wait_until(f"{name} listens", lambda: _listens(port), _SECONDS)
        yield TlsRegistry(name, port)
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
