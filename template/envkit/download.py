"""Downloads of pinned files: nothing is kept whose SHA-256 sum is not the expected one."""

from __future__ import annotations

import hashlib
import os
import platform
import ssl
import sys
import tempfile
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from envkit.errors import UserError
from envkit.mirrors import DOWNLOAD_VARIABLE, read_mirrors
from envkit.tls import context_for

_CHUNK = 1 << 18
_SILENCE_SECONDS = 30.0
_CHECK_SECONDS = 5.0
_MEGABYTE = 1_000_000
_CHECK_NETWORK = f"Check the network (HTTPS_PROXY, SSL_CERT_FILE), or set {DOWNLOAD_VARIABLE}"
_CHECK_FILE = (
    f"Check that this version is published, and that a mirror ({DOWNLOAD_VARIABLE}, or [mirrors] in environment.toml)"
    " has the file"
)
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def platform_name() -> str:
    """This machine as release pages call it: `linux-amd64`, `linux-arm64`, `darwin-amd64` or `darwin-arm64`.

    Raises:
        UserError: It is none of these.
    """
    machine = _MACHINES.get(platform.machine().lower())
    if sys.platform == "darwin" and "ARM64" in platform.version():
        # A Python for Intel processors is told that it runs on one (Rosetta); the kernel is what it is.
        machine = "arm64"
    if machine is None or sys.platform not in ("linux", "darwin"):
        raise UserError(
            f"There are no pinned downloads for {sys.platform} on {platform.machine()}.",
            "They exist for Linux and macOS on x86-64 and ARM64.",
            "Install the tool with the means of your system.",
        )
    return f"{sys.platform}-{machine}"


def mirrored(url: str) -> str:
    """The address to ask: below the mirror that ENVKIT_DOWNLOAD_MIRROR or `environment.toml` names, where one does.

    `https://github.com/x` becomes `$ENVKIT_DOWNLOAD_MIRROR/github.com/x`.
    """
    return read_mirrors().download(url)


def sha256_of(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str,
    sha256: str,
    target: Path,
    *,
    note: Callable[[str], None] = lambda _: None,
    executable: bool = False,
) -> None:
    """Brings a file to `target`, unless the right one is there already.

    The file appears under its name only when it is complete and right. Proxies and certificates are
    taken from the usual variables (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE).

    Args:
        url: Where it is published; `mirrored` applies.
        sha256: The expected sum, in hexadecimal.
        target: Where it goes; folders are made.
        note: Is told how far the download is.
        executable: The file may be run by everyone.

    Raises:
        UserError: It could not be fetched or written, or has another sum.
    """
    mode = 0o755 if executable else 0o644
    if target.is_file() and sha256_of(target) == sha256:
        target.chmod(mode)
        return
    address = _address(url)
    try:
        _fetch(address, sha256, target, note, mode)
    except OSError as error:
        raise UserError(
            f"{target} could not be written.",
            str(error),
            "Make room there, or get the right to write there; then repeat the command.",
        ) from error


def read_text(url: str) -> str:
    """A small published text, such as a list of sums; `mirrored` applies. Raises UserError where it cannot be had."""
    parts: list[bytes] = []
    _copy(_address(url), parts.append, lambda _: None)
    return b"".join(parts).decode(errors="replace")


def check_answer(address: str) -> None:
    """Asks whether anything answers at a mirror's address, whatever it says. Raises UserError where nothing does."""
    if urlsplit(_checked(address)).scheme == "file":
        return
    try:
        _copy(address, len, lambda _: None, _CHECK_SECONDS)
    except UserError as error:
        if not isinstance(error.__cause__, HTTPError):  # such an answer is one: few mirrors list what they have
            raise


def _address(url: str) -> str:
    return _checked(mirrored(url))


def _checked(address: str) -> str:
    if urlsplit(address).scheme not in ("https", "http", "file"):
        raise UserError(
            f"{address} is not an address to download from.",
            "A mirror's address must begin with https://, http:// or file://.",
            f"Correct it: {DOWNLOAD_VARIABLE}, or [mirrors] in environment.toml.",
        )
    return address


def _fetch(address: str, sha256: str, target: Path, note: Callable[[str], None], mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _copy(address, file.write, note)
        if found != sha256:
            raise UserError(
                f"What {address} sent is not the file that is pinned, and was thrown away.",
                f"expected SHA-256  {sha256}\nreceived SHA-256  {found}",
                "Ask your proxy's or mirror's keeper: a page of theirs in its place is the usual cause.",
            )
        partial.chmod(mode)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(
    address: str, write: Callable[[bytes], object], note: Callable[[str], None], seconds: float = _SILENCE_SECONDS
) -> str:
    digest = hashlib.sha256()
    received = 0
    try:
        request = Request(address, headers={"User-Agent": "envkit"})  # noqa: S310 - `_address` checked the scheme
        with urlopen(request, timeout=seconds, context=context_for(address)) as answer:  # noqa: S310
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                write(chunk)
                digest.update(chunk)
                received += len(chunk)
                note(_progress(received, total))
    except HTTPError as error:
        error.close()
        why = f"The server answers {error.code} {error.reason}."
        is_missing = error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
        raise _not_downloaded(address, why, _CHECK_FILE if is_missing else _CHECK_NETWORK) from error
    except (URLError, HTTPException, TimeoutError, ssl.SSLError, ConnectionError) as error:
        raise _not_downloaded(address, str(getattr(error, "reason", "") or error)) from error
    if received < total:
        raise _not_downloaded(address, f"The connection ended after {received} of {total} bytes.")
    return digest.hexdigest()


def _not_downloaded(address: str, why: str, check: str = _CHECK_NETWORK) -> UserError:
    return UserError(f"{address} could not be downloaded.", why, f"{check}; then repeat the command.")


def _progress(received: int, total: int) -> str:
    done = f"{received / _MEGABYTE:.1f} MB"
    return f"{done} of {total / _MEGABYTE:.1f} MB" if total else done
