"""What lines of the logs mean; the lines are as github.com/actions/scaleset 0.4.0 writes them."""

from __future__ import annotations

import pytest

from envkit.arc.causes import cause_of_refusal, error_lines, find_cause
from envkit.paths import just_command

_HOST = "https://api.github.com"
_TENANT = "https://pipelines.actions.githubusercontent.com/x/_apis/runtime/runnerscalesets"


def refused(url: str, status: str, *, method: str = "POST") -> str:
    """A line in the format of logfmt, in which the quotes of the error are escaped."""
    error = f'registering the scale set: request {method} {url} failed(status=\\"{status}\\"): more'
    return f'time=2026-11-24T13:45:12.361Z level=ERROR msg="Reconciler error" name=shop-runners error="{error}"'


def in_zap(url: str, status: str) -> str:
    """The same in the format of the controller of 0.14."""
    error = f'request POST {url} failed(status=\\"{status}\\"): more'
    return (
        f'2026-11-24T13:45:12Z\tERROR\tReconciler error\t{{"controller": "autoscalingrunnerset", "error": "{error}"}}'
    )


def through_proxy(error: str) -> str:
    """A line about a request that has not got as far as GitHub."""
    return f'level=ERROR msg="Reconciler error" error="Post \\"{_HOST}/app/installations/2/access_tokens\\": {error}"'


@pytest.mark.parametrize("line", [refused, in_zap])
@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        (f"{_HOST}/app/installations/2/access_tokens", "401 Unauthorized", "refuses the App's key"),
        (f"{_HOST}/app/installations/2/access_tokens", "403 Forbidden", "suspended"),
        (f"{_HOST}/app/installations/2/access_tokens", "404 Not Found", "GITHUB_APP_INSTALLATION_ID"),
        (f"{_HOST}/orgs/Shop/actions/runners/registration-token", "401 Unauthorized", "expired"),
        (f"{_HOST}/orgs/Shop/actions/runners/registration-token", "403 Forbidden", "permission is missing"),
        (f"{_HOST}/orgs/Shop/actions/runners/registration-token", "404 Not Found", "no such organisation"),
        (f"{_HOST}/actions/runner-registration", "404 Not Found", "reach Actions"),
        (f"{_TENANT}/3/sessions?api-version=6.0-preview", "409 Conflict", "Another listener"),
        (f"{_TENANT}?api-version=6.0-preview", "409 Conflict", "another runner group"),
        (f"{_TENANT}?name=x&runnerGroupId=1", "403 Forbidden", "runner group"),
        (f"{_TENANT}?name=x&runnerGroupId=1", "401 Unauthorized", "runner group"),
        (f"{_TENANT}/3/sessions", "404 Not Found", "runner group"),
        (f"{_TENANT}/3/generatejitconfig", "403 Forbidden", "runner group"),
        (f"{_TENANT.removesuffix('scalesets')}groups?groupName=x", "401 Unauthorized", "runner group"),
        (f"{_HOST}/actions/runner-registration", "401 Unauthorized", "reach Actions"),
        (f"{_HOST}/actions/runner-registration", "403 Forbidden", "reach Actions"),
    ],
)
def test_refusal_has_a_cause_and_a_remedy(line: object, url: str, status: str, told: str) -> None:
    assert callable(line)
    cause = find_cause(["nothing", line(url, status)])
    assert cause
    assert told in cause.what
    assert not cause.passing
    assert cause.next_step.endswith(f"\nthen: {just_command()} install-arc")
    assert status[:3] in cause.line


