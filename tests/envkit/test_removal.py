from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from fake_tools import Machine
from samples import KUBECONFIG, sample_environment
from support import keep_no_permissions

from envkit import cluster_kubeconfigs, removal
from envkit.cluster_kubeconfigs import kubeconfigs_are_current, remove_kubeconfigs, write_kubeconfigs
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.progress import Steps
from envkit.session import Session


@pytest.fixture
def shop(tmp_path: Path) -> Environment:
    return sample_environment(tmp_path / "shop")


@pytest.fixture
def session(machine: Machine, shop: Environment, monkeypatch: pytest.MonkeyPatch) -> Session:
    assert machine.calls == []
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(cluster_kubeconfigs, "capture", lambda *_, **__: f"---\n{KUBECONFIG}")
    return Session(shop, Steps(io.StringIO()), -1)


# -- volumes, networks, images --------------------------------------------------------------------------------------


def test_a_volume_that_is_not_there_is_not_removed(machine: Machine) -> None:
    machine.add("docker", "[ $2 = inspect ] && { echo 'no such volume' >&2; exit 1; }; exit 0")

    assert removal.remove_volume("data") == []
    assert len(machine.calls) == 1


def test_a_volume_is_removed(machine: Machine) -> None:
    machine.add("docker", "[ $2 = inspect ] && echo '[{}]'; exit 0")

    assert removal.remove_volume("data") == ["volume data"]
    assert machine.calls[-1] == "docker volume rm data"


def test_a_volume_that_is_in_use_is_an_error_with_a_next_step(machine: Machine) -> None:
    machine.add("docker", "[ $2 = inspect ] && { echo '[{}]'; exit; }; echo 'volume is in use' >&2; exit 1")

    with pytest.raises(CommandFailedError) as caught:
        removal.remove_volume("data")

    assert caught.value.output == "volume is in use"
    assert caught.value.next_step == "just doctor"


@pytest.mark.parametrize(("attached", "removed"), [("", ["network k3d-shop"]), ("devcontainer", [])])
def test_a_network_stays_while_somebody_elses_container_is_attached(
    machine: Machine, session: Session, attached: str, removed: list[str]
) -> None:
    machine.add("docker", f'case "$*" in *inspect*) echo "[{{}}]";; *network=k3d-shop*) echo {attached};; esac')

    assert removal.remove_network(session) == removed
    assert ("docker network rm k3d-shop" in machine.calls) is bool(removed)


def test_a_network_that_is_not_there_is_not_removed(machine: Machine, session: Session) -> None:
    machine.add("docker", "echo 'no such network' >&2; exit 1")

    assert removal.remove_network(session) == []
    assert len(machine.calls) == 1


def test_a_shared_registry_leaves_the_network_before_it_goes(machine: Machine, session: Session) -> None:
    machine.add(
        "docker", r"""case "$*" in *inspect*) echo "[{}]";; *network=k3d-shop*) printf 'reg\tshared\n';; esac"""
    )

    assert removal.remove_network(session) == ["network k3d-shop"]
    assert machine.calls[-2:] == [
        "docker network disconnect --force k3d-shop reg",
        "docker network rm k3d-shop",
    ]


def test_only_names_of_this_environments_registry_are_removed(machine: Machine, session: Session) -> None:
    own = ["localhost:5050/app:1", "k3d-shop-registry.localhost:5050/team/app:2", "k3d-shop-registry:5000/app:3"]
    others = [
        "app:1",
        "localhost:5051/app:1",
        "localhost:5050/app:<none>",
        "<none>:<none>",
        "ghcr.io/localhost:5050/a:1",
    ]
    machine.add("docker", f"[ $2 = ls ] && printf '%s\\n' {' '.join(repr(name) for name in [*own, *others])}; exit 0")

    assert removal.remove_local_images(session) == [f"image {name}" for name in own]
    assert machine.calls[1:] == [f"docker rmi {name}" for name in own]


