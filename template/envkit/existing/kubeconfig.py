"""The kubeconfig with one context alone, made from the developer's own: no other cluster can be reached by it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from envkit.corporate_network import is_loopback
from envkit.errors import CommandFailedError, UserError
from envkit.existing.cluster import ExistingCluster
from envkit.files import write_private
from envkit.go_yaml import read_yaml, yaml_text
from envkit.kubeconfig import developers_kubeconfigs
from envkit.paths import just_command
from envkit.process import capture

_SECONDS = 15
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True)
class Written:
    """The kubeconfigs of a cluster.

    Attributes:
        changed: Files that were written anew.
        server: Address of the API.
        hints: What a dev container lacks to use its file.
    """

    changed: tuple[str, ...]
    server: str
    hints: tuple[str, ...]


def write_kubeconfigs(cluster: ExistingCluster) -> Written:
    """Takes the context out of the developer's kubeconfig, into a file for this machine and one for containers.

    Raises:
        UserError: There is no such context, with those that are like it; or kubectl does not read the kubeconfig.
    """
    text = one_context(cluster.context)
    document = read_yaml(text)
    server = str(_entry(document, "clusters", "cluster").get("server", ""))
    paths = cluster.kubeconfigs
    changed = [str(paths.host)] if write_private(paths.host, text) else []
    hints = list(_container_hints(cluster, document, server))
    if cluster.container_server:
        _entry(document, "clusters", "cluster")["server"] = cluster.container_server
        text = yaml_text(document)
    if write_private(paths.devcontainer, text):
        changed.append(str(paths.devcontainer))
    return Written(tuple(changed), server, tuple(hints))


def contexts() -> list[str]:
    """Names of all contexts of the developer's kubeconfig. Raises UserError where kubectl does not read it."""
    return _config("get-contexts", "--output=name").split()


def one_context(context: str) -> str:
    """A kubeconfig with this context alone, its files embedded. Raises UserError where there is none of this name."""
    names = contexts()
    if context not in names:
        near = difflib.get_close_matches(context, names, n=3, cutoff=0.4) or names[:3]
        where = ", ".join(str(path) for path in developers_kubeconfigs())
        raise UserError(
            f"There is no context {context} in your kubeconfig ({where}).",
            f"It has: {', '.join(near)}." if near else "It has none.",
            "kubectl config get-contexts   (where yours has another name: KUBE_CONTEXT=NAME in .env)",
        )
    return _config("view", "--raw", "--minify", "--flatten", f"--context={context}", "--output=yaml")


def _config(*arguments: str) -> str:
    try:
        return capture(["kubectl", "config", *arguments], timeout=_SECONDS)
    except CommandFailedError as error:
        raise UserError(
            "kubectl cannot read your kubeconfig.", error.output or error.what, "kubectl config view"
        ) from error


def _container_hints(cluster: ExistingCluster, document: dict[str, Any], server: str) -> list[str]:
    hints = []
    host = urlsplit(server).hostname or ""
    if not cluster.container_server and (is_loopback(host) or host in _UNSPECIFIED):
        hints.append(
            f"Dev containers do not reach {server}: that is the container itself. Name the address that holds in them,"
            " for kind CONTAINER_API_SERVER=https://NAME-control-plane:6443, in .env, and give the container the"
            f' cluster\'s Docker network ("runArgs": ["--network=kind"]); then: {just_command()} kubeconfig'
        )
    user = _entry(document, "users", "user")
    if command := (user.get("exec") or {}).get("command"):
        hints.append(f"Dev containers need the program {command}: the context gets its credentials from it.")
    return hints


def _entry(document: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    entries = document.get(section) or [{}]
    found: dict[str, Any] = entries[0].setdefault(key, {})
    return found