def test_scale_set_that_github_has_lost_is_told_from_one_that_it_refuses() -> None:
    refusal = refused(f"{_TENANT}/3/sessions", "404 Not Found")
    lost = refusal.replace("more", "GitHub.DistributedTask.WebApi.RunnerScaleSetNotFoundException, GitHub: none with 3")
    causes = find_cause([refusal]), find_cause([lost])
    assert [cause and cause.lost for cause in causes] == [False, True]


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "429 Too Many"]
)
def test_trouble_of_githubs_may_pass(status: str) -> None:
    cause = find_cause([refused(f"{_HOST}/app/installations/2/access_tokens", status)])
    assert cause
    assert cause.passing


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('level=ERROR error="failed to parse RSA private key from PEM"', "cannot read the App's private key"),
        ('level=ERROR error="github_app_installation_id: strconv.ParseInt: invalid syntax"', "not a number"),
        ("Runner version v2.334.0 is deprecated and cannot receive messages.", "no longer takes the runner's version"),
        ('level=ERROR error="x509: certificate signed by unknown authority"', "does not trust GitHub's certificate"),
        ('level=ERROR error="dial tcp: lookup api.github.com: no such host"', "no host name"),
        ('level=ERROR error="dial tcp 1.2.3.4:443: connect: connection refused"', "does not answer"),
        (through_proxy("Proxy Authentication Required"), "wants a user name and a password"),
        (refused(f"{_HOST}/x/access_tokens", "407 Proxy Authentication Required"), "wants a user name and a password"),
        (through_proxy("proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused"), "reach the proxy"),
        (through_proxy("proxyconnect tcp: dial tcp: lookup proxy on 10.43.0.10:53: no such host"), "reach the proxy"),
        (through_proxy("proxyconnect tcp: dial tcp 10.0.0.1:3128: i/o timeout"), "reach the proxy"),
        (through_proxy("proxyconnect tcp: tls: failed to verify certificate: x509: unknown"), "that of a proxy"),
        (through_proxy("tls: failed to verify certificate: x509: certificate signed by unknown"), "does not trust"),
    ],
)
def test_other_lines_that_tell_a_cause(line: str, told: str) -> None:
    cause = find_cause([line])
    assert cause
    assert told in cause.what


@pytest.mark.parametrize(
    ("error", "remedies"),
    [
        ("Proxy Authentication Required", ["HTTPS_PROXY in .env", "USER:PASSWORD@HOST:PORT"]),
        ("proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused", ["HTTPS_PROXY in .env"]),
        ("x509: certificate signed by unknown authority", ["ca-bundle.pem", "GITHUB_CA_FILE"]),
        ("dial tcp: lookup api.github.com: no such host", ["HTTPS_PROXY in .env"]),
    ],
)
def test_what_stands_between_the_cluster_and_github_has_its_remedy(error: str, remedies: list[str]) -> None:
    cause = find_cause([through_proxy(error)])
    assert cause
    assert [remedy for remedy in remedies if remedy not in cause.next_step] == []
    assert "install-arc" in cause.next_step
    assert "githubstatus" not in cause.next_step


def test_proxy_that_does_not_answer_may_be_starting() -> None:
    refusal = "dial tcp 10.0.0.1:3128: connect: connection refused"
    causes = [
        find_cause([through_proxy(error)])
        for error in (f"proxyconnect tcp: {refusal}", "Proxy Authentication Required")
    ]
    assert [cause and cause.passing for cause in causes] == [True, False]


def test_newest_line_decides() -> None:
    tokens = f"{_HOST}/app/installations/2/access_tokens"
    cause = find_cause([refused(tokens, "401 Unauthorized"), refused(tokens, "404 Not Found"), "level=INFO msg=later"])
    assert cause
    assert "GITHUB_APP_INSTALLATION_ID" in cause.what


def test_line_without_a_cause_gives_none() -> None:
    assert find_cause(["level=INFO msg=started", "level=ERROR msg=strange"]) is None


@pytest.mark.parametrize("error", ["proxyconnect tcp: dial tcp 10.0.0.1:3128: i/o timeout", "connection refused"])
def test_what_may_pass_is_a_cause_only_where_it_is_an_error(error: str) -> None:
    line = through_proxy(error)
    assert find_cause([line])
    assert find_cause([line.replace("level=ERROR", "level=INFO")]) is None


def test_error_lines_are_short_and_the_last_ones() -> None:
    lines = [refused(f"{_HOST}/a{n}", "401 Unauthorized") for n in range(5)] + ["level=INFO msg=ok"]
    shown = error_lines(lines, most=2)
    assert [line.startswith(f"request POST {_HOST}/a{n}") for n, line in zip((3, 4), shown, strict=True)] == [
        True,
        True,
    ]
    assert len(error_lines(lines)) == 3
    assert error_lines(['level=ERROR msg="no \\"set\\" there"\n']) == ['level=ERROR msg="no "set" there']
    assert len(error_lines([f"level=ERROR {'x' * 400}"])[0]) == 300


def test_refusal_without_a_known_cause_names_address_and_status() -> None:
    cause = cause_of_refusal(f"{_HOST}/strange", 418)
    assert cause.what == f"GitHub refuses {_HOST}/strange with status 418."
    assert cause.next_step == f"then: {just_command()} install-arc"
    assert cause.line == f'request to {_HOST}/strange failed(status="418")'
    assert cause_of_refusal(f"{_HOST}/orgs/Shop/actions/runners/registration-token", 503).passing
