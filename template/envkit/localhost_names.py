"""Whether names under `localhost` resolve on this machine, and how to make them."""

from __future__ import annotations

import subprocess
import sys

HOSTS_FILE = "/etc/hosts"

_QUESTION = """
import socket, sys
found = {answer[4][0] for answer in socket.getaddrinfo(sys.argv[1], None)}
sys.exit(not found & {"127.0.0.1", "::1"})
"""


def resolves(name: str, *, timeout: float = 3.0) -> bool:
    """Whether an ordinary program on this machine gets a loopback address for the name.

    Browsers and curl answer for `*.localhost` themselves; Docker, Buildah and most others ask the C
    library. That is asked here, in a process of its own: a resolver without a network can hang for
    much longer than `timeout` (seconds), and the C library of a running process may not notice that
    a resolver was installed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _QUESTION, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def hosts_line(name: str) -> str:
    """The line for /etc/hosts that makes the name resolve."""
    return f"127.0.0.1 {name}"


def hosts_command(name: str) -> str:
    """The command that appends `hosts_line` to /etc/hosts."""
    return f"echo '{hosts_line(name)}' | sudo tee -a {HOSTS_FILE}"
