"""The CI image: what it is called, whether the registry has it, building it and putting it there.

Its tag is a hash of all that it is made of, so an image that is in the registry need not be built again, and a node
never takes an old one for a new one. `latest` follows the newest.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from envkit.cluster import Cluster
from envkit.corporate_network import is_loopback, read_own_ca_bundle
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.images import push_command
from envkit.mirrors import DOWNLOAD_VARIABLE, read_mirrors, split_host
from envkit.paths import ROOT, just_command
from envkit.process import capture, find_tool, stream
from envkit.progress import Steps
from envkit.runner.npm_package import pack
from envkit.runner.tools import (
    Arch,
    Pins,
    base_image,
    base_version,
    read_pins,
    read_settings,
    require_known_sums,
    runner_folder,
)

Builder = Literal["buildah", "docker"]

MOVING_TAG = "latest"

_BUILT_IMAGE = ROOT / ".tools" / "runner-image"
_MIRRORS = ("RUNNER_MIRROR", "RUNNER_APT_MIRROR")
"""Build arguments, and variables of this machine that go before the mirrors of `environment.toml`."""
_SECONDS = 60
_MOST_JOBS = 4
_AUTHORITIES = "envkit-*.crt"
"""The files that are made of the company's bundle, among those of `ca/`."""

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NOT_IN_THE_IMAGE = {".dockerignore", ".gitignore", "README.md", "npm"}
_OF_FINDER = ".DS_Store"
"""What macOS puts into every folder that a person looks at. `.dockerignore` keeps it out of the image."""


@dataclass(frozen=True)
class RunnerImage:
    """The image that the files of this repository describe.

    Attributes:
        name: Its name in the registry, without the registry.
        tag: The hash of all that it is made of.
        arch: The architecture that it is built for.
        base: The image that it is based on.
        base_is_own: `environment.toml` names the base, not the Dockerfile.
        pins: The tools in it.
    """

    name: str
    tag: str
    arch: Arch
    base: str
    base_is_own: bool
    pins: Pins

    @property
    def tagged(self) -> str:
        """Its name with its tag."""
        return f"{self.name}:{self.tag}"


def read_built_image(path: Path = _BUILT_IMAGE) -> str | None:
    """The image that `build-runner` put into the registry last, by the name nodes pull; None before the first."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def describe(root: Path = ROOT) -> RunnerImage:
    """The image as the files describe it now. Raises UserError where they are wrong, or there are no runners."""
    folder, pins, settings, base, arch = (
        runner_folder(root),
        read_pins(root),
        read_settings(root),
        base_image(root),
        _arch(),
    )
    return RunnerImage(
        name=settings.image,
        tag=_content_hash(folder, base, arch, _authorities(root)),
        arch=arch,
        base=base,
        base_is_own=bool(settings.base_image),
        pins=pins,
    )


def build_and_push(
    cluster: Cluster,
    steps: Steps,
    *,
    builder: Builder | None = None,
    root: Path = ROOT,
    built_image: Path = _BUILT_IMAGE,
) -> tuple[str, bool]:
    """Sees to it that the registry has the image that the files describe.

    Args:
        cluster: Whose nodes pull it.
        steps: Where progress is shown.
        builder: What to build with; without it Buildah, or Docker where there is no Buildah.
        root: The environment's repository.
        built_image: The file that holds the name of the image afterwards.

    Returns:
        The name by which nodes pull it, and whether it had to be built.

    Raises:
        UserError: The sum of a download is not known, a download is not what is pinned, the registry does not answer.
    """
    image = describe(root)
    images = cluster.images
    images.require_answer()
    reference, push_reference = images.reference(image.tagged), images.push_reference(image.tagged)
    build = not images.has(image.name, image.tag)
    if build:
        require_known_sums(image.pins, image.arch)
        _mirrors()  # before npm fetches anything
        chosen = builder or ("buildah" if find_tool("buildah") else "docker")
        _pack_npm_tools(image, runner_folder(root), steps)
        _write_authorities(root)
        with steps.step(f"Building {image.tagged} with {chosen}") as step:
            _build(chosen, image, push_reference, runner_folder(root), step.note)
        with steps.step(f"Pushing it to {images.title}") as step:
            stream(push_command(chosen, push_reference, plain_http=images.plain_http), step.note)
    images.move_tag(image.name, image.tag, to=MOVING_TAG)
    built_image.parent.mkdir(parents=True, exist_ok=True)
    built_image.write_text(f"{reference}\n", encoding="utf-8")
    return reference, build


def remove_built_images(environment: Environment) -> list[str]:
    """Removes what Buildah has built for this environment's registry, and the memory of it; returns what was removed.

    What Docker has built goes with all other local images of the registry.
    """
    _BUILT_IMAGE.unlink(missing_ok=True)
    if not find_tool("buildah"):
        return []
    try:
        names = capture(["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"], timeout=_SECONDS).split()
        owned = [name for name in names if name.startswith(f"localhost:{environment.registry.port}/")]
        if owned:
            capture(["buildah", "rmi", *owned], timeout=_SECONDS)
    except CommandFailedError:  # Buildah cannot be used by this person here, so it has built nothing for them
        return []
    return [f"image {name} (Buildah)" for name in owned]


def content_files(folder: Path) -> list[Path]:
    """The files that the image is made of, in a fixed order; what npm fetches is determined by them."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).parts[0] not in _NOT_IN_THE_IMAGE
        and path.name != _OF_FINDER
        and not path.match(f"ca/{_AUTHORITIES}")
    ]


