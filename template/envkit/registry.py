"""The environment's image registry: whether it answers, what it holds, and putting images into it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from envkit import buildah
from envkit.corporate_network import CA_PATH_IN_NODES, proxy_variables, read_own_ca_bundle
from envkit.engine import CHANGE_TIMEOUT, CLUSTER_LABEL, PULL_TIMEOUT, ROLE_LABEL, docker, inspect, write_file
from envkit.environment import REGISTRY_INTERNAL_PORT, SHARED_LABEL, Environment, Registry
from envkit.errors import CommandFailedError, UserError
from envkit.mirrors import is_host
from envkit.paths import just_command
from envkit.process import capture, find_tool, stream

if TYPE_CHECKING:
    from envkit.images import Images

MANIFEST_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of what a registry keeps under a tag."""

_TIMEOUT = 2.0
_CATALOG_PAGE = 1000

DATA_FOLDER = "/var/lib/registry"
"""Where a registry keeps its images in its container."""

_PROXY_KEYS = ("remoteURL", "username", "password")


@dataclass(frozen=True)
class RegistryUse:
    """What a registry holds.

    Attributes:
        repositories: How many image names it has.
        bytes: Size of its data; None where it cannot be asked.
    """

    repositories: int
    bytes: int | None


def answers(registry: Registry) -> bool:
    """Whether a registry answers `/v2/` where it listens on this machine, within two seconds."""
    try:
        status, _ = _get(registry, "/v2/")
    except OSError:
        return False
    return status == HTTPStatus.OK


def wait_until_it_answers(registry: Registry, seconds: float) -> None:
    """Waits for `/v2/`; UserError with the end of the container's log after that time."""
    deadline = time.monotonic() + seconds
    while not answers(registry):
        if time.monotonic() > deadline:
            raise UserError(
                f"The registry does not answer on http://{registry.endpoint}/v2/.",
                _log_tail(registry.name),
                f"docker logs {registry.name}",
            )
        time.sleep(0.1)


def use_of(registry: Registry) -> RegistryUse | None:
    """What the registry holds; None where it does not answer."""
    names: list[str] = []
    try:  # whatever listens there may answer anything
        last = ""
        while True:
            status, body = _get(registry, f"/v2/_catalog?n={_CATALOG_PAGE}" + (f"&last={last}" if last else ""))
            page = json.loads(body).get("repositories") or [] if status == HTTPStatus.OK else []
            names += page
            if len(page) < _CATALOG_PAGE or page[-1] == last:
                break
            last = page[-1]
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    try:
        size = int(docker("exec", registry.name, "du", "-sk", DATA_FOLDER).split()[0]) * 1024
    except (UserError, ValueError, IndexError):
        return RegistryUse(len(names), None)
    return RegistryUse(len(names), size)


def has_image(registry: Registry, name: str, tag: str) -> bool:
    """Whether the registry holds an image; UserError where it does not answer."""
    status, _, _ = _manifest(registry, "HEAD", name, tag)
    return status == HTTPStatus.OK


def move_tag(registry: Registry, name: str, tag: str, to: str) -> None:
    """Makes the tag `to` name the image that `tag` names; UserError where that cannot be."""
    status, kind, manifest = _manifest(registry, "GET", name, tag)
    if status == HTTPStatus.OK:
        status, _, _ = _manifest(registry, "PUT", name, to, body=manifest, kind=kind)
    if status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise UserError(
            f"The registry did not take the tag {name}:{to}.",
            f"It answered with HTTP status {status}.",
            f"docker logs {registry.name}",
        )


def require_answer(registry: Registry) -> None:
    """UserError where the registry does not answer."""
    if not answers(registry):
        raise UserError(
            f"The registry does not answer on http://{registry.endpoint}/v2/.",
            "It runs with the cluster.",
            f"{just_command()} create",
        )


def run_registry_container(environment: Environment) -> None:
    """Makes and starts the registry's container anew, as k3d would have made it.

    k3d can make it only together with a cluster. The labels are those of k3d 5.9 (`pkg/client/registry.go`), so k3d
    starts, stops and deletes this container with the cluster like one of its own. A shared one belongs to no cluster,
    as if `k3d registry create` had made it, and is on no cluster's network yet.
    """
    registry = environment.registry
    labels = {
        "app": "k3d",
        CLUSTER_LABEL: "" if registry.shared else environment.cluster,
        ROLE_LABEL: "registry",
        "k3d.registry.host": registry.address,
        "k3d.registry.hostIP": registry.address,
        "k3s.registry.port.external": str(registry.port),
        "k3s.registry.port.internal": str(REGISTRY_INTERNAL_PORT),
        **({SHARED_LABEL: "shared"} if registry.shared else {}),
    }
    variables = {**_proxy_of(environment), **proxy_variables(environment)}
    bundle = read_own_ca_bundle() if environment.corporate.ca_sha256 else None
    docker(
        *(("create",) if bundle else ("run", "--detach")),
        f"--name={registry.name}",
        "--restart=unless-stopped",
        *([] if registry.shared else [f"--network={environment.network}"]),
        f"--publish={registry.address}:{registry.port}:{REGISTRY_INTERNAL_PORT}",
        *(f"--volume={mount}" for mount in registry.mounts),
        *(f"--label={key}={value}" for key, value in labels.items()),
        # Names alone: Docker takes the values from its environment, so a password is not in the command.
        *(f"--env={name}" for name in variables),
        registry.image,
        timeout=PULL_TIMEOUT,
        env=variables,
    )
    if bundle:
        write_file(registry.name, CA_PATH_IN_NODES, bundle.text.encode(), below="/")
        docker("start", registry.name, timeout=CHANGE_TIMEOUT)


