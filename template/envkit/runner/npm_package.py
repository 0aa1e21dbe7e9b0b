"""Packages of npm as files: from the registry that the environment names or npm is set to, with the pinned sum."""

from __future__ import annotations

import tempfile
from pathlib import Path

from envkit.download import sha256_of
from envkit.errors import UserError
from envkit.mirrors import NPM_REGISTRY, Mirrors, read_mirrors
from envkit.paths import ROOT
from envkit.process import capture
from envkit.wording import quoted

_SECONDS = 300


def pack(package: str, sha256: str, target: Path) -> None:
    """Brings the archive of a package to `target`, unless the right one is there already.

    Args:
        package: Name and version, e.g. `@esbuild/linux-x64@0.28.2`.
        sha256: The expected sum of the archive, in hexadecimal.
        target: Where it goes; folders are made.

    Raises:
        UserError: npm is not there, cannot fetch it, or brings another file.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    with tempfile.TemporaryDirectory(prefix="npm-") as folder:
        archive = fetch_package(package, Path(folder))
        found = sha256_of(archive)
        if found != sha256:
            shown = _shown_registry(read_mirrors())
            raise UserError(
                f"What npm brought for {package} is not the file that is pinned, and was thrown away.",
                f"expected SHA-256  {sha256}\nreceived SHA-256  {found}",
                f"{shown}   (ask its keeper: an archive that was made anew there is the usual cause)",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read_bytes())


def fetch_package(package: str, folder: Path) -> Path:
    """The archive of a package, which npm has compared with the sum that its registry names.

    Raises UserError where npm is not there or cannot fetch it.
    """
    mirrors = read_mirrors()
    capture(
        ["npm", "pack", package, f"--pack-destination={folder}", "--loglevel=error", "--update-notifier=false"],
        env=mirrors.package_variables(),
        timeout=_SECONDS,
        next_step=f"{_shown_registry(mirrors)}   (is it the right one, and can this machine reach it?)",
    )
    return next(folder.glob("*.tgz"))


def _shown_registry(mirrors: Mirrors) -> str:
    """The command that shows which registry npm is led to."""
    is_led = NPM_REGISTRY in mirrors.package_variables()
    return f"grep npm_registry {quoted(ROOT / 'environment.toml')}" if is_led else "npm config get registry"
