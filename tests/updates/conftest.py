"""The template with its history, which updates need."""

from __future__ import annotations

from pathlib import Path

import pytest
from updates.releases import make_tagged_clone


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the template with a tag for every release and one for the working tree."""
    return make_tagged_clone(tmp_path_factory.mktemp("history") / "template")
