from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_tools import Machine
from samples import sample_container

from envkit import creation_marker, engine, engine_errors, verified
from envkit.engine import (
    Published,
    docker,
    inspect,
    k3d_containers,
    read_file,
    read_folder,
    remove_containers,
    write_file,
)
from envkit.environment import HASH_LABEL, ROOT_LABEL, SHARED_LABEL
from envkit.errors import CommandFailedError, UserError


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TIMEOUT", 5.0)


# -- listing ------------------------------------------------------------------------------------------------------

_SERVER = {
    "{{.Id}}": "0123abc",
    "{{.Name}}": "/k3d-shop-server-0",
    "{{.State.Status}}": "running",
    "{{.State.StartedAt}}": "2026-10-01T08:00:00.5Z",
    "{{.Config.Image}}": "rancher/k3s:v1.36.2-k3s1",
    ".NetworkSettings.Networks": "k3d-shop=10.0.0.2,bridge=,",
    '"k3d.cluster"': "shop",
    '"k3d.role"': "server",
    f'"{HASH_LABEL}"': "0123456789abcdef",
    f'"{ROOT_LABEL}"': "/home/jo/my%20shop",
}
_TOOLS = {"{{.Id}}": "4567def", "{{.Name}}": "/k3d-shop-tools", "{{.State.Status}}": "exited"}


def _line(values: dict[str, str]) -> str:
    """What Docker prints of a container for the fields that envkit asks for."""
    return "\t".join(next((value for part, value in values.items() if part in field), "") for field in engine._FIELDS)


LINE, BARE = _line(_SERVER), _line(_TOOLS)


def test_the_listing_becomes_containers(machine: Machine) -> None:
    machine.add("docker", f"[ $1 = ps ] && echo 0123abc 4567def || printf '%s\\n' '{LINE}' '{BARE}'")

    server, tools = k3d_containers()

    assert (server.id, server.name, server.state, server.running) == ("0123abc", "k3d-shop-server-0", "running", True)
    assert server.addresses == {"k3d-shop": "10.0.0.2", "bridge": ""}
    assert (server.cluster, server.role) == ("shop", "server")
    assert (server.config_hash, server.root) == ("0123456789abcdef", "/home/jo/my%20shop")
    assert (tools.running, tools.addresses, tools.cluster, tools.config_hash) == (False, {}, "", "")
    assert (server.shared, tools.published) == (False, ())


def test_the_listing_does_not_ask_for_variables_that_hold_the_token(machine: Machine) -> None:
    machine.add("docker", f"[ $1 = ps ] && echo 0123abc || echo '{LINE}'")
    k3d_containers()

    assert "Env" not in "\n".join(machine.calls)
    assert "token" not in "\n".join(machine.calls)


