"""What an update leaves to do on the machines of the team, told from the difference that it made.

Files are compared by what they mean: a comment that moved makes nothing due. The team's own files (`*.local.yaml`) are
laid over those of the template first, as envkit does it, so what the team has set otherwise makes nothing due either.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import recipes
from update_files import UpdatedFiles

from envkit.environment import flattened
from envkit.errors import UserError
from envkit.go_yaml import YAML_ERRORS, read_yaml
from envkit.overlay import local_file, merged

_RUNNERS = "helm/arc-runners.yaml"
"""Where there are runners, there is this file."""
_DELETE_ARC = "git stash push -u . && { bin/just delete-arc; git stash pop; }"
_CHARTS = (
    "helm/arc-controller.yaml",
    _RUNNERS,
    "helm/arc-registries.yaml",
    "ansible/group_vars/all.yml",
)
_NOT_IN_THE_IMAGE = {"README.md", ".dockerignore", ".gitignore", "npm"}
_MOST_LINES = 12


@dataclass(frozen=True)
class Cluster:
    """What a configuration of k3d calls things.

    Attributes:
        name: The cluster.
        registry: Its registry's container.
        volume: The volume with the registry's images; empty where there is none.
        registry_port: The registry's port on the machine.
    """

    name: str
    registry: str
    volume: str
    registry_port: str


def due(files: UpdatedFiles, scope: str) -> list[str]:
    """One paragraph for everything that is left to do, the first thing first.

    A service repository has a dev container alone of the template, whose merge has said what is left to do; a justfile
    there, for instance, is its own.
    """
    if scope == "devcontainer":
        return []
    return [*_tools(files), *_provider(files), *_cluster(files), *_runners(files), *_others(files)]


def _tools(files: UpdatedFiles) -> Iterator[str]:
    before = {**_toml(files.before(".mise.toml")), **_toml(files.before("mise.toml"))}
    after = _toml(files.after("mise.toml"))
    if changes := list(_changes(before.get("tools"), after.get("tools"))):
        yield _paragraph("Other versions of the tools are pinned:", changes, "bin/just install")


def _provider(files: UpdatedFiles) -> Iterator[str]:
    """What another provider or context means: things stay where they were, and are made anew elsewhere."""
    old, new = (_toml(read("environment.toml")).get("cluster") or {} for read in (files.before, files.after))
    had_runners, has_runners = (read(_RUNNERS) is not None for read in (files.before, files.after))
    if old.get("provider") == new.get("provider") == "existing" and old.get("context") != new.get("context"):
        other = f"The context is {new.get('context')} now. That is another cluster, unless only its name changed."
        then = "bin/just doctor && bin/just install-arc" if has_runners else "bin/just doctor"
        yield (
            _paragraph(
                f"{other} Runners in that of {old.get('context')} stay there, and fight over their name with new ones."
                " To take them out:",
                [],
                _DELETE_ARC,
                f"Then: {then}",
            )
            if had_runners
            else _paragraph(other, [], then)
        )
    elif new.get("provider") == "existing" and old.get("provider") != "existing" and files.before("k3d.yaml"):
        yield _paragraph(
            f"The cluster is that of the context {new.get('context')} now. The one of k3d stays on every machine that"
            f" has it, with its registry{' and its runners' if had_runners else ''}. To delete it:",
            [],
            "git stash push -u . && { bin/just delete; git stash pop; }",
            "Then: bin/just setup && bin/just doctor",
        )
    elif old.get("provider") == "existing" and new.get("provider") != "existing":
        other = "The cluster is made by k3d now."
        yield (
            _paragraph(
                f"{other} What this environment has in that of {old.get('context')} stays there. To take it out:",
                [],
                _DELETE_ARC,
                "Then: bin/just create",
            )
            if had_runners
            else _paragraph(other, [], "bin/just create")
        )


def _cluster(files: UpdatedFiles) -> Iterator[str]:
    before, after = (_document(files, "k3d.yaml", updated=updated) for updated in (False, True))
    if not before or before == after or (_toml(files.after("environment.toml")).get("cluster") or {}):
        return
    old, new = _names(before), _names(after)
    if new and old and new.name != old.name:
        yield _renamed(old, new, had_runners=files.before(_RUNNERS) is not None)
    elif after is None:
        yield _paragraph("k3d.yaml is not readable before its conflict is resolved; then:", [], "bin/just status")
    else:
        yield _paragraph(
            "The cluster's configuration changed. A cluster that exists keeps its old one until it is made again:",
            list(_changes(before, after)),
            "bin/just delete && bin/just create",
            _fate_of_images_and_runners(old, new, has_runners=files.after(_RUNNERS) is not None),
        )
    if new and old and new.registry_port != old.registry_port:
        yield f"Manifests that name the registry's port {old.registry_port} have to name {new.registry_port}."


def _fate_of_images_and_runners(old: Cluster | None, new: Cluster | None, *, has_runners: bool) -> str:
    if not (old and new and old.volume and old.volume != new.volume):
        runners = "; runners are installed again by bin/just install-arc" if has_runners else ""
        return f"Images in the registry stay{runners}."
    lines = ["Runners are installed again by bin/just build-runner && bin/just install-arc."] if has_runners else []
    lines += [
        f"The registry is called {new.registry} then, and has no images yet. The old ones are in a volume that stays:",
        f"    docker volume rm {old.volume}   (unless another environment uses them)",
    ]
    return "\n".join(lines)


def _renamed(old: Cluster, new: Cluster, *, had_runners: bool) -> str:
    kubeconfigs = f"~/.kube/k3d-{old.name}.yaml ~/.kube/k3d-{old.name}.devcontainer.yaml"
    commands = [f"k3d cluster delete {old.name}", f"rm -f {kubeconfigs}"]
    if old.volume and old.volume != new.volume:
        commands.append(f"docker volume rm {old.volume}   (its images, unless another environment uses them)")
    with_runners = " together with its runners" if had_runners else ""
    lines = [
        f"The cluster is called {new.name} now. That is another cluster:",
        "    bin/just create",
        f"The old one, {old.name}, stays on every machine that has it. To delete it{with_runners}, before",
        "the update reaches the machine: bin/just delete. Or here, unless something is in conflict:",
        "    git stash push -u . && { bin/just delete; git stash pop; }",
        "To delete it afterwards:",
        *(f"    {command}" for command in commands),
    ]
    return "\n".join(lines)


def _runners(files: UpdatedFiles) -> Iterator[str]:
    if files.after(_RUNNERS) is None:
        if files.before(_RUNNERS) is not None:
            yield f"This environment has no runners any more. Those in a cluster stay until:\n    {_DELETE_ARC}"
        return
    image = [
        path for path in files.changed if path.startswith("runner/") and path.split("/")[1] not in _NOT_IN_THE_IMAGE
    ]
    runner = [_toml(read("environment.toml")).get("runner") for read in (files.before, files.after)]
    charts = [path for path in _CHARTS if _document(files, path, updated=False) != _document(files, path, updated=True)]
    if image or runner[0] != runner[1]:
        yield _paragraph(
            "The runners' image changed. Where runners are installed:",
            [],
            "bin/just build-runner && bin/just install-arc",
        )
    elif charts:
        yield _paragraph(
            f"The runners' configuration changed ({', '.join(charts)}). Where runners are installed:",
            [],
            "bin/just install-arc",
        )


def _others(files: UpdatedFiles) -> Iterator[str]:
    if ".env.example" in files.changed and (files.repository / ".env").exists():
        yield _paragraph(".env.example changed. Compare it with your .env:", [], "diff .env.example .env")
    containers = [path for path in files.changed if path.startswith(".devcontainer/")]
    if any(_without_comments(files.before(path)) != _without_comments(files.after(path)) for path in containers):
        yield "The dev container changed: rebuild it, and bring .devcontainer to the repositories that have a copy."
    own, menu = (
        recipes((files.after(name) or b"").decode(errors="replace").replace("\r\n", "\n"))
        for name in ("local.just", "justfile")
    )
    if same := sorted(own & menu):
        yield (
            f"local.just has recipes that the justfile has, too, and those of the justfile are run: {', '.join(same)}."
            " Give yours another name."
        )


def _paragraph(first: str, details: list[str], command: str, last: str = "") -> str:
    shown = details[:_MOST_LINES]
    if len(details) > _MOST_LINES:
        shown.append(f"and {len(details) - _MOST_LINES} more")
    return "\n".join([first, *(f"  {line}" for line in shown), f"    {command}", *([last] if last else [])])


def _changes(before: Any, after: Any) -> Iterator[str]:
    old, new = dict(flattened(before or {})), dict(flattened(after or {}))
    for key in sorted(set(old) | set(new)):
        if key and old.get(key) != new.get(key):
            values = (_short(old.get(key)), _short(new.get(key)))
            yield f"{key}: {' -> '.join(values)}"


def _short(value: str | None) -> str:
    if value is None:
        return "(nothing)"
    return "(text)" if "\n" in value else value.strip('"')


def _document(files: UpdatedFiles, path: str, *, updated: bool) -> dict[str, Any] | None:
    """A file of the template with the team's own over it; None where it is missing or no YAML."""
    read = files.after if updated else files.before
    own = local_file(Path(path))
    try:
        document = read_yaml(read(path) or b"")
        overlay = read_yaml(read(str(own)) or b"") or {}
        return merged(document, overlay, own) if document else None
    except (*YAML_ERRORS, UserError, TypeError, AttributeError):
        return None


def _names(document: dict[str, Any] | None) -> Cluster | None:
    try:
        create = (document or {})["registries"]["create"]
        volume = next((str(v).partition(":")[0] for v in create.get("volumes") or []), "")
        return Cluster(str((document or {})["metadata"]["name"]), str(create["name"]), volume, str(create["hostPort"]))
    except (KeyError, TypeError, AttributeError):
        return None


def _without_comments(content: bytes | None) -> list[bytes]:
    """The lines of JSON with comments, as dev containers have it, without those that are comments."""
    return [line for line in (content or b"").splitlines() if not line.lstrip().startswith(b"//")]


def _toml(content: bytes | None) -> dict[str, Any]:
    try:
        return tomllib.loads((content or b"").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}
