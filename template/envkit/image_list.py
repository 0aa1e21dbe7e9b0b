"""Every image and chart that this environment needs, by the names that it pulls them by, and their digests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from envkit.engine import inspect
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.files import write_private
from envkit.mirrors import Mirrors, helper_images, read_mirrors
from envkit.paths import ROOT
from envkit.registry_api import Registries, RegistryError, parse
from envkit.wording import quoted

Kind = Literal["image", "chart"]

_K3S_LISTS = ROOT / ".tools" / "k3s-images"
_K3S_VERSION = re.compile(r"v\d+\.\d+\.\d+(?:-rc\d+)?[-+]k3s\d+")
_CONTROLLER = "ghcr.io/actions/gha-runner-scale-set-controller"
_CHARTS = ("gha-runner-scale-set-controller", "gha-runner-scale-set")
_LOOKUPS = 8
_SECONDS = 10.0


@dataclass(frozen=True)
class Needed:
    """An image or chart that the environment needs.

    Attributes:
        kind: What it is.
        purpose: What it is for, in two or three words.
        published: The name by which it is published.
        name: The name by which this environment pulls it: its mirror's, where there is one.
        by_engine: Docker's engine runs it or builds on it; all others are for the nodes.
        own: It was built here, and is in this environment's own registry.
    """

    kind: Kind
    purpose: str
    published: str
    name: str
    by_engine: bool = False
    own: bool = False


@dataclass(frozen=True)
class Found:
    """What is known of something that is needed.

    Attributes:
        needed: What it is.
        digest: Its digest, with `sha256:`; empty where nobody could say.
        source: Who said so: the registry's host, `Docker` or `pinned`; empty where nobody could.
        problem: Why the registry could not.
    """

    needed: Needed
    digest: str
    source: str
    problem: str = ""


@dataclass(frozen=True)
class Needs:
    """All that is needed.

    Attributes:
        entries: The images and charts, those of the cluster first.
        problem: Why the images of k3s itself are not among them; None where they are.
    """

    entries: tuple[Needed, ...]
    problem: UserError | None


def needs_of(environment: Environment, root: Path = ROOT) -> Needs:
    """All that this environment needs. Raises UserError where its files are wrong."""
    mirrors = read_mirrors(root)
    entries = [*_cluster(environment, mirrors)]
    problem = None
    try:
        entries += [_needed(mirrors, "image", "k3s", name) for name in k3s_images(environment.image)]
    except UserError as error:
        problem = error
    entries += _runners(environment, mirrors, root)
    return Needs(tuple({entry.name: entry for entry in entries}.values()), problem)


def k3s_release(image: str) -> str:
    """The release of k3s in a node image, as it is published: `v1.36.4+k3s1`; empty where the tag names none."""
    match = _K3S_VERSION.search(parse(image).tag)
    return match[0].replace("-k3s", "+k3s") if match else ""


def k3s_images(image: str) -> list[str]:
    """The images of k3s itself (CoreDNS, Traefik ...) of the release that a node image holds, as k3s publishes them.

    What was fetched once is kept. Raises UserError where the list cannot be had.
    """
    from envkit.download import read_text

    release = k3s_release(image)
    if not release:
        raise UserError(
            "The images of k3s itself are not known.",
            f"The tag of {image} names no release of k3s.",
            "An image such as docker.io/rancher/k3s:v1.36.4-k3s1 in k3d.yaml.",
        )
    path = k3s_list_file(release)
    if not path.is_file():
        url = f"https://github.com/k3s-io/k3s/releases/download/{quote(release, safe='')}/k3s-images.txt"
        try:
            text = read_text(url)
        except UserError as error:
            raise UserError(
                "The images of k3s itself are not known.",
                f"{error.what} {error.why}",
                f"curl -fL --create-dirs -o {quoted(path)} {url}"
                "   (or there, on a machine that reaches it, and bring the file here)",
            ) from error
        keep_k3s_list(release, text.splitlines())
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def k3s_list_file(release: str) -> Path:
    """Where the list of a release of k3s is kept."""
    return _K3S_LISTS / f"{release}.txt"


def keep_k3s_list(release: str, names: Iterable[str]) -> None:
    """Keeps the list of a release of k3s. UserError where it is none, such as the page of a proxy."""
    lines = [name.strip() for name in names if name.strip()]
    for line in lines:
        parse(line)
    # In one step: half a list would be taken for the whole from then on.
    write_private(k3s_list_file(release), "".join(f"{line}\n" for line in lines))


def resolve(entries: Sequence[Needed], registries: Registries) -> list[Found]:
    """The digest of each: of the registry that it is pulled from, else of Docker's engine. Nothing is an error."""
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        return list(pool.map(lambda entry: _resolve(entry, registries), entries))


