"""What an environment is: the values that `k3d.yaml`, `k3d.local.yaml`, `environment.toml` and `.env` come down to.

Read by every recipe, so this module imports little. `config` makes these values from the files and checks them;
what it made is remembered until one of the files changes, because the checking costs more time than all else that a
recipe does on a running cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envkit.ca_bundle import TEAM_FILE
from envkit.corporate_network import SERVICE_RANGE, CorporateNetwork, own_ca_bundle_file
from envkit.errors import UserError
from envkit.paths import ROOT, folder_id, just_command, state_dir
from envkit.provider import is_existing

if TYPE_CHECKING:
    from envkit.images import Images

PortKey = tuple[int, str]
"""A port's number and its protocol: TCP and UDP of one number are two ports."""

Lens = Literal["openlens", "freelens", "none"]

HASH_LABEL = "envkit.config-hash"
"""Label on the server's container: the hash of the configuration that the cluster was created with."""

ROOT_LABEL = "envkit.root"
"""Label on the server's container: the percent-encoded path of the repository that created the cluster."""

SHARED_LABEL = "envkit.registry"
"""Label on the container of a registry that several environments share; its value is `shared`."""

ALL_INTERFACES = "0.0.0.0"  # noqa: S104
"""What Docker and k3d take where a port is given without an address; only compared with here."""

_LOOPBACK = {ALL_INTERFACES: "127.0.0.1", "::": "::1"}

REGISTRY_INTERNAL_PORT = 5000
"""Where a registry listens in its container, and so on the cluster's network."""

HIGHEST_PORT = 65535

_MAPPING = re.compile(r"(?:(?:(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):)?([0-9]+):)?([0-9]+)(?:/[a-z]+)?")
_FILES = ("k3d.yaml", "k3d.local.yaml", "environment.toml", ".env", TEAM_FILE)
_CODE = (
    "config.py",
    "environment.py",
    "dotenv_file.py",
    "go_yaml.py",
    "overlay.py",
    "ca_bundle.py",
    "corporate_network.py",
)
_SHELL = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class PortUse:
    """A port of this machine that the environment listens on.

    Attributes:
        address: The address it is bound to.
        number: The port.
        purpose: What it is for, as a person would say it.
        variable: The name in `.env` that changes it; empty where only `k3d.yaml` can.
        protocol: `tcp` or `udp`.
    """

    address: str
    number: int
    purpose: str
    variable: str = ""
    protocol: str = "tcp"

    @property
    def key(self) -> PortKey:
        """What it is known by among others."""
        return self.number, self.protocol


@dataclass(frozen=True)
class Registry:
    """The image registry of the environment.

    Attributes:
        name: Name of its container, also its host name inside the cluster's network.
        port: Port on this machine.
        image: Image that it runs.
        volume: Docker volume with its data; empty where `k3d.yaml` mounts none.
        address: Address of this machine that it listens on.
        mounts: All that `k3d.yaml` mounts into it, as Docker's `--volume` takes it.
        shared: Whether several environments of this machine use it, so that it belongs to no cluster.
    """

    name: str
    port: int
    image: str
    volume: str
    address: str = "127.0.0.1"
    mounts: tuple[str, ...] = ()
    shared: bool = False

    @property
    def endpoint(self) -> str:
        """`host:port` at which this machine asks it: where it listens, and loopback where that is everywhere."""
        host = _LOOPBACK.get(self.address, self.address)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def host_names(self) -> tuple[str, ...]:
        """`host:port` names by which this machine reaches it; the first is the one to show."""
        return (f"{self.name}.localhost:{self.port}", f"localhost:{self.port}")

    @property
    def cluster_names(self) -> tuple[str, ...]:
        """`host:port` names by which containers in the cluster's network reach it."""
        return (f"{self.name}:{REGISTRY_INTERNAL_PORT}",)


@dataclass(frozen=True)
class Environment:
    """The effective configuration of this environment.

    Attributes:
        cluster: Name of the cluster, without k3d's prefix.
        servers: Number of server nodes.
        agents: Number of agent nodes.
        image: Node image.
        api_port: Port of the Kubernetes API on this machine.
        ports: Every port of this machine that it listens on.
        registry: The image registry.
        lens: Which Kubernetes IDE the developer wants.
        effective: The whole configuration for k3d, without envkit's labels.
        corporate: Proxies and authorities of a company's network.
    """

    cluster: str
    servers: int
    agents: int
    image: str
    api_port: int
    ports: tuple[PortUse, ...]
    registry: Registry
    lens: Lens
    effective: dict[str, Any]
    corporate: CorporateNetwork = field(default_factory=CorporateNetwork)

    @property
    def name(self) -> str:
        """Name of the cluster, as `cluster.Cluster` has it."""
        return self.cluster

    @property
    def context(self) -> str:
        """Name of the kubeconfig context, and prefix of all that k3d makes for the cluster."""
        return f"k3d-{self.cluster}"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for tools on this machine."""
        from envkit.kubeconfig import kubeconfig_paths

        return kubeconfig_paths(self.context).host

    @property
    def images(self) -> Images:
        """Where images of the cluster are kept: the environment's registry."""
        from envkit.images import OwnImages

        return OwnImages(self.registry)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Names and ranges of addresses inside the cluster, which no proxy reaches."""
        return (SERVICE_RANGE, *(name.partition(":")[0] for name in self.registry.cluster_names))

    @property
    def node_container(self) -> str:
        """Name of the first server's container."""
        return f"k3d-{self.cluster}-server-0"

    @property
    def how_to_reach(self) -> str:
        """What to run where the API does not answer."""
        return f"{just_command()} create"

    @property
    def how_to_upgrade(self) -> str:
        """What to do where Kubernetes is too old."""
        return f"Raise `image` in k3d.yaml, then: {just_command()} delete && {just_command()} create"

    @property
    def network(self) -> str:
        """Name of the cluster's Docker network."""
        return f"k3d-{self.cluster}"

    @property
    def load_balancer(self) -> str:
        """Name of the load balancer's container, which is also a name in the API's certificate."""
        return f"k3d-{self.cluster}-serverlb"

    @property
    def image_volume(self) -> str:
        """Name of the volume that k3d makes for imported images."""
        return f"k3d-{self.cluster}-images"

    @property
    def described(self) -> dict[str, Any]:
        """All that a cluster is made from, without secrets: a cluster that was made from something else has drifted."""
        network = self.corporate.described()
        return self.effective | {"corporateNetwork": network} if network else self.effective

    @property
    def config_hash(self) -> str:
        """Identifies what a cluster is made from; 16 hexadecimal digits."""
        return hashlib.sha256(canonical_json(sorted(flattened(self.described))).encode()).hexdigest()[:16]

    def port(self, variable: str) -> int | None:
        """The port that a name in `.env` stands for, e.g. `HTTP_PORT`."""
        return next((use.number for use in self.ports if use.variable == variable), None)