def build_command(builder: Builder, image: RunnerImage, reference: str, folder: Path) -> list[str]:
    """The command that builds the image under this name."""
    labels = {
        "org.opencontainers.image.version": image.tag,
        "actions-runner.version": base_version(image.base),
    }
    arguments = [f"--file={folder / 'Dockerfile'}", f"--tag={reference}"]
    arguments += [f"--label={key}={value}" for key, value in labels.items()]
    environment = _build_environment()
    if image.base_is_own:
        arguments.append(f"--build-arg=BASE_IMAGE={image.base}")
    for name in _MIRRORS:
        if value := environment.get(name):
            arguments.append(f"--build-arg={name}={value}")
    # Without a value: the builder takes it from the environment, so a proxy's password is not in the command.
    arguments += [f"--build-arg={name}" for name in _proxy_names() if name in environment]
    if any(_is_on_this_machine(address) for address in _addresses(environment)):
        arguments.append("--network=host")
    # Stages beside each other: even one that is in the cache takes a tenth of a second for each of its steps.
    jobs = min(os.cpu_count() or 1, _MOST_JOBS)
    first = ["buildah", "build", "--layers", f"--jobs={jobs}"] if builder == "buildah" else ["docker", "build"]
    if builder == "buildah" and split_host(image.base)[0] in read_mirrors().plain_http:
        first.append("--tls-verify=false")  # Docker's engine has a list of its own of such registries
    return [*first, *arguments, str(folder)]


def failure(lines: list[str]) -> tuple[str, str]:
    """What a script of `runner/` said was wrong, and what it said of it further; both empty where it said nothing.

    Between its words may be those of the builder: colours, the number and time of a step.
    """
    said = [re.sub(r"\x1b\[[0-9;]*m|^#\d+ [\d.]+ ", "", line) for line in lines]
    for number, line in enumerate(said):
        if match := re.match(r"\s*error: (\S+: .+)", line):
            details = itertools.takewhile(lambda following: following.startswith("  "), said[number + 1 :])
            return match[1], "\n".join(detail.strip() for detail in details)
    return "", ""


