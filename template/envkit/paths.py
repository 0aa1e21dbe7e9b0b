"""Where things lie: in this repository and on the developer's machine."""

from __future__ import annotations

import hashlib
import os
import shlex
from contextlib import suppress
from pathlib import Path

from envkit.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
"""The environment repository: the folder that holds `k3d.yaml`."""

TOOLS_BIN = ROOT / ".tools" / "bin"
"""Links to the pinned tools that `install` brought; first on the PATH of every tool that is called."""


_LONGEST, _LONGEST_PATH = 255, 1000
"""Bytes in the name of a file, without its folders and with them; macOS takes the fewest."""


def just_command() -> str:
    """How the recipes are called on this machine: `just`, or `bin/just` where just is not installed."""
    return shlex.quote(os.environ.get("ENVKIT_JUST", "just"))


def path_of_argument(text: str) -> Path:
    """The file that an argument names, absolute: a relative path counts from where the person called just.

    just starts every recipe in the repository's root; those to which that matters set `ENVKIT_CALLED_FROM` besides.
    """
    return Path(os.path.realpath(Path(os.environ.get("ENVKIT_CALLED_FROM", ""), text)))


def file_named(name: str, setting: str) -> Path:
    """The path that a setting names, with the home folder in place of `~`.

    Args:
        name: What the setting says.
        setting: Where it stands, for the error.

    Raises UserError where that can be the name of no file; what belongs into a file, as a key, is not shown.
    """
    if "-----BEGIN" in name:
        raise UserError(
            f"{setting} holds what belongs into a file: a key or a certificate.",
            "It should be the file's name. What it holds is not shown.",
            f"Write that into a file that Git ignores, such as one called .pem, and its name into {setting}.",
        )
    why, shown = "A zero byte is in it.", name
    if len(name) > _LONGEST_PATH or max(len(part) for part in os.fsencode(name).split(b"/")) > _LONGEST:
        why, shown = "It is too long.", f"{name[:16]}..."
    elif "\0" not in name:
        with suppress(RuntimeError):
            return Path(name).expanduser()
        why = f"There is no user with the home folder {name.partition('/')[0]}."
    raise UserError(f"{setting} is the name of no file: {shown!r}.", why, f"Correct {setting}.")


def is_environment(folder: Path) -> bool:
    """Whether an environment is in a folder, and so has not moved away; yes as well where others may not look."""
    try:
        # Unlike `exists`, which lets this error through, or from Python 3.14 on takes the file for missing.
        (folder / "k3d.yaml").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a folder of somebody else's
        return True
    return True


def is_same_folder(folder: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, as through a symlink, or on macOS with other letters in capitals."""
    if folder == other:
        return True
    try:
        return folder.samefile(other)
    except OSError:  # one is not there, or is somebody else's
        return False


def folder_id(folder: Path) -> str:
    """Stands for a folder in the names of files that are kept for it; 16 hexadecimal digits."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def state_dir() -> Path:
    """The per-user folder for locks and remembered facts; made if it is missing.

    `ENVKIT_STATE_DIR` moves it (tests use that). Raises UserError where it cannot be made, as in a read-only home.
    """
    if override := os.environ.get("ENVKIT_STATE_DIR"):
        path = Path(override)
    else:
        from platformdirs import user_state_path

        path = user_state_path("envkit", appauthor=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be made.",
            f"It holds locks and what is remembered between calls. {error}",
            "Name a folder that you may write to: export ENVKIT_STATE_DIR=/path/to/folder",
        ) from error
    return path
