"""What the runner image is made of: `runner/tools.toml`, the base image of its Dockerfile, `environment.toml`.

A team's `runner/tools.local.toml` has the same form as `tools.toml`: what it says takes the place of the value there,
and it may have tools of its own.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from envkit.errors import UserError, validation_problems
from envkit.paths import ROOT, just_command
from envkit.wording import quoted

Arch = Literal["amd64", "arm64"]
ARCHITECTURES: tuple[Arch, ...] = ("amd64", "arm64")

OWN_FILE = "tools.local.toml"
"""The team's own file in the folder of the image, which updates of the template leave alone."""

UNKNOWN = "unknown"
"""Stands for a sum that nobody has fetched yet."""

_LINE = re.compile(r'\s*(?:#.*)?|\[(?:base|tools\.[a-z0-9-]+)\]\s*(?:#.*)?|[a-z0-9_.]+ = "[^"\\]*"[ \t]*(?:#.*)?')
"""What `runner/split-pins` reads of a file, which is no TOML parser; much else means the same to one."""

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
            f"{just_command()} update -d arc=true   (brings them)",
        )
    return folder


def read_pins(root: Path = ROOT) -> Pins:
    """Reads `runner/tools.toml` with the team's own file over it.

    Raises:
        UserError: A file is missing or wrong; names it, the key and what is allowed.
    """
    path = runner_folder(root) / "tools.toml"
    document, own = _document(path), own_tools(root)
    known = set(_sections(document, path))
    for name, values in own.items():
        document.setdefault("tools", {})[name] = _laid_over(document.get("tools", {}).get(name, {}), values)
    try:
        pins = Pins.model_validate(document)
    except ValidationError as error:
        is_own = _is_own(error.errors()[0]["loc"], own, known)
        raise _not_right(path.with_name(OWN_FILE) if is_own else path, validation_problems(error)) from error
    for file in filter(Path.exists, (path, path.with_name(OWN_FILE))):
        _require_plain_lines(file)
    return pins


def own_tools(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """The sections `[tools.NAME]` of the team's own file; empty without one. Raises as `read_pins`."""
    path = runner_folder(root) / OWN_FILE
    if not path.exists():
        return {}
    document = _document(path)
    tools = _sections(document, path)
    if other := next((key for key in document if key != "tools"), None):
        raise _not_right(path, f"{other}: this file has sections [tools.NAME] only")
    if bad := next((name for name in tools if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)), None):
        raise _not_right(path, f"tools.{bad}: a name has lower-case letters, digits and hyphens only")
    return tools


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
        f"git -C {quoted(root)} diff runner/Dockerfile",
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


def _read(model: type[_Model], path: Path, section: str) -> _Model:
    try:
        return model.model_validate(_document(path).get(section, {}))
    except ValidationError as error:
        raise _not_right(path, validation_problems(error)) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read.", str(error), f"git -C {quoted(path.parent)} checkout -- {path.name}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _not_right(path, str(error)) from error


def _sections(document: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    tools = document.get("tools", {})
    if not isinstance(tools, dict) or not all(isinstance(values, dict) for values in tools.values()):
        raise _not_right(path, "tools: under it there are sections [tools.NAME] only")
    return tools


def _require_plain_lines(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not _LINE.fullmatch(line):
            raise _not_right(path, f'line {number}: it is no comment, no [tools.NAME] and not: name = "value"\n{line}')


def _laid_over(values: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The values with the team's own over them; `arch` and `sha256` are merged by architecture."""
    result = {**values, **own}
    for key in ("arch", "sha256"):
        if isinstance(values.get(key), dict) and isinstance(own.get(key), dict):
            result[key] = {**values[key], **own[key]}
    return result


def _is_own(place: tuple[str | int, ...], own: dict[str, dict[str, Any]], known: set[str]) -> bool:
    """Whether what is wrong at this place comes from the team's own file: `known` are the tools of the template's."""
    name, *keys = [*map(str, place[1:]), ""]
    if name not in own:
        return False
    return name not in known or keys[0] == "" or keys[0] in own[name]


def _not_right(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not right.", why, f"git -C {quoted(path.parent)} diff {path.name}")
