"""Fetches the sums that the makers of the tools publish, and writes them into `runner/tools.toml`.

Those of a tool that is in the team's own `runner/tools.local.toml` go there.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from envkit.download import read_text, sha256_of
from envkit.errors import UserError
from envkit.paths import ROOT
from envkit.progress import Steps
from envkit.runner.npm_package import fetch_package
from envkit.runner.tools import (
    ARCHITECTURES,
    OWN_FILE,
    UNKNOWN,
    Arch,
    Tool,
    base_image,
    base_version,
    own_tools,
    read_pins,
    runner_folder,
)

_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


def refresh(steps: Steps, *, every: bool = False, root: Path = ROOT) -> list[str]:
    """Brings the sums of changed versions, and the day of a changed base image, up to date.

    Args:
        steps: Where progress is shown.
        every: Fetch those of unchanged versions too, and compare.
        root: The environment's repository.

    Returns:
        What has changed, one line each.

    Raises:
        UserError: A sum could not be fetched, or is not the one that was published before for the same version. What
            was fetched until then is in the file.
    """
    path = runner_folder(root) / "tools.toml"
    pins, own = read_pins(root), own_tools(root)
    changed = []
    for name, tool in pins.tools.items():
        stale = any(tool.known_sum(arch) is None for arch in ARCHITECTURES)
        if not (stale or every):
            continue
        with steps.step(f"Fetching the sums of {name} {tool.version}"):
            sums = published_sums(tool)
            _refuse_other_sums(name, tool, sums)
            if stale:
                values = {"checked": tool.version} | {f"sha256.{arch}": value for arch, value in sums.items()}
                _write(path.with_name(OWN_FILE) if name in own else path, f"tools.{name}", values)
                changed.append(f"{name} {tool.version}")
    version = base_version(base_image(root))
    if version and version != pins.base.checked:
        with steps.step(f"Fetching the day of release {version} of the runner"):
            day = _release_day(pins.base.releases.replace("{version}", version))
            _write(path, "base", {"checked": version, "released": day, "packages": day})
            changed.append(f"runner {version} (released {day})")
    return changed


def published_sums(tool: Tool) -> dict[Arch, str]:
    """The SHA-256 sums of the pinned version, as its maker publishes them. Raises UserError where there are none."""
    if tool.npm:
        with tempfile.TemporaryDirectory(prefix="npm-") as folder:
            return {arch: _sum_of_package(tool, arch, Path(folder)) for arch in ARCHITECTURES}
    return {arch: _sum_in(tool.expand(tool.sums, arch), tool.expand(tool.url, arch)) for arch in ARCHITECTURES}


def _sum_of_package(tool: Tool, arch: Arch, folder: Path) -> str:
    own = folder / arch
    own.mkdir()
    return sha256_of(fetch_package(f"{tool.expand(tool.npm, arch)}@{tool.version}", own))


def _sum_in(address: str, url: str) -> str:
    name = url.rpartition("/")[2]
    text = read_text(address)
    found = _sum_in_release(text, name) if text.lstrip().startswith("{") else _sum_in_list(text, name)
    if not found:
        raise UserError(
            f"{address} has no SHA-256 sum of {name}.",
            "Either that version does not exist, or its sums are published elsewhere.",
            "Correct `version` or `sums` in runner/tools.toml.",
        )
    return found


def _sum_in_list(text: str, name: str) -> str:
    """The sum in a text of lines `SUM  NAME`, or in one that holds a single sum and no name."""
    for line in text.splitlines():
        value, _, listed = line.strip().partition(" ")
        if listed.strip(" *").rpartition("/")[2] == name and _SHA256.fullmatch(value):
            return value
    return text.strip() if _SHA256.fullmatch(text.strip()) else ""


def _sum_in_release(text: str, name: str) -> str:
    """The sum in a release as GitHub's API describes it (`assets[].digest`)."""
    try:
        assets = json.loads(text).get("assets") or []
        digests = {asset["name"]: str(asset.get("digest") or "") for asset in assets}
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
    kind, _, value = digests.get(name, "").partition(":")
    return value if kind == "sha256" and _SHA256.fullmatch(value) else ""


def _release_day(address: str) -> str:
    try:
        day = str(json.loads(read_text(address))["published_at"])[:10]
    except (ValueError, KeyError, TypeError):
        day = ""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        raise UserError(
            f"{address} does not say when the runner was released.",
            "It should be a release as GitHub's API describes it, with `published_at`.",
            "Write the day into `released` and the version into `checked`, section [base] of runner/tools.toml.",
        )
    return day


def _refuse_other_sums(name: str, tool: Tool, sums: dict[Arch, str]) -> None:
    for arch, value in sums.items():
        known = tool.sha256[arch]
        if tool.checked == tool.version and known not in (UNKNOWN, value):
            raise UserError(
                f"The published sum of {name} {tool.version} for {arch} is another one than before.",
                f"in tools.toml  {known}\npublished now  {value}",
                f"Find out why {name} was published again; then write {UNKNOWN!r} in its place and repeat the command.",
            )


def _write(path: Path, section: str, values: dict[str, str]) -> None:
    """Replaces values of a section, adds those it lacks, and leaves every other character of the file as it is."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    missing, current, last = dict(values), "", 0
    for number, line in enumerate(lines):
        if match := re.match(r"\[(.+)\]", line):
            current = match[1]
        if current != section:
            continue
        key = line.partition(" = ")[0]
        if line.strip() and not line.startswith("#"):
            last = number
        if key in values:
            lines[number] = re.sub(r'"[^"]*"', f'"{values[key]}"', line, count=1)
            missing.pop(key, None)
    if missing:
        lines[last] = lines[last].rstrip("\n") + "\n"
        lines.insert(last + 1, "".join(f'{key} = "{value}"\n' for key, value in missing.items()))
    path.write_text("".join(lines), encoding="utf-8")
