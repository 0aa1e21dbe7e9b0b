"""Where images, downloads and packages come from at a site with mirrors: the table `[mirrors]` of `environment.toml`.

The only home of the rule by which a published name becomes that of its mirror. Nodes, BuildKit and charts have the
mirrors in their own configurations, which the template writes of the same answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envkit.errors import UserError
from envkit.paths import ROOT
from envkit.wording import quoted

DOWNLOAD_VARIABLE = "ENVKIT_DOWNLOAD_MIRROR"
"""The environment variable that goes before the team's download mirror."""

NPM_REGISTRY = "npm_config_registry"
"""The variable that names a registry to npm, which reads it in capitals too."""

DOCKER_HUB = "docker.io"

_PACKAGES = ("python_index", "npm_registry", "apt")
_PYTHON_INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")

_LOAD_BALANCER = "ghcr.io/k3d-io/k3d-proxy"
_TOOLS = "ghcr.io/k3d-io/k3d-tools"


@dataclass(frozen=True)
class Mirrors:
    """The mirrors of this environment.

    Attributes:
        images: For a registry's host the place where its images lie, e.g. `mirror.example.com/dockerhub`.
        plain_http: The hosts among them that speak plain HTTP.
        downloads: The address below which programs are downloaded; empty for where each is published.
        python_index: The index that Python packages come from; empty for what pip and uv are set to.
        npm_registry: The registry that packages of npm come from; empty for what npm is set to.
        apt: The address below which the archives of the runner image's distribution lie by their hosts; empty for none.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    plain_http: frozenset[str] = frozenset()
    downloads: str = ""
    python_index: str = ""
    npm_registry: str = ""
    apt: str = ""

    @property
    def hosts(self) -> list[str]:
        """The hosts of the mirrors, each once."""
        return sorted({mirror.partition("/")[0] for mirror in self.images.values()})

    def image(self, name: str) -> str:
        """The name by which an image or chart is pulled here: its mirror's, where its registry has one."""
        host, path = split_host(name)
        mirror = self.images.get(host)
        return f"{mirror}/{path}" if mirror else name

    def upstream(self, name: str) -> str:
        """The published name of an image or chart that may be named by its mirror; the reverse of `image`."""
        found = [(mirror, host) for host, mirror in self.images.items() if name.startswith(f"{mirror}/")]
        if not found:
            return "/".join(split_host(name))
        mirror, host = max(found, key=lambda pair: len(pair[0]))  # one mirror may lie below another
        return f"{host}{name.removeprefix(mirror)}"

    def download(self, url: str) -> str:
        """The address that is asked for a published file: `https://github.com/x` from below `downloads`."""
        return f"{self.downloads.rstrip('/')}/{url.split('://', 1)[1]}" if self.downloads else url

    def package_variables(self) -> dict[str, str]:
        """What leads pip, uv and npm to the mirrors. The person's own variables go before them.

        `bin/python-env`, which runs before there is anything that could import this, sets the first two by itself.
        """
        wanted = {}
        if self.python_index and not any(os.environ.get(name) for name in _PYTHON_INDEX_VARIABLES):
            wanted = dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL"), self.python_index)
            if self.python_index.startswith("http://"):  # pip takes plain HTTP from hosts that are named to it alone
                wanted["PIP_TRUSTED_HOST"] = self.python_index.removeprefix("http://").partition("/")[0]
        if self.npm_registry and not any(name.lower() == NPM_REGISTRY for name in os.environ):
            wanted[NPM_REGISTRY] = self.npm_registry
        return wanted


def read_mirrors(root: Path | None = None) -> Mirrors:
    """The mirrors that `environment.toml` names, with this machine's own for downloads.

    Raises UserError where the file is wrong.
    """
    import tomllib

    path = (root or ROOT) / "environment.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("mirrors", {})
    except FileNotFoundError:
        table = {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _not_right(path, str(error)) from error
    if not isinstance(table, dict):
        raise _not_right(path, "mirrors: a table such as [mirrors] is expected")
    if wrong := _wrong_keys(table):
        raise _not_right(path, f"mirrors.{wrong[0]}: {_ALLOWED.get(wrong[0], 'there is no such key')}")
    downloads = os.environ.get(DOWNLOAD_VARIABLE) or table.get("downloads", "")
    packages = {key: table.get(key, "") for key in _PACKAGES}
    return Mirrors(table.get("images", {}), frozenset(table.get("plain_http", [])), downloads, **packages)


_ALLOWED = {
    "images": 'a table such as { "docker.io" = "mirror.example.com/dockerhub" }',
    "plain_http": 'a list such as ["mirror.example.com:5000"]',
    "downloads": 'an address such as "https://mirror.example.com/downloads"',
    "python_index": 'an address such as "https://mirror.example.com/python/simple"',
    "npm_registry": 'an address such as "https://mirror.example.com/npm"',
    "apt": 'an address such as "https://mirror.example.com/apt"',
}


def _wrong_keys(table: Mapping[str, Any]) -> list[str]:
    # By hand, because pydantic would cost every recipe a tenth of a second.
    def is_right(key: str, value: object) -> bool:
        if key == "images":
            return isinstance(value, dict) and all(isinstance(mirror, str) for mirror in value.values())
        if key == "plain_http":
            return isinstance(value, list) and all(isinstance(host, str) for host in value)
        return key in ("downloads", *_PACKAGES) and isinstance(value, str)

    return [key for key, value in table.items() if not is_right(key, value)]


def is_host(first: str) -> bool:
    """Whether what stands before the first slash of an image's name is a registry's host, not a part of the path."""
    return "." in first or ":" in first or first == "localhost"


def split_host(name: str) -> tuple[str, str]:
    """The registry's host and the rest of an image's name, both as they are without abbreviation.

    `registry:3` is `docker.io` and `library/registry:3`.
    """
    first, slash, rest = name.partition("/")
    if slash and is_host(first):
        host, path = first, rest
    else:
        host, path = DOCKER_HUB, name
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DOCKER_HUB
    return host, path if host != DOCKER_HUB or "/" in path else f"library/{path}"


def helper_images(k3d_version: str) -> dict[str, str]:
    """The images that k3d runs beside the nodes, by the variables that name them to k3d.

    Args:
        k3d_version: Version of the k3d that runs, without `v`; it asks for images of this tag.
    """
    tag = os.environ.get("K3D_HELPER_IMAGE_TAG") or k3d_version
    mirrors = read_mirrors()
    names = {"K3D_IMAGE_LOADBALANCER": _LOAD_BALANCER, "K3D_IMAGE_TOOLS": _TOOLS}
    return {
        variable: os.environ.get(variable) or mirrors.image(f"{repository}:{tag}")
        for variable, repository in names.items()
    }


def k3d_variables() -> dict[str, str]:
    """What k3d has to be told of the mirrors; empty where there is none for its own images."""
    if split_host(_LOAD_BALANCER)[0] not in read_mirrors().images:
        return {}
    from envkit.tool_versions import pins, tool_statuses

    return helper_images(tool_statuses(["k3d"])[0].version or pins()["k3d"])


def _not_right(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not right.", why, f"git -C {quoted(path.parent)} diff {path.name}")
