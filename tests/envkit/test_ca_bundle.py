from __future__ import annotations

import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import Authority, new_authority, pem_of_key
from cryptography.hazmat.primitives.serialization import Encoding
from samples import sample_environment, write_repo

from envkit import ca_bundle, preflight
from envkit.ca_bundle import CaBundle, read_ca_bundle
from envkit.corporate_network import read_own_ca_bundle, tell_programs
from envkit.errors import UserError
from envkit.preflight import Verdict


def _bundle(folder: Path, *texts: str) -> CaBundle:
    path = folder / "ca-bundle.pem"
    path.write_text("".join(texts), encoding="utf-8")
    return read_ca_bundle(path)


def test_the_certificates_are_read_and_nothing_else(tmp_path: Path) -> None:
    one, two = new_authority("One"), new_authority("Two")

    bundle = _bundle(tmp_path, "# Ask for héléne@example.com\n", one.pem, "and\n", two.pem)

    assert [authority.name.split()[0] for authority in bundle.authorities] == ["CN=One", "CN=Two"]
    assert bundle.text == one.pem + two.pem
    assert bundle.certificates == [one.pem, two.pem]


def test_what_stands_between_the_certificates_changes_nothing(tmp_path: Path) -> None:
    one = new_authority()

    assert _bundle(tmp_path, one.pem).sha256 == _bundle(tmp_path, "a comment\n", one.pem, one.pem).sha256
    assert _bundle(tmp_path, one.pem).sha256 != _bundle(tmp_path, one.pem, new_authority().pem).sha256


ONE = new_authority()
SERVER = ONE.issue("proxy.example.com")[0]
DEFECTS = {
    "empty": ("", "holds no certificate in the PEM format"),
    "binary": (ONE.certificate.public_bytes(Encoding.DER).decode("latin-1"), "openssl x509 -inform der"),
    "private key": (ONE.pem + pem_of_key(ONE.key), "holds a private key"),
    "cut off": (ONE.pem[:200] + "\n-----END CERTIFICATE-----\n", "that cannot be read"),
    "certificate of a server": (ONE.pem + SERVER, "CN=proxy.example.com is a server's"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, defect: str) -> None:
    text, message = DEFECTS[defect]

    with pytest.raises(UserError) as caught:
        _bundle(tmp_path, text)

    assert message in str(caught.value)
    assert str(tmp_path / "ca-bundle.pem") in str(caught.value)
    assert caught.value.next_step
    assert "BEGIN PRIVATE" not in str(caught.value)


def test_a_missing_file_is_named_with_the_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="certificates is missing") as caught:
        sample_environment(tmp_path, dotenv="CA_BUNDLE=nowhere.pem\n")

    assert "CA_BUNDLE in .env" in caught.value.next_step


@pytest.mark.parametrize("chosen", ["own.pem", '"own.pem"', "'own.pem'"])
def test_a_developers_own_file_takes_the_place_of_the_teams(tmp_path: Path, chosen: str) -> None:
    own = new_authority("Own")
    root = write_repo(tmp_path, dotenv=f"CA_BUNDLE={chosen}\n")
    (root / "ca-bundle.pem").write_text(new_authority("Team").pem, encoding="ascii")
    (root / "own.pem").write_text(own.pem, encoding="ascii")

    bundle = read_own_ca_bundle(root)

    assert bundle is not None
    assert bundle.text == own.pem


def test_an_environment_without_any_has_none(tmp_path: Path) -> None:
    assert read_own_ca_bundle(write_repo(tmp_path)) is None


# -- checks -------------------------------------------------------------------------------------------------------


def _check(folder: Path, *authorities: Authority) -> preflight.Check:
    root = write_repo(folder)
    (root / "ca-bundle.pem").write_text("".join(authority.pem for authority in authorities), encoding="ascii")
    (check,) = preflight.check_corporate_network(sample_environment(root), root)
    return check


@pytest.mark.parametrize(
    ("days", "verdict", "word"),
    [
        ((90,), Verdict.OK, "CN=Example"),
        ((90, 5), Verdict.WARN, "about to expire: "),
        ((90, -1), Verdict.WARN, "expired"),
        ((-1, -2), Verdict.FAIL, "all have expired"),
    ],
)
def test_what_ends_is_said_before_it_ends(
    tmp_path: Path, days: tuple[int, ...], verdict: Verdict, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    check = _check(tmp_path, *(new_authority(days=number) for number in days))

    assert (check.subject, check.verdict) == ("CA bundle", verdict)
    assert word in check.detail
    assert verdict is Verdict.OK or check.fix


def test_soon_is_a_month(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, new_authority(days=60).pem)
    now = datetime.now(UTC)

    assert bundle.expiring(now) == ()
    assert bundle.expiring(now + timedelta(days=31)) == bundle.authorities
    assert bundle.expired(now + timedelta(days=61)) == bundle.authorities
    assert replace(bundle, authorities=()).expired() == ()


# -- programs of this machine -------------------------------------------------------------------------------------


def test_programs_trust_the_systems_authorities_and_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, own = tmp_path / "system.crt", new_authority()
    system.write_text(new_authority("System").pem, encoding="ascii")
    monkeypatch.setattr(ca_bundle, "_SYSTEM_BUNDLES", ("/nowhere", str(system)))
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    root = write_repo(tmp_path / "shop")
    (root / "ca-bundle.pem").write_text(own.pem, encoding="ascii")
    variables: dict[str, str] = {}

    tell_programs(root, variables)

    trusted = Path(variables["SSL_CERT_FILE"])
    assert stat.S_IMODE(trusted.stat().st_mode) == 0o600
    for text in (system.read_text(encoding="ascii"), own.pem):
        assert text in trusted.read_text(encoding="ascii")
    certificate = tmp_path / "server.crt"
    certificate.write_text(own.issue("x.example")[0], encoding="ascii")
    subprocess.run(["openssl", "verify", "-CAfile", str(trusted), str(certificate)], check=True, capture_output=True)

    system.write_text(new_authority("Newer").pem, encoding="ascii")
    tell_programs(root, {})
    assert system.read_text(encoding="ascii") in trusted.read_text(encoding="ascii")


def test_what_a_person_trusts_stays(tmp_path: Path) -> None:
    root, variables = write_repo(tmp_path), {"SSL_CERT_FILE": "/mine.pem"}
    (root / "ca-bundle.pem").write_text(new_authority().pem, encoding="ascii")

    tell_programs(root, variables)

    assert variables == {"SSL_CERT_FILE": "/mine.pem"}
