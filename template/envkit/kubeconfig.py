"""Kubeconfig files: this environment's two, and the entries that it merges into the developer's own.

PyYAML's node graph is edited rather than loaded values: a value such as an unquoted date in somebody's `exec`
entry is written back as it stood. Only comments and layout are lost, and a backup keeps them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from envkit.errors import UserError
from envkit.files import write_private
from envkit.paths import just_command
from envkit.wording import quoted

_API_PORT_IN_NETWORK = 6443
_SECTIONS = ("clusters", "contexts", "users")
_LOCK_WAIT = 5.0
_MOST_BACKUPS = 10
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML without libyaml has no fast one


@dataclass(frozen=True)
class KubeconfigPaths:
    """The files of one cluster.

    Attributes:
        host: For tools on this machine.
        devcontainer: For tools in containers on the cluster's network.
        merged: The developer's own file, which gets this cluster's entries too.
    """

    host: Path
    devcontainer: Path
    merged: Path


def kubeconfig_paths(context: str) -> KubeconfigPaths:
    """Where the files of a context lie.

    `$KUBECONFIG` may name the developer's own file. Of several, the first that exists is taken, else the last: kubectl
    writes new entries to the same one (client-go, `PathOptions.GetDefaultFilename`).
    """
    folder = Path.home() / ".kube"
    named = _named_by_environment()
    merged = next((path for path in named if path.exists()), named[-1] if named else folder / "config")
    return KubeconfigPaths(folder / f"{context}.yaml", folder / f"{context}.devcontainer.yaml", merged)


def developers_kubeconfigs() -> list[Path]:
    """Every file in which a developer's contexts may stand: those that `$KUBECONFIG` names now, and the usual one."""
    return list(dict.fromkeys([*_named_by_environment(), Path.home() / ".kube" / "config"]))


def _named_by_environment() -> list[Path]:
    return [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]


def devcontainer_kubeconfig(host_kubeconfig: str, load_balancer: str) -> str:
    """The same kubeconfig with the address that holds on the cluster's network.

    The load balancer's name is in the API's certificate: k3d passes it to k3s as `--tls-san`.
    """
    address = f"https://{load_balancer}:{_API_PORT_IN_NETWORK}"
    text, replaced = re.subn(r"(?m)^(\s*server: ).*$", rf"\g<1>{address}", host_kubeconfig)
    if replaced != 1:
        raise UserError(
            "The kubeconfig that k3d printed names no server, or several.",
            "It cannot be turned into one for containers.",
            f"{just_command()} doctor",
        )
    return text


def merge(path: Path, kubeconfig: str, context: str, *, switch: bool = False) -> bool:
    """Puts a cluster's entries into the developer's own kubeconfig; returns whether anything changed.

    Every other entry stays. The first change, and each that takes comments with it, makes a dated backup beside the
    file.

    Args:
        path: The developer's file; may be missing, may be a symlink.
        kubeconfig: The cluster's own kubeconfig.
        context: Name of its context.
        switch: Make it the current context. Without it, it becomes current only where there is none.

    Raises UserError where the file is broken (it is left as it is) or locked.
    """
    added = _compose(kubeconfig, Path("the kubeconfig that k3d printed"))
    with _locked(path):
        before = _read(path)
        document = _compose(before, path)
        if not document.value:
            document = _compose("apiVersion: v1\nkind: Config\n", path)
        for section in _SECTIONS:
            for entry in _entries(added, section):
                _put(document, section, entry)
        if switch or not _scalar(document, "current-context"):
            _set(document, "current-context", context)
        return _save(path, before, document)


def unmerge(path: Path, context: str) -> bool:
    """Takes a cluster's entries out of the developer's own kubeconfig; returns whether anything changed.

    Raises UserError where the file is broken (it is left as it is) or locked.
    """
    before = _read(path)
    if not before.strip():
        return False
    with _locked(path):
        before = _read(path)
        document = _compose(before, path)
        for section in _SECTIONS:
            names = {context, f"admin@{context}"}
            node = _get(document, section)
            if isinstance(node, yaml.SequenceNode):
                node.value = [entry for entry in node.value if _scalar(entry, "name") not in names]
        if _scalar(document, "current-context") == context:
            _set(document, "current-context", "")
        return _save(path, before, document)


def has_current_entries(path: Path, kubeconfig: str) -> bool:
    """Whether the developer's own file already holds exactly this cluster's entries."""
    try:
        document, added = _compose(_read(path), path), _compose(kubeconfig, path)
    except UserError:
        return False
    for section in _SECTIONS:
        present = {_scalar(entry, "name"): entry for entry in _entries(document, section)}
        for entry in _entries(added, section):
            found = present.get(_scalar(entry, "name"))
            if found is None or _meaning(found) != _meaning(entry):
                return False
    return True


