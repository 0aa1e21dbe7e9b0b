"""How old the release of the runner is that the image is based on.

GitHub refuses runners that are about a month behind the newest release; Actions Runner Controller then takes the whole
scale set down (https://docs.github.com/actions/reference/runners/self-hosted-runners, runner software updates).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from envkit.paths import ROOT, just_command
from envkit.preflight import Check, Verdict
from envkit.runner.tools import base_image, base_version, read_pins

DAYS = 30
"""After so many days a newer release has to be expected to have made this one too old."""


def check_age(root: Path = ROOT, today: date | None = None) -> Check:
    """Whether the base image is young enough. Raises UserError where the files are wrong, or there are no runners."""
    base = read_pins(root).base
    image = base_image(root)
    version = base_version(image)
    if version != base.checked:
        return Check(
            "Runner",
            Verdict.WARN,
            f"the day on which {version or image} was released is not known",
            f"{just_command()} runner-checksums",
        )
    age = ((today or datetime.now(tz=UTC).date()) - base.released).days
    detail = f"{version} was released {age} days ago, on {base.released}"
    if age <= DAYS:
        return Check("Runner", Verdict.OK, detail)
    return Check(
        "Runner",
        Verdict.WARN,
        f"{detail}; GitHub refuses a runner {DAYS} days after the next release, and then no job is run",
        "Name a newer release, see https://github.com/actions/runner/releases, "
        + ("in base_image of environment.toml" if _has_own_base(root) else "in BASE_IMAGE of runner/Dockerfile")
        + f"; then {just_command()} runner-checksums && {just_command()} build-runner && {just_command()} install-arc",
    )


def _has_own_base(root: Path) -> bool:
    from envkit.runner.tools import read_settings

    return bool(read_settings(root).base_image)
