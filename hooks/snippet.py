"""The dev container snippet, merged into the devcontainer.json of a service repository.

The merge compares three states entry by entry, as Copier compares lines: the snippet as it was merged the
last time, the snippet as it is now, and the repository's file. What only the snippet changed is updated,
what only the team changed stays, and what both changed stays and is reported. An entry is a member of an
object or an element of a list, found again by what it is about: a mount by its target, a feature by its
name without the version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonc import (
    BOM,
    Child,
    JsoncError,
    Node,
    comments_above,
    has_comments,
    parse,
    replaced,
    with_child,
    without_child,
    written,
)

COMPOSE_FILE = "compose.k3d.yaml"
"""The Docker Compose file beside a devcontainer.json that uses Compose: it has network and mounts."""

Place = tuple[str, ...]
_ROOT: Place = ()
_EXTENSIONS: Place = ("customizations", "vscode", "extensions")
_INITIALIZE: Place = ("initializeCommand",)
_COMPOSE: Place = ("dockerComposeFile",)
_ARGUMENTS: Place = ("runArgs",)
_MOUNTS: Place = ("mounts",)
_VARIABLES: Place = ("containerEnv",)
_OBJECTS: tuple[Place, ...] = (("features",), _VARIABLES, _INITIALIZE)
_LISTS: tuple[Place, ...] = (_ARGUMENTS, _MOUNTS, _EXTENSIONS, _COMPOSE)

# What a file has that the snippet wrote as a whole. A team that had a file of its own has its own values.
_WHOLE_FILE = ("name", "image", "remoteUser", "updateRemoteUserUID")
_NETWORK = "network"
OWN_COMMAND = "own"
"""The name that the repository's own initializeCommand gets where it had none."""

Identity = tuple[Place, str]


class UnmergeableError(Exception):
    """The snippet cannot be merged into this file; the text says why, as sentences about the file."""


@dataclass(frozen=True)
class Entry:
    """One setting of a devcontainer.json.

    Attributes:
        container: Where it stands: the names that lead to the object or list.
        key: Its name in an object; None in a list.
        value: Its value as it is written.
        meaning: What two entries have to share in order to be the same setting.
        first: Index among the container's children.
        count: How many children it takes: `--network`, `NAME` are two.
    """

    container: Place
    key: str | None
    value: Any
    meaning: str
    first: int = 0
    count: int = 1


@dataclass(frozen=True)
class Merged:
    """What came of a merge.

    Attributes:
        text: The new content of the file.
        kept: Entries that the team and the template both changed; the team's stand.
        needed: Names of entries that are the snippet's, and stay because the team's need them.
    """

    text: str
    kept: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)


def merge(text: str, *, base: str | None, new: str, compose: bool, refuse: bool | None = None) -> Merged:
    """The repository's devcontainer.json with the snippet merged into it.

    Args:
        text: The repository's file.
        base: The snippet that was merged the last time; None for the first time.
        new: The snippet as it is to be; `{}` takes it out.
        compose: Whether the container is one of Docker Compose, whose networks and mounts a Compose file has.
        refuse: Whether settings that contradict the snippet are refused, not reported; by default the first time.

    Raises:
        UnmergeableError: The file contradicts the snippet, or is not readable.
    """
    team = entries(_parsed(text))
    old = {} if base is None else entries(parse(base))
    wanted = entries(parse(new))
    if compose and wanted:
        wanted = {identity: entry for identity, entry in wanted.items() if entry.container not in {_ARGUMENTS, _MOUNTS}}
        wanted[_COMPOSE, COMPOSE_FILE] = _entry(_COMPOSE, None, COMPOSE_FILE)
    if base is not None:
        old[_COMPOSE, COMPOSE_FILE] = _entry(_COMPOSE, None, COMPOSE_FILE)
    plan = _Plan()
    order = [*parse(new).value, *_COMPOSE]
    wanted = dict(sorted(wanted.items(), key=lambda item: order.index(item[0][0][0]) if item[0][0] else 0))
    for identity in [*wanted, *(identity for identity in old if identity not in wanted)]:
        plan.decide(identity, old.get(identity), wanted.get(identity), team.get(identity))
    unnamed, commands = team.get((_INITIALIZE, "")), [e.value for (path, _), e in wanted.items() if path == _INITIALIZE]
    if unnamed and unnamed.value in commands and (_INITIALIZE, "") not in plan.remove:
        # The snippet was copied by hand, when its command had no name.
        plan.remove.append((_INITIALIZE, ""))
    _refuse_other_kubeconfig(parse(text), wanted, plan)
    if plan.conflicts and (base is None if refuse is None else refuse):
        raise UnmergeableError("\n".join(plan.conflicts))
    return Merged(_with_new_comments(_applied(text, plan, base or "{}", new), base or "{}", new), plan.conflicts)


