"""What Git says, where it may refuse or be missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git_output(folder: Path, *arguments: str) -> bytes | None:
    """What a Git command prints in a folder; None where it fails or Git is missing. It never asks for a password."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout
