"""What a line of the controller's or the listener's log means, and what helps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from envkit.paths import just_command


@dataclass(frozen=True)
class Cause:
    """Why GitHub and the runners do not come together.

    Attributes:
        what: The likely cause, one sentence.
        next_step: What helps.
        line: The line of the log that says so, shortened.
        passing: It may pass by itself, so one such line is no failure yet.
        lost: GitHub no longer has the scale set.
    """

    what: str
    next_step: str
    line: str
    passing: bool = False
    lost: bool = False


_LOST = "RunnerScaleSetNotFoundException"
"""GitHub's word for a scale set that it has removed: by hand, because it was away for long, or in trouble of its own.

https://github.com/actions/actions-runner-controller/issues/3205 and /4370: the controller never makes it anew.
"""

_REQUEST = re.compile(r'request \w+ (?P<url>\S+) failed\(status=\\*"(?P<status>\d{3})')
"""How github.com/actions/scaleset 0.4, the client in controller and listener, tells of a refusal."""

# By the end of the URL and the status: the likely cause, and what helps.
_REFUSALS: tuple[tuple[str, str, str, str], ...] = (
    (
        r"/access_tokens",
        "401",
        "GitHub refuses the App's key: it is not of this App ID, was deleted there, or this machine's clock is wrong.",
        "Check GITHUB_APP_ID, or generate a new private key on the App's page",
    ),
    (
        r"/access_tokens",
        "403",
        "GitHub refuses the App: it is suspended, or the organisation's IP allow list leaves this machine out.",
        "Look at the App's installation in the organisation's settings",
    ),
    (
        r"/access_tokens",
        "404",
        "GitHub knows no such installation: GITHUB_APP_INSTALLATION_ID or GITHUB_APP_ID is wrong, or it was removed.",
        "Take the number that ends the address of the App's Configure page",
    ),
    (
        r"/registration-token",
        "401",
        "GitHub refuses the token: it has expired or was revoked.",
        "Make a new token and put it into .env as GITHUB_TOKEN",
    ),
    (
        r"/registration-token",
        "403",
        "The credentials may not register runners: a permission is missing.",
        "Give the App Self-hosted runners (organisation) or Administration (repository), Read and write",
    ),
    (
        r"/registration-token",
        "404",
        "GitHub shows no such organisation or repository to these credentials.",
        "Check githubConfigUrl in helm/arc-runners.yaml, and that the App is installed there",
    ),
    (
        r"/runner-registration",
        "401|403|404",
        "GitHub does not let these credentials reach Actions for this organisation or repository.",
        "Check githubConfigUrl in helm/arc-runners.yaml, and that Actions are allowed there",
    ),
    (
        r"/sessions",
        "409",
        "Another listener serves runners of this name: another machine's, or for some minutes a deleted cluster's.",
        "Wait and look at {just} arc-status, or give this machine a name of its own: RUNNER_NAME in .env",
    ),
    (
        r"/runnerscalesets",
        "409",
        "A scale set of this name is there already, in another runner group.",
        "Choose another name: runnerScaleSetName in helm/arc-runners.yaml, or RUNNER_NAME in .env",
    ),
    (
        r"/(runnerscalesets|runnergroups|sessions|generatejitconfig)",
        "401|403|404",
        "GitHub refuses the scale set: the runner group is missing or closed to it, or the credentials lost a right.",
        "Look at the organisation's settings, Actions, Runner groups",
    ),
)

RAISE_BASE = "Raise the base image (base_image of environment.toml, else BASE_IMAGE of runner/Dockerfile), then:"
"""What helps where GitHub no longer takes the runner."""

# Other lines: a pattern, the likely cause, what helps.
_TEXTS: tuple[tuple[str, str, str], ...] = (
    (
        r"failed to parse (RSA )?private key|parse.*PEM",
        "The controller cannot read the App's private key.",
        "Put the file as GitHub gives it in place of the one that GITHUB_APP_PRIVATE_KEY_PATH names",
    ),
    (r"installation_id.*(invalid syntax|ParseInt)", "The installation ID is not a number.", "Correct .env"),
    (
        r"deprecated and cannot receive messages|[Rr]unner is (outdated|deprecated)",
        "GitHub no longer takes the runner's version in the image.",
        RAISE_BASE + " {just} build-runner",
    ),
    (
        r"Proxy Authentication Required",
        "The proxy wants a user name and a password, or does not take those that it gets.",
        "Correct HTTPS_PROXY in .env: http://USER:PASSWORD@HOST:PORT, with %40 for @, %3A for : and so on",
    ),
    (
        r"x509: |certificate signed by unknown authority|tls: failed to verify",
        "The cluster does not trust GitHub's certificate, or that of a proxy in between.",
        "Put the company's authorities into ca-bundle.pem; a GitHub Enterprise Server's own: GITHUB_CA_FILE in .env",
    ),
    (
        r"no such host|server misbehaving",
        "Pods find no host name of GitHub's.",
        "Check the network and {just} status; behind a proxy, set HTTPS_PROXY in .env",
    ),
)

_NO_PROXY = re.compile(r"proxyconnect tcp: (?!tls: failed to verify|x509: )")
"""How programs made with Go tell that they do not reach the proxy; with a certificate it has been reached."""

_PASSING_TEXTS = re.compile(r"connection refused|i/o timeout|Client\.Timeout|EOF|connection reset|giving up after")


def find_cause(lines: Iterable[str]) -> Cause | None:
    """The likely cause that the newest telling line names; None where no line tells one."""
    for line in reversed(list(lines)):
        if cause := _cause(line):
            return cause
    return None


def cause_of_refusal(url: str, status: int) -> Cause:
    """The likely cause of GitHub's refusal of a request."""
    line = f'request to {url} failed(status="{status}")'
    return _refused(url, str(status), line) or Cause(f"GitHub refuses {url} with status {status}.", _again(), line)


def error_lines(lines: Iterable[str], *, most: int = 3) -> list[str]:
    """The last lines that tell of an error, shortened."""
    return [_shortened(line) for line in lines if _is_error(line)][-most:]


def _cause(line: str) -> Cause | None:
    if _LOST in line:
        what = "GitHub no longer has the scale set: somebody removed it there, or it had no listener for long."
        return Cause(what, f"{just_command()} install-arc   (makes it anew)", _shortened(line), lost=True)
    refusal = _REQUEST.search(line)
    if refusal and (cause := _refused(refusal["url"], refusal["status"], line)):
        return cause
    if _NO_PROXY.search(line) and _is_error(line):
        what = "The cluster does not reach the proxy: its address is wrong, or it does not run."
        step = "Check HTTPS_PROXY in .env; `localhost` is each container itself there"
        return replace(_told(what, step, line), passing=True)
    for pattern, what, next_step in _TEXTS:
        if re.search(pattern, line):
            return _told(what, next_step, line)
    if _PASSING_TEXTS.search(line) and _is_error(line):
        return _trouble(line, "GitHub does not answer the cluster.")
    return None


def _refused(url: str, status: str, line: str) -> Cause | None:
    path = url.partition("?")[0]
    for end, statuses, what, next_step in _REFUSALS:
        if re.search(end, path) and status in statuses.split("|"):
            return _told(what, next_step, line)
    if status.startswith("5") or status == "429":
        return _trouble(line, f"GitHub answers with {status}: it has trouble, or asks for patience.")
    return None


def _told(what: str, next_step: str, line: str) -> Cause:
    just = just_command()
    return Cause(what.format(just=just), f"{next_step.format(just=just)}\n{_again()}", _shortened(line))


def _again() -> str:
    return f"then: {just_command()} install-arc"


def _trouble(line: str, what: str) -> Cause:
    step = f"The controller keeps trying. See https://www.githubstatus.com, then: {just_command()} arc-status"
    return Cause(what, step, _shortened(line), passing=True)


def _is_error(line: str) -> bool:
    """Whether a line of either format (logfmt or zap's) has the level error, or is a program's last words."""
    return bool(re.search(r"level=ERROR|\tERROR\t|^ghalistener:|\"level\":\"error\"|failed\(status", line))


def _shortened(line: str) -> str:
    """The telling end of a line: what was asked and what GitHub said."""
    text = line[match.start() :] if (match := _REQUEST.search(line)) else line
    return text.replace('\\"', '"').strip().rstrip('"')[:300]
