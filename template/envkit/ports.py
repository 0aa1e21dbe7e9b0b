"""Ports of this machine: which are busy, who holds them, which are free."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from envkit.engine import docker
from envkit.environment import ALL_INTERFACES, HIGHEST_PORT, PortUse
from envkit.errors import UserError

_FIRST_CHOICE = {"HTTP_PORT": 8080, "HTTPS_PORT": 8443, "API_PORT": 6550, "REGISTRY_PORT": 5050}
_FIRST = 1024


def is_busy(address: str, port: int, protocol: str = "tcp") -> bool:
    """Whether something listens there.

    Binding is the sure test on Linux. Where it is not permitted (ports below 1024), and on macOS, where a listener on
    every address keeps nobody from binding to one of them, a connection tells.
    """
    if not is_own_address(address):
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as probe:
        if protocol == "tcp":  # for UDP it would let two bind to one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            if error.errno not in (errno.EACCES, errno.EPERM):
                return False
    if protocol == "udp":
        return False
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1" if address == ALL_INTERFACES else address, port)) == 0


def is_own_address(address: str) -> bool:
    """Whether something can listen on an address of this machine."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # the second where IPv6 is switched off
    return True


def owner_of(port: int, protocol: str = "tcp") -> str:
    """Who listens on a port: a container, or a process with its number where that may be read."""
    try:
        names = docker("ps", "--filter", f"publish={port}/{protocol}", "--format", "{{.Names}}").split()
    except UserError:
        names = []
    if names:
        return f"the container {names[0]}"
    return _process_on(port, protocol) or f"a process that only root may see ({_as_root(port, protocol)})"


def _as_root(port: int, protocol: str) -> str:
    """The command that names it to root."""
    if sys.platform == "darwin":
        return f"sudo lsof -nP -i{protocol.upper()}:{port}" + (" -sTCP:LISTEN" if protocol == "tcp" else "")
    return f"sudo ss -l{protocol[0]}np"


def _process_on(port: int, protocol: str) -> str:
    import psutil

    holds = psutil.CONN_LISTEN if protocol == "tcp" else psutil.CONN_NONE  # UDP has no connections
    for pid, connection in _connections(protocol):
        if connection.status == holds and connection.laddr and connection.laddr.port == port and pid:
            try:
                return f"{psutil.Process(pid).name()} (process {pid})"
            except psutil.Error:
                return ""
    return ""


def _connections(protocol: str) -> Iterator[tuple[int | None, Any]]:
    """Every connection that may be seen, each with the number of its process."""
    import psutil

    try:
        found = psutil.net_connections(kind=protocol)
    except (psutil.AccessDenied, PermissionError):  # macOS tells all of them to root only, and of a process its user
        for process in psutil.process_iter():
            with suppress(psutil.Error, PermissionError):
                yield from ((process.pid, connection) for connection in process.net_connections(kind=protocol))
    else:
        yield from ((connection.pid, connection) for connection in found)


def free_port_for(use: PortUse, taken: Iterable[int]) -> int:
    """A free port near the usual choice for this purpose; not one of `taken`."""
    taken = set(taken)
    start = _FIRST_CHOICE.get(use.variable, use.number + 1)
    candidates = (port for port in (*range(start, HIGHEST_PORT + 1), *range(_FIRST, start)) if port not in taken)
    return next((port for port in candidates if not is_busy(use.address, port, use.protocol)), use.number)


def move_hint(use: PortUse, taken: set[int]) -> str:
    """The line that moves a use to a free port, which is among `taken` from then on, so that no other is sent there."""
    free = free_port_for(use, taken)
    taken.add(free)
    return change_hint(use, free)


def change_hint(use: PortUse, free: int) -> str:
    """The exact line that moves a use to a free port."""
    if use.variable:
        return f"{use.variable}={free}   (a line in .env)"
    return f"change port {use.number} under `ports:` in k3d.yaml, for example to {free}"