def canonical_json(value: object) -> str:
    """JSON in one spelling, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def flattened(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Every value of a document with its path, e.g. `("ports[0].port", "127.0.0.1:80:80")`.

    Values are compared as text, and without white space at their ends: `5050` and `"5050"` mean the same to k3d.
    """
    if isinstance(value, Mapping) and value:
        return [pair for key, part in value.items() for pair in flattened(part, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list) and value:
        return [pair for i, part in enumerate(value) for pair in flattened(part, f"{prefix}[{i}]")]
    return [(prefix, value.strip() if isinstance(value, str) else canonical_json(value))]


def parse_port_mapping(mapping: str) -> tuple[str, int, int]:
    """Splits k3d's `[[IP:]HOSTPORT:]CONTAINERPORT[/PROTOCOL]` into address, host port and container port.

    An IPv6 address stands in brackets there, and comes back without them. Raises ValueError for anything else, such as
    a range.
    """
    parts = _MAPPING.fullmatch(mapping)
    if not parts:
        raise ValueError(f"{mapping!r} is not [IP:]HOSTPORT:CONTAINERPORT with plain port numbers")
    container = int(parts[3])
    host = int(parts[2] or container)
    if not 1 <= host <= HIGHEST_PORT or not 1 <= container <= HIGHEST_PORT:
        raise ValueError(f"{mapping!r} has a port that is not between 1 and {HIGHEST_PORT}")
    return (parts[1] or ALL_INTERFACES).strip("[]"), host, container


def with_host_port(mapping: str, port: int) -> str:
    """The same port mapping from another port of this machine."""
    left, _, container = mapping.rpartition(":")
    address = left.rpartition(":")[0]
    return f"{address}:{port}:{container}" if address else f"{port}:{container}"


def load_environment(root: Path = ROOT) -> Environment:
    """The environment of a repository.

    Raises:
        UserError: A file is missing or wrong; names the file, the key and what is allowed.
    """
    memory = state_dir() / f"config-{folder_id(root)}.json"
    key = _fingerprint(root)
    if environment := _recall(memory, key):
        return environment
    if is_existing(root):
        from envkit.existing.cluster import no_cluster_of_k3d

        raise no_cluster_of_k3d()
    from envkit.config import read_environment

    environment = read_environment(root)
    _remember(memory, key, environment)
    return environment


def _fingerprint(root: Path) -> str:
    """Changes with the files, with the code that reads them, and with the proxies of the shell."""
    digest = hashlib.sha256()
    code = Path(__file__).parent
    paths = [*(root / name for name in _FILES), *(code / name for name in _CODE)]
    with suppress(UserError):  # one that is wrong is told when the files are read
        paths += filter(None, [own_ca_bundle_file(root)])
    for path in paths:
        content = _content(path)
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    for name in (name for key in _SHELL for name in (key, key.lower())):
        digest.update(f"{name}={os.environ.get(name, '')} ".encode())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:  # told when it is read, for which what was remembered must not count
        return f"not readable: {error.errno}".encode()


def _recall(memory: Path, key: str) -> Environment | None:
    try:
        saved = json.loads(memory.read_text(encoding="utf-8"))
        if saved["key"] != key:
            return None
        values = saved["environment"]
        registry = values["registry"]
        values["registry"] = Registry(**registry | {"mounts": tuple(registry["mounts"])})
        values["ports"] = tuple(PortUse(**use) for use in values["ports"])
        lists = {key: tuple(values["corporate"][key]) for key in ("ca_names", "no_proxy")}
        values["corporate"] = CorporateNetwork(**values["corporate"] | lists)
        return Environment(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: Path, key: str, environment: Environment) -> None:
    from envkit.files import write_private

    # Where nothing can be kept, the files are read anew each time.
    with suppress(UserError):
        write_private(memory, json.dumps({"key": key, "environment": asdict(environment)}, default=str))