def test_an_image_in_use_stays_and_keeps_no_other_from_being_removed(machine: Machine, session: Session) -> None:
    machine.add(
        "docker",
        "case $2 in\n"
        "ls) printf '%s\\n' localhost:5050/used:1 localhost:5050/free:1 ;;\n"
        "*used:1) echo 'conflict: a container uses it' >&2; exit 1 ;;\n"
        "esac",
    )

    assert removal.remove_local_images(session) == ["image localhost:5050/free:1"]


def test_no_images_are_no_call(machine: Machine, session: Session) -> None:
    machine.add("docker", "exit 0")

    assert removal.remove_local_images(session) == []
    assert len(machine.calls) == 1


# -- kubeconfigs --------------------------------------------------------------------------------------------------


def test_all_three_kubeconfigs_are_written_once_and_removed_together(session: Session) -> None:
    paths = session.kubeconfigs
    everything = [str(paths.host), str(paths.devcontainer), str(paths.merged)]
    assert not kubeconfigs_are_current(session)

    assert write_kubeconfigs(session) == everything
    assert kubeconfigs_are_current(session)
    assert write_kubeconfigs(session) == []
    assert paths.host.read_text(encoding="utf-8") == KUBECONFIG
    assert "server: https://k3d-shop-serverlb:6443" in paths.devcontainer.read_text(encoding="utf-8")
    assert [path.stat().st_mode & 0o777 for path in (paths.host, paths.devcontainer, paths.merged)] == [0o600] * 3

    assert remove_kubeconfigs(session) == [*everything[:2], f"context k3d-shop in {paths.merged}"]
    assert remove_kubeconfigs(session) == []


def test_kubeconfigs_on_a_file_system_without_permissions_are_written_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_no_permissions(monkeypatch, session.kubeconfigs.host.parent)

    assert write_kubeconfigs(session)
    assert kubeconfigs_are_current(session)
    assert write_kubeconfigs(session) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, change) for name in ("host", "devcontainer", "merged") for change in ("removed", "emptied")),
        *((name, change) for name in ("host", "devcontainer") for change in ("binary", "readable by others")),
    ],
)
def test_a_kubeconfig_that_is_not_right_is_noticed_and_put_right(session: Session, name: str, change: str) -> None:
    write_kubeconfigs(session)
    path: Path = getattr(session.kubeconfigs, name)
    if change == "removed":
        path.unlink()
    elif change == "readable by others":
        path.chmod(0o644)
    else:
        path.write_bytes(b"" if change == "emptied" else b"\xff")

    assert not kubeconfigs_are_current(session)
    assert write_kubeconfigs(session) == [str(path)]
    assert kubeconfigs_are_current(session)


@pytest.mark.parametrize("name", ["k3d-shop.yaml", "k3d-shop.devcontainer.yaml"])
def test_nothing_is_merged_where_kubeconfig_names_one_of_the_clusters_own(
    session: Session, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(session.kubeconfigs.host.with_name(name)))

    assert len(write_kubeconfigs(session)) == 2
    assert write_kubeconfigs(session) == []
    assert kubeconfigs_are_current(session)
    assert said(session) == ""


def said(session: Session) -> str:
    """What was said between the steps."""
    stream = session.steps._stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


OTHER = KUBECONFIG.replace("k3d-shop", "k3d-cart").replace("6550", "6551")


