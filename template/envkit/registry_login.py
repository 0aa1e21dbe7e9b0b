"""What the person has told `docker login`: the names and passwords of registries, read from Docker's own configuration.

https://docs.docker.com/reference/cli/docker/login/#credential-stores says how it is kept.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from envkit.mirrors import DOCKER_HUB
from envkit.process import find_tool

_HUB_KEY = "https://index.docker.io/v1/"
_SECONDS = 20


class Login(NamedTuple):
    """A name and its password for a registry."""

    name: str
    password: str


def login_of(host: str) -> Login | None:
    """What is kept for a registry's host; None where nothing is, or where it cannot be read."""
    key = _HUB_KEY if host == DOCKER_HUB else host
    config = _config()
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper and (found := _from_helper(str(helper), key)):
        return found
    kept = (config.get("auths") or {}).get(key) or {}
    try:
        name, colon, password = base64.b64decode(kept.get("auth") or "").decode().partition(":")
    except ValueError:  # it is not in Base64, or what it stands for is no text
        return None
    return Login(name, password) if colon else None


def _config() -> dict[str, Any]:
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _from_helper(helper: str, key: str) -> Login | None:
    program = find_tool(f"docker-credential-{helper}")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    name, password = found.get("Username"), found.get("Secret")
    # A token of an identity provider has another name; no registry takes it as a password.
    return Login(name, password) if name and password and name != "<token>" else None
