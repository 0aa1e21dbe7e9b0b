"""The Docker Compose file that joins a dev container's service to the cluster's network, and mounts what it needs.

Compose chooses the networks of its services, so `runArgs` has no effect there; and `mounts` are writable
there, whatever they say. A file of the snippet's own stands behind the repository's ones and adds both;
theirs stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml_text import YAML_ERRORS

_CHECKSUM = "# What the lines below are known by, so that an update can tell whether somebody changed them: "
_DEEPEST = 10


class UnusableServiceError(Exception):
    """The service cannot join another network; the text says why, as a sentence."""


@dataclass(frozen=True)
class Joining:
    """How a dev container gets into the network.

    Attributes:
        container: The dev container's service.
        service: The service that joins it: the same, or the one whose network that shares.
        names_none: Whether it names no networks itself, and so is in the default one only while none is named.
        version: The format's version that the other files declare; old releases of Compose compare them.
    """

    container: str
    service: str
    names_none: bool
    version: str | None = None


def joining(documents: Iterable[str], service: str) -> Joining:
    """How this service gets into another network.

    Args:
        documents: The content of the Compose files, in their order.
        service: The dev container's service.

    Raises:
        UnusableServiceError: A file is not readable, lacks the service, or ties it to another network.
    """
    files = [_loaded(text) for text in documents]
    version = next((str(file["version"]) for file in files if "version" in file), None)
    names = [service]
    while True:
        layers = _layers(files, names[-1])
        if not layers:
            if any("include" in file for file in files):
                return Joining(service, names[-1], names_none=True, version=version)
            raise UnusableServiceError(f"Its Compose files have no service {names[-1]!r}.")
        mode = next((str(layer["network_mode"]) for layer in reversed(layers) if layer.get("network_mode")), "")
        if not mode:
            return Joining(service, names[-1], not any(layer.get("networks") for layer in layers), version)
        kind, _, other = mode.partition(":")
        if kind != "service" or other in names:
            raise UnusableServiceError(
                f"The service {names[-1]!r} has network_mode {mode!r}, and so can join no other network."
            )
        names.append(other)


def compose_text(how: Joining, network: str, volumes: Sequence[str], env_files: Sequence[str]) -> str:
    """The content of the file; the volumes are in Compose's short spelling."""
    document: dict[str, Any] = {"version": how.version} if how.version else {}
    services: dict[str, Any] = {how.service: {"networks": [*(["default"] if how.names_none else []), network]}}
    services.setdefault(how.container, {}).update(volumes=list(volumes), env_file=list(env_files))
    document["services"] = services
    document["networks"] = {network: {"name": network, "external": True}}
    body = yaml.safe_dump(document, sort_keys=False)
    head = (
        f"# Joins {how.service} to the network of the cluster, and mounts the kubeconfigs into {how.container}.\n"
        "# The file with variables is for a company's network; it is empty where there is none.\n"
        "# Copier writes this file, and an update writes it again; settings of your own belong into another one.\n"
    )
    return f"{head}{_CHECKSUM}{_checksum(body)}\n{body}"


def is_unchanged(text: str) -> bool:
    """Whether this is a file as `compose_text` made it, for whatever service and network."""
    _, found, rest = text.replace("\r\n", "\n").partition(_CHECKSUM)
    checksum, _, body = rest.partition("\n")
    return bool(found) and checksum == _checksum(body)


def joins(text: str, network: str) -> bool:
    """Whether a file, somebody's own, names this network."""
    return re.search(rf"(?<![\w.-]){re.escape(network)}(?![\w.-])", text) is not None


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _layers(files: list[Mapping[str, Any]], service: str, depth: int = 0) -> list[Mapping[str, Any]]:
    """What the files say of a service, the last word last; what it extends in the same file comes first."""
    layers: list[Mapping[str, Any]] = []
    for file in files:
        services = file.get("services")
        found = services.get(service) if isinstance(services, dict) else None
        if not isinstance(found, dict):
            continue
        extended = found.get("extends")
        name = extended.get("service") if isinstance(extended, dict) and "file" not in extended else extended
        if isinstance(name, str) and depth < _DEEPEST:
            layers += _layers([file], name, depth + 1)
        layers.append(found)
    return layers


def _loaded(text: str) -> Mapping[str, Any]:
    try:
        document = yaml.load(text, Loader=_ComposeLoader)  # noqa: S506 - a safe loader
    except YAML_ERRORS as error:
        raise UnusableServiceError(f"A Compose file of it is not valid YAML: {error}") from error
    return document if isinstance(document, dict) else {}


class _ComposeLoader(yaml.SafeLoader):
    """Reads Compose's own tags (`!reset`, `!override`) as the values that they stand before, and dates as text."""


def _untagged(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


_ComposeLoader.add_multi_constructor("!", _untagged)
# Compose knows no dates; what looks like one, such as a version, may be none.
_ComposeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
