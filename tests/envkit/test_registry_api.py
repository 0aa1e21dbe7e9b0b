"""Calls of registries, on a registry that answers over real HTTP."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from image_registry import MANIFEST, ImageRegistry, digest_of
from loopback_server import serving

from envkit import registry_api
from envkit.errors import UserError
from envkit.registry_api import Registries, RegistryError, parse
from envkit.registry_login import login_of

DIGEST = f"sha256:{64 * 'a'}"


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's own configuration, empty at first."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def write_login(config: Path, host: str, login: str) -> None:
    config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}}))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("registry", ("docker.io", "library/registry", "latest", "")),
        ("a.b:5000/x/y:1", ("a.b:5000", "x/y", "1", "")),
        (f"ghcr.io/x@{DIGEST}", ("ghcr.io", "x", "", DIGEST)),
        (f"ghcr.io/x:1@{DIGEST}", ("ghcr.io", "x", "1", DIGEST)),
    ],
)
def test_a_name_has_its_parts(name: str, parts: tuple[str, ...]) -> None:
    found = parse(name)
    assert (found.host, found.repository, found.tag, found.digest) == parts
    assert parse(str(found)) == found
    assert parse(found.name) == replace(found, digest="" if found.tag else found.digest)


@pytest.mark.parametrize("name", ["", "a.b/x@sha256:1", "a.b/x:"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not the name of an image"):
        parse(name)


def test_an_image_is_found_by_tag_and_by_digest(registry: ImageRegistry) -> None:
    digest = registry.put_image("team/app", "1", b"layer")
    registries = Registries()
    assert registries.digest(parse(f"{registry.host}/team/app:1")) == digest
    assert registries.digest(parse(f"{registry.host}/team/app@{digest}")) == digest
    manifest = registries.manifest(parse(f"{registry.host}/team/app:1"))
    assert (manifest.digest, len(manifest.blobs)) == (digest, 2)


def test_an_image_that_is_not_there_says_so(registry: ImageRegistry) -> None:
    with pytest.raises(RegistryError) as error:
        Registries().manifest(parse(f"{registry.host}/team/app:1"))
    assert error.value.status == 404
    assert (error.value.what, error.value.why) == (
        f"{registry.host} has no /v2/team/app/manifests/1.",
        "manifest unknown",
    )


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"[]", b"\xff"])
def test_a_page_in_place_of_a_manifest_is_no_image(registry: ImageRegistry, body: bytes) -> None:
    registry.manifests["app:1"] = ("text/html", body)

    with pytest.raises(RegistryError, match="sent something else than a manifest"):
        Registries().manifest(parse(f"{registry.host}/app:1"))


@pytest.mark.parametrize("auth", ["ünïcode", "%%%", "//8="])
def test_a_login_that_cannot_be_read_is_none(docker_config: Path, auth: str) -> None:
    docker_config.write_text(json.dumps({"auths": {"a.example": {"auth": auth}}}), encoding="utf-8")

    assert login_of("a.example") is None


def test_a_registry_that_is_down_is_named() -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1 does not answer"):
        Registries().check("127.0.0.1:1")


@pytest.mark.usefixtures("no_proxy_of_this_machine")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_registry_of_this_machine_is_not_looked_for_behind_a_proxy(
    registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    digest = registry.put_image("app", "1", b"layer")
    registry.wants_token = True
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    host = registry.host.replace("127.0.0.1", "localhost")

    Registries().check(host)

    assert Registries().digest(parse(f"{host}/app:1")) == digest


@pytest.mark.usefixtures("no_proxy_of_this_machine")
def test_a_registry_elsewhere_is_asked_through_the_proxy(
    registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{registry.host}")

    Registries({"registry.invalid:5000"}).check("registry.invalid:5000")

    assert registry.requests[0][1] == "http://registry.invalid:5000/v2/"


class _SlowRegistry(BaseHTTPRequestHandler):
    """Takes an upload with pauses, and says that it has it, or nothing."""

    pause, says_so = 0.06, True

    def do_POST(self) -> None:
        self._answer(202, Location="/v2/app/blobs/uploads/1")

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            time.sleep(self.pause)
            left -= len(self.rfile.read(min(left, 2**20)))
        if self.says_so:
            self._answer(201)
        else:
            time.sleep(2)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _upload(host: str) -> None:
    content = bytes(32 * 2**20)  # several times what the buffers of both ends hold
    Registries().put_blob(parse(f"{host}/app:1"), digest_of(content), len(content), io.BytesIO(content))


def test_an_upload_may_take_longer_than_each_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_api, "_UPLOAD_SECONDS", 1.0)
    began = time.monotonic()

    with serving(_SlowRegistry) as host:
        _upload(host)

    assert time.monotonic() - began > 1.5


def test_a_registry_that_never_says_that_it_has_an_upload_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_api, "_UPLOAD_SECONDS", 0.5)
    monkeypatch.setattr(_SlowRegistry, "pause", 0)
    monkeypatch.setattr(_SlowRegistry, "says_so", False)

    with serving(_SlowRegistry) as host, pytest.raises(RegistryError, match="does not answer") as error:
        _upload(host)

    assert "timed out" in error.value.why


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(registry: ImageRegistry) -> None:
    registry.manifests[f"app@{DIGEST}"] = (MANIFEST, b"{}")
    with pytest.raises(RegistryError, match="sent another manifest"):
        Registries().manifest(parse(f"{registry.host}/app@{DIGEST}"))


def test_a_registry_that_gives_tokens_to_everyone_is_read(registry: ImageRegistry) -> None:
    digest = registry.put_image("app", "1", b"layer")
    registry.wants_token = True
    registries = Registries()
    registries.check(registry.host)  # one that wants a token answers
    assert registries.digest(parse(f"{registry.host}/app:1")) == digest
    assert registries.digest(parse(f"{registry.host}/app:1")) == digest
    # The token is asked for once.
    assert [path for _, path, _ in registry.requests if path.startswith("/token")] == [
        "/token?service=test&scope=repository%3Aapp%3Apull"
    ]


def test_a_login_of_docker_goes_to_the_tokens_address_alone(registry: ImageRegistry, docker_config: Path) -> None:
    registry.put_image("app", "1", b"layer")
    registry.wants_token, registry.login = True, "me:secret"
    with pytest.raises(RegistryError) as error:
        Registries().digest(parse(f"{registry.host}/app:1"))
    assert error.value.next_step == f"docker login {registry.host}"
    write_login(docker_config, registry.host, "me:secret")
    registry.requests.clear()
    Registries().digest(parse(f"{registry.host}/app:1"))
    assert {path.partition("?")[0] for _, path, sent in registry.requests if sent.startswith("Basic")} == {"/token"}


@pytest.mark.parametrize(
    "challenge", ["", "Negotiate", 'Basic realm="x"', "Bearer", 'Bearer realm="file:///etc/passwd",service="x"']
)
def test_a_registry_that_wants_what_docker_has_not_wants_a_login(challenge: str, docker_config: Path) -> None:
    with pytest.raises(RegistryError, match=r"a\.b wants a login"):
        registry_api._authorization("a.b", "repository:app:pull", challenge)
    write_login(docker_config, "a.b", "me:secret")
    if challenge.startswith("Basic"):
        sent = registry_api._authorization("a.b", "repository:app:pull", challenge)
        assert base64.b64decode(sent.removeprefix("Basic ")) == b"me:secret"
    else:
        with pytest.raises(RegistryError, match=r"a\.b wants a login"):
            registry_api._authorization("a.b", "repository:app:pull", challenge)


def test_a_store_to_which_a_registry_sends_on_gets_no_token(
    registry: ImageRegistry, other_registry: ImageRegistry
) -> None:
    registry.put_image("app", "1", b"layer")
    other_registry.put_image("app", "1", b"layer")
    registry.wants_token, registry.sends_on = True, f"http://{other_registry.host}"
    with Registries().blob(parse(f"{registry.host}/app:1"), digest_of(b"layer")) as content:
        assert content.read() == b"layer"
    assert [sent for _, _, sent in other_registry.requests] == [""]


def test_credentials_come_from_docker_s_helpers_too(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread -r host\n[ "$host" = a.b ] || exit 1\nprintf \'{"Username": "me", "Secret": "%s"}\' "$host"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    docker_config.write_text('{"credsStore": "test"}')
    assert login_of("a.b") == ("me", "a.b")
    assert login_of("c.d") is None


@pytest.mark.parametrize("text", ["", "[]", '{"auths": {"a.b": {"auth": "?"}}}', '{"credsStore": "not-there"}'])
def test_a_docker_that_knows_nothing_has_no_login(docker_config: Path, text: str) -> None:
    docker_config.write_text(text)
    assert login_of("a.b") is None