def take_out(text: str, *, base: str) -> Merged:
    """The repository's devcontainer.json without the snippet; empty text where nothing of the team's is left.

    Where something is, the image and what belongs to it stay as well: the file would configure no container without.

    Args:
        text: The repository's file.
        base: The snippet that was merged the last time.

    Raises:
        UnmergeableError: The file is not readable.
    """
    comments = {line.strip() for line in base.splitlines() if line.strip().startswith("//")}
    bare = merge(text, base=base, new="{}", compose=False, refuse=False)
    left = "".join(line.strip() for line in bare.text.splitlines() if line.strip() not in comments)
    if left.removeprefix(BOM) == "{}":
        return Merged("", bare.kept)
    whole = {key: value for key, value in parse(base).value.items() if key in _WHOLE_FILE}
    merged = merge(text, base=base, new=json.dumps(whole), compose=False, refuse=False)
    head = parse(merged.text).start
    # What the snippet says there of the whole file is no longer so.
    above = [line for line in merged.text[:head].splitlines(keepends=True) if line.strip() not in comments]
    needed = [key for key, value in parse(merged.text).value.items() if key in whole and value == whole[key]]
    return Merged("".join(above) + merged.text[head:], merged.kept, needed if "image" in needed else [])


class _Plan:
    """What is to be changed, decided one entry at a time."""

    def __init__(self) -> None:
        self.remove: list[Identity] = []
        self.add: list[Identity] = []
        self.conflicts: list[str] = []

    def decide(self, identity: Identity, old: Entry | None, new: Entry | None, team: Entry | None) -> None:
        """Three-way merge of one entry; None means that it is not there."""
        if _same(new, team) or (_same(old, new) and (team or not _is_essential(identity))):
            return
        if team is None:
            if _may_add(identity, old):
                self.add.append(identity)
        elif _same(old, team):
            self.remove.append(identity)
            if new:
                self.add.append(identity)
        elif _contradicts(identity, new, team):
            self.conflicts.append(_conflict(identity, new, team))


def _same(one: Entry | None, other: Entry | None) -> bool:
    return (one and one.meaning) == (other and other.meaning)


def _is_essential(identity: Identity) -> bool:
    """Whether the entry is an argument or mount: these change place when a container moves to Compose or back."""
    return identity[0] in {_ARGUMENTS, _MOUNTS, _COMPOSE}


def _may_add(identity: Identity, old: Entry | None) -> bool:
    """Whether an entry that the file lacks is added: not again where the team took it out, and no image."""
    return identity[0] != _ROOT and (old is None or _is_essential(identity))


def _contradicts(identity: Identity, new: Entry | None, team: Entry) -> bool:
    """Whether another value of the team's own keeps the snippet from working."""
    container, name = identity
    if container == _MOUNTS:
        return new is None or mount_parts(new.value).get("source") != mount_parts(team.value).get("source")
    return container == _ARGUMENTS or (container, name) == (_VARIABLES, "KUBECONFIG")


def _conflict(identity: Identity, new: Entry | None, team: Entry) -> str:
    """The sentence about an entry whose value is another one in the file."""
    name = ".".join([*identity[0], *([team.key] if team.key else [])])
    wanted = f"the cluster needs {json.dumps(new.value, ensure_ascii=False)}" if new else "it is needed no more"
    return f"{name} has {json.dumps(team.value, ensure_ascii=False)}; {wanted}."


def _refuse_other_kubeconfig(root: Node, wanted: Mapping[Identity, Entry], plan: _Plan) -> None:
    """A kubeconfig in remoteEnv: that goes before containerEnv in every process that is started in the container."""
    remote, new = root.get("remoteEnv"), wanted.get((_VARIABLES, "KUBECONFIG"))
    value = remote.get("KUBECONFIG") if remote else None
    if new and value and value.value != new.value:
        plan.conflicts.append(_conflict((("remoteEnv",), ""), new, _entry((), "KUBECONFIG", value.value)))


# -- reading --------------------------------------------------------------------------------------------------------


def entries(root: Node) -> dict[Identity, Entry]:
    """The entries of a devcontainer.json that a snippet may have.

    Raises:
        UnmergeableError: A container of entries has another type than devcontainer.json allows.
    """
    if not isinstance(root.value, dict):
        raise UnmergeableError("It holds no object, so it is no dev container configuration.")
    found = {
        (_ROOT, name): _entry(_ROOT, name, root.value[name], index)
        for index, name in enumerate(child.key or "" for child in root.children)
        if name in _WHOLE_FILE
    }
    for path in _OBJECTS:
        for identity, entry in _members(path, _container(root, path, dict)):
            found[path, identity] = entry
    for path in _LISTS:
        for identity, entry in _elements(path, _container(root, path, list)):
            found[path, identity] = entry
    return found


