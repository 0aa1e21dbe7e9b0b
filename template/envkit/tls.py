"""Whose certificates the servers that envkit itself asks may have."""

from __future__ import annotations

import os
import ssl
import sys
from contextlib import suppress
from pathlib import Path

MACOS_BUNDLE = Path("/etc/ssl/cert.pem")
"""The authorities that programs of macOS trust which do not read the keychain, such as its curl."""


def context_for(address: str, ca_file: Path | None = None) -> ssl.SSLContext | None:
    """Python's own settings for an address; on macOS with the system's authorities where Python has none.

    The Python of python.org has none until a person runs its `Install Certificates.command`, as its ReadMe says.

    Args:
        address: What is asked. For one that is not `https://` there are no settings: they take longer to load than a
            local registry to answer.
        ca_file: The only authorities to trust.
    """
    if not address.startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file or os.environ.get("SSL_CERT_FILE"):
        # From 3.13 on Python wants of an authority what many a company's lacks, such as a key usage. curl does not.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if sys.platform == "darwin" and not context.cert_store_stats()["x509_ca"]:
        with suppress(OSError):  # without it the server's certificate is refused, which the caller tells
            context.load_verify_locations(MACOS_BUNDLE)
    return context
