"""Ports and names that this machine has taken, as script/new refuses and offers them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import new
import occupied
import pytest
from answers import complete
from occupied import Machine, taken

from envkit import ports
from envkit.neighbours import Neighbour, NeighbourPort

DEFAULT_PORTS = {"HTTP": 80, "HTTPS": 443, "Kubernetes API": 6550, "image registry": 5050}


def neighbour(cluster: str, root: Path | str = "", shift: int = 0, **changes: Any) -> Neighbour:
    """An environment with the default ports, or others that are `shift` away."""
    numbers = tuple(
        NeighbourPort("127.0.0.1", number + shift, purpose, "tcp", f"k3d-{cluster}-x")
        for purpose, number in DEFAULT_PORTS.items()
    )
    values = {"project": "", "registry": f"k3d-{cluster}-registry", "state": "running", "ports": numbers, **changes}
    return Neighbour(cluster=cluster, root=str(root), **values)


def shared_registry(name: str, port: int) -> Neighbour:
    return Neighbour("", "", name, "running", "", (NeighbourPort("127.0.0.1", port, "image registry", "tcp", name),))


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ports on which something listens; none at first."""
    numbers: set[int] = set()
    for module in (ports, occupied):
        monkeypatch.setattr(module, "is_busy", lambda _, port, *__: port in numbers)
    return numbers


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The folder of an environment that is there."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "k3d.yaml").touch()
    return tmp_path / "first"


def proposals(found: list[Neighbour], destination: Path = Path("/new"), **answers: Any) -> dict[str, Any]:
    return {
        key: value for clash in taken(complete(answers), destination, found) for key, value in clash.proposal.items()
    }


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_every_port_of_another_environment_is_taken_also_while_it_is_stopped(repository: Path, state: str) -> None:
    found = taken(complete({"project": "shop"}), Path("/new"), [neighbour("first-dev", repository, state=state)])

    assert [clash.key for clash in found] == ["http_port", "https_port", "api_port", "registry_port"]
    assert found[0].sentence == (
        f"http_port: 80 is held by the environment in {repository} (cluster first-dev, {state})."
    )
    assert [dict(clash.proposal) for clash in found] == [
        {"http_port": 8080},
        {"https_port": 8443},
        {"api_port": 6551},
        {"registry_port": 5051},
    ]


def test_a_port_on_which_something_listens_is_taken_and_a_proposal_is_free(busy: set[int], repository: Path) -> None:
    busy |= {80, 8080, 8443}

    assert proposals([neighbour("first-dev", repository, shift=8001)], project="shop", https_port=8082) == {
        "http_port": 8083
    }


@pytest.mark.usefixtures("busy")
def test_a_machine_with_other_ports_and_names_leaves_room(repository: Path) -> None:
    assert proposals([neighbour("first-dev", repository, shift=10)], project="shop") == {}


def test_a_udp_port_of_another_environment_leaves_the_tcp_port_of_its_number(busy: set[int], repository: Path) -> None:
    udp = NeighbourPort("127.0.0.1", 443, "port 443 of the cluster", "udp", "k3d-first-dev-x")
    found = [neighbour("first-dev", repository, ports=(udp,))]

    assert proposals(found, project="shop") == {}
    busy.add(443)
    (clash,) = taken(complete({"project": "shop"}), repository, found)
    assert clash.sentence == "https_port: 443 is held by a program that listens on it."


def test_an_environment_that_is_made_again_in_its_own_place_is_no_clash(busy: set[int], tmp_path: Path) -> None:
    busy |= set(DEFAULT_PORTS.values())
    gone = tmp_path / "gone"

    assert proposals([neighbour("mathtrail-dev", gone)], gone) == {}
    assert proposals([neighbour("mathtrail-dev", gone)], tmp_path / "moved") == {}
    assert len(proposals([neighbour("x-dev", gone)], tmp_path / "other")) == len(DEFAULT_PORTS)


def test_another_path_to_its_own_place_is_no_clash(busy: set[int], repository: Path, tmp_path: Path) -> None:
    busy |= set(DEFAULT_PORTS.values())
    (tmp_path / "old place").symlink_to(repository)

    assert proposals([neighbour("mathtrail-dev", tmp_path / "old place")], repository) == {}


