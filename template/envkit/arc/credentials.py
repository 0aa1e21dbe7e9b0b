"""Credentials of the runners, checked where they lie. A key's content never leaves this module but as a signature."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envkit.arc.settings import ArcSettings, LocalSettings, read_token
from envkit.files import how_to_close, is_open_to_others, keeps_permissions
from envkit.paths import ROOT
from envkit.wording import quoted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_LEAST_BITS = 2048
_LEAST_LINES = 3
_JWT_SECONDS = 540
"""GitHub takes tokens of an App for ten minutes at most."""

_CLOCK_SKEW = 60

CREDENTIALS_SECRET = "arc-github"  # noqa: S105 - a name
"""The Secret with the credentials: `githubConfigSecret` of the runners' values."""

KEY_PAGE = "the App's page on GitHub, section Private keys, Generate a private key"


def problems(settings: ArcSettings, root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """What is wrong with the credentials, each with what puts it right."""
    local = settings.local
    has_app = bool(local.app_id or local.installation_id)
    if local.has_token and has_app:
        yield (
            "Both a GitHub App and GITHUB_TOKEN are set in .env.",
            "Keep one: empty GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_INSTALLATION_ID.",
        )
    if local.has_token:
        if not re.fullmatch("[!-~]+", read_token(root)):
            yield (
                "GITHUB_TOKEN in .env has a character that no token has, as a space or a typographic quotation mark.",
                "Copy the token again; it has letters, digits and underscores.",
            )
        yield from _open_to_others(root / ".env")
        yield from _ignored_by_git(root / ".env", root)
        return
    if not (root / ".env").exists():
        yield ".env is missing.", "cp .env.example .env, then fill in the lines of the GitHub App."
        return
    yield from _app_problems(local)
    if "/enterprises/" in settings.config_url:
        yield (
            "An enterprise's runners cannot use a GitHub App.",
            "Set GITHUB_TOKEN, with the scope manage_runners:enterprise.",
        )
    yield from _key_problems(local, root)


def token_manifests(namespace: str, root: Path = ROOT) -> list[Mapping[str, Any]]:
    """The Secret with GITHUB_TOKEN of `.env`, for a program and not to be shown; empty where there is no token.

    It is made here, and not where the App's key is read, so that `.env` is read by one rule.
    """
    token = read_token(root)
    if not token:
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CREDENTIALS_SECRET, "namespace": namespace},
            # `data` and not `stringData`, which would differ from what is there on every run.
            "data": {"github_token": base64.b64encode(token.encode()).decode()},
        }
    ]


def _app_problems(local: LocalSettings) -> Iterator[tuple[str, str]]:
    if not local.app_id:
        yield "GITHUB_APP_ID is empty in .env.", "The App ID is on the App's page on GitHub, section About."
    elif not re.fullmatch(r"[0-9]{1,20}|Iv[0-9A-Za-z.]{6,40}", local.app_id):
        yield (
            f"GITHUB_APP_ID in .env is {local.app_id!r}, not an App ID.",
            "It has digits only (or is a client ID, Iv...).",
        )
    if not local.installation_id:
        yield (
            "GITHUB_APP_INSTALLATION_ID is empty in .env.",
            "It ends the address of the App's Configure page: .../organizations/NAME/settings/installations/ID",
        )
    elif not re.fullmatch(r"[0-9]{1,20}", local.installation_id):
        yield f"GITHUB_APP_INSTALLATION_ID in .env is {local.installation_id!r}, not a number.", "It has digits only."


def _key_problems(local: LocalSettings, root: Path) -> Iterator[tuple[str, str]]:
    path = local.private_key_file
    if path is None:
        yield "GITHUB_APP_PRIVATE_KEY_PATH is empty in .env.", "GITHUB_APP_PRIVATE_KEY_PATH=.github-app-private-key.pem"
        return
    if not path.is_file():
        yield (
            f"The App's private key is missing: {path}.",
            f"Download it ({KEY_PAGE}), then: mv ~/Downloads/*.private-key.pem {quoted(path)}",
        )
        return
    yield from _movable(path)
    if defect := key_defect(path):
        yield f"{path}: {defect}", f"Take the file as GitHub gives it ({KEY_PAGE})."
    yield from _ignored_by_git(path, root)


