"""A company's proxy with a password, and tests that no proxy of this machine reaches."""

from __future__ import annotations

import pytest

PASSWORD = "secret%2Fof%40jo"
PROXY = f"http://jo:{PASSWORD}@proxy.example.com:3128"


@pytest.fixture
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away the variables that the person who runs the tests may have."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