@pytest.mark.usefixtures("busy")
def test_names_of_another_environment_are_taken(repository: Path) -> None:
    first = neighbour("mathtrail-dev", repository, shift=10, registry="k3d-mathtrail-registry")
    second = neighbour("mathtrail-2-dev", repository, shift=20)

    assert proposals([first]) == {"project": "mathtrail-2"}
    assert proposals([first, second]) == {"project": "mathtrail-3"}
    assert proposals([first], cluster_name="mine") == {"project": "mathtrail-2"}  # the registry's name
    assert proposals([first], project="shop", cluster_name="mathtrail-dev") == {"cluster_name": "mathtrail-dev-2"}
    longest = neighbour("p" * 28 + "-dev", repository, shift=10)
    assert proposals([longest], project="p" * 28) == {"project": "p" * 26 + "-2"}
    longest = neighbour("c" * 32, repository, shift=10)
    assert proposals([longest], project="shop", cluster_name="c" * 32) == {"cluster_name": "c" * 30 + "-2"}


@pytest.mark.parametrize(("port", "proposal"), [(5050, {}), (5070, {"registry_port": 5070})])
def test_a_shared_registry_that_is_there_says_its_port(busy: set[int], port: int, proposal: dict[str, int]) -> None:
    busy.add(5050)
    found = [shared_registry("k3d-shared-registry", port)]

    assert proposals(found, registry="shared") == proposal
    assert proposals(found, registry="shared", registry_name="another") == {"registry_port": 5051}
    assert proposals(found, registry="own") == {"registry_port": 5051}


@pytest.mark.usefixtures("busy")
def test_one_that_shares_a_registry_has_no_name_for_an_own_one(repository: Path) -> None:
    assert proposals([neighbour("first-dev", repository, shift=10, registry="")], registry="shared") == {}


# -- looking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["tcp://10.0.0.7:2375", "ssh://me@machine"])
def test_an_engine_that_is_reached_over_a_network_is_not_asked(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(occupied, "docker", lambda *_, **__: f"{host}\n")
    monkeypatch.setattr(occupied, "k3d_containers", lambda _: pytest.fail("asked"))

    assert Machine().neighbours() is None


def test_a_machine_without_docker_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")

    assert Machine().neighbours() is None


def test_an_engine_that_hangs_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupied, "SECONDS", 0.05)
    monkeypatch.setattr(occupied, "_look", lambda: time.sleep(0.5))
    started = time.monotonic()

    assert Machine().neighbours() is None
    assert time.monotonic() - started < 0.4


def test_a_local_engine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupied, "docker", lambda *_, **__: "unix:///var/run/docker.sock\n")
    monkeypatch.setattr(occupied, "k3d_containers", lambda _: [])

    assert Machine().neighbours() == []


# -- script/new -----------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, repository: Path, busy: set[int]) -> None:
    """Looking finds one environment with the default ports and names."""
    assert not busy
    monkeypatch.setattr(occupied, "_look", lambda: [neighbour("mathtrail-dev", repository)])


@pytest.mark.usefixtures("machine")
def test_taken_answers_are_refused_with_the_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new.main([f"{tmp_path}/my env", "--defaults"]) == 1

    said = capsys.readouterr().err
    assert "This machine has environments or programs with the same ports or names:\n  - " in said
    assert "  - cluster_name: mathtrail-dev is the name of a cluster that the environment in " in said
    assert (
        f"    script/new '{tmp_path}/my env' --defaults -d project=mathtrail-2"
        " -d http_port=8080 -d https_port=8443 -d api_port=6551 -d registry_port=5051\n"
    ) in said
    assert not (tmp_path / "my env").exists()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--ignore-machine"],
        ["-d", "scope=devcontainer"],
        ["-d", "provider=existing", "-d", "kube_context=kind-kind", "-d", "arc=false"],
    ],
)
def test_what_is_for_other_machines_or_has_no_ports_is_generated(tmp_path: Path, arguments: list[str]) -> None:
    assert new.main([str(tmp_path / "env"), "--defaults", "-q", *arguments]) == 0


@pytest.mark.usefixtures("machine")
def test_free_answers_are_offered_where_questions_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(new, "_unanswered", lambda _: [])
    run = {}
    monkeypatch.setattr("copier.run_copy", lambda *_, **options: run.update(options))

    arguments = [str(tmp_path / "env"), "--pretend", "-d", "project=shop", "-d", "http_port=8888"]
    assert new.main(arguments) == 0

    assert run["user_defaults"] == {"https_port": 8443, "api_port": 6551, "registry_port": 5051}
    assert "Note: https_port: 443 is held by" in capsys.readouterr().err
    assert new.main([*arguments, "-d", "https_port=443"]) == 1
    # Another project would not help where the cluster's name is given.
    assert new.main([*arguments[:2], "-d", "http_port=8888", "-d", "cluster_name=mathtrail-dev"]) == 1