def _content_hash(folder: Path, base: str, arch: Arch, authorities: list[str]) -> str:
    digest = hashlib.sha256(f"{base} {arch}\n".encode() + "".join(authorities).encode())
    for path in content_files(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _authorities(root: Path) -> list[str]:
    """The certificates of the company's authorities, each as PEM."""
    bundle = read_own_ca_bundle(root)
    return bundle.certificates if bundle else []


def _write_authorities(root: Path) -> None:
    """Puts them where the Dockerfile takes certificates from; Debian's tool wants each in a file of its own."""
    folder = runner_folder(root) / "ca"
    for path in folder.glob(_AUTHORITIES):
        path.unlink()
    for number, text in enumerate(_authorities(root)):
        folder.mkdir(exist_ok=True)
        (folder / _AUTHORITIES.replace("*", str(number))).write_text(text, encoding="ascii")


def _arch() -> Arch:
    from envkit.download import platform_name

    return "arm64" if platform_name().endswith("arm64") else "amd64"


def _pack_npm_tools(image: RunnerImage, folder: Path, steps: Steps) -> None:
    for name, tool in image.pins.tools.items():
        expected = tool.known_sum(image.arch)
        if tool.npm and expected:
            target = folder / "npm" / f"{name}-{image.arch}.tgz"
            with steps.step(f"Fetching {name} {tool.version} by npm"):
                pack(f"{tool.expand(tool.npm, image.arch)}@{tool.version}", expected, target)


def _build(builder: Builder, image: RunnerImage, reference: str, folder: Path, note: Callable[[str], None]) -> None:
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        note(line.strip())

    try:
        stream(build_command(builder, image, reference, folder), on_line, env=_build_environment())
    except CommandFailedError as error:
        cause, details = failure(lines)
        raise CommandFailedError(
            f"The runner image could not be built: {cause or f'{builder} failed.'}",
            status=error.status,
            output=details or error.output,
            next_step=f"{just_command()} build-runner   (--builder docker builds with Docker instead of Buildah)",
        ) from error


def _build_environment() -> dict[str, str]:
    """Mirrors and proxies of this machine; some programs know the variables in capitals only, others in small ones."""
    found = _mirrors()
    for name in _PROXIES:
        value = os.environ.get(name) or os.environ.get(name.lower())
        if value:
            found |= {name: value, name.lower(): value}
    return found


def _mirrors() -> dict[str, str]:
    """The mirrors of the build, by the names of its arguments.

    Raises UserError where one holds a password: whoever has the image can read its arguments, and whoever is on this
    machine the command.
    """
    mirrors, found = read_mirrors(), {}
    table = "in the table [mirrors] of environment.toml"
    downloads = DOWNLOAD_VARIABLE if os.environ.get(DOWNLOAD_VARIABLE) else f"downloads {table}"
    for name, shared, source in zip(
        _MIRRORS, (mirrors.downloads, mirrors.apt), (downloads, f"apt {table}"), strict=True
    ):
        own = os.environ.get(name)
        address = own or shared
        if "@" in address.rpartition("://")[2].partition("/")[0]:
            raise UserError(
                f"{name if own else source} has a user name or a password before its host.",
                "It would be in the command and in the image's history. The mirror has to be readable without one."
                " A proxy's password belongs into HTTPS_PROXY of .env, from where it goes into neither.",
                f"{name}=https://HOST/PATH {just_command()} build-runner   (an address without user name and password)",
            )
        # A folder of this machine is not to be seen from a build.
        if own or shared.startswith(("https://", "http://")):
            found[name] = address
    return found


def _proxy_names() -> Iterator[str]:
    for name in _PROXIES:
        yield from (name, name.lower())


def _addresses(environment: dict[str, str]) -> Iterator[str]:
    for name in (*_MIRRORS, "HTTP_PROXY", "HTTPS_PROXY"):
        if value := environment.get(name):
            yield value


def _is_on_this_machine(address: str) -> bool:
    """Whether an address is one that only programs in the machine's own network reach."""
    return is_loopback(urlsplit(address if "://" in address else f"//{address}").hostname or "")
