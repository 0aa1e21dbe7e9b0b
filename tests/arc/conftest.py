"""A generated environment, and keys of a GitHub App, for the tests of what is decided about runners."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from proxies import no_proxy_of_this_machine

from envkit.arc.settings import ArcSettings, read_arc_settings
from envkit.config import read_environment

__all__ = ["no_proxy_of_this_machine"]

Settings = Callable[..., ArcSettings]


@pytest.fixture(scope="session")
def pem() -> str:
    """A key as GitHub gives it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.fixture(scope="session")
def pristine(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated environment, to be copied."""
    destination = tmp_path_factory.mktemp("pristine") / "env"
    run_copy(str(template), destination, defaults=True, quiet=True, unsafe=True, skip_tasks=True)
    return destination


@pytest.fixture
def root(tmp_path: Path, pristine: Path, pem: str) -> Path:
    """An environment with everything filled in, which Git tracks."""
    root = tmp_path / "env"
    shutil.copytree(pristine, root, symlinks=True)
    write_dotenv(root)
    key = root / ".github-app-private-key.pem"
    key.touch(mode=0o600)
    key.write_text(pem, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


@pytest.fixture
def settings(root: Path) -> Settings:
    """A function that reads the environment's settings."""
    return lambda: read_arc_settings(read_environment(root), root)


def write_dotenv(root: Path, **lines: str) -> None:
    """Writes `.env` with the App's lines and these."""
    values: dict[str, Any] = {
        "GITHUB_APP_ID": "123",
        "GITHUB_APP_INSTALLATION_ID": "456",
        "GITHUB_APP_PRIVATE_KEY_PATH": ".github-app-private-key.pem",
        **lines,
    }
    path = root / ".env"
    path.touch(mode=0o600)
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
