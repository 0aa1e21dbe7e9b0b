"""The network of a company: authorities of its own, a proxy, and what must not go through that.

`ca-bundle.pem` of the repository, or CA_BUNDLE in `.env`; HTTP_PROXY, HTTPS_PROXY and NO_PROXY in `.env`, or those of
the shell with PROXY_FROM_SHELL=yes. A proxy's address may hold a password: it is read where it is needed, and is in no
configuration, label or message.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from envkit.errors import UserError
from envkit.paths import ROOT, file_named, folder_id, state_dir

if TYPE_CHECKING:
    from envkit.ca_bundle import CaBundle
    from envkit.environment import Environment

CA_PATH_IN_NODES = "/etc/ssl/certs/envkit-ca-bundle.pem"
"""Go's programs, such as k3s, containerd and the registry, read every file of this folder beside the system's own
(crypto/x509, root_unix.go)."""

DOTENV_KEYS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PROXY_FROM_SHELL", "CA_BUNDLE")
"""The lines of `.env` that are read here."""

_SETS_ONE = re.compile(rf"^[^#\n]*\b(?:{'|'.join(DOTENV_KEYS)})\b", re.MULTILINE)
"""A line that may be one of them. What stands before the name, as a byte order mark, is the parser's business."""
_PROXY_KEYS = ("HTTP_PROXY", "HTTPS_PROXY")
_LOCAL = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", ".localhost")
_IN_CLUSTER = (".svc", ".cluster.local", "host.k3d.internal")
_DOCKER_RANGES = ("172.16.0.0/12", "192.168.0.0/16")
"""From these Docker takes the addresses of networks unless it is told otherwise; nodes call each other by address."""

SERVICE_RANGE = "10.43.0.0/16"
"""Addresses of the cluster's services, as k3s gives them."""

_POD_RANGE = "10.42.0.0/16"
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0", "")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxies:
    """What is to be reached through a proxy, as it was given; may hold passwords, so it is not printed.

    Attributes:
        http: The proxy for plain HTTP; empty for none.
        https: The proxy for HTTPS; empty for none.
        no_proxy: Names, domains and address ranges that are reached directly.
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.http or self.https)

    def variables(self, own: Iterable[str]) -> dict[str, str]:
        """The usual variables, in capitals and in small letters, because programs differ in which they read.

        Args:
            own: What is reached directly besides.
        """
        if not self:
            return {}
        values = {"HTTP_PROXY": self.http, "HTTPS_PROXY": self.https}
        values["NO_PROXY"] = ",".join(dict.fromkeys([*own, *self.no_proxy]))
        given = {key: value for key, value in values.items() if value}
        return given | {key.lower(): value for key, value in given.items()}


@dataclass(frozen=True)
class CorporateNetwork:
    """What of a company's network holds for an environment. No secret is in here.

    Attributes:
        ca_file: The file with certificates; empty for none.
        ca_sha256: Identifies the certificates in it.
        ca_names: The authorities.
        http_proxy: The proxy for plain HTTP, without a password.
        https_proxy: The proxy for HTTPS, without a password.
        no_proxy: All that is reached directly.
        credentials: Changes with user names and passwords in the proxies' addresses; empty where there are none.
    """

    ca_file: str = ""
    ca_sha256: str = ""
    ca_names: tuple[str, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    credentials: str = ""

    @property
    def has_proxy(self) -> bool:
        """Whether there is a proxy."""
        return bool(self.http_proxy or self.https_proxy)

    def described(self) -> dict[str, str]:
        """What the containers of a cluster are made with; a change of it is drift. Empty where nothing is set."""
        values = {
            "caBundle": self.ca_sha256[:16],
            "httpProxy": self.http_proxy,
            "httpsProxy": self.https_proxy,
            "noProxy": ",".join(self.no_proxy),
            "proxyCredentials": self.credentials,
        }
        return {key: value for key, value in values.items() if value}


def read_proxies(values: Mapping[str, str], shell: Mapping[str, str] | None = None) -> Proxies:
    """The proxies that these lines of `.env` mean.

    Args:
        values: The lines.
        shell: The variables of the shell; without them those of this process.

    Raises UserError for an address that no program understands; the message does not repeat it.
    """
    switch = values.get("PROXY_FROM_SHELL", "").lower()
    if switch not in (*_YES, *_NO):
        raise UserError(".env sets PROXY_FROM_SHELL to neither yes nor no.", "", "PROXY_FROM_SHELL=yes   (in .env)")
    found = dict(values)
    if switch in _YES:
        shell = os.environ if shell is None else shell
        for key in (*_PROXY_KEYS, "NO_PROXY"):
            if key not in values and (value := shell.get(key) or shell.get(key.lower())):
                found[key] = value
    http, https = (_checked(key, found.get(key, "")) for key in _PROXY_KEYS)
    no_proxy = tuple(filter(None, re.split(r"[,\s]+", found.get("NO_PROXY", ""))))
    if any("$" in entry for entry in no_proxy):
        raise _wrong("NO_PROXY", "it holds a dollar sign")
    return Proxies(http, https, no_proxy)


def without_credentials(url: str) -> str:
    """A proxy's address with stars in place of user name and password."""
    parts = urlsplit(without_user(url))
    return parts._replace(netloc=f"***@{parts.netloc}").geturl() if has_credentials(url) else url


