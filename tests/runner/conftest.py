"""A repository with the files of the runner image, and stand-ins for what it downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_tools import machine, web
from stand_in_releases import Releases
from support import ROOT

__all__ = ["machine", "web"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files that the runner image is described by, as they are in a generated repository."""
    root = tmp_path / "repo"
    shutil.copytree(ROOT / "runner", root / "runner", ignore=shutil.ignore_patterns("*.tgz"))
    (root / "environment.toml").write_text('project = "shop"\n\n[runner]\nimage = "shop-runners"\n', encoding="utf-8")
    return root


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    """A server of stand-ins, which every download goes to."""
    with Releases() as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        yield server
