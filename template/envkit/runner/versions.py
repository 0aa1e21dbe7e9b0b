"""Runs every tool of the image once and compares its version with `runner/tools.toml`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from envkit.cluster import Cluster
from envkit.errors import UserError
from envkit.paths import just_command
from envkit.process import capture
from envkit.runner.image import RunnerImage, describe
from envkit.runner.tools import base_version

_SECONDS = 600
"""The image is pulled first, where Docker does not have it."""

_MARK = "=== "
_RUNNER_USER = "1001"


@dataclass(frozen=True)
class Finding:
    """What a program in the image printed.

    Attributes:
        name: The program.
        expected: What had to be in it; empty where anything is right.
        printed: Its output.
        ok: It ran, and what was expected is in its output.
    """

    name: str
    expected: str
    printed: str
    ok: bool


def check_versions(cluster: Cluster) -> list[Finding]:
    """Starts a container of the image, without a network, and asks every program for its version.

    Raises:
        UserError: The image is not in the registry, or its container does not start.
    """
    image = describe()
    cluster.images.require_answer()
    if not cluster.images.has(image.name, image.tag):
        raise UserError(
            f"The registry does not have {image.tagged}.",
            "That is the image which runner/ describes now.",
            f"{just_command()} build-runner",
        )
    commands = {name: tool.shows for name, tool in image.pins.tools.items()}
    commands |= {
        "buildah": "buildah --version",
        "runner": "/home/runner/bin/Runner.Listener --version",
        "user": "id -u",
    }
    reference = cluster.images.push_reference(image.tagged)
    printed = capture(
        ["docker", "run", "--rm", "--network=none", "--entrypoint=/bin/sh", reference, "-c", script(commands)],
        timeout=_SECONDS,
        next_step=f"docker run --rm -it --entrypoint=/bin/bash {reference}",
    )
    return findings(printed, commands, _expected(image))


def script(commands: Mapping[str, str]) -> str:
    """A shell script that runs the commands, each after a line with its name and before one with its exit status."""
    return "\n".join(
        f"echo '{_MARK}'{shlex.quote(name)}; ({command}) 2>&1; status=$?; echo; echo $status"
        for name, command in commands.items()
    )


def findings(printed: str, commands: Mapping[str, str], expected: Mapping[str, str]) -> list[Finding]:
    """What the output of `script` says of each command."""
    found = {}
    for part in printed.split(_MARK)[1:]:
        name, _, rest = part.partition("\n")
        found[name] = rest.strip()
    result = []
    for name in commands:
        text, _, status = found.get(name, "").rpartition("\n")
        wanted = expected.get(name, "")
        ok = status == "0" and bool(re.search(rf"(?<![\d.]){re.escape(wanted)}(?![\d.]*\d)", text))
        result.append(Finding(name, wanted, text.strip(), ok))
    return result


def _expected(image: RunnerImage) -> dict[str, str]:
    versions = {name: tool.version for name, tool in image.pins.tools.items()}
    return versions | {"runner": base_version(image.base), "user": _RUNNER_USER}
