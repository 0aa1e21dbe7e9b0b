"""Asking GitHub whether the credentials are good, before the cluster gets them."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from envkit.arc.causes import cause_of_refusal
from envkit.arc.credentials import app_token
from envkit.arc.settings import ArcSettings, read_token
from envkit.tls import context_for

_SECONDS = 20

# GitHub's names of the permissions that registering runners takes, and how its pages call them.
_ORGANISATION = {"organization_self_hosted_runners": "Self-hosted runners (organisation): Read and write"}
_REPOSITORY = {"administration": "Administration (repository): Read and write"}


@dataclass(frozen=True)
class _Place:
    """An organisation, repository or enterprise, as GitHub's API calls it."""

    api: str
    path: str
    is_repository: bool


def verify_credentials(settings: ArcSettings) -> Iterator[tuple[str, str]]:
    """What GitHub finds wrong with the credentials, each with what puts it right.

    Signs in as the App, compares its permissions, and asks for a registration token as the controller will.
    """
    place = _place(settings.config_url)
    token = read_token() if settings.local.has_token else app_token(settings.local)
    try:
        if not settings.local.has_token:
            path = f"/app/installations/{settings.local.installation_id}/access_tokens"
            answer = _post(place.api + path, token, settings)
            token = answer["token"]
            if missing := _missing_permissions(answer.get("permissions"), place):
                yield (
                    f"The App lacks a permission: {', '.join(missing)}.",
                    "Add it on the App's page (Permissions & events), then accept the change in the installation.",
                )
                return
        _post(f"{place.api}{place.path}/actions/runners/registration-token", token, settings)
    except urllib.error.HTTPError as error:
        cause = cause_of_refusal(error.url or place.api, error.code)
        yield cause.what, cause.next_step.replace("\n", ", ")
    except (http.client.HTTPException, ValueError, LookupError, TypeError):
        yield (
            f"What answers at {place.api} is not GitHub's API.",
            "Check network and proxy, or leave out --verify.",
        )
    except OSError as error:
        yield (
            f"GitHub cannot be asked at {place.api}: {getattr(error, 'reason', error)}.",
            "Check network and proxy, or leave out --verify.",
        )


def _place(config_url: str) -> _Place:
    """Where the API is (github.com's own host, or below a server's /api/v3), and the path of the runners' home."""
    url = urlsplit(config_url)
    is_cloud = url.hostname in ("github.com", "www.github.com") or (url.hostname or "").endswith(".ghe.com")
    api = f"{url.scheme}://api.{url.netloc.removeprefix('www.')}" if is_cloud else f"{url.scheme}://{url.netloc}/api/v3"
    parts = url.path.strip("/").split("/")
    if len(parts) == 1:
        return _Place(api, f"/orgs/{parts[0]}", is_repository=False)
    if parts[0].lower() == "enterprises":
        return _Place(api, f"/enterprises/{parts[1]}", is_repository=False)
    return _Place(api, f"/repos/{parts[0]}/{parts[1]}", is_repository=True)


def _missing_permissions(granted: object, place: _Place) -> list[str]:
    if not isinstance(granted, dict):  # an old Enterprise Server does not say
        return []
    needed = _REPOSITORY if place.is_repository else _ORGANISATION
    return [words for name, words in needed.items() if granted.get(name) != "write"]


def _post(url: str, token: str, settings: ArcSettings) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        url,
        method="POST",
        headers={
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "envkit",
        },
    )
    context = context_for(url, settings.ca_file)
    with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
        return answer
