"""Asking GitHub beforehand, played by a small server on this machine."""

from __future__ import annotations

import errno
import http.server
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from arc.conftest import Settings, write_dotenv
from loopback_server import serving

from envkit.arc import verify as arc_verify
from envkit.arc.verify import verify_credentials
from envkit.paths import just_command


@dataclass
class GitHub:
    """Answers each path with a status and a body.

    Attributes:
        address: Its host and port.
        answers: What it answers, by path.
        seen: Each path that was asked for, with the credentials.
        forms: Which form of an answer was asked for.
    """

    address: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    forms: set[tuple[str, ...]] = field(default_factory=set)


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, github: GitHub, *arguments: Any) -> None:
        self._github = github
        super().__init__(*arguments)

    def do_POST(self) -> None:
        self._github.seen.append((self.path, self.headers["Authorization"]))
        self._github.forms.add(tuple(self.headers[name] for name in ("Accept", "X-GitHub-Api-Version", "User-Agent")))
        status, body = self._github.answers.get(self.path, (404, {}))
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


ACCESS = "/api/v3/app/installations/456/access_tokens"
GOOD = {"token": "ghs_1", "permissions": {"organization_self_hosted_runners": "write", "administration": "write"}}


@pytest.fixture
def github(root: Path) -> Iterator[GitHub]:
    github = GitHub(
        answers={
            ACCESS: (201, GOOD),
            "/api/v3/orgs/Shop/actions/runners/registration-token": (201, {"token": "x"}),
            "/api/v3/repos/Shop/app/actions/runners/registration-token": (201, {"token": "x"}),
        }
    )
    with serving(partial(_Handler, github)) as github.address:
        write_dotenv(root, GITHUB_CONFIG_URL=f"http://{github.address}/Shop")
        yield github


def found(settings: Settings) -> list[str]:
    return [f"{what} {fix}" for what, fix in verify_credentials(settings())]


def test_good_credentials_have_no_problem(github: GitHub, settings: Settings) -> None:
    assert found(settings) == []
    assert [path for path, _ in github.seen] == list(github.answers)[:2]
    assert github.seen[0][1].count(".") == 2  # the App's own token, a JWT
    assert github.seen[1][1] == "Bearer ghs_1"
    assert github.forms == {("application/vnd.github+json", "2022-11-28", "envkit")}


def test_server_that_does_not_tell_the_permissions_is_taken_at_its_word(github: GitHub, settings: Settings) -> None:
    github.answers[ACCESS] = (201, {"token": "ghs_1"})
    assert found(settings) == []
    assert len(github.seen) == 2


def test_authority_of_an_own_server_is_trusted(
    github: GitHub, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[Path | None] = []
    monkeypatch.setattr("envkit.arc.verify.context_for", lambda _, ca_file: files.append(ca_file))
    with_own = replace(settings(), ca_file=tmp_path / "ca.pem")
    assert found(lambda: with_own) == []
    assert files == [tmp_path / "ca.pem"] * len(github.seen)


@pytest.mark.parametrize(
    ("path", "permission", "named"),
    [
        ("Shop", "organization_self_hosted_runners", "Self-hosted runners"),
        ("Shop/app", "administration", "Administration"),
    ],
)
@pytest.mark.parametrize("granted", ["read", None])
def test_missing_permission_is_named(
    path: str, permission: str, named: str, granted: str | None, root: Path, github: GitHub, settings: Settings
) -> None:
    write_dotenv(root, GITHUB_CONFIG_URL=f"http://{github.address}/{path}")
    assert found(settings) == []
    permissions = {**GOOD["permissions"], permission: granted}  # type: ignore[dict-item]
    github.answers[ACCESS] = (201, {**GOOD, "permissions": permissions})
    problem = found(settings)
    assert len(problem) == 1
    assert named in problem[0]
    assert "Read and write" in problem[0]
    assert github.seen[-1][0] == ACCESS  # what cannot work is not tried


@pytest.mark.parametrize(("status", "told"), [(401, "App's key"), (404, "no such installation"), (403, "suspended")])
def test_refused_app_is_explained(status: int, told: str, github: GitHub, settings: Settings) -> None:
    github.answers[ACCESS] = (status, {})
    assert [told in line for line in found(settings)] == [True]


def test_refused_registration_is_explained(github: GitHub, settings: Settings) -> None:
    github.answers["/api/v3/orgs/Shop/actions/runners/registration-token"] = (403, {})
    (problem,) = found(settings)
    assert "permission is missing" in problem
    assert problem.endswith(f", then: {just_command()} install-arc")


def test_token_is_used_as_it_is(
    root: Path, github: GitHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://{github.address}/Shop"
    write_dotenv(root, GITHUB_APP_ID="", GITHUB_APP_INSTALLATION_ID="", GITHUB_TOKEN="ghp_2", GITHUB_CONFIG_URL=url)
    monkeypatch.setattr(arc_verify, "read_token", lambda: "ghp_2")
    assert found(settings) == []
    assert [header for _, header in github.seen] == ["Bearer ghp_2"]


@pytest.mark.parametrize("answer", [{}, [], "<html>Sign in</html>", None])
def test_something_else_in_githubs_place_is_said(answer: Any, github: GitHub, settings: Settings) -> None:
    github.answers[ACCESS] = (200, answer)
    assert ["is not GitHub's API" in line for line in found(settings)] == [True]


def test_github_that_does_not_answer_is_said(root: Path, settings: Settings) -> None:
    write_dotenv(root, GITHUB_CONFIG_URL="http://127.0.0.1:9/Shop")
    ((what, remedy),) = verify_credentials(settings())
    refused = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
    assert what == f"GitHub cannot be asked at http://127.0.0.1:9/api/v3: {refused}."
    assert remedy == "Check network and proxy, or leave out --verify."


@pytest.mark.parametrize(
    ("url", "api", "path"),
    [
        ("https://github.com/Shop", "https://api.github.com", "/orgs/Shop"),
        ("https://www.github.com/Shop/", "https://api.github.com", "/orgs/Shop"),
        ("https://github.com/Shop/app", "https://api.github.com", "/repos/Shop/app"),
        ("https://github.com/Shop/app/", "https://api.github.com", "/repos/Shop/app"),
        ("https://github.com/enterprises/big", "https://api.github.com", "/enterprises/big"),
        ("https://github.com/Enterprises/big", "https://api.github.com", "/enterprises/big"),
        ("https://shop.ghe.com/Shop", "https://api.shop.ghe.com", "/orgs/Shop"),
        ("https://git.example.com:8443/Shop", "https://git.example.com:8443/api/v3", "/orgs/Shop"),
    ],
)
def test_address_of_the_api(url: str, api: str, path: str) -> None:
    place = arc_verify._place(url)
    assert place == arc_verify._Place(api, path, is_repository=path.startswith("/repos/"))
