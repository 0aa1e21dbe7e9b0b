"""Files that are written in one step and read by their owner only."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from envkit.errors import UserError
from envkit.wording import quoted


def write_private(path: Path, text: str, *, owner_of: Path | None = None) -> bool:
    """Writes a file that only its owner may read, in one step; returns whether anything changed.

    A symlink stays one: its target is replaced. Where root writes, the file stays its owner's.

    Args:
        path: The file.
        text: What it is to hold.
        owner_of: A file whose owner a new one gets, too, where root writes.

    Raises UserError where the file system refuses, and for what is no regular file, as a device.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise UserError(
                f"{path} cannot be written.",
                "It is not a regular file.",
                f"ls -ld {quoted(path)}   (name another file)",
            )
        owner = _owner(target) or (_owner(owner_of) if owner_of else None)
        if target.exists() and target.read_bytes() == text.encode():
            if is_private(target):
                return False
            target.chmod(0o600)
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                if owner and os.geteuid() == 0:
                    with suppress(OSError):  # as in a container whose root has no such user
                        os.fchown(file.fileno(), *owner)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"{path} cannot be written.",
            str(error),
            f"ls -ld {quoted(path.parent)} {quoted(path)}   (it must be yours and writable)",
        ) from error
    return True


def is_private(path: Path) -> bool:
    """Whether others are kept from a file as far as its file system can do that. Raises OSError."""
    return not is_open_to_others(path) or not keeps_permissions(path.parent)


def is_open_to_others(path: Path) -> bool:
    """Whether a file's permissions let others read or write it. Raises OSError."""
    return bool(path.stat().st_mode & 0o077)


def keeps_permissions(folder: Path) -> bool:
    """Whether a file of a folder can be closed to others.

    On a drive of Windows in WSL it cannot: all files there are open to all, and `chmod` changes nothing
    (https://learn.microsoft.com/windows/wsl/file-permissions).
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:  # made with mode 0600
            return not is_open_to_others(Path(file.name))
    except OSError:  # where nothing can be written, nothing speaks against it
        return True


def how_to_close(path: Path) -> str:
    """What keeps others from a file that is open to them."""
    if keeps_permissions(path.parent):
        return f"chmod 600 {quoted(path)}"
    return "Move the repository to a file system that keeps permissions (in WSL: below /home, not below /mnt)"


def _owner(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid
