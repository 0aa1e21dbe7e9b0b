"""The mark of a completed creation, kept in the server's container and so exactly as long-lived as the cluster.

Without it, a cluster that carries envkit's label is the rest of an interrupted creation and holds nothing of anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from envkit.engine import read_file, write_file
from envkit.environment import canonical_json

_PATH = "/etc/envkit-created.json"


def read_marker(server: str) -> dict[str, Any] | None:
    """The configuration that the cluster of this server was made from; None where its creation was not completed."""
    content = read_file(server, _PATH)
    try:
        value = json.loads(content) if content else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_marker(server: str, configuration: Mapping[str, Any]) -> None:
    """Notes that the creation is complete, and from which configuration; an empty one means that it is not known."""
    write_file(server, _PATH, canonical_json(configuration).encode())
