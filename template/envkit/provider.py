"""Whether this environment makes its cluster or uses one that is there: the table `[cluster]` of `environment.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from envkit.paths import ROOT


def is_existing(root: Path = ROOT) -> bool:
    """Whether the cluster is there already; False also where the file cannot be read, which others complain of."""
    try:
        settings = tomllib.loads((root / "environment.toml").read_text(encoding="utf-8"))
        return bool(settings["cluster"]["provider"] == "existing")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return False
