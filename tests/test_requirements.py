"""The pinned Python packages: those that a machine's Python gets, as pip and uv choose them by the markers."""

from __future__ import annotations

import json
import re

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support import ROOT

FILES = (
    "template/requirements.txt",
    "template/ansible/requirements.txt",
    "requirements/ansible.txt",
    "requirements/dev.txt",
)
NO_WHEELS_FOR_INTEL_MACS = Version("49")
"""From this version on cryptography has none, https://cryptography.io/en/latest/changelog/."""


def chosen(file: str, package: str, **machine: str) -> list[Version]:
    """The versions of a package that a machine gets."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [Requirement(line) for line in re.findall(rf"(?m)^({package}==.+?) \\$", text)]
    return [
        Version(str(line.specifier).removeprefix("=="))
        for line in lines
        if line.marker is None or line.marker.evaluate(machine)
    ]


@pytest.mark.parametrize("file", FILES)
def test_an_intel_mac_gets_a_cryptography_that_it_need_not_build(file: str) -> None:
    (version,) = chosen(file, "cryptography", sys_platform="darwin", platform_machine="x86_64")

    assert version < NO_WHEELS_FOR_INTEL_MACS


@pytest.mark.parametrize(
    ("platform", "machine"),
    [("darwin", "arm64"), ("linux", "x86_64"), ("linux", "aarch64")],
)
@pytest.mark.parametrize("file", FILES)
def test_every_other_machine_gets_a_current_cryptography(file: str, platform: str, machine: str) -> None:
    (version,) = chosen(file, "cryptography", sys_platform=platform, platform_machine=machine)

    assert version >= NO_WHEELS_FOR_INTEL_MACS


def test_renovate_leaves_the_line_for_intel_macs_below_that() -> None:
    rules = json.loads((ROOT / "template" / "renovate.json").read_text(encoding="utf-8"))["packageRules"]
    (rule,) = [rule for rule in rules if rule.get("matchPackageNames") == ["cryptography"]]

    assert rule["matchCurrentVersion"] == rule["allowedVersions"] == f"<{NO_WHEELS_FOR_INTEL_MACS}"
