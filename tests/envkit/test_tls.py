"""Whom envkit trusts where Python has no authorities, as that of python.org on macOS has none at first."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest
from certificates import Authority, new_authority

from envkit import download, registry_api, tls
from envkit.arc import verify
from envkit.errors import UserError


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def authority() -> Authority:
    return new_authority()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority) -> Iterator[str]:
    """The address of a server whose authority only the system knows, and Python none at all."""
    certificate, key = authority.issue("localhost")
    (tmp_path / "server.pem").write_text(certificate + key, encoding="ascii")
    (tmp_path / "system.pem").write_text(authority.pem, encoding="ascii")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(tls, "MACOS_BUNDLE", tmp_path / "system.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as serving:
        serving.socket = context.wrap_socket(serving.socket, server_side=True)
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://localhost:{serving.server_port}/"
        serving.shutdown()
        thread.join()


REFUSED = r"certificate verify failed|could not be downloaded"
CALLERS: list[Callable[[str], Any]] = [
    download.read_text,
    lambda address: registry_api._open(Request(address), 5).read().decode(),
    lambda address: str(verify._post(address, "token", SimpleNamespace(ca_file=None))),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("ask", CALLERS, ids=["download", "registry", "GitHub"])
def test_macos_lends_its_authorities_to_a_python_that_has_none(
    server: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], Any]
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    assert ask(server) == "{}"


@pytest.mark.parametrize("ask", CALLERS, ids=["download", "registry", "GitHub"])
def test_nobody_is_trusted_whom_neither_python_nor_macos_knows(
    server: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises((UserError, URLError), match=REFUSED):
        ask(server)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(tls, "MACOS_BUNDLE", tmp_path / "missing")
    with pytest.raises((UserError, URLError), match=REFUSED):
        ask(server)


def test_a_python_that_trusts_somebody_is_lent_nobody(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    (tmp_path / "own.pem").write_text(new_authority().pem, encoding="ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))

    with pytest.raises(UserError, match="could not be downloaded"):
        download.read_text(server)


@pytest.mark.parametrize("authority", [new_authority(strict=False)])
@pytest.mark.parametrize("ask", CALLERS, ids=["download", "registry", "GitHub"])
def test_a_company_s_authority_need_not_have_all_that_python_wants_from_3_13_on(
    server: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], Any], tmp_path: Path
) -> None:
    original = ssl.create_default_context

    def as_from_3_13_on(**options: Any) -> ssl.SSLContext:
        context = original(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_from_3_13_on)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))

    assert ask(server) == "{}"


def test_an_authority_of_github_s_own_is_the_only_one_that_is_trusted(server: str, tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(ca_file=tmp_path / "system.pem")
    assert verify._post(server, "token", settings) == {}

    (tmp_path / "other.pem").write_text(new_authority().pem, encoding="ascii")
    with pytest.raises(URLError, match=REFUSED):
        verify._post(server, "token", SimpleNamespace(ca_file=tmp_path / "other.pem"))  # type: ignore[arg-type]