def has_credentials(url: str) -> bool:
    """Whether a user name, or what stands in for one, is in a proxy's address."""
    return "@" in urlsplit(url).netloc


def without_user(url: str) -> str:
    """A proxy's address with nothing before its host."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def proxy_endpoint(url: str) -> tuple[str, int]:
    """Host and port of a proxy."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def is_loopback(host: str) -> bool:
    """Whether a host is reached from the machine itself only."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def own_addresses(
    *, cluster: str, registry: str, servers: int, agents: int, arguments: Iterable[str] = (), subnet: str = ""
) -> tuple[str, ...]:
    """What the environment's own parts reach without a proxy.

    Args:
        cluster: Name of the cluster, without k3d's prefix.
        registry: Name of the registry's container.
        servers: Number of server nodes.
        agents: Number of agent nodes.
        arguments: Those of k3s, which may choose other ranges for pods and services.
        subnet: Address range of the cluster's Docker network, where it is fixed.
    """
    chosen = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
    nodes = [f"k3d-{cluster}-{role}-{i}" for role, n in (("server", servers), ("agent", agents)) for i in range(n)]
    ranges = [
        *chosen.get("cluster-cidr", _POD_RANGE).split(","),
        *chosen.get("service-cidr", SERVICE_RANGE).split(","),
        *_DOCKER_RANGES,
        *([subnet] if subnet not in ("", "auto") else []),
    ]
    return tuple(dict.fromkeys([*_LOCAL, *_IN_CLUSTER, *ranges, registry, *nodes, f"k3d-{cluster}-serverlb"]))


def read_corporate_network(cluster: str, own: Iterable[str], root: Path = ROOT) -> CorporateNetwork:
    """What `ca-bundle.pem`, `.env` and the shell say, without secrets.

    Args:
        cluster: Name of the cluster.
        own: What is reached directly in any case.
        root: The repository.

    Raises UserError where an address or a certificate is wrong.
    """
    proxies, bundle = read_own_proxies(root), read_own_ca_bundle(root)
    credentials = [urlsplit(url).netloc.rpartition("@")[0] for url in (proxies.http, proxies.https)]
    return CorporateNetwork(
        ca_file=str(bundle.path) if bundle else "",
        ca_sha256=bundle.sha256 if bundle else "",
        ca_names=tuple(authority.name for authority in bundle.authorities) if bundle else (),
        http_proxy=without_credentials(proxies.http),
        https_proxy=without_credentials(proxies.https),
        no_proxy=tuple(dict.fromkeys([*own, *proxies.no_proxy])) if proxies else (),
        credentials=_derived("\n".join(credentials), cluster) if any(credentials) else "",
    )


def ca_bundle_file(values: Mapping[str, str], root: Path = ROOT) -> Path | None:
    """The file with certificates: CA_BUNDLE of `.env`, or the team's; None where there is neither.

    Raises UserError where CA_BUNDLE can be the name of no file.
    """
    from envkit.ca_bundle import TEAM_FILE

    if chosen := values.get("CA_BUNDLE"):
        return root / file_named(chosen, "CA_BUNDLE in .env")
    return root / TEAM_FILE if (root / TEAM_FILE).exists() else None


def own_ca_bundle_file(root: Path = ROOT) -> Path | None:
    """The file with certificates of this environment; None where it has none. Raises as `ca_bundle_file`."""
    return ca_bundle_file(_dotenv(root), root)


def read_own_ca_bundle(root: Path = ROOT) -> CaBundle | None:
    """The certificates of this environment; None where it has none. Raises UserError where the file is wrong."""
    path = own_ca_bundle_file(root)
    if path is None:
        return None
    from envkit.ca_bundle import read_ca_bundle

    return read_ca_bundle(path)


def read_own_proxies(root: Path = ROOT) -> Proxies:
    """The proxies of this environment, with passwords. Raises UserError where an address is wrong."""
    return read_proxies(_dotenv(root))


def proxy_variables(environment: Environment, root: Path = ROOT) -> dict[str, str]:
    """The usual variables for a container of the environment, passwords included; empty without a proxy."""
    network = environment.corporate
    return read_own_proxies(root).variables(network.no_proxy) if network.has_proxy else {}


def tell_programs(root: Path = ROOT, variables: MutableMapping[str, str] = os.environ) -> None:
    """Sets the variables by which the programs that are called from here find the proxy and the certificates.

    What a person has set in the shell about certificates stays. A file that is wrong is left to those who report it.
    """
    values = _dotenv(root)
    with suppress(UserError):
        variables.update(read_proxies(values).variables(_LOCAL))
    with suppress(UserError, OSError):
        path = ca_bundle_file(values, root)
        if path and path.is_file() and "SSL_CERT_FILE" not in variables and (trusted := _combined(path, root)):
            variables["SSL_CERT_FILE"] = str(trusted)
            variables.setdefault("NODE_EXTRA_CA_CERTS", str(path))


def trusted_certificates(root: Path = ROOT) -> str:
    """The system's certificates and those of this environment, as PEM; empty where it has none.

    Where the system keeps its own in another way, those of the environment alone.
    """
    path = own_ca_bundle_file(root)
    if path is None or not path.is_file():
        return ""
    if combined := _combined(path, root):
        return combined.read_text(encoding="utf-8")
    bundle = read_own_ca_bundle(root)
    return bundle.text if bundle else ""


def _combined(path: Path, root: Path) -> Path | None:
    """A file with the system's certificates and these; None where the system keeps its own in another way."""
    import hashlib

    from envkit.ca_bundle import read_ca_bundle, system_certificates
    from envkit.files import write_private

    system = system_certificates()
    if not system:
        return None
    # Parsed only when something has changed: that takes longer than all else that a recipe does on a running cluster.
    key = f"# {hashlib.sha256(path.read_bytes() + system.encode()).hexdigest()}\n"
    combined = state_dir() / f"ca-bundle-{folder_id(root)}.pem"
    if not combined.is_file() or not combined.read_text(encoding="utf-8").startswith(key):
        write_private(combined, f"{key}{system.rstrip()}\n{read_ca_bundle(path).text}")
    return combined