def test_no_containers_are_no_second_call(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    assert k3d_containers() == []
    assert len(machine.calls) == 1


def test_the_listing_is_tried_again_where_a_container_went_away(machine: Machine, tmp_path: Path) -> None:
    machine.add(
        "docker",
        f"""[ $1 = ps ] && {{ echo 0123abc; exit; }}
[ -e {tmp_path}/again ] && {{ echo '{LINE}'; exit; }}
touch {tmp_path}/again; echo 'Error: No such container: 0123abc' >&2; exit 1""",
    )

    assert [container.name for container in k3d_containers()] == ["k3d-shop-server-0"]


def test_containers_that_never_hold_still_end_in_an_error(machine: Machine) -> None:
    machine.add("docker", "[ $1 = ps ] && { echo 0123abc; exit; }; echo 'No such container' >&2; exit 1")

    with pytest.raises(UserError, match="come and go"):
        k3d_containers()


# -- errors -------------------------------------------------------------------------------------------------------


_FORBIDDEN = "permission denied while trying to connect to the Docker daemon socket at "
_NOT_THERE = "Cannot connect to the Docker daemon at {}. Is the docker daemon running?"


def _error_of_docker(machine: Machine, message: str) -> UserError:
    machine.add("docker", f"echo '{message}' >&2; exit 1")
    with pytest.raises(UserError) as caught:
        docker("ps")
    return caught.value


@pytest.fixture
def systemd(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing chooses an engine, and services are systemd's."""
    machine.add("systemctl", "exit 0")
    monkeypatch.setattr(engine_errors, "_is_wsl", lambda: False)
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("message", "what", "next_step"),
    [
        (
            f"{_FORBIDDEN}unix:///var/run/docker.sock",
            "Docker is running, but this user may not use it.",
            'sudo usermod -aG docker "$USER"   (then log out and in again)',
        ),
        (
            f"{_FORBIDDEN}unix:///run/user/1001/docker.sock: Get http://x: dial unix: connect: permission denied",
            "Docker is running, but this user may not use it.",
            "docker context ls   (an engine of your own: docker context use NAME)",
        ),
        (
            _NOT_THERE.format("unix:///var/run/docker.sock"),
            "Docker is not reachable.",
            "sudo systemctl start docker",
        ),
        (
            "failed to connect to the docker API at unix:///var/run/docker.sock; check if the daemon is running",
            "Docker is not reachable.",
            "sudo systemctl start docker",
        ),
        (
            _NOT_THERE.format("unix:///run/user/1000/docker.sock"),
            "Docker is not reachable.",
            "systemctl --user start docker",
        ),
        (
            _NOT_THERE.format("unix:///home/jo/.docker/desktop/docker.sock"),
            "Docker is not reachable.",
            "systemctl --user start docker-desktop",
        ),
        (
            _NOT_THERE.format("unix:///home/jo/.colima/default/docker.sock"),
            "Docker is not reachable.",
            "colima start",
        ),
        (
            _NOT_THERE.format("tcp://127.0.0.1:2375"),
            "Docker is not reachable.",
            "docker context ls   (which engine is meant? the variable DOCKER_HOST goes before a context)",
        ),
        (
            'error during connect: Get "http://build.example.com:2375/v1.50/containers/json": dial tcp: i/o timeout',
            "Docker is not reachable.",
            "docker context ls   (which engine is meant? the variable DOCKER_HOST goes before a context)",
        ),
        (
            "error during connect: dial tcp 10.0.0.7:2375: i/o timeout",
            "Docker is not reachable.",
            "docker context ls   (which engine is meant? the variable DOCKER_HOST goes before a context)",
        ),
        (
            'error during connect: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/containers/json": EOF',
            "Docker is not reachable.",
            "sudo systemctl start docker",
        ),
        (
            'unable to resolve docker endpoint: context "colima": context not found: open /home/jo/.docker/contexts/x',
            "Docker has no context colima, which it is to use.",
            "docker context ls   (which are there? to use the usual one: docker context use default)",
        ),
        (
            'Current context "colima" is not found on the file system, please check your config file',
            "Docker has no context colima, which it is to use.",
            "docker context ls   (which are there? to use the usual one: docker context use default)",
        ),
    ],
)
@pytest.mark.usefixtures("systemd")
def test_an_engine_that_does_not_answer_is_explained(machine: Machine, message: str, what: str, next_step: str) -> None:
    error = _error_of_docker(machine, message)

    assert (error.what, error.why, error.next_step) == (what, message, next_step)


@pytest.mark.parametrize(
    ("message", "next_step"),
    [
        (f"{_FORBIDDEN}unix:///var/run/docker.sock", "docker context ls"),
        (_NOT_THERE.format("unix:///var/run/docker.sock"), "open -a Docker"),
        (_NOT_THERE.format("unix:///Users/jo/.docker/run/docker.sock"), "open -a Docker"),
        (_NOT_THERE.format("unix:///Users/jo/.colima/default/docker.sock"), "colima start"),
        (_NOT_THERE.format("unix:///Users/jo/.orbstack/run/docker.sock"), "orb start"),
        (_NOT_THERE.format("unix:///Users/jo/.rd/docker.sock"), "rdctl start"),
        ("Error response from daemon: dial unix docker.raw.sock: connect: connection refused", "open -a Docker"),
    ],
)
@pytest.mark.usefixtures("systemd")
def test_macos_has_other_ways_to_an_engine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, message: str, next_step: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert _error_of_docker(machine, message).next_step.startswith(next_step)


@pytest.mark.parametrize(
    "message",
    [
        (
            "docker: Error response from daemon: Get https://registry-1.docker.io/v2/: dial tcp: lookup"
            " registry-1.docker.io: no such host"
        ),
        "Error response from daemon: error during connect: Is the docker daemon running?",
        "error: Get https://127.0.0.1:6443/api: dial tcp 127.0.0.1:6443: connect: connection refused",
    ],
    ids=["an image that cannot be pulled", "words of the engine", "a program in a container"],
)
def test_an_engine_that_answers_is_not_to_be_started(machine: Machine, message: str) -> None:
    error = _error_of_docker(machine, message)

    assert isinstance(error, CommandFailedError)
    assert error.output == message


@pytest.mark.usefixtures("systemd")
def test_a_context_that_a_variable_names_is_left_by_the_variable(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "colima")

    error = _error_of_docker(machine, 'unable to resolve docker endpoint: context "colima": context not found: open x')

    assert error.next_step.endswith("unset DOCKER_CONTEXT)")


@pytest.mark.usefixtures("systemd")
def test_an_engine_that_hangs_is_the_one_that_the_variable_names(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add("docker", "exec /bin/sleep 30")
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.7:2375")

    with pytest.raises(UserError, match="Docker does not answer") as caught:
        docker("ps", timeout=0.1)

    assert "docker context ls" in caught.value.next_step


def test_an_engine_that_hangs_is_told_from_one_that_is_not_there(machine: Machine) -> None:
    machine.add("docker", "exec /bin/sleep 30")

    with pytest.raises(UserError, match="Docker does not answer") as caught:
        docker("ps", "--format", "{{.ID}}", timeout=0.1)

    assert caught.value.why.startswith("`docker ps` did not end in time")
    assert caught.value.next_step.startswith("docker ps")


def test_what_the_engine_refuses_is_passed_on(machine: Machine) -> None:
    machine.add("docker", "echo 'Error response from daemon: volume is in use' >&2; exit 1")

    with pytest.raises(CommandFailedError, match="docker volume rm a") as caught:
        docker("volume", "rm", "a")

    assert caught.value.output == "Error response from daemon: volume is in use"


def test_a_machine_without_docker_is_named(machine: Machine) -> None:
    with pytest.raises(UserError, match="docker is not installed") as caught:
        docker("ps")

    assert "docker" in caught.value.next_step.lower()
    assert caught.value.next_step != "just install"  # which does not bring it
    assert machine.calls == []


# -- objects ------------------------------------------------------------------------------------------------------


def test_missing_objects_are_left_out(machine: Machine) -> None:
    machine.add(
        "docker",
        """case $3 in
there) echo '[{"Name": "there"}]';;
gone) echo 'Error response from daemon: get gone: no such volume' >&2; exit 1;;
net) echo 'Error response from daemon: network net not found' >&2; exit 1;;
esac""",
    )

    assert inspect("volume", "gone", "there", "net") == [{"Name": "there"}]


def test_an_object_that_cannot_be_asked_for_is_an_error(machine: Machine) -> None:
    machine.add("docker", "echo 'Error response from daemon: out of memory' >&2; exit 1")

    with pytest.raises(CommandFailedError):
        inspect("volume", "a")


def test_no_call_is_made_to_remove_nothing(machine: Machine) -> None:
    machine.add("docker", "exit 0")

    remove_containers([])
    remove_containers(name for name in ("a", "b"))

    assert machine.calls == ["docker rm --force --volumes a b"]


def test_a_label_that_is_not_there_is_empty_whatever_docker_prints_for_it(machine: Machine) -> None:
    labels = {f'"{label}"': "<no value>" for label in ("k3d.cluster", HASH_LABEL, ROOT_LABEL, SHARED_LABEL)}
    line = _line({"{{.Id}}": "0123abc", **labels})
    machine.add("docker", f"[ $1 = ps ] && echo 0123abc || printf '%s\\n' '{line}'")

    (container,) = k3d_containers()

    assert (container.cluster, container.config_hash, container.root, container.shared) == ("", "", "", False)


def test_a_container_without_an_address_has_none_whatever_docker_prints_for_it(machine: Machine) -> None:
    line = _line({"{{.Id}}": "0123abc", ".NetworkSettings.Networks": "k3d-shop=invalid IP,bridge=10.0.0.2,"})
    machine.add("docker", f"[ $1 = ps ] && echo 0123abc || printf '%s\\n' '{line}'")

    (container,) = k3d_containers()

    assert container.addresses == {"k3d-shop": "", "bridge": "10.0.0.2"}


def test_published_ports_are_listed_with_their_addresses(machine: Machine) -> None:
    bindings = {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": "9080"}],
        "81/tcp": None,
        "443/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "53/udp": [{"HostIp": "::1", "HostPort": "5353"}],
        "9/tcp": [{"HostPort": "90-99"}],
    }
    line = _line({"{{.Id}}": "0123abc", "PortBindings": json.dumps(bindings)})
    machine.add("docker", f"[ $1 = ps ] && echo 0123abc || printf '%s\\n' '{line}'")

    (container,) = k3d_containers()

    assert container.published == (
        Published("127.0.0.1", 8080, 80),
        Published("0.0.0.0", 9080, 80),
        Published("::1", 5353, 53, "udp"),
    )


# -- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(machine: Machine, tmp_path: Path) -> Path:
    """A container's file system, as `docker cp` sees it."""
    root = tmp_path / "container"
    (root / "etc").mkdir(parents=True)
    machine.add(
        "docker",
        f"""PATH=$PATH:/usr/bin:/bin
if [ "$2" = - ]; then
  cd "{root}${{3#*:}}" 2>/dev/null || {{ echo "Error: Could not find the file ${{3#*:}}" >&2; exit 1; }}
  exec tar -x
fi
path=${{2#*:}}
[ -e "{root}$path" ] || {{ echo "Could not find the file $path" >&2; exit 1; }}
cd "{root}${{path%/*}}" && exec tar -c "${{path##*/}}" """,
    )
    return root


def test_a_file_comes_back_as_it_was_written(files: Path) -> None:
    content = bytes(range(256)) * 50

    write_file("node", "/etc/made", content, 0o640)

    assert read_file("node", "/etc/made") == content
    assert (files / "etc/made").stat().st_mode & 0o777 == 0o640
    assert read_file("node", "/etc/none") is None
    assert read_file("node", "/etc") is None


@pytest.mark.parametrize("read", [read_file, read_folder])
def test_a_file_that_docker_fails_to_read_does_not_count_as_missing(
    machine: Machine, read: Callable[[str, str], object]
) -> None:
    machine.add("docker", "echo 'Error response from daemon: mkdir /mnt: no space left on device' >&2; exit 1")

    with pytest.raises(CommandFailedError, match="/etc/made cannot be read from the container node") as caught:
        read("node", "/etc/made")

    assert "no space left on device" in caught.value.why


def test_a_file_of_an_engine_that_went_away_does_not_count_as_missing(machine: Machine) -> None:
    message = "failed to connect to the docker API: dial unix: no such file or directory"
    machine.add("docker", f"echo '{message}' >&2; exit 1")

    with pytest.raises(UserError, match="Docker is not reachable"):
        read_file("node", "/etc/made")


@pytest.mark.parametrize(
    "message",
    [
        "Error response from daemon: Could not find the file /etc/none in container node",
        "Error: No such container:path: node:/etc/none",
        "Error response from daemon: No such container: node",
        'Error: "/etc/none" could not be found on container node: no such file or directory',
    ],
)
def test_what_is_not_in_a_container_is_missing_in_the_words_of_every_engine(machine: Machine, message: str) -> None:
    machine.add("docker", f"echo '{message}' >&2; exit 1")

    assert read_file("node", "/etc/none") is None
    assert read_folder("node", "/etc/none") == []


def test_a_file_that_cannot_be_written_is_named(files: Path) -> None:
    assert files.exists()

    with pytest.raises(CommandFailedError, match=re.escape("/none/made cannot be written into the container node")):
        write_file("node", "/none/made", b"")


@pytest.mark.parametrize("call", [lambda: read_file("a", "/b"), lambda: write_file("a", "/b", b"")])
def test_an_engine_that_hangs_over_a_file_is_not_reachable(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, call: object
) -> None:
    monkeypatch.setattr(engine, "TIMEOUT", 0.05)
    machine.add("docker", "exec /bin/sleep 30")
    assert callable(call)

    with pytest.raises(UserError, match="Docker does not answer"):
        call()


# -- the mark of a completed creation -----------------------------------------------------------------------------


def test_a_mark_keeps_the_configuration(files: Path) -> None:
    assert creation_marker.read_marker("node") is None

    creation_marker.write_marker("node", {"agents": 2, "name": "ünïcode"})

    assert creation_marker.read_marker("node") == {"agents": 2, "name": "ünïcode"}
    assert (files / "etc/envkit-created.json").exists()


def test_a_mark_of_unknown_origin_is_a_mark(files: Path) -> None:
    creation_marker.write_marker("node", {})

    assert creation_marker.read_marker("node") == {}
    assert files.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_mark_that_was_not_written_to_the_end_is_none(files: Path, content: bytes) -> None:
    (files / "etc/envkit-created.json").write_bytes(content)

    assert creation_marker.read_marker("node") is None


# -- what was seen to work ----------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path))
    return tmp_path


def test_the_same_containers_are_recognised_in_any_order(state: Path) -> None:
    containers = [sample_container("a", "server"), sample_container("b", "agent")]
    assert not verified.were_verified("shop", containers)

    verified.remember_verified("shop", containers)

    assert verified.were_verified("shop", containers[::-1])
    assert not verified.were_verified("other", containers)
    assert (state / "shop.verified").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", [{"id": "new"}, {"started_at": "2026-10-02T08:00:00Z"}, {"state": "exited"}])
def test_a_container_that_changed_is_looked_into_again(state: Path, change: dict[str, str]) -> None:
    verified.remember_verified("shop", [sample_container("a", "server")])

    assert not verified.were_verified("shop", [sample_container("a", "server", **change)])
    assert not verified.were_verified("shop", [])
    assert state.exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_broken_memory_of_them_is_ignored(state: Path, content: bytes) -> None:
    (state / "shop.verified").write_bytes(content)

    assert not verified.were_verified("shop", [sample_container("a", "server")])
    verified.remember_verified("shop", [sample_container("a", "server")])
    assert verified.were_verified("shop", [sample_container("a", "server")])