def _proxy_of(environment: Environment) -> dict[str, str]:
    """What the registry passes on and keeps a copy of, where `k3d.yaml` makes it a pull-through cache."""
    proxy = ((environment.effective.get("registries") or {}).get("create") or {}).get("proxy") or {}
    return {f"REGISTRY_PROXY_{key.upper()}": str(proxy[key]) for key in _PROXY_KEYS if proxy.get(key)}


def registry_name(configuration: Mapping[str, Any]) -> str:
    """The name of the registry in a configuration for k3d, whether k3d makes it or finds it; empty where none is."""
    registries = configuration.get("registries") or {}
    used = next(iter(registries.get("use") or []), "")
    return str((registries.get("create") or {}).get("name") or used.partition(":")[0])


def target_name(image: str) -> str:
    """The name that an image gets in the registry: its own without the host part, tagged `latest` if it has no tag.

    Raises UserError for a name that is not an image reference.
    """
    path = image.rpartition("@")[0] or image
    first, slash, rest = path.partition("/")
    if slash and is_host(first):
        path = rest
    name, colon, tag = path.rpartition(":")
    if not colon or "/" in tag:
        name, tag = path, "latest"
    if not re.fullmatch(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", name) or not re.fullmatch(r"\w[\w.-]{0,127}", tag, re.ASCII):
        raise UserError(
            f"{image!r} is not the name of an image.",
            "A name looks like app, app:1.0 or team/app:1.0, in lower case.",
            f"{just_command()} push myapp:latest",
        )
    return f"{name}:{tag}"


def push(image: str, images: Images, on_line: Callable[[str], None]) -> str:
    """Puts an image of Docker's or Buildah's local store into a registry; returns the name manifests can use.

    Raises UserError where neither has the image, or where the registry does not answer.
    """
    target = target_name(image)
    images.require_answer()
    reference = images.push_reference(target)
    if inspect("image", image):
        is_ours = not inspect("image", reference)
        docker("tag", image, reference)
        try:
            stream(["docker", "push", reference], on_line, next_step=f"docker push {reference}")
        finally:
            if is_ours:
                with suppress(UserError):  # a tag too many is no reason to fail, nor to hide a failure
                    docker("rmi", reference, timeout=CHANGE_TIMEOUT)
    elif _buildah_has(image):
        stream(buildah.push_command(image, reference, plain_http=images.plain_http), on_line)
    else:
        raise UserError(
            f"There is no local image {image}.",
            "Neither Docker" + (" nor Buildah has it." if find_tool("buildah") else " has it (Buildah is not there)."),
            f"docker images   (then: {just_command()} push NAME:TAG)",
        )
    return images.reference(target)


def _buildah_has(image: str) -> bool:
    if not find_tool("buildah"):
        return False
    try:
        capture(["buildah", "inspect", "--type", "image", image], timeout=30)
    except CommandFailedError:
        return False
    return True


def _manifest(
    registry: Registry,
    method: str,
    name: str,
    tag: str,
    *,
    body: bytes | None = None,
    kind: str = "",
) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer to a request for a manifest."""
    try:
        return _request(
            registry,
            method,
            f"/v2/{name}/manifests/{tag}",
            body,
            {"Accept": ", ".join(MANIFEST_KINDS)} | ({"Content-Type": kind} if kind else {}),
        )
    except OSError as error:
        raise UserError(
            f"The registry does not answer on http://{registry.endpoint}/v2/.",
            str(error),
            f"{just_command()} create",
        ) from error


def _get(registry: Registry, path: str) -> tuple[int, bytes]:
    status, _, body = _request(registry, "GET", path)
    return status, body


def _request(
    registry: Registry, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str, bytes]:
    import http.client

    connection = http.client.HTTPConnection(registry.endpoint, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    except http.client.HTTPException as error:  # something that is not HTTP listens there
        raise OSError(str(error)) from error
    finally:
        connection.close()


def _log_tail(container: str) -> str:
    lines: list[str] = []
    try:  # of both streams: the registry says on the second one why it does not start
        stream(["docker", "logs", "--tail", "5", container], lines.append)
    except UserError as error:
        return error.why or error.what
    return "\n".join(lines)
