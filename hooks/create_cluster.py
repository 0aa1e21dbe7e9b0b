"""Creates the cluster right after generation, for an answer `create_cluster: yes`.

    python create_cluster.py DESTINATION

Runs in the new repository and calls that repository's own code; whatever goes wrong there is said and
costs nothing: Copier deletes what it generated when a task fails, so this one never does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

STEPS = (("install", "--only", "create"), ("create",))


def is_update_copy(folder: Path) -> bool:
    """Whether Copier made this folder only to compare two versions during an update.

    The condition in copier.yml already says so; this guards against a future Copier that reports
    another operation there. The prefix is the one of Copier 9 (`_main.py`).
    """
    return folder.name.startswith("copier._main.")


def failure(repository: Path) -> str | None:
    """Create the cluster; returns why that did not work, or None when it did."""
    program = repository / "bin" / "envkit"
    # There may be no just on this machine; what it says next has to work.
    environment = os.environ | {"ENVKIT_JUST": "bin/just"}
    try:
        for step in STEPS:
            status = subprocess.run([program, *step], cwd=repository, env=environment, check=False).returncode
            if status:
                return f"`bin/envkit {' '.join(step)}` ended with exit status {status}; its output is above."
    except KeyboardInterrupt:
        return "It was interrupted."
    except OSError as error:
        return f"{program} could not be run: {error.strerror}."
    return None


def main(arguments: list[str] | None = None) -> int:
    """Create the cluster of the repository in the current directory; returns 0, whatever happens."""
    parser = argparse.ArgumentParser(description="Creates the cluster right after generation: Copier runs this.")
    parser.add_argument("destination", help="the repository, as it is called where Copier was started")
    destination = parser.parse_args(arguments).destination
    repository = Path.cwd()
    if is_update_copy(repository):
        return 0
    cause = failure(repository)
    if cause:
        print(
            f"\nThe cluster was not created. {cause}\nThe repository is complete. Next:\n\n"
            f"    cd {shlex.quote(destination)} && bin/just create\n",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
