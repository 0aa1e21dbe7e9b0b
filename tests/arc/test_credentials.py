"""Credentials with one defect each; the name of a case is the defect."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from arc.conftest import Settings, write_dotenv
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from support import keep_no_permissions

from envkit.arc.credentials import app_token, problems, token_manifests
from envkit.arc.preflight import refusal
from envkit.arc.settings import read_token
from envkit.errors import UserError

KEY = ".github-app-private-key.pem"


def found(root: Path, settings: Settings) -> list[str]:
    return [f"{what} {fix}" for what, fix in problems(settings(), root)]


def rsa_key(pem: str) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def test_right_credentials_have_no_problem(root: Path, settings: Settings) -> None:
    assert found(root, settings) == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"GITHUB_APP_ID": ""}, "GITHUB_APP_ID is empty"),
        ({"GITHUB_APP_ID": "my-app"}, "'my-app', not an App ID"),
        ({"GITHUB_APP_ID": "\uff11\uff12\uff13"}, "not an App ID"),
        ({"GITHUB_APP_INSTALLATION_ID": "\u0661\u0662"}, "not a number"),
        ({"GITHUB_APP_INSTALLATION_ID": ""}, "GITHUB_APP_INSTALLATION_ID is empty"),
        ({"GITHUB_APP_INSTALLATION_ID": "https://github.com/x/456"}, "not a number"),
        ({"GITHUB_APP_PRIVATE_KEY_PATH": ""}, "GITHUB_APP_PRIVATE_KEY_PATH is empty"),
        ({"GITHUB_APP_PRIVATE_KEY_PATH": "elsewhere.pem"}, "private key is missing"),
        ({"GITHUB_TOKEN": "ghp_x"}, "Both a GitHub App and GITHUB_TOKEN"),
        ({"GITHUB_CONFIG_URL": "https://github.com/enterprises/big"}, "cannot use a GitHub App"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_defect_of_the_settings_is_named(lines: dict[str, str], told: str, root: Path, settings: Settings) -> None:
    write_dotenv(root, **lines)
    assert [told in line for line in found(root, settings)] == [True]


@pytest.mark.parametrize("token", ["\u201cghp_x\u201d", "ghp_x\u200b", "ghp_x ghp_y", "ghp_\u00e9", '"ghp_x\nghp_y"'])
def test_token_with_what_came_along_in_copying_is_refused(token: str, root: Path, settings: Settings) -> None:
    (root / ".env").write_text(f"GITHUB_TOKEN={token}\n", encoding="utf-8")
    assert ["GITHUB_TOKEN in .env has a character" in line for line in found(root, settings)][:1] == [True]


@pytest.mark.parametrize("line", ["GITHUB_APP_ID= 123 ", "GITHUB_APP_ID=Iv23liAbCdEf012345", 'GITHUB_APP_ID="123"'])
def test_spaces_quotes_and_client_ids_are_fine(line: str, root: Path, settings: Settings) -> None:
    text = (root / ".env").read_text().replace("GITHUB_APP_ID=123", line)
    (root / ".env").write_text(text)
    assert found(root, settings) == []


def encrypted(pem: str) -> str:
    key = rsa_key(pem)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


def openssh(pem: str) -> str:
    return rsa_key(pem).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public(pem: str) -> str:
    return rsa_key(pem).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def elliptic(_: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def short(_: str) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (encrypted, "passphrase"),
        (openssh, "OpenSSH"),
        (public, "public key"),
        (elliptic, "not an RSA key"),
        (short, "1024 bits"),
        (lambda pem: pem.replace("\n", "\\n"), "line breaks"),
        (lambda pem: pem.replace("\n", " "), "line breaks"),
        (lambda pem: "\n".join([*pem.splitlines()[:9], pem.splitlines()[-1]]), "cut off"),
        (lambda _: "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", "not a PEM file"),
        (lambda _: "", "not a PEM file"),
    ],
    ids=[
        "encrypted",
        "openssh",
        "public",
        "elliptic",
        "short",
        "escaped",
        "one-line",
        "cut-off",
        "certificate",
        "empty",
    ],
)
def test_key_of_the_wrong_kind_is_told_without_its_content(
    spoil: Callable[[str], str], told: str, root: Path, settings: Settings, pem: str
) -> None:
    text = spoil(pem)
    (root / KEY).write_text(text)
    problem = found(root, settings)
    assert [told in line for line in problem] == [True]
    assert not [line for line in text.splitlines() if len(line) > 20 and "-----" not in line and line in problem[0]]


def test_binary_file_is_no_key(root: Path, settings: Settings) -> None:
    (root / KEY).write_bytes(b"\x00\xff\xfe")
    assert ["not text" in line for line in found(root, settings)] == [True]


def test_key_that_others_can_read_is_refused(root: Path, settings: Settings) -> None:
    (root / KEY).chmod(0o640)
    assert found(root, settings) == [f"{root / KEY} can be read by others (mode 0640). chmod 600 {root / KEY}"]


def test_key_on_a_file_system_without_permissions_is_to_be_moved_to_one_with_them(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "home of jo").mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    with monkeypatch.context() as drive:
        keep_no_permissions(drive, root)
        ((what, remedy),) = problems(settings(), root)
    assert "keeps no permissions" in what

    command, _, line = remedy.removesuffix(")").partition("   (then in .env: ")
    subprocess.run(["sh", "-c", command], check=True)
    write_dotenv(root, **dict([line.split("=", 1)]))

    assert found(root, settings) == []


def test_token_on_a_file_system_without_permissions_is_not_to_be_closed(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="", GITHUB_TOKEN="ghp_x")
    keep_no_permissions(monkeypatch, root)

    assert ["Move the repository" in line and "chmod" not in line for line in found(root, settings)] == [True]


def test_key_that_git_tracks_is_refused(root: Path, settings: Settings) -> None:
    subprocess.run(["git", "-C", root, "add", "--force", KEY], check=True)
    assert ["Git tracks" in line for line in found(root, settings)] == [True]


@pytest.mark.parametrize("name", ["app-key", "Jo's key"])
def test_key_that_git_would_take_is_refused_until_the_commands_have_been_run(
    name: str, root: Path, settings: Settings
) -> None:
    (root / KEY).rename(root / name)
    write_dotenv(root, GITHUB_APP_PRIVATE_KEY_PATH=f'"{name}"')
    subprocess.run(["git", "-C", root, "add", "--all"], check=True)
    ((what, remedy),) = problems(settings(), root)
    assert what.startswith(f"Git tracks {name}")
    subprocess.run(["sh", "-c", remedy.partition(", commit")[0]], cwd=root, check=True)
    ((what, remedy),) = problems(settings(), root)
    assert f"does not ignore {name}" in what
    subprocess.run(["sh", "-c", remedy], cwd=root, check=True)
    assert found(root, settings) == []


def test_key_outside_the_repository_is_no_business_of_gits(root: Path, settings: Settings, tmp_path: Path) -> None:
    (root / KEY).rename(tmp_path / "key.txt")
    write_dotenv(root, GITHUB_APP_PRIVATE_KEY_PATH=str(tmp_path / "key.txt"))
    assert found(root, settings) == []


def test_missing_dotenv_is_one_problem(root: Path, settings: Settings) -> None:
    (root / ".env").unlink()
    assert ["cp .env.example .env" in line for line in found(root, settings)] == [True]


def test_token_needs_a_file_that_others_cannot_read(root: Path, settings: Settings) -> None:
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="", GITHUB_TOKEN="ghp_x")
    assert found(root, settings) == []
    (root / ".env").chmod(0o644)
    assert ["chmod 600" in line for line in found(root, settings)] == [True]


@pytest.mark.parametrize(
    ("lines", "token"),
    [
        ("GITHUB_TOKEN=ghp_one\n", "ghp_one"),
        ("GITHUB_TOKEN=ghp_old\nGITHUB_TOKEN=ghp_new\n", "ghp_new"),
        ("GITHUB_TOKEN=\nGITHUB_TOKEN=ghp_new\n", "ghp_new"),
        ("GITHUB_TOKEN=\nRUNNER_NAME=mine\nGITHUB_TOKEN=ghp_new\n", "ghp_new"),
        ("GITHUB_TOKEN=ghp_old\nGITHUB_TOKEN=\n", ""),
        ("#GITHUB_TOKEN=ghp_old\nexport GITHUB_TOKEN='ghp_new'\n", "ghp_new"),
        ('  GITHUB_TOKEN = "ghp_new"   # of mine\n', "ghp_new"),
        ("GITHUB_TOKEN=ghp_new # of mine\n", "ghp_new"),
        ("GITHUB_TOKEN=v1.of-another.form\n", "v1.of-another.form"),
        ("GITHUB_TOKEN=${HOME}\n", "${HOME}"),
    ],
    ids=[
        "one",
        "two",
        "empty-first",
        "name-after-empty",
        "empty-last",
        "export",
        "spaces",
        "comment",
        "dots",
        "dollar",
    ],
)
def test_cluster_gets_the_token_that_is_checked(lines: str, token: str, root: Path, settings: Settings) -> None:
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="")
    with (root / ".env").open("a", encoding="utf-8") as dotenv:
        dotenv.write(lines)
    assert settings().local.has_token is bool(token)
    assert read_token(root) == token
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "arc-github", "namespace": "arc-runners"},
        "data": {"github_token": base64.b64encode(token.encode()).decode()},
    }
    assert token_manifests("arc-runners", root) == ([secret] if token else [])


def test_a_dotenv_that_is_no_text_is_told(root: Path) -> None:
    (root / ".env").write_bytes(b"GITHUB_TOKEN=\xff\n")

    with pytest.raises(UserError, match=r"\.env cannot be read"):
        read_token(root)


def test_playbooks_get_the_secret_with_the_token_last_and_nobody_else_sees_it(root: Path) -> None:
    proxy = "http://user:geheim@proxy.example.com:3128"
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="", GITHUB_TOKEN="ghp_x", HTTPS_PROXY=proxy)
    done = subprocess.run(
        [sys.executable, "-m", "envkit", "arc-secrets"], cwd=root, capture_output=True, text=True, check=True
    )
    *others, last = json.loads(done.stdout)
    assert last["metadata"] == {"name": settings_of(root)["githubConfigSecret"], "namespace": "arc-runners"}
    assert base64.b64decode(last["data"]["github_token"]) == b"ghp_x"
    assert {item["metadata"]["name"] for item in others} == {"arc-proxy", "arc-proxy-https"}
    assert done.stderr == ""


def settings_of(root: Path) -> dict[str, Any]:
    """The runners' values as they lie in the repository."""
    values: dict[str, Any] = yaml.safe_load((root / "helm" / "arc-runners.yaml").read_text(encoding="utf-8"))
    return values