def _dotenv(root: Path) -> dict[str, str]:
    """The lines of `.env` that concern the network; those that are wrong are left to `config`."""
    try:
        text = (root / ".env").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    if not _SETS_ONE.search(text):  # as on most machines, where nothing need be imported
        return {}
    from dotenv.parser import parse_stream

    found = {binding.key: (binding.value or "").strip() for binding in parse_stream(io.StringIO(text)) if binding.key}
    return {key: value for key, value in found.items() if key in DOTENV_KEYS and value}


def _checked(key: str, value: str) -> str:
    """The address of a proxy with its scheme."""
    if not value:
        return ""
    url = value if "://" in value else f"http://{value}"
    if re.search(r"[\s\"'\\$]", url):
        raise _wrong(key, "it holds a space, a quotation mark, a backslash or a dollar sign")
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
        parts = SplitResult("", "", "", "", "")
    if not port_is_right or not parts.hostname or "@" in parts.netloc.rpartition("@")[0]:
        raise _wrong(key, "it is not http://[USER:PASSWORD@]HOST:PORT")
    if parts.scheme not in _DEFAULT_PORTS:
        raise _wrong(key, "not every program that needs it speaks anything but http:// and https:// with a proxy")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _wrong(key, "something stands behind the port")
    return url.rstrip("/")


def _wrong(key: str, why: str) -> UserError:
    return UserError(
        f"{key} has a value that this environment cannot use.",
        f"Its value is not shown, because it may hold a password: {why}.",
        f"Correct {key} in .env, or in your shell with PROXY_FROM_SHELL=yes.\n"
        "In a password write : as %3A, / as %2F, @ as %40, $ as %24, # as %23, % as %25 and a space as %20.",
    )


def _derived(secret: str, salt: str) -> str:
    """Tells one secret from another without telling it: a short text that takes effort to compute (RFC 7914)."""
    import hashlib

    return hashlib.scrypt(secret.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex()


def as_json(network: CorporateNetwork) -> dict[str, Any] | None:
    """What `status --json` says; None where nothing is set."""
    if not network.described():
        return None
    return {
        "ca_bundle": network.ca_file or None,
        "ca_sha256": network.ca_sha256 or None,
        "authorities": list(network.ca_names),
        "http_proxy": network.http_proxy or None,
        "https_proxy": network.https_proxy or None,
        "no_proxy": list(network.no_proxy),
        "proxy_has_credentials": bool(network.credentials),
    }


def as_lines(shown: Mapping[str, Any] | None) -> list[str]:
    """What `status` prints of that."""
    if not shown:
        return []
    lines = [f"{shown['ca_bundle']}  {', '.join(shown['authorities'])}"] if shown["ca_bundle"] else []
    proxies = dict.fromkeys(shown[key] for key in ("http_proxy", "https_proxy") if shown[key])
    return lines + [f"proxy {url}" for url in proxies]
