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
            if target.stat().st_mode & 0o077:
                target.chmod(0o600)
                return True
            return False
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


def _owner(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid
