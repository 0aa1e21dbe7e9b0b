"""What of a new environment's ports and names this machine has taken already: its environments, and whatever listens.

Looks only where Docker's engine runs on this machine, asks nothing over a network, and ends within seconds. The
looking itself is that of a generated environment (template/envkit).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "template"))

from envkit.engine import docker, k3d_containers
from envkit.environment import PortUse
from envkit.errors import UserError
from envkit.neighbours import Neighbour, neighbours
from envkit.paths import is_same_folder
from envkit.ports import free_port_for, is_busy

SECONDS = 2.0
"""How long Docker's engine gets for each of its answers; a healthy one takes a tenth of a second."""

_ADDRESS = "127.0.0.1"
_LOCAL = ("unix://", "npipe://")
_PROJECT_LENGTH, _NAME_LENGTH = 28, 32


@dataclass(frozen=True)
class Taken:
    """An answer that this machine leaves no room for.

    Attributes:
        key: The question.
        sentence: What has it.
        proposal: Other answers that are free, by question.
    """

    key: str
    sentence: str
    proposal: Mapping[str, Any]


class Machine:
    """What environments this machine has. Asks Docker in the background from the moment it is made."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._asked: Future[list[Neighbour] | None] = self._pool.submit(_look)
        self._pool.shutdown(wait=False)

    def neighbours(self) -> list[Neighbour] | None:
        """The environments; None where there is no engine on this machine to ask, or it does not answer in time."""
        try:
            return self._asked.result(timeout=SECONDS * 2)
        except NotInTimeError:
            return None


def _look() -> list[Neighbour] | None:
    try:
        engine = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}", timeout=SECONDS)
        return neighbours(k3d_containers(SECONDS)) if engine.startswith(_LOCAL) else None
    except (UserError, OSError):
        return None


def taken(answers: Mapping[str, Any], destination: Path, found: list[Neighbour]) -> list[Taken]:
    """Each of these answers that clashes with what is there.

    Args:
        answers: All answers, defaults included.
        destination: Where the environment goes. One that was there before, and its cluster, are no clash.
        found: The environments of this machine.
    """
    own = [neighbour for neighbour in found if _is_own(neighbour, answers, destination)]
    others = [neighbour for neighbour in found if neighbour not in own]
    return [*_taken_names(answers, others), *_taken_ports(answers, own, others)]


def _is_own(neighbour: Neighbour, answers: Mapping[str, Any], destination: Path) -> bool:
    if _is_shared_with(neighbour, answers):
        return True
    if neighbour.root and is_same_folder(Path(neighbour.root), destination.resolve()):
        return True
    return neighbour.cluster == answers["cluster_name"] and not neighbour.is_there


def _is_shared_with(neighbour: Neighbour, answers: Mapping[str, Any]) -> bool:
    return (
        not neighbour.cluster
        and answers["registry"] == "shared"
        and neighbour.registry == f"k3d-{answers['registry_name']}"
    )


def _taken_names(answers: Mapping[str, Any], others: list[Neighbour]) -> list[Taken]:
    clusters = {neighbour.cluster: neighbour for neighbour in others}
    own_registry = f"k3d-{answers['project']}-registry" if answers["registry"] == "own" else ""
    found = []
    if holder := clusters.get(answers["cluster_name"]):
        from_project = answers["cluster_name"] == f"{answers['project']}-dev"
        if from_project:
            projects = {name.removesuffix("-dev") for name in clusters}
            proposal = {"project": _free(answers["project"], projects, _PROJECT_LENGTH)}
        else:
            proposal = {"cluster_name": _free(answers["cluster_name"], set(clusters), _NAME_LENGTH)}
        sentence = f"cluster_name: {answers['cluster_name']} is the name of a cluster that {holder.title} has."
        found.append(Taken("cluster_name", sentence, proposal))
    elif holder := next((other for other in others if own_registry and other.registry == own_registry), None):
        projects = {other.registry.removeprefix("k3d-").removesuffix("-registry") for other in others}
        sentence = f"project: the registry {own_registry}, named after it, is there already: {holder.title} has it."
        proposal = {"project": _free(answers["project"], projects, _PROJECT_LENGTH)}
        found.append(Taken("project", sentence, proposal))
    return found


def _free(name: str, names: set[str], length: int) -> str:
    for number in range(2, len(names) + 3):
        ending = f"-{number}"
        if (candidate := name[: length - len(ending)] + ending) not in names:
            return candidate
    return name


def _taken_ports(answers: Mapping[str, Any], own: list[Neighbour], others: list[Neighbour]) -> list[Taken]:
    # All ports of the answers are TCP: UDP of the same number is another port.
    mine = {port.number for neighbour in own for port in neighbour.ports if port.protocol == "tcp"}
    theirs = {port.number: neighbour for neighbour in others for port in neighbour.ports if port.protocol == "tcp"}
    keys = [key for key in answers if key.endswith("_port")]
    used = {answers[key] for key in keys} | theirs.keys()
    found = []
    for key in keys:
        number = answers[key]
        if key == "registry_port" and (shared := _port_of_shared_registry(answers, own)):
            if shared != number:
                sentence = f"{key}: the shared registry {answers['registry_name']} is there already, on port {shared}."
                found.append(Taken(key, sentence, {key: shared}))
        elif number in theirs or (number not in mine and is_busy(_ADDRESS, number)):
            holder = theirs[number].title if number in theirs else "a program that listens on it"
            free = free_port_for(PortUse(_ADDRESS, number, key, key.upper()), used)
            used.add(free)
            found.append(Taken(key, f"{key}: {number} is held by {holder}.", {key: free}))
    return found


def _port_of_shared_registry(answers: Mapping[str, Any], own: list[Neighbour]) -> int:
    ports = (port for neighbour in own if _is_shared_with(neighbour, answers) for port in neighbour.ports)
    return next((port.number for port in ports), 0)
