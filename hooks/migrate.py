"""Brings along, once an update has merged the files, what Copier cannot know: files that have moved.

Runs in the updated repository on every update, whatever the versions are called, because a template may have no tags.
Each migration finds out by itself whether it is needed, and may be run any number of times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from migrations import mise_toml
from migrations.moved_file import Update
from update_files import ABORT

MIGRATIONS: tuple[Callable[[Update], str], ...] = (mise_toml.migrate,)
"""In the order in which they came to be."""

MOVED = {mise_toml.OLD: mise_toml.NEW}
"""Every file that is elsewhere now."""


def main() -> int:
    """Run every migration; returns 1 where one could not be made, and the others are made."""
    previous = os.environ.get("VERSION_FROM")
    if previous is None:
        print(
            "VERSION_FROM is not set. This is a step of an update, and Copier runs it: bin/just update", file=sys.stderr
        )
        return 2
    update = Update(repository=Path.cwd(), template=Path(__file__).resolve().parent.parent, previous=previous)
    status = 0
    for migration in MIGRATIONS:
        try:
            done = migration(update)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            status = 1
            done = (
                f"This step of the update could not be made: {migration.__doc__}\n"
                f"    {error}\n"
                f"Go back with: {ABORT}\nThen put right what it says, and update again."
            )
        if done:
            print(f"\n{done}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
