"""What the runner image is made of: `runner/tools.toml`, the base image of its Dockerfile, `environment.toml`."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from envkit.errors import UserError
from envkit.paths import ROOT, just_command

Arch = Literal["amd64", "arm64"]
ARCHITECTURES: tuple[Arch, ...] = ("amd64", "arm64")

UNKNOWN = "unknown"
"""Stands for a sum that nobody has fetched yet."""

_Model = TypeVar("_Model", bound=BaseModel)
_Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)+([-+.][0-9A-Za-z.-]+)?$")]
_Sum = Annotated[str, Field(pattern=rf"^([0-9a-f]{{64}}|{UNKNOWN})$")]


class Tool(BaseModel):
    """A section `[tools.NAME]`; the head of the file says what the keys mean."""

    model_config = ConfigDict(extra="forbid")

    version: _Version
    checked: str
    url: str = ""
    npm: str = ""
    sums: str = ""
    arch: dict[Arch, str] = {}
    sha256: dict[Arch, _Sum]
    unpack: str = ""
    shows: str = Field(min_length=1)

    @model_validator(mode="after")
    def _has_one_source(self) -> Tool:
        if bool(self.url) == bool(self.npm):
            raise ValueError("it needs either url or npm")
        if self.url and not self.sums:
            raise ValueError("a tool with url needs sums, the address of its published sums")
        if missing := set(ARCHITECTURES) - self.sha256.keys():
            raise ValueError(f"it has no sha256.{missing.pop()}")
        return self

    def known_sum(self, arch: Arch) -> str | None:
        """The SHA-256 sum of the version that is pinned; None where it is not known, or is another version's."""
        value = self.sha256[arch]
        return None if value == UNKNOWN or self.checked != self.version else value

    def expand(self, template: str, arch: Arch) -> str:
        """A template of this tool with its version and the word for the architecture."""
        return template.replace("{version}", self.version).replace("{arch}", self.arch.get(arch, arch))


class Base(BaseModel):
    """The section `[base]`: what is known of the release of the runner that the image is based on."""

    model_config = ConfigDict(extra="forbid")

    checked: str
    released: date
    releases: str
    packages: date


class Pins(BaseModel):
    """The whole of `tools.toml`."""

    model_config = ConfigDict(extra="forbid")

    base: Base
    tools: dict[str, Tool]


class RunnerSettings(BaseModel):
    """The section `[runner]` of `environment.toml`.

    Attributes:
        image: Name of the image in the registry.
        base_image: What to build on instead of the Dockerfile's own base; empty for that one.
    """

    model_config = ConfigDict(extra="ignore")

    image: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    base_image: str = ""


def runner_folder(root: Path = ROOT) -> Path:
    """The folder of the image; UserError in an environment that was generated without runners."""
    folder = root / "runner"
    if not (folder / "Dockerfile").is_file():
        raise UserError(
            "This environment has no runners.",
            f"There is no {folder / 'Dockerfile'}: the answer to `arc` was no when it was generated.",
            "copier update --trust --data arc=true   (brings them)",
        )
    return folder


def read_pins(root: Path = ROOT) -> Pins:
    """Reads `runner/tools.toml`.

    Raises:
        UserError: It is missing or wrong; names the key and what is allowed.
    """
    path = runner_folder(root) / "tools.toml"
    return _read(Pins, path, None)


def read_settings(root: Path = ROOT) -> RunnerSettings:
    """Reads what `environment.toml` says of the image. Raises as `read_pins`."""
    return _read(RunnerSettings, root / "environment.toml", "runner")


def base_image(root: Path = ROOT) -> str:
    """The image that the runner image is based on. Raises UserError where no file names one."""
    if own := read_settings(root).base_image:
        return own
    path = runner_folder(root) / "Dockerfile"
    if match := re.search(r"(?m)^ARG BASE_IMAGE=(\S+)$", path.read_text(encoding="utf-8")):
        return match[1]
    raise UserError(
        f"{path} has no line `ARG BASE_IMAGE=...`.",
        "It names the release of the runner that the image is based on.",
        f"git -C {root} diff runner/Dockerfile",
    )


def base_version(image: str) -> str:
    """The tag of a base image, which is the version of the runner in it; empty where it has none."""
    match = re.search(r":([^:/]+)$", image.partition("@")[0])
    return match[1] if match else ""


def require_known_sums(pins: Pins, arch: Arch) -> None:
    """UserError with every tool whose download could not be verified."""
    problems = [
        f"{name} {tool.version}: "
        + (
            f"the sum for {arch} has never been fetched"
            if tool.sha256[arch] == UNKNOWN
            else f"the sums are those of {tool.checked}"
        )
        for name, tool in pins.tools.items()
        if tool.known_sum(arch) is None
    ]
    if problems:
        raise UserError(
            "The runner image cannot be built: the SHA-256 sums of some downloads are not known.",
            "\n".join(problems),
            f"{just_command()} runner-checksums   (fetches the published sums into runner/tools.toml)",
        )


def _read(model: type[_Model], path: Path, section: str | None) -> _Model:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return model.model_validate(document.get(section, {}) if section else document)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read.", str(error), f"git -C {path.parent} checkout -- {path.name}"
        ) from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}" for p in error.errors()]
        raise UserError(
            f"{path} is not right.", "\n".join(problems), f"git -C {path.parent} diff {path.name}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not right.", str(error), f"git -C {path.parent} diff {path.name}") from error
