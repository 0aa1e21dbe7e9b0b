"""A registry's own HTTP API, as far as images and charts are looked up and moved byte for byte.

Docker's `save` and `push` would make new manifests, and so other digests than those that are pinned.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md is what it speaks; how it signs in is described at
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from envkit.corporate_network import is_loopback
from envkit.errors import UserError
from envkit.mirrors import DOCKER_HUB, split_host
from envkit.registry import MANIFEST_KINDS
from envkit.registry_login import login_of
from envkit.tls import context_for

_HUB_API = "registry-1.docker.io"
_SECONDS = 30.0
_UPLOAD_SECONDS = 300.0
"""Seconds for each step of an upload, however long the whole takes: the next block, and at the end the answer, before
which a registry may read all of it again."""

_COMPONENT = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class RegistryError(UserError):
    """A registry does not answer, or does not do what it is asked for.

    Attributes:
        status: The HTTP status of its answer; 0 where there was none.
    """

    def __init__(self, what: str, why: str, next_step: str = "", *, status: int = 0) -> None:
        super().__init__(what, why, next_step)
        self.status = status


@dataclass(frozen=True)
class Reference:
    """The name of an image or chart.

    Attributes:
        host: The registry's host, `docker.io` for Docker Hub.
        repository: The path in it.
        tag: Its tag; empty where it has only a digest.
        digest: Its digest, with `sha256:`; empty where it has only a tag.
    """

    host: str
    repository: str
    tag: str
    digest: str

    @property
    def target(self) -> str:
        """What is asked for: the digest, or the tag where there is none."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        """The name with the tag, and without the digest unless it has no tag."""
        return f"{self.host}/{self.repository}" + (f":{self.tag}" if self.tag else f"@{self.digest}")

    def __str__(self) -> str:
        text = f"{self.host}/{self.repository}" + (f":{self.tag}" if self.tag else "")
        return text + (f"@{self.digest}" if self.digest else "")


def parse(name: str) -> Reference:
    """The parts of an image's name; without tag and digest it is tagged `latest`. UserError for any other text."""
    host, path = split_host(name)
    match = _REFERENCE.fullmatch(path)
    if not match:
        raise UserError(
            f"{name!r} is not the name of an image.", "", "Use a name such as docker.io/library/registry:3."
        )
    tag, digest = match["tag"] or "", match["digest"] or ""
    return Reference(host, match["repository"], tag or ("" if digest else "latest"), digest)


