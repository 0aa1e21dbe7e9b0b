"""Certificates of an authority that exists for a test alone."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)
_NO_USE = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)
_USE_OF_AN_AUTHORITY = x509.KeyUsage(**_NO_USE | {"key_cert_sign": True, "crl_sign": True})
_USE_OF_A_SERVER = x509.KeyUsage(**_NO_USE | {"digital_signature": True})


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True)
class Authority:
    """An authority with its key.

    Attributes:
        certificate: Its own certificate.
        key: What it signs with.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Its certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, *names: str) -> tuple[str, str]:
        """Certificate and private key of a server with these DNS names, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(names[0], key, self.certificate.subject, is_authority=False)
            .add_extension(alternatives, critical=False)
            .add_extension(issuer_key, critical=False)  # without which Python refuses it from 3.13 on
        )
        return certificate.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), pem_of_key(key)


def new_authority(name: str = "Example Corp Root", *, days: float = 30, strict: bool = True) -> Authority:
    """An authority whose certificate ends in so many days; in the past where that is below zero.

    One that is not `strict` lacks what Python wants of it from 3.13 on, as those of many companies do.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"{name} {secrets.token_hex(4)}")
    certificate = _builder(subject, key, subject, is_authority=True, days=days, strict=strict).sign(
        key, hashes.SHA256()
    )
    return Authority(certificate, key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: str | x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    *,
    is_authority: bool,
    days: float = 30,
    strict: bool = True,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject) if isinstance(subject, str) else subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 400 * _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    use = _USE_OF_AN_AUTHORITY if is_authority else _USE_OF_A_SERVER
    return builder.add_extension(use, critical=True) if strict else builder
