"""The template's own Git clone: which commit a new environment is made of, and who has its updates."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class UnusableSourceError(Exception):
    """The template cannot be used as it lies there; the text says why and what to do."""


def commit_of(ref: str) -> str:
    """The full name of the commit that a branch, tag or commit of the template's clone stands for.

    Raises:
        UnusableSourceError: Git is missing, the template is no clone, or there is no such commit.
    """
    try:
        _git("rev-parse", "--git-dir")
    except FileNotFoundError as error:
        raise UnusableSourceError(
            "Git was not found. Install it, then repeat the command."
            " (Debian, Ubuntu: sudo apt-get install git; macOS: xcode-select --install)"
        ) from error
    except subprocess.CalledProcessError as error:
        raise UnusableSourceError(
            f"{ROOT} is not a Git clone, so an environment made from it could never be updated.\n"
            "Get the template with `git clone` instead, then repeat the command."
            f" Git says: {error.stderr.strip()}"
        ) from error
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise UnusableSourceError(
            f"The template has no version {ref!r}. To see those it has:\n\n"
            f"    git -C {shlex.quote(str(ROOT))} tag --list; git -C {shlex.quote(str(ROOT))} branch --all\n"
        ) from error


def has_uncommitted_changes() -> bool:
    """Whether the clone holds changes that are in no commit, and so in no environment."""
    return bool(_git("status", "--porcelain"))


def update_source(commit: str) -> str:
    """Where updates of an environment made from this commit come from: a URL, or the clone's own path.

    The remote `origin` serves everyone who works on the environment, so it is preferred, but only where
    it is a URL and has the commit: an update begins by fetching it. A password or token in the URL is
    left out, because the environment is committed.
    """
    try:
        url = _git("remote", "get-url", "origin")
        published = _git("branch", "--remotes", "--list", "origin/*", "--contains", commit)
    except subprocess.CalledProcessError:
        return str(ROOT)
    return without_credentials(url) if is_url(url) and published else str(ROOT)


def is_url(location: str) -> bool:
    """Whether a Git remote is reached over a network (`https://`, `ssh://`, `user@host:path`)."""
    scheme, is_address, _ = location.partition("://")
    if is_address:
        return scheme.lower() in {"https", "http", "ssh", "git"}
    host, colon, _ = location.partition(":")
    return bool(colon) and "@" in host and "/" not in host


def without_credentials(url: str) -> str:
    """The URL without user name and password where it is HTTP's; elsewhere the user name is no secret."""
    return re.sub(r"\A(https?://)[^/?#]*@", r"\1", url, flags=re.IGNORECASE)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    # Where core.quotePath is off, a name of a file need not be text.
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
    return done.stdout.strip()
