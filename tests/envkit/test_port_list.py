"""All environments of a machine with their ports, and who holds those of one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from samples import LOAD_BALANCER, REGISTRY, SERVER, changed, healthy, sample_container, sample_environment, write_repo
from support import refuse_to_look

from envkit import port_list, preflight
from envkit.engine import Container, Published
from envkit.environment import Environment
from envkit.neighbours import neighbours
from envkit.paths import ROOT
from envkit.preflight import Verdict

WEB = (Published("127.0.0.1", 8080, 80), Published("127.0.0.1", 6550, 6443), Published("127.0.0.1", 9000, 30000))


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    return sample_environment(tmp_path / "shop")


@pytest.fixture
def containers(tmp_path: Path, shop: Environment) -> list[Container]:
    """The cluster `shop`, made by a repository that is there."""
    seen = changed(healthy(shop), SERVER, root=quote(str(tmp_path / "shop")))
    seen = changed(seen, LOAD_BALANCER, published=WEB)
    seen = changed(seen, REGISTRY, published=(Published("127.0.0.1", 5050, 5000),))
    assert seen.registry
    return [*seen.nodes, seen.registry, sample_container("k3d-shop-tools", "noRole", state="exited")]


def _as_other(containers: list[Container], name: str, root: str, shift: int = 1000) -> list[Container]:
    """The same containers as those of another cluster, with other ports."""
    return [
        replace(
            container,
            name=container.name.replace("shop", name),
            cluster=name,
            root=root if container.root else "",
            addresses={f"k3d-{name}": "10.1.0.2"},
            published=tuple(port._replace(number=port.number + shift) for port in container.published),
        )
        for container in containers
    ]


def test_an_environment_is_its_cluster_with_all_ports_in_one_order(tmp_path: Path, containers: list[Container]) -> None:
    (found,) = neighbours(containers)

    assert (found.project, found.cluster, found.registry, found.state) == ("shop", "shop", REGISTRY, "running")
    assert found.root == str(tmp_path / "shop")
    assert [(port.number, port.purpose) for port in found.ports] == [
        (8080, "HTTP"),
        (6550, "Kubernetes API"),
        (5050, "image registry"),
        (9000, "port 30000 of the cluster"),
    ]


def test_a_stopped_and_a_broken_one_are_listed_with_their_ports(containers: list[Container]) -> None:
    stopped = [replace(container, state="exited") for container in containers]

    assert neighbours(stopped)[0].state == "stopped"
    assert len(neighbours(stopped)[0].ports) == 4
    assert neighbours([*stopped[:-2], containers[-2]])[0].state == "partial"


def test_a_shared_registry_stands_beside_its_clusters(containers: list[Container]) -> None:
    shared = sample_container(
        "k3d-common", "registry", cluster="", shared=True, published=(Published("127.0.0.1", 5055, 5000),)
    )
    nodes = [container for container in containers if container.role != "registry"]

    cluster, registry = neighbours([shared, *nodes])

    assert cluster.registry == "k3d-common"
    assert 5055 not in {port.number for port in cluster.ports}
    assert (registry.cluster, registry.registry, registry.title) == (
        "",
        "k3d-common",
        "the shared registry k3d-common (running)",
    )


def test_a_repository_that_is_gone_or_unreadable_has_no_project(tmp_path: Path, containers: list[Container]) -> None:
    (tmp_path / "shop" / "environment.toml").write_bytes(b"\xff")
    assert neighbours(containers)[0].project == ""

    gone = neighbours([replace(c, root="/none" if c.root else "") for c in containers])[0]
    assert (gone.project, gone.is_there, gone.title) == ("", False, "an environment (cluster shop, running)")


def test_an_environment_in_a_closed_folder_is_there(
    tmp_path: Path, containers: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_look(monkeypatch, tmp_path / "shop" / "k3d.yaml")

    assert neighbours(containers)[0].is_there


def test_the_owner_of_each_port_is_told_with_the_line_that_moves_it(
    shop: Environment,
    containers: list[Container],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_repo(tmp_path / "other")
    others = _as_other(containers, "other", quote(str(root)), shift=363)  # its HTTP port is 8443
    monkeypatch.setattr(port_list, "k3d_containers", lambda: others)
    monkeypatch.setattr(port_list, "is_busy", lambda _, port, *__: port == 5050)
    monkeypatch.setattr(port_list, "owner_of", lambda *_: "nginx (process 7)")

    ports = port_list.gather(shop)

    assert [(port.number, port.owner) for port in ports.own] == [
        (8080, "nobody"),
        (8443, f"the environment in {root} (cluster other, running)"),
        (6550, "nobody"),
        (5050, "nginx (process 7)"),
    ]
    assert [bool(port.fix) for port in ports.own] == [False, True, False, True]
    assert ports.own[1].fix.startswith("HTTPS_PORT=844")
    assert [(n.cluster, n.state) for n in ports.environments] == [("shop", "absent"), ("other", "running")]

    port_list.print_table(ports)
    text = capsys.readouterr().out
    assert [line.split("to move it: ")[1].strip() for line in text.splitlines() if "to move it" in line] == [
        port.fix for port in ports.own if port.fix
    ]
    assert f"{ROOT} (here)" in text
    (tmp_path / "here").symlink_to(ROOT)
    here = replace(ports.environments[1], root=str(tmp_path / "here"))
    port_list.print_table(replace(ports, environments=(here,)))
    assert f"{tmp_path}/here (here)" in "".join(capsys.readouterr().out.split("\n"))
    assert text.rstrip().endswith("just delete && just create")


@pytest.mark.parametrize(
    ("own", "other", "owner"),
    [
        ("running", "exited", "this environment"),
        ("exited", "running", "an environment (cluster other, running)"),
        ("exited", "exited", "an environment (cluster other, stopped)"),
    ],
)
def test_of_two_environments_with_the_same_ports_the_one_that_runs_has_them(
    shop: Environment, containers: list[Container], monkeypatch: pytest.MonkeyPatch, own: str, other: str, owner: str
) -> None:
    found = [replace(container, state=own) for container in containers]
    found += [replace(container, state=other) for container in _as_other(containers, "other", "/none", shift=0)]
    monkeypatch.setattr(port_list, "k3d_containers", lambda: found)
    monkeypatch.setattr(port_list, "is_busy", lambda *_: True)

    port = port_list.gather(shop).own[0]

    assert (port.number, port.owner) == (8080, owner)
    assert bool(port.fix) is (owner != "this environment")


def test_the_list_is_shown_to_people_and_to_machines(
    shop: Environment,
    containers: list[Container],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = sample_container("k3d-common", "registry", cluster="", shared=True)
    monkeypatch.setattr(
        port_list, "k3d_containers", lambda: [*containers, shared, *_as_other(containers, "b", "/none")]
    )
    ports = port_list.gather(shop)

    port_list.print_table(ports)
    text = capsys.readouterr().out
    assert "8080 HTTP, 6550 Kubernetes API, 5050 image registry, 9000 port 30000 of the cluster" in text
    assert "(registry k3d-common)" in text
    assert "/none (gone)" in text
    assert "127.0.0.1:8080  HTTP            this environment" in text
    assert "to move it" not in text
    assert "just delete" not in text
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    assert ["shop", "shop", "running", str(tmp_path / "shop")] in [row[:4] for row in rows]
    assert ["-", "(registry k3d-common)", "running", "-"] in [row[:4] for row in rows]

    port_list.print_json(ports)
    document = json.loads(capsys.readouterr().out)
    assert [entry["cluster"] for entry in document["environments"]] == ["b", "shop", ""]
    assert {entry["owner"] for entry in document["own"]} == {"this environment", "nobody"}


@pytest.mark.parametrize(("name", "owner"), [(REGISTRY, "this environment"), ("k3d-common", "the shared registry")])
def test_the_port_of_a_registry_is_an_own_one_for_those_that_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, owner: str
) -> None:
    shop = sample_environment(tmp_path / "sharing", shared=True)
    published = (Published("127.0.0.1", 5050, 5000),)
    registry = sample_container(name, "registry", cluster="", shared=True, published=published)
    monkeypatch.setattr(port_list, "k3d_containers", lambda: [registry])
    monkeypatch.setattr(port_list, "is_busy", lambda *_: False)

    (found,) = (port for port in port_list.gather(shop).own if port.number == 5050)

    assert found.owner.startswith(owner)
    assert set(port_list.others_ports(shop, neighbours([registry]))) == (set() if name == REGISTRY else {(5050, "tcp")})


@pytest.mark.parametrize(("busy", "verdict"), [(True, Verdict.FAIL), (False, Verdict.WARN)])
def test_a_port_of_another_environment_stops_create_only_while_it_is_in_use(
    shop: Environment, containers: list[Container], monkeypatch: pytest.MonkeyPatch, busy: bool, verdict: Verdict
) -> None:
    others = port_list.others_ports(shop, neighbours(_as_other(containers, "other", "/none", shift=0)))
    others[8081, "tcp"] = others[8080, "tcp"]
    monkeypatch.setattr(preflight, "is_busy", lambda _, port, *__: busy and port == 8080)

    check = preflight.check_ports(shop.ports, others=others)[0]

    assert check.verdict is verdict
    assert "an environment (cluster other, running)" in check.detail
    assert check.fix.startswith("HTTP_PORT=808")
    assert not check.fix.startswith(("HTTP_PORT=8080", "HTTP_PORT=8081"))


def test_tcp_and_udp_of_one_number_are_two_ports(
    shop: Environment, containers: list[Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    udp = [
        replace(container, published=tuple(port._replace(protocol="udp") for port in container.published))
        for container in _as_other(containers, "other", "/none", shift=0)
    ]
    monkeypatch.setattr(port_list, "k3d_containers", lambda: udp)
    monkeypatch.setattr(port_list, "is_busy", lambda _, __, protocol: protocol == "udp")
    monkeypatch.setattr(preflight, "is_busy", lambda *_: False)

    assert {port.owner for port in port_list.gather(shop).own} == {"nobody"}
    checks = preflight.check_ports(shop.ports, others=port_list.others_ports(shop, neighbours(udp)))
    assert {check.verdict for check in checks} == {Verdict.OK}

    http, *rest = shop.ports
    own = replace(shop, ports=(replace(http, protocol="udp"), *rest))
    assert port_list.gather(own).own[0].owner == "an environment (cluster other, running)"
