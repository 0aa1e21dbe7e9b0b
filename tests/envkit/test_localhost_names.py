from __future__ import annotations

import pytest

from envkit import localhost_names


def test_localhost_resolves() -> None:
    assert localhost_names.resolves("localhost")


def test_a_name_that_does_not_exist_does_not_resolve() -> None:
    assert not localhost_names.resolves("no-such-name.invalid", timeout=5)


def test_a_name_that_resolves_to_another_machine_does_not_count() -> None:
    assert not localhost_names.resolves("192.0.2.1")


def test_a_resolver_that_hangs_counts_as_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localhost_names, "_QUESTION", "import time; time.sleep(30)")

    assert not localhost_names.resolves("localhost", timeout=0.2)


def test_the_command_writes_exactly_the_line() -> None:
    assert localhost_names.hosts_line("k3d-a.localhost") == "127.0.0.1 k3d-a.localhost"
    assert (
        localhost_names.hosts_command("k3d-a.localhost") == "echo '127.0.0.1 k3d-a.localhost' | sudo tee -a /etc/hosts"
    )
