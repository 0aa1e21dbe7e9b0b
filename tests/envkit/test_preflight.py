from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tools import Machine
from samples import AGENTS, K3D_YAML, LOAD_BALANCER, REGISTRY, SERVER, changed, healthy, sample_environment, without
from support import refuse_to_look

from envkit import ports, preflight
from envkit.engine import Published
from envkit.environment import Environment, PortUse
from envkit.errors import UserError
from envkit.observation import Observation
from envkit.preflight import Check, Verdict

GIB = 2**30


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    return sample_environment(tmp_path / "shop")


def _add_docker(
    machine: Machine, *, network: dict[str, Any] | None = None, container: bool = False, **info: Any
) -> None:
    machine.add(
        "docker",
        f"""case "$1 $2" in
'info '*) echo '{json.dumps({"MemTotal": 16 * GIB, "DockerRootDir": "/"} | info)}';;
'version '*) echo 29.0.0;;
'network inspect') {f"echo '{json.dumps([network])}'" if network is not None else "echo 'not found' >&2; exit 1"};;
'container inspect') {"echo '[{}]'" if container else "echo 'No such container' >&2; exit 1"};;
esac""",
    )


# -- Docker -------------------------------------------------------------------------------------------------------


def test_docker_that_answers_is_right(machine: Machine) -> None:
    _add_docker(machine)

    assert preflight.check_docker().verdict is Verdict.OK


def test_docker_that_does_not_answer_would_stop_create_and_says_what_to_start(machine: Machine) -> None:
    machine.add("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    check = preflight.check_docker()

    assert check.verdict is Verdict.FAIL
    assert check.detail == "Docker is not reachable. Cannot connect to the Docker daemon"
    assert "docker" in check.fix


def test_what_is_not_known_of_docker_does_not_lead_to_doctor_again(machine: Machine) -> None:
    machine.add("docker", "echo 'Error response from daemon: no space left' >&2; exit 1")

    assert preflight.check_docker().fix == "docker info   (what does it say itself?)"


def test_a_machine_without_docker_would_stop_create(machine: Machine) -> None:
    assert machine.calls == []

    assert preflight.check_docker().verdict is Verdict.FAIL


@pytest.mark.parametrize(("memory", "verdict"), [(3 * GIB, Verdict.OK), (3 * GIB - 1, Verdict.WARN), (0, Verdict.WARN)])
def test_memory_is_wanted_for_each_agent(machine: Machine, shop: Environment, memory: int, verdict: Verdict) -> None:
    _add_docker(machine, MemTotal=memory)

    check = preflight.check_resources(shop)[0]

    assert (check.subject, check.verdict) == ("Memory", verdict)
    assert "about 3.0 GiB are wanted" in check.detail
    assert bool(check.fix) is (verdict is Verdict.WARN)


@pytest.mark.parametrize(("free", "verdict"), [(10 * GIB, Verdict.OK), (9 * GIB, Verdict.WARN)])
def test_free_disk_is_looked_at(
    machine: Machine, shop: Environment, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
) -> None:
    _add_docker(machine)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))

    check = preflight.check_resources(shop)[1]

    assert (check.subject, check.verdict) == ("Disk", verdict)


def test_a_disk_that_is_elsewhere_is_passed_over(machine: Machine, shop: Environment) -> None:
    _add_docker(machine, DockerRootDir="/not/on/this/machine")

    assert [check.subject for check in preflight.check_resources(shop)] == ["Memory"]


@pytest.mark.parametrize("answer", ["exit 1", "echo nothing", "echo"])
def test_resources_that_docker_does_not_tell_are_passed_over(machine: Machine, shop: Environment, answer: str) -> None:
    machine.add("docker", answer)

    assert preflight.check_resources(shop) == []


