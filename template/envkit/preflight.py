"""What must be right before a cluster can be created, and what would make it slow or awkward later."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from envkit.ca_bundle import CaBundle, describe
from envkit.cluster import Cluster
from envkit.config import k3d_input
from envkit.corporate_network import is_loopback, proxy_endpoint, read_own_ca_bundle
from envkit.engine import docker, inspect
from envkit.environment import Environment, PortKey, PortUse
from envkit.errors import CommandFailedError, UserError
from envkit.files import how_to_close, is_open_to_others
from envkit.neighbours import Neighbour
from envkit.observation import Observation
from envkit.ownership import clashes
from envkit.paths import ROOT, just_command
from envkit.ports import is_busy, is_own_address, move_hint, owner_of
from envkit.wording import counted

_MEMORY_BASE, _MEMORY_AGENT = 2 * 2**30, 2**29
_INOTIFY = {"max_user_instances": 512, "max_user_watches": 65536}
_DISK_FREE = 10 * 2**30
_PROXY_SECONDS = 2.0


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    """It would stop `create`."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at, two or three words.
        verdict: How it ended.
        detail: What was found.
        fix: The exact line or command that puts it right; empty where nothing needs to be.
    """

    subject: str
    verdict: Verdict
    detail: str
    fix: str = ""


def check_docker() -> Check:
    """Docker answers and is allowed to this user."""
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except UserError as error:
        return failed_docker(error)
    return Check("Docker", Verdict.OK, "answers")


def failed_docker(error: UserError) -> Check:
    """What is wrong with Docker, for `doctor`, to which an error that nothing is known about leads."""
    fix = "docker info   (what does it say itself?)" if isinstance(error, CommandFailedError) else error.next_step
    return Check("Docker", Verdict.FAIL, f"{error.what} {error.why}".strip(), fix)


def check_resources(environment: Environment) -> list[Check]:
    """Memory and disk of the engine, kernel limits that several nodes on one machine run into."""
    checks = []
    try:
        info = json.loads(docker("info", "--format", "{{json .}}"))
    except (UserError, ValueError):
        return []
    nodes = environment.agents + environment.servers - 1
    wanted, memory = _MEMORY_BASE + nodes * _MEMORY_AGENT, int(info.get("MemTotal") or 0)
    enough = memory >= wanted
    checks.append(
        Check(
            "Memory",
            Verdict.OK if enough else Verdict.WARN,
            f"{memory / 2**30:.1f} GiB for Docker; about {wanted / 2**30:.1f} GiB are wanted",
            "" if enough else "Give Docker more memory in its settings, or set fewer agents in k3d.yaml",
        )
    )
    if "name=rootless" in (info.get("SecurityOptions") or []):
        checks += _check_rootless_ports(environment)
    return checks + _check_disk(Path(info.get("DockerRootDir") or "/"))


def _check_disk(root: Path) -> list[Check]:
    try:
        free = shutil.disk_usage(root).free
    except OSError:  # the folder is in a virtual machine, on another one, or only root may look
        return []
    return [
        Check(
            "Disk",
            Verdict.OK if free >= _DISK_FREE else Verdict.WARN,
            f"{free / 2**30:.0f} GiB free for Docker",
            "" if free >= _DISK_FREE else "docker system df   (nodes evict pods when the disk is nearly full)",
        )
    ]


def check_inotify(folder: Path = Path("/proc/sys/fs/inotify")) -> list[Check]:
    """Kernel limits on file watches; each node needs many of them."""
    checks = []
    for name, wanted in _INOTIFY.items():
        try:
            value = int((folder / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        enough = value >= wanted
        checks.append(
            Check(
                "Kernel limits",
                Verdict.OK if enough else Verdict.WARN,
                f"fs.inotify.{name} is {value}"
                + ("" if enough else f"; pods fail with 'too many open files' below {wanted}"),
                "" if enough else f"sudo sysctl -w fs.inotify.{name}={wanted}",
            )
        )
    return checks


def _check_rootless_ports(environment: Environment) -> list[Check]:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []
    taken = {use.number for use in environment.ports}
    return [
        Check(
            f"Port {use.number}",
            Verdict.FAIL,
            f"{use.purpose}: Docker runs without root here and may not open ports below {first}",
            move_hint(use, taken),
        )
        for use in environment.ports
        if use.number < first
    ]


def check_ports(
    uses: Sequence[PortUse],
    own_ports: frozenset[PortKey] = frozenset(),
    others: Mapping[PortKey, Neighbour] | None = None,
) -> list[Check]:
    """Every port of the environment is free, or held by the environment itself.

    A port of an environment that is stopped only warns: two that never run at the same time may have the same ports.

    Args:
        uses: The ports to look at.
        own_ports: Ports that its own running containers hold.
        others: The ports of other environments, running or not.
    """
    others = others or {}
    taken = {use.number for use in uses} | {number for number, _ in others}
    checks = []
    for use in uses:
        where = f"{use.purpose} on {use.address}:{use.number}"
        if use.key in own_ports:
            checks.append(Check(f"Port {use.number}", Verdict.OK, f"{where}: held by this environment"))
        elif not is_own_address(use.address):
            detail = f"{where}: this machine has no address {use.address}"
            fix = f"127.0.0.1:{use.number} in place of {use.address}:{use.number} in k3d.yaml"
            checks.append(Check(f"Port {use.number}", Verdict.WARN, detail, fix))
        elif is_busy(use.address, use.number, use.protocol):
            holder = others[use.key].title if use.key in others else owner_of(*use.key)
            detail = f"{where}: held by {holder}"
            checks.append(Check(f"Port {use.number}", Verdict.FAIL, detail, move_hint(use, taken)))
        elif use.key in others:
            detail = f"{where}: free, but only one of the two can run: {others[use.key].title} has it too"
            checks.append(Check(f"Port {use.number}", Verdict.WARN, detail, move_hint(use, taken)))
        else:
            checks.append(Check(f"Port {use.number}", Verdict.OK, f"{where}: free"))
    return checks


def check_names(environment: Environment, observation: Observation, root: Path = ROOT) -> list[Check]:
    """No other environment uses the same names."""
    found = clashes(environment, observation.nodes, observation.registry, root)
    checks = [Check(clash.subject, Verdict.FAIL, clash.detail, clash.fix) for clash in found]
    if not observation.registry and inspect("container", environment.registry.name):
        checks.append(
            Check(
                "Registry name",
                Verdict.FAIL,
                f"a container {environment.registry.name} exists that k3d did not make",
                f"docker rename {environment.registry.name} {environment.registry.name}-old",
            )
        )
    return checks or [Check("Names", Verdict.OK, f"{environment.context}, {environment.registry.name}: ours or free")]


def check_shared_registry(environment: Environment, observation: Observation) -> list[Check]:
    """A registry that another environment has made is on the port that this one names."""
    registry, port = environment.registry, observation.registry_port
    if not registry.shared or not port:
        return []
    detail = f"the shared registry {registry.name} is on port {port}, and this environment names {registry.port}"
    return [Check("Registry port", Verdict.FAIL, detail, f"REGISTRY_PORT={port}   (a line in .env)")]


def check_config(environment: Environment) -> Check:
    """The configuration can be handed to k3d."""
    try:
        k3d_input(environment)
    except UserError as error:
        return Check("k3d.yaml", Verdict.FAIL, f"{error.what} {error.why}", error.next_step)
    nodes = f"{counted(environment.servers, 'server')}, {counted(environment.agents, 'agent')}"
    return Check("k3d.yaml", Verdict.OK, f"{nodes}, {environment.image}")


def check_corporate_network(cluster: Cluster, root: Path = ROOT) -> list[Check]:
    """The authorities are valid, and the proxy is there; nothing where neither is set."""
    network = cluster.corporate
    checks = []
    if network.ca_file and (bundle := read_own_ca_bundle(root)):
        checks.append(_check_authorities(bundle))
    dotenv = root / ".env"
    if network.credentials and dotenv.is_file() and is_open_to_others(dotenv):
        detail = f"{dotenv} holds a proxy's password, and others can read it"
        checks.append(Check("Proxy", Verdict.WARN, detail, how_to_close(dotenv)))
    addresses = dict.fromkeys(filter(None, (network.http_proxy, network.https_proxy)))
    is_here = bool(cluster.node_container)
    checks += [_check_proxy(url, network.credentials, nodes_are_here=is_here) for url in addresses]
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    if not network.has_proxy and any(os.environ.get(name) for name in names):
        detail = "this shell has one, and the cluster none"
        checks.append(Check("Proxy", Verdict.WARN, detail, "PROXY_FROM_SHELL=yes   (a line in .env)"))
    return checks


def _check_authorities(bundle: CaBundle) -> Check:
    expired, expiring = bundle.expired(), bundle.expiring()
    renew = f"Ask those who keep your network for the new certificates, and put them into {bundle.path}"
    if len(expired) == len(bundle.authorities):
        return Check("CA bundle", Verdict.FAIL, f"{bundle.path}: all have expired: {describe(expired)}", renew)
    if expired:
        return Check("CA bundle", Verdict.WARN, f"{bundle.path}: expired: {describe(expired)}", renew)
    if expiring:
        return Check("CA bundle", Verdict.WARN, f"{bundle.path}: about to expire: {describe(expiring)}", renew)
    return Check("CA bundle", Verdict.OK, f"{bundle.path}: {describe(bundle.authorities)}")


def _check_proxy(url: str, credentials: str, *, nodes_are_here: bool) -> Check:
    host, port = proxy_endpoint(url)
    if is_loopback(host):
        detail = f"{url} is this machine's for this machine alone: in a container {host} is the container itself"
        fix = (
            "Have the proxy listen on Docker's bridge, too, and name that in .env, e.g. http://172.17.0.1:3128"
            if nodes_are_here
            else "Name in .env an address of the proxy that the cluster's nodes reach"
        )
        return Check("Proxy", Verdict.FAIL, detail, fix)
    shown = f"{url}{' with a password' if credentials else ''}"
    try:
        socket.create_connection((host, port), timeout=_PROXY_SECONDS).close()
    except OSError as error:
        # Not a failure: a name may be known in the cluster's network alone, and a VPN may come later.
        why = f"{shown} does not answer this machine: {error.strerror or error}"
        return Check("Proxy", Verdict.WARN, why, "Correct HTTP_PROXY and HTTPS_PROXY in .env, or connect the VPN")
    return Check("Proxy", Verdict.OK, f"{shown} answers")


def check_leftovers(environment: Environment, observation: Observation) -> list[Check]:
    """Parts of a half-deleted cluster; `create` puts them right by itself, so they only warn."""
    found = []
    if not observation.nodes:
        if observation.registry and not observation.registry.shared:
            found.append(f"the registry container {observation.registry.name}")
        if network := inspect("network", environment.network):
            attached = sorted(c["Name"] for c in (network[0].get("Containers") or {}).values())
            found.append(
                f"the network {environment.network}" + (f" (in use by {', '.join(attached)})" if attached else "")
            )
    if not found:
        return []
    return [Check("Leftovers", Verdict.WARN, f"without a cluster: {', '.join(found)}", f"{just_command()} create")]


def own_published_ports(observation: Observation) -> frozenset[PortKey]:
    """Ports that the environment's running containers hold; a `:direct` port is a node's own."""
    running = [part for part in observation.containers if part.running]
    return frozenset((port.number, port.protocol) for part in running for port in part.published)


def require(checks: list[Check], action: str, say: Callable[[str], None]) -> None:
    """Says the warnings; raises UserError with every failed check in one list."""
    for check in checks:
        if check.verdict is Verdict.WARN:
            say(f"warning: {check.subject}: {check.detail}" + (f"\n  fix: {check.fix}" if check.fix else ""))
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    if failed:
        raise UserError(
            f"The cluster cannot be {action}.",
            "\n".join(f"{check.subject}: {check.detail}\n  fix: {check.fix}" for check in failed),
            f"{just_command()} create",
        )
