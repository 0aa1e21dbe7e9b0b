"""All environments of this machine with their ports, and who holds those of this one, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from envkit.engine import k3d_containers
from envkit.environment import Environment, PortKey
from envkit.neighbours import Neighbour, NeighbourPort, neighbours, project_in
from envkit.paths import ROOT, is_same_folder, just_command
from envkit.ports import is_busy, move_hint, owner_of
from envkit.report import new_table, plain, print_report

_COLOURS = {"running": "green", "stopped": "yellow", "partial": "red", "absent": "dim"}


@dataclass(frozen=True)
class OwnPort:
    """A port that this environment is configured for.

    Attributes:
        address: The address it is bound to.
        number: The port.
        purpose: What it is for.
        owner: Who holds it: `this environment`, `nobody`, or the other one in words.
        fix: The line that moves it to a free port; empty where that is not needed.
    """

    address: str
    number: int
    purpose: str
    owner: str
    fix: str


@dataclass(frozen=True)
class PortList:
    """All that `ports` shows.

    Attributes:
        environments: Every cluster of this machine, and registries that several share.
        own: The ports that this environment is configured for.
    """

    environments: tuple[Neighbour, ...]
    own: tuple[OwnPort, ...]


def gather(environment: Environment) -> PortList:
    """Asks Docker and the machine; UserError where Docker does not answer."""
    found = neighbours(k3d_containers())
    own = tuple(_own(environment, found))
    if all(neighbour.cluster != environment.cluster for neighbour in found):
        found.insert(0, _absent(environment))
    return PortList(tuple(found), own)


def _absent(environment: Environment) -> Neighbour:
    """This environment, of which Docker has nothing yet."""
    uses = environment.ports
    ports = tuple(NeighbourPort(use.address, use.number, use.purpose, use.protocol, "") for use in uses)
    return Neighbour(project_in(str(ROOT)), environment.cluster, environment.registry.name, "absent", str(ROOT), ports)


def others_ports(environment: Environment, found: Iterable[Neighbour]) -> dict[PortKey, Neighbour]:
    """The ports that other environments have, running or not; those of a registry that this one shares are its own."""
    return {
        port.key: neighbour for neighbour in found if not _is_own(environment, neighbour) for port in neighbour.ports
    }


def _is_own(environment: Environment, neighbour: Neighbour) -> bool:
    if neighbour.cluster:
        return neighbour.cluster == environment.cluster
    return neighbour.registry == environment.registry.name


def _own(environment: Environment, found: list[Neighbour]) -> Iterable[OwnPort]:
    own = [neighbour for neighbour in found if _is_own(environment, neighbour)]
    mine = {port.key for neighbour in own for port in neighbour.ports}
    held = {port.key for neighbour in own if neighbour.state == "running" for port in neighbour.ports}
    others = others_ports(environment, found)
    taken = {use.number for use in environment.ports} | {number for number, _ in others}
    for use in environment.ports:
        fix = ""
        # Two that have the same ports may take turns: the one that runs has them.
        if use.key in held or use.key in mine - others.keys():
            owner = "this environment"
        elif use.key in others:
            owner, fix = others[use.key].title, move_hint(use, taken)
        elif is_busy(use.address, use.number, use.protocol):
            owner, fix = owner_of(*use.key), move_hint(use, taken)
        else:
            owner = "nobody"
        yield OwnPort(use.address, use.number, use.purpose, owner, fix)


def print_json(ports: PortList) -> None:
    """Prints one JSON object."""
    print(json.dumps(asdict(ports), indent=2))


def print_table(ports: PortList) -> None:
    """Prints the list for a person."""
    table = new_table(columns=5)
    table.add_row(*(f"[bold]{title}[/]" for title in ("Project", "Cluster", "State", "Folder", "Ports")))
    for neighbour in ports.environments:
        table.add_row(
            plain(neighbour.project or "-"),
            plain(neighbour.cluster or f"(registry {neighbour.registry})"),
            f"[{_COLOURS[neighbour.state]}]{neighbour.state}[/]",
            plain(_folder(neighbour)),
            plain(", ".join(f"{port.number} {port.purpose}" for port in neighbour.ports)),
        )
    print_report(table)
    print("\nPorts of this environment:")
    table = new_table(columns=3)
    for port in ports.own:
        table.add_row(f"{port.address}:{port.number}", port.purpose, plain(port.owner))
        if port.fix:
            table.add_row("", "", f"[dim]to move it:[/] {plain(port.fix)}")
    print_report(table)
    if any(port.fix for port in ports.own):
        print(f"\nA cluster that exists keeps its ports until: {just_command()} delete && {just_command()} create")


def _folder(neighbour: Neighbour) -> str:
    if not neighbour.root:
        return "-"
    if is_same_folder(Path(neighbour.root), ROOT):
        return f"{neighbour.root} (here)"
    return neighbour.root if neighbour.is_there else f"{neighbour.root} (gone)"