def test_docker_without_root_may_not_open_low_ports(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = K3D_YAML.replace("127.0.0.1:8080:80", "127.0.0.1:80:80").replace("127.0.0.1:8443:443", "127.0.0.1:443:443")
    environment = sample_environment(tmp_path / "low", k3d_yaml=text)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "1024\n")

    _add_docker(machine)
    assert not [check for check in preflight.check_resources(environment) if check.verdict is Verdict.FAIL]

    path = machine.bin / "docker"
    path.write_bytes(path.read_bytes().replace(b'{"MemTotal"', b'{"SecurityOptions": ["name=rootless"], "MemTotal"'))
    low = [check for check in preflight.check_resources(environment) if check.verdict is Verdict.FAIL]
    assert [check.subject for check in low] == ["Port 80", "Port 443"]
    assert [check.fix.partition("=")[0] for check in low] == ["HTTP_PORT", "HTTPS_PORT"]


# -- kernel -------------------------------------------------------------------------------------------------------


def test_low_kernel_limits_warn_with_the_command_that_raises_them(tmp_path: Path) -> None:
    (tmp_path / "max_user_instances").write_text("128\n")
    (tmp_path / "max_user_watches").write_text("65536\n")

    low, enough = preflight.check_inotify(tmp_path)

    assert (low.verdict, enough.verdict) == (Verdict.WARN, Verdict.OK)
    assert low.fix == "sudo sysctl -w fs.inotify.max_user_instances=512"
    assert low.detail.startswith("fs.inotify.max_user_instances is 128;")
    assert (enough.detail, enough.fix) == ("fs.inotify.max_user_watches is 65536", "")


@pytest.mark.parametrize("content", [None, b"", b"many\n", b"\xff"])
def test_kernel_limits_that_cannot_be_read_are_passed_over(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "max_user_instances").write_bytes(content)

    assert preflight.check_inotify(tmp_path) == []


# -- names and leftovers ------------------------------------------------------------------------------------------


def test_names_of_its_own_or_of_nobody_are_right(machine: Machine, shop: Environment) -> None:
    for observation in (healthy(shop), Observation((), None)):
        _add_docker(machine, container=observation.registry is not None)
        (check,) = preflight.check_names(shop, observation)
        assert check.verdict is Verdict.OK


def test_a_cluster_of_another_repository_would_stop_create(machine: Machine, shop: Environment, tmp_path: Path) -> None:
    _add_docker(machine)
    observation = changed(healthy(shop), SERVER, root=str(tmp_path / "shop"))

    (other,) = preflight.check_names(shop, observation, root=tmp_path / "here")
    (own,) = preflight.check_names(shop, observation, root=tmp_path / "shop")

    assert (other.subject, other.verdict, own.verdict) == ("Cluster name", Verdict.FAIL, Verdict.OK)
    assert str(tmp_path / "shop") in other.detail


def test_another_path_to_the_same_repository_is_no_other_one(
    machine: Machine, shop: Environment, tmp_path: Path
) -> None:
    """As where a link stands at its old place, or on macOS, where `/users/jo` leads to `/Users/jo`."""
    _add_docker(machine)
    (tmp_path / "old place").symlink_to(tmp_path / "shop")
    observation = changed(healthy(shop), SERVER, root=str(tmp_path / "old place"))

    (check,) = preflight.check_names(shop, observation, root=tmp_path / "shop")

    assert check.verdict is Verdict.OK


