"""The certificates of a company's own authorities: read, checked, and told to the programs of this machine.

Nothing but certificates gets out of the file: comments and what else stands between them is left behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from envkit.errors import UserError
from envkit.paths import just_command
from envkit.wording import quoted

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

TEAM_FILE = "ca-bundle.pem"
"""The team's file in the repository's root."""

_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the certificates that they trust; the list of Go's crypto/x509 (root_linux.go)."""

_SOON = timedelta(days=30)


@dataclass(frozen=True)
class Authority:
    """A certificate of an authority.

    Attributes:
        name: Its subject, as RFC 4514 writes it.
        expires: When it ends.
    """

    name: str
    expires: datetime


@dataclass(frozen=True)
class CaBundle:
    """The certificates of a file.

    Attributes:
        path: The file.
        authorities: Whose they are.
        text: The certificates as PEM, and nothing else.
    """

    path: Path
    authorities: tuple[Authority, ...]
    text: str

    @property
    def certificates(self) -> list[str]:
        """The certificates as PEM, one by one."""
        end = "-----END CERTIFICATE-----\n"
        return [f"{part}{end}" for part in self.text.split(end)[:-1]]

    @property
    def sha256(self) -> str:
        """Identifies the certificates, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def expired(self, now: datetime | None = None) -> tuple[Authority, ...]:
        """Those that have ended."""
        return tuple(authority for authority in self.authorities if authority.expires <= (now or datetime.now(UTC)))

    def expiring(self, now: datetime | None = None) -> tuple[Authority, ...]:
        """Those that end within 30 days."""
        now = now or datetime.now(UTC)
        return tuple(authority for authority in self.authorities if now < authority.expires <= now + _SOON)


def read_ca_bundle(path: Path) -> CaBundle:
    """The certificates of a file.

    Raises UserError where it cannot be read, holds a private key, holds no certificate, or one that is no authority's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    content = _content(path)
    if b"PRIVATE KEY-----" in content:
        raise UserError(
            f"{path} holds a private key.",
            "It goes into every container of the environment, and the team's file into Git.",
            "Leave only the certificates in it. If it was committed or sent to anybody, the key has to be replaced.",
        )
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UserError(
            f"{path} holds no certificate in the PEM format.",
            "Each begins with a line -----BEGIN CERTIFICATE-----.",
            f"openssl x509 -inform der -in CERTIFICATE.cer -out {quoted(path)}"
            "   (where yours is binary, as .cer and .der are)",
        )
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise UserError(
            f"{path} holds a certificate that cannot be read.",
            f"{str(error).splitlines()[0]}. One may be cut off.",
            f"openssl storeutl -noout -text -certs {quoted(path)}   (shows those that can be)",
        ) from error
    if strangers := [_name(certificate) for certificate in certificates if not _is_authority(certificate)]:
        raise UserError(
            f"{path} holds a certificate that is no authority's.",
            "\n".join(f"{name} is a server's or a person's; what it signs is trusted by nobody." for name in strangers),
            "Put the certificate of the authority that issued it in its place; whoever keeps your proxy has it.",
        )
    authorities = [Authority(_name(certificate), certificate.not_valid_after_utc) for certificate in certificates]
    text = b"".join(dict.fromkeys(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return CaBundle(path, tuple(dict.fromkeys(authorities)), text.decode())


def system_certificates() -> str:
    """The certificates that this machine trusts, as PEM; empty where it keeps them in another way.

    On macOS those are the ones that curl has, without what is in the keychain.
    """
    for path in map(Path, _SYSTEM_BUNDLES):
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return ""


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"The file with certificates is missing: {path}.",
            "CA_BUNDLE in .env names it.",
            "Correct CA_BUNDLE in .env.",
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read.",
            str(error.strerror or error),
            f"ls -l {quoted(path)}   (then: {just_command()} doctor)",
        ) from error


def _name(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:  # roots from before the extension existed
        return certificate.subject == certificate.issuer
    return constraints.value.ca


def describe(authorities: Iterable[Authority]) -> str:
    """Names and last days, for a person."""
    return ", ".join(f"{authority.name} ({authority.expires:%Y-%m-%d})" for authority in authorities)