def _name(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> Path:
    """Makes a file, and lets `$KUBECONFIG` name it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def _is_left_alone(session: Session, path: Path, why: str) -> None:
    before = path.read_bytes()

    assert write_kubeconfigs(session, switch=True) == [
        str(session.kubeconfigs.host),
        str(session.kubeconfigs.devcontainer),
    ]
    assert kubeconfigs_are_current(session)  # or it would be said at each `create`
    assert said(session) == (
        f"The context k3d-shop was not put into {path}, because {why}."
        f" To use it here: export KUBECONFIG={session.kubeconfigs.host}\n"
    )
    assert f"context k3d-shop in {path}" not in remove_kubeconfigs(session)
    assert path.read_bytes() == before
    assert not list(path.resolve().parent.glob("*backup*"))


@pytest.mark.parametrize("name", ["k3d-cart.yaml", "k3d-cart.devcontainer.yaml"])
def test_another_environments_own_file_gets_no_entries(
    session: Session, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = _name(monkeypatch, session.kubeconfigs.host.with_name(name), OTHER)

    _is_left_alone(session, path, "it is the own file of the environment cart")


def test_another_environments_own_file_is_known_behind_links(
    session: Session, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _name(monkeypatch, machine.folder / "dotfiles" / "cart.yaml", OTHER)
    session.kubeconfigs.host.parent.mkdir()
    session.kubeconfigs.host.with_name("k3d-cart.yaml").symlink_to(path)
    link = machine.folder / "link"
    link.symlink_to(path)
    monkeypatch.setenv("KUBECONFIG", str(link))

    _is_left_alone(session, link, "it is the own file of the environment cart")


def test_a_developers_file_with_the_entries_of_another_environment_gets_these_too(session: Session) -> None:
    folder = session.kubeconfigs.host.parent
    folder.mkdir()
    for name in ("k3d-cart.yaml", "config"):
        (folder / name).write_text(OTHER, encoding="utf-8")

    assert str(folder / "config") in write_kubeconfigs(session)
    assert said(session) == ""


def test_a_link_to_itself_gets_no_entries(session: Session, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    link = machine.folder / "link"
    link.symlink_to(link)
    monkeypatch.setenv("KUBECONFIG", str(link))

    with pytest.raises(UserError, match=f"{link} cannot be"):
        write_kubeconfigs(session)


@pytest.mark.parametrize("text", ["", OTHER, OTHER.replace("admin@k3d-cart", "jo").replace("k3d-cart", "k3d-all")])
def test_a_developers_file_of_such_a_name_gets_the_entries(
    session: Session, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = _name(monkeypatch, session.kubeconfigs.host.with_name("k3d-all.yaml"), text)

    assert str(path) in write_kubeconfigs(session)
    assert said(session) == ""
    assert f"context k3d-shop in {path}" in remove_kubeconfigs(session)


def test_a_file_that_is_read_only_stays_as_it_is(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _name(monkeypatch, session.kubeconfigs.host.with_name("config"), OTHER)
    path.chmod(0o444)

    _is_left_alone(session, path, "it is read-only")


def test_a_file_that_only_others_may_write_to_stays_as_it_is(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _name(monkeypatch, session.kubeconfigs.host.with_name("config"), OTHER)
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)

    _is_left_alone(session, path, "this user may not write to it")


def test_entries_that_a_read_only_file_has_are_mentioned_where_they_stay(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _name(monkeypatch, session.kubeconfigs.host.with_name("config"), KUBECONFIG)
    path.chmod(0o444)

    write_kubeconfigs(session)
    assert said(session) == ""
    remove_kubeconfigs(session)
    assert said(session) == f"The context k3d-shop stays in {path}, because it is read-only.\n"


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_regular_file_gets_no_entries(
    session: Session, machine: Machine, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = machine.folder / "guard"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(machine.folder / "pipe")
        path.symlink_to(machine.folder / "pipe")
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("has_current_entries", "holds_cluster", "merge"):  # who reads from a pipe may wait for ever
        monkeypatch.setattr(cluster_kubeconfigs, name, lambda *_, **__: pytest.fail("read it"))

    assert len(write_kubeconfigs(session)) == 2
    assert kubeconfigs_are_current(session)
    assert f"not put into {path}, because it is not a regular file." in said(session)
    assert len(remove_kubeconfigs(session)) == 2
    assert not path.is_file()