def test_a_cluster_of_somebody_whose_folder_is_closed_is_theirs(
    shop: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_look(monkeypatch, tmp_path / "theirs" / "k3d.yaml")
    observation = changed(healthy(shop), SERVER, root=str(tmp_path / "theirs"))

    (check,) = preflight.check_names(shop, observation, root=tmp_path / "here")

    assert check.verdict is Verdict.FAIL
    assert f"belongs to the environment in {tmp_path / 'theirs'}" in check.detail


def test_a_registry_of_another_cluster_would_stop_create(machine: Machine, shop: Environment) -> None:
    _add_docker(machine)
    observation = changed(without(healthy(shop), SERVER, LOAD_BALANCER, *AGENTS), REGISTRY, cluster="other")

    (check,) = preflight.check_names(shop, observation)

    assert (check.subject, check.verdict) == ("Registry name", Verdict.FAIL)
    assert "belongs to the cluster other" in check.detail


def test_a_container_with_the_registrys_name_would_stop_create(machine: Machine, shop: Environment) -> None:
    _add_docker(machine, container=True)

    (check,) = preflight.check_names(shop, Observation((), None))

    assert (check.subject, check.verdict) == ("Registry name", Verdict.FAIL)
    assert check.fix == "docker rename k3d-shop-registry k3d-shop-registry-old"


def test_leftovers_of_a_deleted_cluster_warn(machine: Machine, shop: Environment) -> None:
    _add_docker(machine, network={"Containers": {"1": {"Name": "devcontainer"}}})

    (check,) = preflight.check_leftovers(shop, without(healthy(shop), SERVER, LOAD_BALANCER, *AGENTS))

    assert check.verdict is Verdict.WARN
    assert "the registry container k3d-shop-registry" in check.detail
    assert "the network k3d-shop (in use by devcontainer)" in check.detail
    assert check.fix == "just create"


def test_a_clean_machine_has_no_leftovers(machine: Machine, shop: Environment) -> None:
    _add_docker(machine)

    assert preflight.check_leftovers(shop, Observation((), None)) == []
    assert preflight.check_leftovers(shop, healthy(shop)) == []


def test_an_ipv6_address_where_ipv6_is_switched_off_is_none_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return original(family, kind)

    monkeypatch.setattr(socket, "socket", without_ipv6)

    (check,) = preflight.check_ports([PortUse("::1", 8080, "HTTP", "HTTP_PORT")])

    assert check.verdict is Verdict.WARN
    assert "this machine has no address ::1" in check.detail
    assert not ports.is_busy("::1", 8080)


# -- configuration, own ports, and all together ---------------------------------------------------------------------


def test_a_configuration_that_k3d_would_misread_would_stop_create(shop: Environment) -> None:
    assert preflight.check_config(shop).verdict is Verdict.OK
    check = preflight.check_config(replace(shop, effective=shop.effective | {"token": "a$b"}))

    assert check.verdict is Verdict.FAIL
    assert "dollar sign" in check.detail
    assert check.fix


def test_only_running_containers_hold_the_environments_ports(shop: Environment) -> None:
    balanced = (Published("127.0.0.1", 8080, 80), Published("127.0.0.1", 6550, 6443))
    seen = changed(healthy(shop), LOAD_BALANCER, published=balanced)
    seen = changed(seen, REGISTRY, published=(Published("127.0.0.1", 5050, 5000),))
    direct = Published("127.0.0.1", 30090, 30090, "udp")  # of a filter with `:direct`
    seen = changed(seen, SERVER, published=(direct,))
    http, api, registry, own = (8080, "tcp"), (6550, "tcp"), (5050, "tcp"), (30090, "udp")

    assert preflight.own_published_ports(seen) == {http, api, registry, own}
    assert preflight.own_published_ports(changed(seen, LOAD_BALANCER, state="exited")) == {registry, own}
    assert preflight.own_published_ports(changed(seen, REGISTRY, state="exited")) == {http, api, own}
    assert preflight.own_published_ports(changed(seen, SERVER, state="exited")) == {http, api, registry}
    assert preflight.own_published_ports(Observation((), None)) == frozenset()


def test_every_failed_check_is_in_one_error_and_warnings_are_said() -> None:
    said: list[str] = []
    checks = [
        Check("Port 80", Verdict.FAIL, "held by nginx", "HTTP_PORT=8080"),
        Check("Memory", Verdict.WARN, "little", "more"),
        Check("Disk", Verdict.WARN, "full"),
        Check("Docker", Verdict.OK, "answers"),
        Check("Registry name", Verdict.FAIL, "taken", "another"),
    ]

    with pytest.raises(UserError, match="cannot be created") as caught:
        preflight.require(checks, "created", said.append)

    assert caught.value.why == "Port 80: held by nginx\n  fix: HTTP_PORT=8080\nRegistry name: taken\n  fix: another"
    assert said == ["warning: Memory: little\n  fix: more", "warning: Disk: full"]


def test_warnings_alone_do_not_stop() -> None:
    said: list[str] = []

    preflight.require([Check("Disk", Verdict.WARN, "full")], "created", said.append)

    assert len(said) == 1
