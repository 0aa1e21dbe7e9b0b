"""Whose images a registry's volume holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_tools import Machine
from samples import healthy, sample_environment, write_repo

from envkit.engine import Container
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.volume_users import note_user, withdraw


@pytest.fixture
def volume(machine: Machine) -> Path:
    """What stands for the volume: every container has it, and an unstarted one is made of any image but one."""
    folder = machine.folder / "volume"
    (folder / "var/lib/registry").mkdir(parents=True)
    for tool in ("tar", "ls", "cat"):
        if not (machine.bin / tool).exists():
            (machine.bin / tool).symlink_to(str(shutil.which(tool, path="/usr/bin:/bin")))
    machine.add(
        "docker",
        f"""case "$1 $2" in
"volume inspect") [ "$3" = gone ] && {{ echo "no such volume" >&2; exit 1; }}; echo '[{{}}]';;
"create --pull=never") case "$*" in *k3s*) echo made;; *) echo "No such image" >&2; exit 1;; esac;;
"cp -") exec tar -x -C {folder}/${{3#*:}};;
cp\\ *)
  [ -d {folder}/${{2#*:}} ] || {{ echo "Could not find the file" >&2; exit 1; }}
  cd {folder}/${{2#*:}}/.. && exec tar -c ${{2##*/}};;
esac""",
    )
    return folder


@pytest.fixture
def shop(machine: Machine) -> Environment:
    return sample_environment(machine.folder / "shop")


@pytest.fixture
def registry(shop: Environment) -> Container:
    container = healthy(shop).registry
    assert container
    return container


def test_the_notes_of_others_are_seen_and_the_own_one_is_taken_back(
    machine: Machine, volume: Path, shop: Environment, registry: Container
) -> None:
    own, other = machine.folder / "shop", write_repo(machine.folder / "other")
    note_user(shop, own)
    note_user(shop, other)
    assert len(list((volume / "var/lib/registry/envkit-users").iterdir())) == 2

    assert withdraw(shop, registry, own) == [other]
    assert withdraw(shop, registry, other) == []


def test_an_environment_that_is_gone_or_has_another_registry_does_not_count(
    machine: Machine, volume: Path, shop: Environment, registry: Container
) -> None:
    assert volume.exists()
    moved = write_repo(machine.folder / "moved")
    for folder in (moved, machine.folder / "gone", machine.folder / "gone" / "k3d.yaml"):
        note_user(shop, folder)
    (moved / "k3d.yaml").write_text("registries: {create: {volumes: [k3d-shop-registry-2:/var/lib/registry]}}")

    assert withdraw(shop, registry, machine.folder / "shop") == []


def test_another_path_to_the_same_repository_does_not_count(
    machine: Machine, volume: Path, shop: Environment, registry: Container
) -> None:
    assert volume.exists()
    (machine.folder / "old place").symlink_to(machine.folder / "shop")
    note_user(shop, machine.folder / "old place")

    assert withdraw(shop, registry, machine.folder / "shop") == []


def test_a_folder_that_may_not_be_read_counts(
    machine: Machine, volume: Path, shop: Environment, registry: Container
) -> None:
    assert volume.exists()
    other = write_repo(machine.folder / "other")
    (other / "k3d.yaml").write_bytes(b"\xff")
    note_user(shop, other)

    assert withdraw(shop, registry, machine.folder / "shop") == [other]


def test_without_a_registry_a_container_is_made_for_the_moment_and_never_started(
    machine: Machine, volume: Path, shop: Environment
) -> None:
    assert volume.exists()
    note_user(shop, write_repo(machine.folder / "other"))
    machine.forget_calls()

    assert withdraw(shop, None, machine.folder / "shop") == [machine.folder / "other"]

    verbs = [call.split()[1] for call in machine.calls]
    assert verbs == ["volume", "create", "create", "cp", "cp", "rm"]
    assert machine.calls[-1] == "docker rm --force --volumes made"


def test_without_any_image_the_volume_stays_and_a_person_decides(machine: Machine, shop: Environment) -> None:
    machine.add("docker", "[ $1 = volume ] && { echo '[{}]'; exit; }; echo 'No such image' >&2; exit 1")

    with pytest.raises(UserError, match="cannot be seen") as caught:
        withdraw(shop, None, machine.folder / "shop")

    assert caught.value.next_step.startswith("docker volume rm k3d-shop-registry")


def test_a_volume_that_cannot_be_looked_into_is_not_given_up(
    machine: Machine, shop: Environment, registry: Container
) -> None:
    machine.add(
        "docker",
        """case "$1 $2" in
"volume inspect") echo '[{}]';;
"cp -") exec cat >/dev/null;;
*) echo 'Error response from daemon: input/output error' >&2; exit 1;;
esac""",
    )

    with pytest.raises(UserError, match="cannot be read from the container"):
        withdraw(shop, registry, machine.folder / "shop")


def test_where_there_is_no_volume_nobody_uses_it(machine: Machine, shop: Environment) -> None:
    machine.add("docker", "echo 'no such volume' >&2; exit 1")

    assert withdraw(shop, None) == []
    assert len(machine.calls) == 1