def holds_cluster(path: Path, context: str) -> bool:
    """Whether a file holds a cluster and its user under the names that k3d gives them."""
    try:
        document = _compose(_read(path), path)
    except UserError:
        return False
    wanted = {"clusters": context, "users": f"admin@{context}"}
    return all(
        name in [_scalar(entry, "name") for entry in _entries(document, section)] for section, name in wanted.items()
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read.", str(error), f"ls -l {quoted(path)}") from error


def _compose(text: str, path: Path) -> yaml.MappingNode:
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise _broken(path, str(error)) from error
    if (
        node is None or node.tag == "tag:yaml.org,2002:null"
    ):  # a file of blank lines and comments, which kubectl takes for an empty one
        return yaml.MappingNode("tag:yaml.org,2002:map", [], flow_style=False)
    if not isinstance(node, yaml.MappingNode):
        raise _broken(path, "It is not a mapping of keys to values.")
    for section in _SECTIONS:
        value = _get(node, section)
        if value is not None and not isinstance(value, yaml.SequenceNode) and value.tag != "tag:yaml.org,2002:null":
            raise _broken(path, f"`{section}` is not a list.")
    return node


def _broken(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a valid kubeconfig; it was left as it is.",
        why,
        f"Correct it or move it away (mv {quoted(path)} {quoted(path)}.broken), then: {just_command()} kubeconfig",
    )


def _get(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


def _scalar(mapping: yaml.Node, key: str) -> str:
    value = _get(mapping, key) if isinstance(mapping, yaml.MappingNode) else None
    return str(value.value) if isinstance(value, yaml.ScalarNode) else ""


def _entries(document: yaml.MappingNode, section: str) -> list[yaml.Node]:
    value = _get(document, section)
    return list(value.value) if isinstance(value, yaml.SequenceNode) else []


def _set(mapping: yaml.MappingNode, key: str, text: str) -> None:
    new = yaml.ScalarNode("tag:yaml.org,2002:str", text, style=None if text else '"')
    _set_node(mapping, key, new)


def _set_node(mapping: yaml.MappingNode, key: str, new: yaml.Node) -> None:
    for index, (name, _) in enumerate(mapping.value):
        if name.value == key:
            mapping.value[index] = (name, new)
            return
    mapping.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", key), new))


def _put(document: yaml.MappingNode, section: str, entry: yaml.Node) -> None:
    entries = _entries(document, section)
    name = _scalar(entry, "name")
    for index, present in enumerate(entries):
        if _scalar(present, "name") == name:
            entries[index] = entry
            break
    else:
        entries.append(entry)
    _set_node(document, section, yaml.SequenceNode("tag:yaml.org,2002:seq", entries, flow_style=False))


def _meaning(node: yaml.Node) -> object:
    """Types and values of a node, without its layout: kubectl may have written the file anew in its own."""
    if isinstance(node, yaml.MappingNode):
        return [(_meaning(key), _meaning(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [_meaning(item) for item in node.value]
    return (node.tag, node.value)


def _text(document: yaml.MappingNode) -> str:
    return str(yaml.serialize(document, Dumper=yaml.SafeDumper, width=2**16, allow_unicode=True))


def _save(path: Path, before: str, document: yaml.MappingNode) -> bool:
    after = _text(document)
    if before:
        unchanged = _text(_compose(before, path))
        if after == unchanged:
            return False
        _back_up(path, before, loses=before != unchanged)
    return write_private(path, after)


def _back_up(path: Path, text: str, *, loses: bool) -> None:
    """Keeps the file as it was before the first change, and before each that loses comments or layout.

    Other changes are ours and need none. The first backup and the latest ones stay.
    """
    target = path.resolve()
    backups = _backups(target)
    if (backups and not loses) or any(_holds(backup, text) for backup in backups.values()):
        return
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    number = max((number for date, number in backups if date == today), default=0) + 1
    suffix = f"-{number}" if number > 1 else ""
    write_private(target.with_name(f"{target.name}.backup-{today}{suffix}"), text, owner_of=target)
    for backup in list(backups.values())[1 : max(1, len(backups) + 2 - _MOST_BACKUPS)]:
        backup.unlink(missing_ok=True)


def _backups(target: Path) -> dict[tuple[str, int], Path]:
    """Date, number and place of the backups that envkit has made of a file, the oldest first; none made by hand."""
    pattern = re.compile(re.escape(target.name) + r"\.backup-(\d{4}-\d\d-\d\d)(?:-(\d+))?")
    found = [(match, file) for file in target.parent.iterdir() if (match := pattern.fullmatch(file.name))]
    return dict(sorted(((match[1], int(match[2] or 1)), file) for match, file in found))


def _holds(backup: Path, text: str) -> bool:
    try:
        return backup.read_bytes() == text.encode()
    except OSError:  # it may be root's
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Follows kubectl's own protocol: whoever creates `<file>.lock` may write (client-go, `clientcmd.lockFile`)."""
    try:
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # Python before 3.13 has RuntimeError for a symlink to itself
        raise UserError(f"{path} cannot be changed.", str(error), f"ls -ld {quoted(path.parent)}") from error
    lock = target.with_name(target.name + ".lock")
    deadline = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path} is locked.",
                    f"{lock} exists: kubectl or another tool is changing the file, or was killed while it did.",
                    f"If nothing is changing it: rm {quoted(lock)}, then: {just_command()} kubeconfig",
                ) from None
            time.sleep(0.1)
        except OSError as error:
            raise UserError(f"{path} cannot be changed.", str(error), f"ls -ld {quoted(target.parent)}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