def _container(root: Node, path: Place, kind: type) -> Node | None:
    node: Node | None = root
    for depth, name in enumerate(path):
        node = node.get(name) if node else None
        if node is None:
            return None
        expected = kind if depth == len(path) - 1 else dict
        if not isinstance(node.value, (expected, str, list) if path in {_INITIALIZE, _COMPOSE} else expected):
            what = "an object" if expected is dict else "a list"
            raise UnmergeableError(f"{'.'.join(path[: depth + 1])} is {json.dumps(node.value)}; it has to be {what}.")
    return node


def _entry(container: Place, key: str | None, value: Any, first: int = 0) -> Entry:
    return Entry(container, key, value, _meaning(key, value), first)


def _meaning(key: str | None, value: Any) -> str:
    return json.dumps([key, value], sort_keys=True)


def _members(path: Place, node: Node | None) -> Iterator[tuple[str, Entry]]:
    if node is None:
        return
    if not isinstance(node.value, dict):
        # A command that has no name, because it is the only one.
        yield "", _entry(path, None, node.value)
        return
    for index, child in enumerate(node.children):
        key = child.key or ""
        yield _unversioned(key) if path == ("features",) else key, _entry(path, key, child.node.value, index)


def _elements(path: Place, node: Node | None) -> Iterator[tuple[str, Entry]]:
    if node is None:
        return
    if isinstance(node.value, str):
        yield node.value, _entry(path, None, node.value)
        return
    children = node.children
    for index, child in enumerate(children):
        value = child.node.value
        if path == _ARGUMENTS:
            following = children[index + 1].node.value if index + 1 < len(children) else None
            if argument := _argument(value, following):
                yield argument[1], Entry(path, None, value, argument[2], index, argument[0])
        elif path == _MOUNTS:
            mount = mount_parts(value)
            yield str(mount.get("target")), Entry(path, None, value, _meaning(None, mount), index)
        elif path == _EXTENSIONS:
            yield str(value).lower().removeprefix("-"), _entry(path, None, value, index)
        else:
            yield str(value), _entry(path, None, value, index)


def _argument(argument: object, following: object) -> tuple[int, str, str] | None:
    """How many arguments belong together, what they are about, and their value; None for what no snippet has.

    A container joins one network, and may take its variables from several files.
    """
    option, equals, value = str(argument).partition("=")
    if option not in {"--network", "--net", "--env-file"}:
        return None
    count, value = (1, value) if equals else (2, str(following))
    return count, f"{option} {value}" if option == "--env-file" else _NETWORK, value


def env_files(arguments: Iterable[str]) -> list[str]:
    """The files from which the snippet's arguments have a container's variables taken."""
    option = "--env-file="
    return [argument.removeprefix(option) for argument in arguments if argument.startswith(option)]


def mount_parts(value: object) -> dict[str, str]:
    """A mount in Docker's long spelling (`source=A,target=B`) or as an object, with one name for each part."""
    if isinstance(value, dict):
        parts = {str(key): str(item) for key, item in value.items()}
    else:
        parts = dict(part.strip().partition("=")[::2] for part in str(value).split(","))
    names = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    return {names.get(key, key): item.rstrip("/") for key, item in parts.items()}


def _unversioned(feature: str) -> str:
    """A feature's name without its version: a colon after the last slash, or a digest."""
    folder, slash, name = feature.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}".lower()


# -- writing --------------------------------------------------------------------------------------------------------


def _applied(text: str, plan: _Plan, base: str, new: str) -> str:
    wanted = entries(parse(new))
    wanted[_COMPOSE, COMPOSE_FILE] = _entry(_COMPOSE, None, COMPOSE_FILE)
    comments = [line.strip() for line in base.splitlines() if line.strip().startswith("//")]
    add = list(plan.add)
    for identity in plan.remove:
        successor = _successor(identity, add)
        if successor:
            add.remove(successor)
            text = _replaced_entry(text, identity, wanted[successor])
        else:
            text = _without_entry(text, identity, comments)
    for identity in add:
        text = _with_entry(text, wanted[identity], new)
    return text


def _successor(identity: Identity, add: list[Identity]) -> Identity | None:
    """The new entry that takes the place of an old one: of the same identity, or the command under its new name."""
    if identity in add:
        return identity
    commands = [other for other in add if other[0] == _INITIALIZE] if identity[0] == _INITIALIZE else []
    return commands[0] if commands else None