def test_all_problems_are_in_one_error(root: Path, settings: Settings) -> None:
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="x")
    (root / KEY).chmod(0o644)
    error = str(refusal(list(problems(settings(), root))))
    assert "3 things stand in the way; nothing was changed." in error
    assert error.count("\n  - ") == 3
    assert "install-arc" in error


def test_app_signs_in_with_its_key(root: Path, settings: Settings, pem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    monkeypatch.setattr("envkit.arc.credentials.time.time", lambda: 1_800_000_000.9)
    body, _, signature = app_token(settings().local).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    rsa_key(pem).public_key().verify(raw, body.encode(), PKCS1v15(), SHA256())
    assert "=" not in body + signature
    header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in body.split("."))
    assert header == {"alg": "RS256", "typ": "JWT"}
    # From a minute ago on, for a clock that is ahead of GitHub's, and for less than the ten minutes that it allows.
    assert claims == {"iss": "123", "iat": 1_800_000_000 - 60, "exp": 1_800_000_000 + 540}
    assert (root / KEY).exists()


@pytest.mark.parametrize("path", [KEY, ""])
def test_app_does_not_sign_in_without_a_key_of_its_kind(path: str, root: Path, settings: Settings) -> None:
    (root / KEY).write_text(elliptic(""))
    write_dotenv(root, GITHUB_APP_PRIVATE_KEY_PATH=path)
    with pytest.raises(ValueError, match="not checked before"):
        app_token(settings().local)
