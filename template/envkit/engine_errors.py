"""What Docker's command says where there is no engine to answer it, and what starts that one.

Only asked for once something has failed, so that it costs a working engine nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from envkit.errors import TIMED_OUT, CommandFailedError, UserError

_ANSWER = "error response from daemon"
"""The engine's own words: it is reached, whatever it could not do."""

_STOPPED_DESKTOP = "docker.raw.sock"
"""In what Docker Desktop answers in place of an engine that does not run."""

_UNREACHABLE = re.compile(
    r"cannot connect to the docker daemon|failed to connect to the docker api|error during connect"
    r"|is the docker daemon running"
)
_FORBIDDEN = re.compile(r"permission denied while trying to connect to the docker")
_NO_CONTEXT = re.compile(r'context "([^"]+)"(?:: context| is) not found')
_SOCKET_IN_HTTP = re.compile(r"http://(%2F[^/\s]+)")
_ENDPOINT = re.compile(r"\b(?:unix|tcp|ssh|https?)://[^\s\"';]+|\bdial tcp\b")
_REMOTE = ("tcp:", "ssh:", "http", "dial tcp")
_SYSTEM_SOCKETS = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
_STARTS = (
    (r"/run/user/\d+/docker\.sock$", "systemctl --user start docker"),
    (r"/\.docker/desktop/", "systemctl --user start docker-desktop"),
    (r"/\.colima/", "colima start"),
    (r"/\.orbstack/", "orb start"),
    (r"/\.rd/", "rdctl start"),
)
"""What starts the engine of a socket that is not the system's."""

_OTHER_ENGINE = "docker context ls   (which engine is meant? the variable DOCKER_HOST goes before a context)"


def explained(error: CommandFailedError, verb: str) -> UserError:
    """The error, or a clearer one where it is about the engine as a whole.

    Args:
        error: How the command ended.
        verb: The command's first word.
    """
    text = error.output.lower()
    if error.status == TIMED_OUT:
        # Without the rest of the command, which is for programs.
        why = f"`docker {verb}` did not end in time: the engine hangs, or the machine is very busy."
        start = _how_to_start(os.environ.get("DOCKER_HOST", ""))
        return UserError("Docker does not answer.", why, f"docker ps   (if that hangs too: {start})")
    if _ANSWER in text and _STOPPED_DESKTOP not in text:
        return error
    if missing := _NO_CONTEXT.search(error.output):
        forget = "unset DOCKER_CONTEXT" if os.environ.get("DOCKER_CONTEXT") else "docker context use default"
        return UserError(
            f"Docker has no context {missing[1]}, which it is to use.",
            error.output,
            f"docker context ls   (which are there? to use the usual one: {forget})",
        )
    if _FORBIDDEN.search(text):
        what = "Docker is running, but this user may not use it."
        return UserError(what, error.output, _how_to_be_allowed(_endpoint(error.output)))
    if _UNREACHABLE.search(text) or _STOPPED_DESKTOP in text:
        return UserError("Docker is not reachable.", error.output, _how_to_start(_endpoint(error.output)))
    return error


def _endpoint(output: str) -> str:
    """What the message says of the engine's address, e.g. `unix:///run/docker.sock`; empty where that is nothing."""
    if socket := _SOCKET_IN_HTTP.search(output):
        return f"unix://{socket[1].replace('%2F', '/')}"
    found = _ENDPOINT.search(output)
    return found[0].rstrip(".,:") if found else ""


def _how_to_be_allowed(endpoint: str) -> str:
    # Nobody but its owner gets at a socket in a home folder, and on macOS there is no group of Docker's.
    if sys.platform == "darwin" or endpoint not in ("", *_SYSTEM_SOCKETS):
        return "docker context ls   (an engine of your own: docker context use NAME)"
    return 'sudo usermod -aG docker "$USER"   (then log out and in again)'


def _how_to_start(endpoint: str) -> str:
    if endpoint.startswith(_REMOTE):
        return _OTHER_ENGINE
    if start := next((start for pattern, start in _STARTS if re.search(pattern, endpoint)), ""):
        return start
    if sys.platform == "darwin":
        return "open -a Docker   (or: colima start)"
    if endpoint not in ("", *_SYSTEM_SOCKETS):
        return _OTHER_ENGINE
    if _is_wsl():
        return "Start Docker Desktop on Windows with its WSL integration, or: sudo service docker start"
    return "sudo systemctl start docker" if shutil.which("systemctl") else "sudo service docker start"


def _is_wsl() -> bool:
    return "microsoft" in Path("/proc/sys/kernel/osrelease").read_text(encoding="utf-8").lower()
