"""Tests of the hooks do not depend on the environments of the machine that runs them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_local_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is reached over a network is not asked; so what this machine has is not looked at."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
