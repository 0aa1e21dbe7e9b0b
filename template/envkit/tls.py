"""Whose certificates the servers that envkit itself asks may have."""

from __future__ import annotations

import ssl
import sys
from contextlib import suppress
from pathlib import Path

MACOS_BUNDLE = Path("/etc/ssl/cert.pem")
"""The authorities that programs of macOS trust which do not read the keychain, such as its curl."""


def context_for(address: str) -> ssl.SSLContext | None:
    """Python's own settings for an address; on macOS with the system's authorities where Python has none.

    None for an address that is not `https://`: the settings take longer to load than a local registry to answer.
    The Python of python.org has none until a person runs its `Install Certificates.command`, as its ReadMe says.
    """
    if not address.startswith("https://"):
        return None
    context = ssl.create_default_context()
    if sys.platform == "darwin" and not context.cert_store_stats()["x509_ca"]:
        with suppress(OSError):  # without it the server's certificate is refused, which the caller tells
            context.load_verify_locations(MACOS_BUNDLE)
    return context