@dataclass(frozen=True)
class Manifest:
    """A manifest, or an index of several.

    Attributes:
        kind: Its media type.
        body: Its bytes, of which the digest is made.
    """

    kind: str
    body: bytes

    @property
    def digest(self) -> str:
        """Its digest, with `sha256:`."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def document(self) -> dict[str, Any]:
        """What it says."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """Descriptors of the manifests that it names; empty unless it is an index."""
        return list(self.document.get("manifests") or [])

    @property
    def blobs(self) -> list[dict[str, Any]]:
        """Descriptors of configuration and layers; empty for an index."""
        document = self.document
        config = [document["config"]] if "config" in document else []
        return [*config, *(document.get("layers") or [])]


class Registries:
    """Calls of registries. It remembers what they have let it in with."""

    def __init__(self, plain_http: Collection[str] = ()) -> None:
        """`plain_http`: hosts that speak HTTP without TLS, besides those of this machine."""
        self._plain_http = frozenset(plain_http)
        self._authorizations: dict[tuple[str, str], str] = {}

    def check(self, host: str, seconds: float = 5.0) -> None:
        """Asks whether a registry answers; one that wants a login does. RegistryError where it does not."""
        request = Request(f"{self._base(host)}/v2/")  # noqa: S310 - `_base` makes http and https alone
        try:
            with _open(request, seconds):
                return
        except HTTPError as error:
            error.close()
            if error.code != HTTPStatus.UNAUTHORIZED:
                raise _refused(host, "/v2/", error) from error
        except (URLError, HTTPException, OSError) as error:
            raise _unreachable(host, error) from error

    def digest(self, reference: Reference, seconds: float = _SECONDS) -> str:
        """The digest that a name stands for now. RegistryError where the registry does not say."""
        path = f"{reference.repository}/manifests/{reference.target}"
        with self._call("HEAD", reference, path, headers=_accept(), seconds=seconds) as answer:
            found = answer.headers.get("Docker-Content-Digest")
        return found or self.manifest(reference).digest

    def manifest(self, reference: Reference) -> Manifest:
        """The manifest or index that a name stands for.

        RegistryError also where it is not what its digest says, or no manifest, such as the page of a proxy.
        """
        path = f"{reference.repository}/manifests/{reference.target}"
        with self._call("GET", reference, path, headers=_accept()) as answer:
            try:
                body = answer.read()
            except (HTTPException, OSError) as error:
                raise _unreachable(reference.host, error) from error
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
        if not _is_mapping(body):
            raise RegistryError(
                f"{reference.host} sent something else than a manifest of {reference}.",
                "A page of a proxy's, or of the mirror's own, in its place is the usual cause.",
            )
        manifest = Manifest(kind, body)
        if reference.digest and manifest.digest != reference.digest:
            raise RegistryError(
                f"{reference.host} sent another manifest than {reference}.", f"It has the digest {manifest.digest}."
            )
        return manifest

    @contextmanager
    def blob(self, reference: Reference, digest: str) -> Iterator[IO[bytes]]:
        """A layer or configuration of an image, to be read. Its sum is the reader's to check."""
        with self._call("GET", reference, f"{reference.repository}/blobs/{digest}") as answer:
            yield answer

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Whether a repository has a layer or configuration."""
        return self._has(reference, f"{reference.repository}/blobs/{digest}")

    def put_blob(self, reference: Reference, digest: str, size: int, content: IO[bytes]) -> None:
        """Puts a layer or configuration of `size` bytes into a repository."""
        with self._call("POST", reference, f"{reference.repository}/blobs/uploads/", body=b"", push=True) as answer:
            location = urljoin(answer.url, answer.headers.get("Location", ""))
        joint = "&" if urlsplit(location).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._call(
            "PUT",
            reference,
            f"{location}{joint}{urlencode({'digest': digest})}",
            headers=headers,
            body=content,
            push=True,
            seconds=_UPLOAD_SECONDS,
        ):
            return

    def put_manifest(self, reference: Reference, manifest: Manifest, target: str) -> None:
        """Puts a manifest into a repository under a tag or its digest."""
        path = f"{reference.repository}/manifests/{target}"
        with self._call("PUT", reference, path, headers={"Content-Type": manifest.kind}, body=manifest.body, push=True):
            return

    def _has(self, reference: Reference, path: str) -> bool:
        try:
            with self._call("HEAD", reference, path, push=True):
                return True
        except RegistryError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise

    @contextmanager
    def _call(
        self,
        method: str,
        reference: Reference,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        push: bool = False,
        seconds: float = _SECONDS,
    ) -> Iterator[HTTPResponse]:
        """The answer to a request; `path` is below `/v2/`, or a whole address of the same registry."""
        host = reference.host
        url = path if "://" in path else f"{self._base(host)}/v2/{path}"
        scope = f"repository:{reference.repository}:{'pull,push' if push else 'pull'}"
        for attempt in (1, 2):
            request = Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310
            if allowed := self._authorizations.get((host, scope)):
                # Not to the store of blobs to which a registry may send on.
                request.add_unredirected_header("Authorization", allowed)
            try:
                answer = _open(request, seconds)
            except HTTPError as error:
                if error.code == HTTPStatus.UNAUTHORIZED and attempt == 1 and not hasattr(body, "read"):
                    challenge = error.headers.get("WWW-Authenticate", "")
                    error.close()
                    self._authorizations[host, scope] = _authorization(host, scope, challenge)
                    continue
                raise _refused(host, urlsplit(url).path, error) from error
            except (URLError, HTTPException, OSError) as error:
                raise _unreachable(host, error) from error
            with answer:
                yield answer
            return

    def _base(self, host: str) -> str:
        scheme = "http" if host in self._plain_http or _is_here(host) else "https"
        return f"{scheme}://{_HUB_API if host == DOCKER_HUB else host}"


def _is_here(host: str) -> bool:
    """Whether a host, given with or without a port, is this machine."""
    return is_loopback(urlsplit(f"//{host}").hostname or "")


class _ProxyForOthers(ProxyHandler):
    """The proxies of the usual variables, but for what is on this machine: no proxy reaches that."""

    def proxy_open(self, req: Request, proxy: str, type: str) -> Any:  # noqa: A002 - the names are urllib's
        return None if _is_here(req.host) else super().proxy_open(req, proxy, type)


def _open(request: Request, seconds: float) -> HTTPResponse:
    opener = build_opener(_ProxyForOthers(), HTTPSHandler(context=context_for(request.full_url)))
    answer: HTTPResponse = opener.open(request, timeout=seconds)
    return answer


def _is_mapping(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(MANIFEST_KINDS)}


def _authorization(host: str, scope: str, challenge: str) -> str:
    """The header that a registry wants: a token that it names the address of, or name and password."""
    login = login_of(host)
    basic = f"Basic {base64.b64encode(f'{login.name}:{login.password}'.encode()).decode()}" if login else ""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic" and basic:
        return basic
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = parameters.get("realm", "")
    if scheme.lower() != "bearer" or urlsplit(realm).scheme not in ("http", "https"):
        raise _wants_login(host)
    query = {"service": parameters.get("service", ""), "scope": scope}
    request = Request(f"{realm}?{urlencode(query)}")  # noqa: S310 - the scheme has been checked
    if basic:
        request.add_unredirected_header("Authorization", basic)
    try:
        with _open(request, _SECONDS) as answer:
            document = json.loads(answer.read())
            token = document.get("token") or document.get("access_token")
    except HTTPError as error:
        error.close()
        raise _wants_login(host) from error
    except (URLError, HTTPException, OSError, ValueError, AttributeError) as error:
        raise _unreachable(host, error) from error
    return f"Bearer {token}"


def _wants_login(host: str) -> RegistryError:
    return RegistryError(
        f"{host} wants a login.", "Docker has none for it that it takes.", f"docker login {host}", status=401
    )


def _refused(host: str, path: str, error: HTTPError) -> RegistryError:
    status = error.code
    try:
        details = json.loads(error.read()).get("errors") or []
        why = "; ".join(str(entry.get("message") or entry.get("code")) for entry in details)
    except (OSError, ValueError, AttributeError, HTTPException):
        why = ""
    error.close()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return RegistryError(f"{host} does not allow {path}.", why, f"docker login {host}", status=status)
    what = f"{host} has no {path}." if status == HTTPStatus.NOT_FOUND else f"{host} answers {status} to {path}."
    return RegistryError(what, why, status=status)


def _unreachable(host: str, error: Exception) -> RegistryError:
    why = str(getattr(error, "reason", "") or error)
    return RegistryError(f"{host} does not answer.", why, "Check the network (HTTPS_PROXY, SSL_CERT_FILE).")
