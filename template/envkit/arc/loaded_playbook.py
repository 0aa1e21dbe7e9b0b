"""`ansible-playbook`, loaded before the variables of the playbook are known: that takes half of its start.

For the Python of `.venv-ansible`, which has nothing of envkit: the arguments are those of `ansible-playbook`, and the
variables are expected on standard input, as JSON. Without them nothing is done.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any


def main() -> Any:
    """Runs the program as its own script would; returns what that ends with."""
    (script,) = entry_points(group="console_scripts", name="ansible-playbook")
    program = script.load()
    variables = sys.stdin.read()
    if not variables:
        return 1
    sys.argv = [script.name, *sys.argv[1:], "--extra-vars", variables]
    return program()


if __name__ == "__main__":
    sys.exit(main())
