"""Whose images a registry's volume holds: the folders of the environments, noted in the volume itself.

Docker knows no owner of a volume. Several environments may use one (a shared registry, or two clusters of one
project), also while none of their containers is there, so a note has to live exactly as long as the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envkit.engine import Container, docker, inspect, read_folder, remove_containers, write_file
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.paths import ROOT, folder_id, is_same_folder
from envkit.registry import DATA_FOLDER

_NOTES = f"{DATA_FOLDER}/envkit-users"


def note_user(environment: Environment, root: Path = ROOT) -> None:
    """Notes that this environment keeps images in its registry's volume; the registry's container has to be there."""
    if environment.registry.volume:
        _write(environment.registry.name, root, str(root))


def withdraw(environment: Environment, registry: Container | None, root: Path = ROOT) -> list[Path]:
    """Takes the note of this environment back; returns the folders of the others that have one.

    An environment whose folder is gone, or whose `k3d.yaml` no longer names the volume, does not count.

    Args:
        environment: The environment that gives the volume up.
        registry: The registry's container, where it is there.
        root: The environment's folder.

    Raises UserError where there is a volume and no image with which Docker could look into it.
    """
    volume = environment.registry.volume
    if not volume or not inspect("volume", volume):
        return []
    with _holder(environment, registry) as container:
        _write(container, root, "")
        folders = {Path(note.decode()) for note in read_folder(container, _NOTES) if note}
    return sorted(folder for folder in folders if not is_same_folder(folder, root) and _uses(folder, volume))


def _write(container: str, root: Path, text: str) -> None:
    write_file(container, f"{_NOTES}/{folder_id(root)}", text.encode(), below=DATA_FOLDER)


def _uses(folder: Path, volume: str) -> bool:
    try:
        return f"{volume}:" in (folder / "k3d.yaml").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, UnicodeDecodeError):  # somebody else's home folder: their images stay
        return True


@contextmanager
def _holder(environment: Environment, registry: Container | None) -> Iterator[str]:
    """A container that has the volume: the registry's, or one that is made for the moment and never started."""
    if registry:
        yield registry.name
        return
    container = _unstarted(environment)
    try:
        yield container
    finally:
        remove_containers([container])


def _unstarted(environment: Environment) -> str:
    volume = environment.registry.volume
    for image in (environment.registry.image, environment.image):
        try:
            return docker("create", "--pull=never", f"--volume={volume}:{DATA_FOLDER}", image).strip()
        except CommandFailedError as error:
            reason = error.output
    raise UserError(
        f"Who else keeps images in the volume {volume} cannot be seen.",
        f"No image of this environment is in Docker to look into it with. {reason}",
        f"docker volume rm {volume}   (removes every image in it, whoever pushed it)",
    )
