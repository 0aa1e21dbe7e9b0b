"""Files that are written in one step and read by their owner only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from envkit.errors import UserError


def write_private(path: Path, text: str) -> bool:
    """Writes a file that only its owner may read, in one step; returns whether anything changed.

    A symlink stays one: its target is replaced. Raises UserError where the file system refuses.
    """
    try:
        target = path.resolve()
        if target.exists() and target.read_bytes() == text.encode():
            if target.stat().st_mode & 0o077:
                target.chmod(0o600)
                return True
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"{path} cannot be written.", str(error), f"ls -ld {path.parent} {path}   (it must be yours and writable)"
        ) from error
    return True
