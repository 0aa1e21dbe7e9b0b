from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest
from fake_tools import Machine

from envkit import ports, preflight
from envkit.environment import PortUse
from envkit.ports import change_hint, free_port_for, is_busy, is_own_address, owner_of
from envkit.preflight import Verdict


@contextmanager
def _listening(address: str = "127.0.0.1", kind: int = socket.SOCK_STREAM, port: int = 0) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as listener:
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        yield listener.getsockname()[1]


def _free() -> int:
    with _listening() as port:
        return port


def test_a_port_on_which_nothing_listens_is_free() -> None:
    assert not is_busy("127.0.0.1", _free())


@pytest.mark.parametrize("asked", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("held", ["127.0.0.1", "0.0.0.0"])
def test_a_port_on_which_something_listens_is_busy(held: str, asked: str) -> None:
    with _listening(held) as port:
        assert is_busy(asked, port)


def test_a_port_is_busy_on_its_address_only() -> None:
    with _listening("127.0.0.2") as port:
        assert is_busy("127.0.0.2", port)
        assert not is_busy("127.0.0.1", port)


def test_a_listener_on_every_address_of_both_families_is_seen() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        assert is_busy("127.0.0.1", listener.getsockname()[1])


def test_an_ipv6_port_is_looked_at() -> None:
    try:
        with _listening("::1") as port:
            assert is_busy("::1", port)
        assert not is_busy("::1", port)
    except OSError:
        pytest.skip("no IPv6 on this machine")


def test_a_connection_that_has_just_ended_does_not_hold_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = listener.accept()
            connection.close()  # the server closes first and so is left in TIME_WAIT

    assert not is_busy("127.0.0.1", port)


class Forbidden(socket.socket):
    """As for a port below 1024 and an ordinary user."""

    def bind(self, _: object) -> None:
        raise PermissionError(13, "Permission denied")


class Careless(socket.socket):
    """As on macOS, where another listener on every address does not matter to it."""

    def bind(self, _: object) -> None:
        """Binds to nothing."""


@pytest.mark.parametrize("kind", [Forbidden, Careless])
def test_a_port_that_binding_says_nothing_about_is_tried_by_connecting(
    monkeypatch: pytest.MonkeyPatch, kind: type[socket.socket]
) -> None:
    free = _free()
    with _listening() as port:
        monkeypatch.setattr(socket, "socket", kind)
        assert is_busy("0.0.0.0", port)
        assert not is_busy("127.0.0.1", free)


def test_a_udp_port_is_not_tried_by_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    with _listening() as port:
        monkeypatch.setattr(socket, "socket", Forbidden)
        assert not is_busy("127.0.0.1", port, "udp")


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("0.0.0.0", True), ("192.0.2.1", False), ("2001:db8::1", False)],
)
def test_an_address_of_another_machine_is_told_from_an_own_one(address: str, own: bool) -> None:
    if ":" in address and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    assert is_own_address(address) is own


def test_tcp_and_udp_do_not_meet() -> None:
    with _listening(kind=socket.SOCK_DGRAM, port=_free()) as port:
        assert is_busy("127.0.0.1", port, "udp")
        assert not is_busy("127.0.0.1", port)


# -- who holds it -------------------------------------------------------------------------------------------------


def test_a_process_is_named_with_its_number(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    with _listening() as port:
        assert owner_of(port) == f"{psutil.Process().name()} (process {os.getpid()})"


def test_a_process_on_a_udp_port_is_named_and_none_on_the_tcp_port_of_the_number(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    with _listening(kind=socket.SOCK_DGRAM, port=_free()) as port:
        assert owner_of(port, "udp") == f"{psutil.Process().name()} (process {os.getpid()})"
        assert "only root may see" in owner_of(port)


def test_a_container_is_named_by_number_and_protocol(machine: Machine) -> None:
    machine.add("docker", 'case "$*" in *publish=5050/tcp*) echo their-registry;; *publish=5050/udp*) echo dns;; esac')

    assert owner_of(5050) == "the container their-registry"
    assert owner_of(5050, "udp") == "the container dns"


def test_an_owner_that_cannot_be_found_is_looked_for_with_sudo(machine: Machine) -> None:
    assert machine.calls == []  # without Docker

    assert owner_of(_free()) == "a process that only root may see (sudo ss -ltnp)"
    assert owner_of(_free(), "udp") == "a process that only root may see (sudo ss -lunp)"


@pytest.mark.parametrize("connected", [False, True])
def test_a_program_that_is_only_connected_from_there_does_not_hold_a_port(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    def connection(status: str, pid: int | None) -> SimpleNamespace:
        return SimpleNamespace(status=status, laddr=SimpleNamespace(port=5050), pid=pid)

    machine.add("docker", "exit 0")
    found = [connection(psutil.CONN_ESTABLISHED, 1)] if connected else []
    found += [connection(psutil.CONN_LISTEN, None), connection(psutil.CONN_LISTEN, os.getpid())]
    monkeypatch.setattr(psutil, "net_connections", lambda **_: found)

    assert f"(process {os.getpid()})" in owner_of(5050)


def test_a_process_that_has_just_ended_is_no_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    machine.add("docker", "exit 0")
    monkeypatch.setattr(psutil, "Process", ended)

    with _listening() as port:
        assert "only root may see" in owner_of(port)


@pytest.fixture(params=[psutil.AccessDenied, PermissionError])
def tells_root_only(machine: Machine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """As macOS does with the connections of all processes."""

    def refuse(**_: object) -> None:
        raise request.param

    machine.add("docker", "exit 0")
    monkeypatch.setattr(psutil, "net_connections", refuse)


@pytest.mark.usefixtures("tells_root_only")
def test_a_system_that_tells_root_only_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "only root may see" in owner_of(_free())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "(sudo lsof -nP -iTCP:80 -sTCP:LISTEN)" in owner_of(80)
    assert "(sudo lsof -nP -iUDP:53)" in owner_of(53, "udp")


@pytest.mark.usefixtures("tells_root_only")
def test_a_system_that_tells_root_only_tells_of_one_s_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        """Another user's, which nobody else may look at."""

        pid = 1

        def net_connections(self, **_: object) -> None:
            raise psutil.AccessDenied(self.pid)

    own = psutil.Process()
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([Process(), own]))

    with _listening() as port:
        assert owner_of(port) == f"{own.name()} (process {own.pid})"


# -- where to ------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    numbers: set[int] = set()
    monkeypatch.setattr(ports, "is_busy", lambda _, port, *__: port in numbers)
    return numbers


@pytest.mark.parametrize(
    ("variable", "first"),
    [("HTTP_PORT", 8080), ("HTTPS_PORT", 8443), ("API_PORT", 6550), ("REGISTRY_PORT", 5050), ("", 9001)],
)
def test_the_usual_port_is_proposed_first(busy: set[int], variable: str, first: int) -> None:
    use = PortUse("127.0.0.1", 9000, "HTTP", variable)

    assert free_port_for(use, []) == first
    busy |= {first, first + 1}
    assert free_port_for(use, [first + 2]) == first + 3


def test_a_taken_or_busy_port_is_never_proposed(busy: set[int]) -> None:
    busy |= set(range(5050, 5050 + 500, 2))
    taken = range(5051, 5051 + 500, 2)

    port = free_port_for(PortUse("127.0.0.1", 5050, "image registry", "REGISTRY_PORT"), taken)

    assert port not in busy
    assert port not in taken


@pytest.mark.parametrize("number", [65535, 65500])
def test_a_proposal_is_a_port(busy: set[int], number: int) -> None:
    busy |= set(range(number, 65536))

    assert 1024 <= free_port_for(PortUse("127.0.0.1", number, "port 25565 of the cluster"), []) < number


def test_the_hint_is_the_exact_line() -> None:
    assert change_hint(PortUse("127.0.0.1", 80, "HTTP", "HTTP_PORT"), 8081) == "HTTP_PORT=8081   (a line in .env)"
    assert change_hint(PortUse("127.0.0.1", 9000, "port 9 of the cluster"), 9001) == (
        "change port 9000 under `ports:` in k3d.yaml, for example to 9001"
    )


# -- the check of all of them --------------------------------------------------------------------------------------


def test_each_busy_port_is_named_with_owner_and_line(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    with _listening() as port, _listening() as own:
        checks = preflight.check_ports(
            [
                PortUse("127.0.0.1", port, "HTTP", "HTTP_PORT"),
                PortUse("127.0.0.1", own, "image registry", "REGISTRY_PORT"),
                PortUse("127.0.0.1", free := _free(), "Kubernetes API", "API_PORT"),
            ],
            frozenset([(own, "tcp")]),
        )

    assert [check.verdict for check in checks] == [Verdict.FAIL, Verdict.OK, Verdict.OK]
    assert checks[0].detail.startswith(f"HTTP on 127.0.0.1:{port}: held by ")
    assert checks[0].detail.endswith(f"(process {os.getpid()})")
    assert checks[0].fix.startswith("HTTP_PORT=")
    assert checks[1].detail == f"image registry on 127.0.0.1:{own}: held by this environment"
    assert checks[2].detail == f"Kubernetes API on 127.0.0.1:{free}: free"


def test_two_busy_ports_are_not_sent_to_the_same_one(
    busy: set[int], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add("docker", "exit 0")
    monkeypatch.setattr(preflight, "is_busy", ports.is_busy)
    busy |= {9000, 9001}

    checks = preflight.check_ports([PortUse("127.0.0.1", number, f"port {number}") for number in (9000, 9001)])

    assert [check.fix.rpartition(" ")[2] for check in checks] == ["9002", "9003"]


def test_a_busy_udp_port_is_not_the_environments_own_tcp_port_of_the_number(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    with _listening(kind=socket.SOCK_DGRAM, port=_free()) as port:
        uses = [PortUse("127.0.0.1", port, "port 53 of the cluster", "", protocol) for protocol in ("tcp", "udp")]
        checks = preflight.check_ports(uses, frozenset([(port, "tcp")]))

    assert [check.verdict for check in checks] == [Verdict.OK, Verdict.FAIL]
    assert checks[1].detail.endswith(f"(process {os.getpid()})")