def _replaced_entry(text: str, identity: Identity, entry: Entry) -> str:
    root = parse(text)
    old = entries(root)[identity]
    node = _find(root, old.container)
    if old.container == _INITIALIZE and not node.children:
        return replaced(text, node.start, node.end, written(text, node.start, {entry.key: entry.value}))
    first, last = node.children[old.first], node.children[old.first + old.count - 1]
    return replaced(text, first.start, last.node.end, written(text, first.start, entry.value, entry.key))


def _without_entry(text: str, identity: Identity, comments: list[str]) -> str:
    root = parse(text)
    entry = entries(root)[identity]
    node = _find(root, entry.container)
    if not node.children:
        return _without_member(text, entry.container, comments)
    for _ in range(entry.count):
        text = without_child(text, _find(parse(text), entry.container), entry.first, comments)
    path = entry.container
    while path and not (node := _find(parse(text), path)).children and not has_comments(text, node):
        text, path = _without_member(text, path, comments), path[:-1]
    return text


def _without_member(text: str, path: Place, comments: list[str]) -> str:
    parent = _find(parse(text), path[:-1])
    index = next(index for index, child in enumerate(parent.children) if child.key == path[-1])
    return without_child(text, parent, index, comments)


def _with_entry(text: str, entry: Entry, new: str) -> str:
    for depth in range(1, len(entry.container) + 1):
        path = entry.container[:depth]
        parent = _find(parse(text), path[:-1])
        if parent.get(path[-1]) is None:
            is_list = entry.key is None and depth == len(entry.container)
            comments = _comments_of(new, path)
            text = with_child(text, parent, [] if is_list else {}, path[-1], comments)
    node = _find(parse(text), entry.container)
    if isinstance(node.value, str) or (entry.container == _INITIALIZE and isinstance(node.value, list)):
        return _beside_single_value(text, node, entry)
    return with_child(text, node, entry.value, entry.key, _comments_of(new, entry.container, entry))


def _beside_single_value(text: str, node: Node, entry: Entry) -> str:
    """The text where a single command or Compose file has become one of two."""
    own = text[node.start : node.end]
    if entry.key is None:
        return replaced(text, node.start, node.end, f"[{own}, {json.dumps(entry.value, ensure_ascii=False)}]")
    together = written(text, node.start, {OWN_COMMAND: None, entry.key: entry.value})
    return replaced(text, node.start, node.end, together.replace(": null", f": {own}", 1))


def _comments_of(new: str, path: Place, entry: Entry | None = None) -> list[str]:
    """The comments above a member or an entry in the snippet."""
    root = parse(new)
    parent = _find_or_none(root, path if entry else path[:-1])
    if parent is None:
        return []
    for child in parent.children:
        if _is(child, entry, path):
            return comments_above(new, child)
    return []


def _with_new_comments(text: str, base: str, new: str) -> str:
    """The text with the snippet's comments as they are now, where they stand as they were."""
    before, after = dict(_commented(base, parse(base))), dict(_commented(new, parse(new)))
    for place, old in before.items():
        now = after.get(place)
        if not old or now is None or now == old:
            continue
        lines = r"\r?\n[ \t]*".join(map(re.escape, old))
        found = list(re.finditer(rf"(?m)^(?P<indent>[ \t]*){lines}(?P<end>\r?\n)", text))
        if len(found) == 1:
            comments = "".join(f"{found[0]['indent']}{line}{found[0]['end']}" for line in now)
            text = text[: found[0].start()] + comments + text[found[0].end() :]
    return text


def _commented(text: str, node: Node, place: Place = _ROOT) -> Iterator[tuple[Place, list[str]]]:
    """Every member and element with the comments above it, by its place; a feature by its name without the version."""
    for index, child in enumerate(node.children):
        inner = (*place, _unversioned(child.key) if child.key else str(index))
        yield inner, comments_above(text, child)
        yield from _commented(text, child.node, inner)


def _is(child: Child, entry: Entry | None, path: Place) -> bool:
    if entry is None:
        return child.key == path[-1]
    return child.key == entry.key and child.node.value == entry.value


def _find(root: Node, path: Place) -> Node:
    node = _find_or_none(root, path)
    if node is None:
        raise KeyError(path)
    return node


def _find_or_none(root: Node, path: Place) -> Node | None:
    node: Node | None = root
    for name in path:
        node = node.get(name) if node else None
    return node


def _parsed(text: str) -> Node:
    try:
        return parse(text)
    except JsoncError as error:
        raise UnmergeableError(f"It is not JSON with comments: {error}.") from error
