"""The Docker engine, through the `docker` command.

The command rather than an SDK: it follows Docker contexts (Docker Desktop, Colima, ssh) by itself, and starting it
costs a tenth of importing the SDK, which matters to a recipe that is run every morning.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from envkit.environment import ALL_INTERFACES, HASH_LABEL, ROOT_LABEL, SHARED_LABEL
from envkit.errors import TIMED_OUT, CommandFailedError, UserError
from envkit.paths import just_command
from envkit.process import capture, require_tool, tool_environment

TIMEOUT = 20.0
"""Seconds after which the engine counts as dead. A healthy one answers a listing within a tenth of a second, on a
machine that is busy with builds within several."""

CHANGE_TIMEOUT = 60.0
"""Seconds for a command that starts, stops or removes something; a container gets ten of them to end by itself."""

PULL_TIMEOUT = 300.0
"""Seconds for a command that may pull an image."""

_LISTING_TRIES = 5

CLUSTER_LABEL = "k3d.cluster"
ROLE_LABEL = "k3d.role"

_FIELDS = (
    "{{.Id}}",
    "{{.Name}}",
    "{{.State.Status}}",
    "{{.State.StartedAt}}",
    "{{.Config.Image}}",
    "{{range $name, $end := .NetworkSettings.Networks}}{{$name}}={{$end.IPAddress}},{{end}}",
    f'{{{{index .Config.Labels "{CLUSTER_LABEL}"}}}}',
    f'{{{{index .Config.Labels "{ROLE_LABEL}"}}}}',
    f'{{{{index .Config.Labels "{HASH_LABEL}"}}}}',
    f'{{{{index .Config.Labels "{ROOT_LABEL}"}}}}',
    f'{{{{index .Config.Labels "{SHARED_LABEL}"}}}}',
    "{{json .HostConfig.PortBindings}}",
)


class Published(NamedTuple):
    """A port of this machine that leads to a container, while it runs.

    Attributes:
        address: The address it is bound to.
        number: The port of this machine.
        target: The container's port.
        protocol: `tcp` or `udp`.
    """

    address: str
    number: int
    target: int
    protocol: str = "tcp"


@dataclass(frozen=True)
class Container:
    """A container as the engine lists it.

    Attributes:
        id: Its full identifier.
        name: Its name.
        state: Docker's word for it: `running`, `created` (never started), `exited`, `paused`, `restarting`, `dead`.
        started_at: When its process was last started, as Docker writes it.
        image: The image it was made from.
        addresses: Its address on each network it is attached to; empty while it does not run.
        cluster: The k3d cluster it belongs to; empty for none.
        role: k3d's word: `server`, `agent`, `loadbalancer`, `registry`, `noRole`.
        config_hash: Hash of the configuration it was created with; only on the server of a cluster that envkit made.
        root: Percent-encoded path of the repository that created it; same condition.
        shared: Whether it is a registry that several environments share.
        published: The ports of this machine that it has, or would have if it were started.
    """

    id: str
    name: str
    state: str
    started_at: str
    image: str
    addresses: Mapping[str, str]
    cluster: str
    role: str
    config_hash: str
    root: str
    shared: bool = False
    published: tuple[Published, ...] = ()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.state == "running"


def k3d_containers(timeout: float = TIMEOUT) -> list[Container]:
    """Every container that k3d made, of any cluster, running or not.

    The listing leaves out the containers' variables and most labels on purpose: they hold the cluster's token.

    Raises UserError where the engine does not answer.
    """
    for _ in range(_LISTING_TRIES):
        idents = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", "label=app=k3d", timeout=timeout).split()
        if not idents:
            return []
        try:
            text = docker("container", "inspect", "--format", "\t".join(_FIELDS), *idents, timeout=timeout)
        except CommandFailedError:  # one of them was removed in between
            continue
        return [_container(line) for line in text.splitlines()]
    raise UserError("Docker's containers come and go.", "k3d or another envkit is at work.", "Try again in a moment.")


def _container(line: str) -> Container:
    # What some versions of Docker print for a label that is not there.
    fields = line.replace("<no value>", "").split("\t")
    ident, name, state, started, image, networks, cluster, role, config_hash, root, shared, ports = fields
    return Container(
        id=ident,
        name=name.lstrip("/"),
        state=state,
        started_at=started,
        image=image,
        # Docker's command writes an empty address as `invalid IP` since version 1.52 of the API (Go's netip.Addr).
        addresses=dict(part.split("=", 1) for part in networks.replace("invalid IP", "").split(",") if part),
        cluster=cluster,
        role=role,
        config_hash=config_hash,
        root=root,
        shared=bool(shared),
        published=tuple(_published(json.loads(ports or "null") or {})),
    )


def _published(bindings: Mapping[str, Any]) -> Iterator[Published]:
    for port, entries in bindings.items():
        target, _, protocol = port.partition("/")
        for entry in entries or []:
            number = entry.get("HostPort") or ""
            if number.isdigit():  # not where Docker is to choose one, or one of a range
                yield Published(entry.get("HostIp") or ALL_INTERFACES, int(number), int(target), protocol or "tcp")


def docker(
    *arguments: str,
    timeout: float | None = TIMEOUT,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Runs a docker command and returns its output; `env` are variables for the command itself.

    Raises:
        UserError: Docker is not installed, not running or not permitted; says what to start.
        CommandFailedError: The engine answers, and refuses this command.
    """
    try:
        return capture(
            ["docker", *arguments], timeout=timeout, stdin=stdin, env=env, next_step=f"{just_command()} doctor"
        )
    except CommandFailedError as error:
        raise _explained(error, arguments[0]) from error


def inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """Docker's description of objects (`container`, `network`, `volume`, `image`); missing ones are left out."""
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            found += json.loads(docker(kind, "inspect", name))
        except CommandFailedError as error:
            if not _is_missing(error):
                raise
    return found


def remove_containers(names: Iterable[str]) -> None:
    """Removes containers with their anonymous volumes, running or not; missing ones are no error."""
    if names := list(names):
        docker("rm", "--force", "--volumes", *names, timeout=CHANGE_TIMEOUT)


def read_file(container: str, path: str) -> bytes | None:
    """A file in a container, running or not; None where it is not there. Raises as `docker`."""
    files = _archived(container, path)
    return files[0] if files else None


def read_folder(container: str, path: str) -> list[bytes]:
    """The content of every file in a folder of a container, running or not; empty where the folder is not there.

    Raises as `docker`.
    """
    return [content for content in _archived(container, path) if content is not None]


def _archived(container: str, path: str) -> list[bytes | None]:
    """What is at a path, each file with its content and the folders between them; nothing where nothing is there.

    That Docker fails to look is an error: what a cluster or a volume holds must not count as missing because of it.
    """
    import io
    import tarfile

    done = _copy(f"{container}:{path}", "-")
    if done.returncode:
        error = _explained(_not_copied(f"{path} cannot be read from the container {container}.", done), "cp")
        if isinstance(error, CommandFailedError) and _is_missing(error):
            return []
        raise error
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        files = [archive.extractfile(member) for member in archive]
        return [file.read() if file else None for file in files]


def write_file(container: str, path: str, content: bytes, mode: int = 0o644, *, below: str = "") -> None:
    """Writes a file into a container, running or not.

    Args:
        container: Its name.
        path: Where the file goes.
        content: What it holds.
        mode: Its permissions.
        below: A folder above it that exists; the ones between are made. Without it the file's own has to exist.
    """
    import io
    import tarfile

    folder = Path(below) if below else Path(path).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(str(Path(path).relative_to(folder)))
        member.size, member.mode = len(content), mode
        archive.addfile(member, io.BytesIO(content))
    done = _copy("-", f"{container}:{folder}", buffer.getvalue())
    if done.returncode:
        raise _not_copied(f"{path} cannot be written into the container {container}.", done)


def _copy(source: str, target: str, archive: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [require_tool("docker"), "cp", source, target]
    try:
        return subprocess.run(
            command, env=tool_environment(), input=archive, capture_output=True, timeout=TIMEOUT * 2, check=False
        )
    except subprocess.TimeoutExpired as error:
        what = f"`docker cp {source} {target}` did not end within {TIMEOUT * 2:.0f} s."
        raise _explained(CommandFailedError(what, status=TIMED_OUT, output=""), "cp") from error


def _not_copied(what: str, done: subprocess.CompletedProcess[bytes]) -> CommandFailedError:
    output = done.stderr.decode(errors="replace").strip()
    return CommandFailedError(what, status=done.returncode, output=output, next_step=f"{just_command()} doctor")


def _is_missing(error: CommandFailedError) -> bool:
    """Whether Docker says that an object, or a file in one, is not there."""
    return any(words in error.output.lower() for words in ("no such", "not found", "could not find"))


def _explained(error: CommandFailedError, verb: str) -> UserError:
    from envkit.engine_errors import explained

    return explained(error, verb)