def _cluster(environment: Environment, mirrors: Mirrors) -> Iterator[Needed]:
    from envkit.tool_versions import pins, tool_statuses

    yield _needed(mirrors, "image", "nodes", environment.image, by_engine=True)
    yield _needed(mirrors, "image", "registry", environment.registry.image, by_engine=True)
    (k3d,) = tool_statuses(["k3d"])
    helpers = helper_images(k3d.version or pins()["k3d"])
    yield _needed(mirrors, "image", "load balancer", helpers["K3D_IMAGE_LOADBALANCER"], by_engine=True)
    yield _needed(mirrors, "image", "k3d's helper", helpers["K3D_IMAGE_TOOLS"], by_engine=True)


def _runners(environment: Environment, mirrors: Mirrors, root: Path) -> Iterator[Needed]:
    from envkit.arc.settings import has_runners, read_arc_settings

    if not has_runners(root):
        return
    from envkit.runner.image import read_built_image
    from envkit.runner.tools import base_image

    settings = read_arc_settings(environment, root)
    image = settings.controller_values.get("image") or {}
    repository, tag = image.get("repository") or _CONTROLLER, image.get("tag") or settings.version
    yield _needed(mirrors, "image", "ARC", f"{repository}:{tag}")
    hosts = {*environment.registry.host_names, *environment.registry.cluster_names}
    for container in _containers(settings.runner_values):
        if container["image"].partition("/")[0] not in hosts:
            yield _needed(mirrors, "image", str(container.get("name", "runner")), container["image"])
    yield _needed(mirrors, "image", "runner's base", mirrors.image(base_image(root)), by_engine=True)
    if settings.chart_repository.startswith("oci://"):
        address = settings.chart_repository.removeprefix("oci://").rstrip("/")
        for chart in _CHARTS:
            yield _needed(mirrors, "chart", "ARC", f"{address}/{chart}:{settings.version}")
    if built := read_built_image():
        # By the name that Docker resolves everywhere.
        name = f"{environment.registry.host_names[1]}/{built.partition('/')[2]}"
        yield Needed("image", "runners", name, name, by_engine=True, own=True)


def _containers(values: Any) -> list[dict[str, Any]]:
    spec = ((values.get("template") or {}).get("spec")) or {}
    found = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return [container for container in found if isinstance(container, dict) and container.get("image")]


def _needed(mirrors: Mirrors, kind: Kind, purpose: str, name: str, *, by_engine: bool = False) -> Needed:
    published = mirrors.upstream(name)
    # The engine knows of no mirrors: it pulls by the name that it is given. The nodes ask the mirror for any name.
    pulled = name if by_engine else mirrors.image(published)
    return Needed(kind, purpose, published, pulled, by_engine)


def _resolve(entry: Needed, registries: Registries) -> Found:
    try:
        reference = parse(entry.name)
        return Found(entry, registries.digest(reference, _SECONDS), reference.host)
    except RegistryError as error:
        problem = f"{error.what} {error.why}".strip()
    except UserError as error:
        return Found(entry, "", "", error.what)
    if digest := _engine_digest(entry):
        return Found(entry, digest, "Docker", problem)
    return Found(entry, reference.digest, "pinned" if reference.digest else "", problem)


def _engine_digest(entry: Needed) -> str:
    """The digest that the engine has kept of a pull; empty where it has the image not, or from an archive."""
    try:
        found = inspect("image", entry.name)
    except UserError:
        return ""
    repository = entry.name.partition("@")[0].rpartition(":")[0] or entry.name
    for digest in (found[0].get("RepoDigests") or []) if found else []:
        name, _, value = str(digest).partition("@")
        if name in (repository, repository.removeprefix("docker.io/").removeprefix("library/")):
            return value
    return ""
