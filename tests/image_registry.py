"""A registry for tests: real HTTP on a loopback address, in memory, and as much of the specification as is used."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from loopback_server import serving

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class ImageRegistry:
    """What the registry holds, and what it was asked.

    Attributes:
        host: Where it listens.
        manifests: `REPOSITORY:TAG` and `REPOSITORY@DIGEST` to media type and bytes.
        blobs: `REPOSITORY@DIGEST` to bytes.
        login: Name and password that it wants, by a token of its own; empty lets everyone read with a token.
        wants_token: It lets nobody in without a token.
        sends_on: Address of another registry from which it has blobs fetched.
        requests: Method, path and the header `Authorization` of each request.
    """

    host: str = ""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    login: str = ""
    wants_token: bool = False
    sends_on: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def put(self, repository: str, tag: str, kind: str, document: dict[str, Any]) -> str:
        """Keeps a manifest by its digest, and by a tag unless that is empty; returns the digest."""
        body = json.dumps(document).encode()
        for key in (f"{repository}@{digest_of(body)}", f"{repository}:{tag}"):
            self.manifests[key] = (kind, body)
        return digest_of(body)

    def put_image(self, repository: str, tag: str, *layers: bytes, layer_kind: str = "x") -> str:
        """Keeps an image of these layers; returns its digest."""
        config = self._keep(repository, b"{}", "application/vnd.oci.image.config.v1+json")
        described = [self._keep(repository, layer, layer_kind) for layer in layers]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}
        return self.put(repository, tag, MANIFEST, document)

    def put_index(self, repository: str, tag: str, **platforms: str) -> str:
        """Keeps an index of images that are there; returns its digest. `platforms`: architecture to digest."""
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": len(self.manifests[f"{repository}@{digest}"][1]),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in platforms.items()
        ]
        return self.put(repository, tag, INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})

    def _keep(self, repository: str, content: bytes, kind: str) -> dict[str, Any]:
        self.blobs[f"{repository}@{digest_of(content)}"] = content
        return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}


@contextmanager
def image_registry() -> Iterator[ImageRegistry]:
    """A registry that listens."""
    held = ImageRegistry()
    with serving(lambda *a: _Handler(held, *a)) as held.host:
        yield held


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    """A registry for one test."""
    with image_registry() as held:
        yield held


@pytest.fixture
def other_registry() -> Iterator[ImageRegistry]:
    """Another one."""
    with image_registry() as held:
        yield held


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, held: ImageRegistry, *arguments: Any) -> None:
        self.held = held
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        allowed = self.headers.get("Authorization", "")
        self.held.requests.append((self.command, self.path, allowed))
        path = urlsplit(self.path).path
        if path == "/token":
            wanted = f"Basic {base64.b64encode(self.held.login.encode()).decode()}" if self.held.login else ""
            fits = allowed == wanted
            self._answer(200 if fits else 401, body=json.dumps({"token": "good"}).encode())
        elif self.held.wants_token and allowed != "Bearer good":
            realm = f'Bearer realm="http://{self.held.host}/token",service="test",scope="ignored"'
            self._answer(401, {"WWW-Authenticate": realm})
        elif path == "/v2/":
            self._answer(200)
        elif "/manifests/" in path:
            self._manifest(*_split(path, "/manifests/"), content)
        else:
            self._blob(*_split(path, "/blobs/"), content)

    def _manifest(self, repository: str, target: str, content: bytes) -> None:
        key = f"{repository}{'@' if target.startswith('sha256:') else ':'}{target}"
        if self.command == "PUT":
            kind = self.headers["Content-Type"]
            if missing := self._missing(repository, json.loads(content)):
                self._answer(400, body=json.dumps({"errors": [{"message": f"{missing} unknown"}]}).encode())
                return
            self.held.manifests[key] = self.held.manifests[f"{repository}@{digest_of(content)}"] = (kind, content)
            self._answer(201)
        # As registries do, which answer in an older form, or not at all, who does not say that it reads this one.
        # A proxy's page comes whatever is asked for.
        elif key in self.held.manifests and self.held.manifests[key][0] in (*self._accepted(), "text/html"):
            kind, body = self.held.manifests[key]
            self._answer(200, {"Content-Type": kind, "Docker-Content-Digest": digest_of(body)}, body)
        else:
            self._answer(404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

    def _accepted(self) -> list[str]:
        return str(self.headers.get("Accept", "")).split(", ")

    def _missing(self, repository: str, document: dict[str, Any]) -> str:
        """What a manifest names and the repository does not have, as a registry checks it."""
        blobs = [document["config"], *document["layers"]] if "config" in document else []
        missing = [d["digest"] for d in blobs if f"{repository}@{d['digest']}" not in self.held.blobs]
        manifests = document.get("manifests", [])
        missing += [d["digest"] for d in manifests if f"{repository}@{d['digest']}" not in self.held.manifests]
        return missing[0] if missing else ""

    def _blob(self, repository: str, target: str, content: bytes) -> None:
        if self.command == "POST":
            self._answer(202, {"Location": f"/v2/{repository}/blobs/uploads/1?state=x"})
        elif self.command == "PUT":
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            if digest == digest_of(content):
                self.held.blobs[f"{repository}@{digest}"] = content
            self._answer(201 if digest == digest_of(content) else 400)
        elif self.held.sends_on:
            self._answer(307, {"Location": f"{self.held.sends_on}{self.path}"})
        elif f"{repository}@{target}" in self.held.blobs:
            self._answer(200, body=self.held.blobs[f"{repository}@{target}"])
        else:
            self._answer(404)

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _split(path: str, between: str) -> tuple[str, str]:
    """The repository and what is asked for of it."""
    repository, _, target = path.removeprefix("/v2/").partition(between)
    return repository, target