def _open_to_others(path: Path) -> Iterator[tuple[str, str]]:
    if is_open_to_others(path):
        mode = path.stat().st_mode & 0o777
        yield f"{path} can be read by others (mode {mode:04o}).", how_to_close(path)


def _movable(path: Path) -> Iterator[tuple[str, str]]:
    """The same of a file that may lie anywhere."""
    for what, remedy in _open_to_others(path):
        if keeps_permissions(path.parent):
            yield what, remedy
        else:
            home = Path.home() / path.name
            command = f"mv {quoted(path)} {quoted(home)} && chmod 600 {quoted(home)}"
            setting = f"GITHUB_APP_PRIVATE_KEY_PATH={quoted(home)}"
            yield f"{what} Its file system keeps no permissions.", f"{command}   (then in .env: {setting})"


def key_defect(path: Path) -> str:
    """Why a file is not a key that the controller can use, without a word of its content; empty where it is one.

    The controller reads PKCS#1 and PKCS#8 PEM only (https://github.com/actions/actions-runner-controller/issues/4376).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return "it is not text, so not a PEM file."
    except OSError as error:
        return f"it cannot be read: {error.strerror}."
    is_one_line = "BEGIN" in text and len(text.strip().splitlines()) < _LEAST_LINES
    defects = {
        "it holds a public key; the private one is needed.": "PUBLIC KEY" in text,
        "it is in OpenSSH's format, which the controller cannot read.": "BEGIN OPENSSH PRIVATE KEY" in text,
        "the key is protected by a passphrase, which nobody can enter in a cluster.": "ENCRYPTED" in text,
        "its line breaks are gone; a PEM file has many lines.": "\\n" in text or is_one_line,
        "it is not a PEM file.": "PRIVATE KEY-----" not in text,
    }
    return next((defect for defect, found in defects.items() if found), "") or _unparsable(path)


def _unparsable(path: Path) -> str:
    try:
        key = _load(path)
    except (ValueError, TypeError):
        return "it does not parse as a private key; it may be cut off."
    if key is None:
        return "it is not an RSA key."
    if key.key_size < _LEAST_BITS:
        return f"the key has {key.key_size} bits; GitHub's have {_LEAST_BITS}."
    return ""


def app_token(local: LocalSettings) -> str:
    """A token by which the App signs in, as a JWT (RFC 7519) signed with its key; valid for nine minutes."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    now = int(time.time())
    header = {"alg": "RS256", "typ": "JWT"}
    claims = {"iss": local.app_id, "iat": now - _CLOCK_SKEW, "exp": now + _JWT_SECONDS}
    body = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    key = _load(local.private_key_file) if local.private_key_file else None
    if key is None:
        raise ValueError("the key was not checked before")
    signature = key.sign(body.encode(), PKCS1v15(), SHA256())
    return f"{body}.{_base64(signature)}"


def _load(path: Path) -> RSAPrivateKey | None:
    """The RSA key in a file; None where it is of another kind. Raises ValueError or TypeError where there is no key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), password=None)
    return key if isinstance(key, RSAPrivateKey) else None


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _ignored_by_git(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Complains of a file with credentials that Git knows, or would take with `git add`."""
    if not path.is_relative_to(root) or not _git(root, "rev-parse", "--git-dir"):
        return
    name = str(path.relative_to(root))
    if _git(root, "ls-files", "--error-unmatch", "--", name):
        yield (
            f"Git tracks {name}, which holds credentials.",
            f"git rm --cached {quoted(Path(name))}, commit, and make new credentials: the old ones are in the history.",
        )
    elif not _git(root, "check-ignore", "--quiet", "--", name):
        yield f"Git does not ignore {name}, which holds credentials.", f"echo {quoted(Path('/', name))} >>.gitignore"


def _git(root: Path, *arguments: str) -> bool:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except OSError:  # no Git, so nothing is tracked
        return False
    return done.returncode == 0
