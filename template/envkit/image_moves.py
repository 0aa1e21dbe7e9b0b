"""Moves images and charts: from registries into a file, from there into Docker's engine or into a mirror."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envkit.engine import docker
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.image_archive import Archive, Item, Writer, command_for, names_of, open_archive
from envkit.image_list import k3s_images, k3s_release, keep_k3s_list, needs_of, resolve
from envkit.mirrors import Mirrors, read_mirrors, split_host
from envkit.paths import ROOT, just_command
from envkit.progress import Steps
from envkit.registry_api import Registries, parse

CHARTS = ROOT / ".tools" / "charts"
"""Where charts of an archive go."""


def save(path: Path, environment: Environment) -> int:
    """Fetches all that the environment needs into one file.

    Raises UserError where something cannot be fetched; there is no file then.
    """
    needs = needs_of(environment)
    if needs.problem:
        raise needs.problem
    registries = Registries(read_mirrors().plain_http)
    with Steps() as steps:
        with steps.step("Asking the registries"):
            found = resolve(needs.entries, registries)
        there = [entry.needed for entry in found if not entry.problem]
        if absent := [entry for entry in found if entry.problem and not entry.needed.own]:
            raise UserError(
                f"{path} was not written: {len(absent)} of {len(found)} cannot be fetched.",
                "\n".join(f"{entry.needed.name}: {entry.problem}" for entry in absent),
                f"{just_command()} doctor   (do the mirrors answer? then: {command_for('--save', path)})",
            )
        for entry in needs.entries:
            if entry not in there:
                steps.say(f"Left out, because the environment's own registry does not have it: {entry.name}")
        with Writer(path, registries) as writer:
            items = []
            for entry in there:
                with steps.step(entry.name) as step:
                    items.append(writer.add(entry, step.note))
            total = writer.finish({k3s_release(environment.image): k3s_images(environment.image)})
    print(f"Saved {names_of(items)} to {path}, {path.stat().st_size / 1e6:.0f} MB.")
    print(f"SHA-256  {total}")
    print(f"Next, where they are to be used: {command_for('--load', path)}   (--to HOST/PREFIX: into a mirror)")
    return 0


def load(path: Path, environment: Environment) -> int:
    """Puts what Docker's engine runs or builds on into it, and the charts into a folder."""
    architecture = docker("version", "--format", "{{.Server.Arch}}").strip()
    with Steps() as steps, _verified(path, steps) as archive:
        pulled = {entry.published: entry.name for entry in needs_of(environment).entries}
        loaded = [item for item in archive.items if item.by_engine]
        with tempfile.TemporaryDirectory() as scratch:
            for item in loaded:
                names = (parse(name).name for name in (item.published, pulled.get(item.published, "")) if name)
                file = Path(scratch) / "image.tar"
                with steps.step(item.published):
                    tags = [name for name in dict.fromkeys(names) if "@" not in name]
                    archive.write_for_engine(item, tags, architecture, file)
                    docker("load", "--quiet", "--input", str(file), timeout=None)
        charts = _unpack_charts(archive)
        others = [item for item in archive.items if not item.by_engine and item.kind == "image"]
    print(f"Docker's engine has {names_of(loaded)} of it.")
    if charts:
        print(f"The charts are in {CHARTS}. To install from there, in ansible/group_vars/all.yml:")
        print(f"  arc_chart_repository: {CHARTS}")
    for item in loaded:
        if item.own:
            print(f"The runners' image goes into the registry by: docker push {item.published}")
    if others:
        print(f"For the nodes, which pull from a registry: {names_of(others)}. Into a mirror by:")
        print(f"  {command_for('--load', path)} --to HOST/PREFIX")
    return 0


def push(path: Path, prefix: str, *, plain_http: bool) -> int:
    """Puts all of a file into a mirror, and says which answers lead there.

    Args:
        path: The file.
        prefix: Host and path of the mirror; empty for those that this environment names.
        plain_http: That host speaks HTTP without TLS.
    """
    mirrors = read_mirrors()
    host = prefix.partition("/")[0]
    plain = mirrors.plain_http | ({host} if plain_http else set())
    registries = Registries(plain)
    with Steps() as steps, _verified(path, steps) as archive:
        items = [item for item in archive.items if not item.own]
        published_by = sorted({split_host(item.published)[0] for item in items})
        if unknown := [name for name in published_by if not prefix and name not in mirrors.images]:
            raise UserError(
                f"This environment names no mirror for {', '.join(unknown)}.",
                "--to without a value puts images into the mirrors of the answer image_mirrors.",
                f"{command_for('--load', path)} --to HOST/PREFIX",
            )
        for item in items:
            target = _target(item, prefix, mirrors)
            with steps.step(target) as step:
                archive.push(item, parse(target), registries, step.note)
    print(f"Pushed {names_of(items)}.")
    if prefix:
        print("Answers of environments that pull from there:\n\nimage_mirrors:")
        print("\n".join(f"  {name}: {prefix}/{_folder(name)}" for name in published_by))
        if host in plain:
            print(f'image_mirrors_plain_http: ["{host}"]')
    return 0


@contextmanager
def _verified(path: Path, steps: Steps) -> Iterator[Archive]:
    """The archive once every sum in it has been compared; what it knows of k3s is kept for the list."""
    with open_archive(path) as archive:
        with steps.step(f"Checking {path}") as step:
            archive.verify(step.note)
        for release, names in archive.k3s_lists.items():
            keep_k3s_list(release, names)
        yield archive


def _unpack_charts(archive: Archive) -> list[Path]:
    paths = []
    for item in archive.items:
        if item.kind == "chart":
            reference = parse(item.published)
            CHARTS.mkdir(parents=True, exist_ok=True)
            paths.append(CHARTS / f"{reference.repository.rpartition('/')[2]}-{reference.tag}.tgz")
            paths[-1].write_bytes(archive.chart(item))
    return paths


def _target(item: Item, prefix: str, mirrors: Mirrors) -> str:
    host, path = split_host(item.published)
    return f"{prefix}/{_folder(host)}/{path}" if prefix else mirrors.image(item.published)


def _folder(host: str) -> str:
    """A registry's host as part of a path, where no colon may stand."""
    return host.replace(":", "-")
