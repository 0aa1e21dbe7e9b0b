"""A company's authorities and proxy for the runners: in their pods, in BuildKit beside them, and in ARC itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from envkit.corporate_network import (
    CA_PATH_IN_NODES,
    CorporateNetwork,
    Proxies,
    has_credentials,
    read_own_ca_bundle,
    without_user,
)
from envkit.errors import UserError
from envkit.paths import ROOT
from envkit.wording import quoted

AUTHORITIES = "github-ca"
"""The config map with the certificates of all authorities, under `CA_KEY`."""

CA_KEY = "ca.crt"

PROXY_SECRET = "arc-proxy"  # noqa: S105 - a name
"""The Secret with the usual variables."""

_LOGIN_SECRETS = {scheme: f"{PROXY_SECRET}-{scheme}" for scheme in ("http", "https")}
"""Those with user name and password for the proxy of a scheme, which the chart wants apart."""

PROXY_SECRETS = (PROXY_SECRET, *_LOGIN_SECRETS.values())

_SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def add_corporate_network(values: dict[str, Any], network: CorporateNetwork) -> None:
    """Adds to the values of the scale set's chart what every container of a runner needs; the team's own words stay."""
    spec = (values.get("template") or {}).get("spec") or {}
    containers = [c for key in ("initContainers", "containers") for c in spec.get(key) or [] if isinstance(c, dict)]
    if network.ca_sha256:
        _add(spec, "volumes", {"name": "authorities", "configMap": {"name": AUTHORITIES}})
        for container in containers:
            mount = {"name": "authorities", "mountPath": CA_PATH_IN_NODES, "subPath": CA_KEY, "readOnly": True}
            _add(container, "volumeMounts", mount)
            if container.get("name") == "runner":
                # pip and all that is made with Requests have a list of their own; the image's has these authorities.
                _add_variable(container, "REQUESTS_CA_BUNDLE", _SYSTEM_BUNDLE)
    if network.has_proxy:
        for container in containers:
            _add(container, "envFrom", {"secretRef": {"name": PROXY_SECRET}})
        values.setdefault("proxy", dict(_chart_proxy(network)))


def secret_manifests(proxies: Proxies, network: CorporateNetwork, namespace: str) -> list[Mapping[str, Any]]:
    """The Secrets that those values name; they hold passwords, so they are for a program and not to be shown."""
    if not network.has_proxy:
        return []
    secrets: dict[str, Mapping[str, str]] = {PROXY_SECRET: proxies.variables(network.no_proxy)}
    for scheme, url in (("http", proxies.http), ("https", proxies.https)):
        if has_credentials(url):
            parts = urlsplit(url)
            login = {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
            secrets[_LOGIN_SECRETS[scheme]] = login
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())},
        }
        for name, data in secrets.items()
    ]


def authorities_manifest(github_ca_file: Path | None, namespace: str, root: Path = ROOT) -> list[Mapping[str, Any]]:
    """The config map with the certificates of a GitHub Enterprise Server and of the company; empty without either.

    A file of GitHub's that is missing is left to those who report it; UserError where one cannot be read.
    """
    bundle = read_own_ca_bundle(root)
    texts = [_text(github_ca_file)] if github_ca_file and github_ca_file.is_file() else []
    texts += [bundle.text] if bundle else []
    if not texts:
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": AUTHORITIES, "namespace": namespace},
            "data": {CA_KEY: "".join(f"{text.strip()}\n" for text in texts)},
        }
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read.", str(error.strerror or error), f"ls -l {quoted(path)}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} holds no certificate in the PEM format.",
            "It is not text, as a .cer or .der file.",
            f"openssl x509 -inform der -in {quoted(path)} -out ghes.pem   (then name that file in its place)",
        ) from error


def _chart_proxy(network: CorporateNetwork) -> Iterator[tuple[str, Any]]:
    """The chart's own form: ARC puts user name and password, which it takes from a Secret, into the address itself."""
    for scheme, url in (("http", network.http_proxy), ("https", network.https_proxy)):
        if url:
            login = {"credentialSecretRef": _LOGIN_SECRETS[scheme]} if has_credentials(url) else {}
            yield scheme, {"url": without_user(url), **login}
    yield "noProxy", list(network.no_proxy)


def _add_variable(container: dict[str, Any], name: str, value: str) -> None:
    if not any(variable.get("name") == name for variable in container.get("env") or []):
        _add(container, "env", {"name": name, "value": value})


def _add(values: dict[str, Any], key: str, entry: dict[str, Any]) -> None:
    values[key] = [*(values.get(key) or []), entry]
