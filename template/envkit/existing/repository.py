"""Images in a registry that others use, too: pushed and pulled by the same names, with the person's own login."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from envkit import buildah
from envkit.engine import docker, inspect
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command
from envkit.process import capture, find_tool, stream

_SECONDS = 60

# What docker, buildah and registries say of an image that is not there; other refusals are the person's business, such
# as a credential helper that is not there.
_MISSING = re.compile(
    r"no such manifest|manifest unknown|name unknown|(?<!file )not found|repository name not known", re.IGNORECASE
)


@dataclass(frozen=True)
class Repository:
    """A place for images.

    Attributes:
        place: The registry with a path, e.g. `registry.example.com/team`; empty where there is none.
        plain_http: Whether the registry speaks plain HTTP.
    """

    place: str
    plain_http: bool = False

    @property
    def title(self) -> str:
        """How it is called where progress is shown."""
        return self.place

    @property
    def is_shared(self) -> bool:
        """Other machines push there, too."""
        return True

    def reference(self, image: str) -> str:
        """The name by which nodes pull an image, given as NAME:TAG."""
        return f"{self.place}/{image}"

    def push_reference(self, image: str) -> str:
        """The same: there is one name for all."""
        return self.reference(image)

    def owns(self, reference: str) -> bool:
        """Whether a full name is one of an image that is kept here."""
        return bool(self.place) and reference.startswith(f"{self.place}/")

    def inside(self, reference: str) -> str:
        """What a full name says of an image that is kept here, without the place: NAME:TAG."""
        return reference.removeprefix(f"{self.place}/")

    def require_answer(self) -> None:
        """UserError where there is no such place; what the registry says is seen when it is asked for an image."""
        if not self.place:
            raise UserError(
                "This environment has no place for images.",
                "It was generated without the answer image_repository.",
                f"{just_command()} update -d image_repository=registry.example.com/team/runner",
            )

    def has(self, name: str, tag: str) -> bool:
        """Whether it holds an image; UserError where the registry does not say."""
        reference = self.reference(f"{name}:{tag}")
        if find_tool("docker"):
            command = ["docker", "manifest", "inspect", *(["--insecure"] if self.plain_http else []), reference]
        else:
            options = buildah.registry_options(plain_http=self.plain_http)
            command = ["buildah", "manifest", "inspect", *options, f"docker://{reference}"]
        try:
            capture(command, timeout=_SECONDS)
        except CommandFailedError as error:
            if _MISSING.search(error.output):
                return False
            host = self.place.partition("/")[0]
            raise UserError(
                f"{host} does not say whether it has {reference}.",
                error.output or error.what,
                f"{command[0]} login {host}   (then: {' '.join(command)})",
            ) from error
        return True

    def move_tag(self, name: str, tag: str, to: str) -> None:
        """Makes the tag `to` name the image, where this machine has it; else it stays as another machine left it."""
        own, moved = self.reference(f"{name}:{tag}"), self.reference(f"{name}:{to}")
        if find_tool("docker") and inspect("image", own):
            docker("tag", own, moved)
            try:
                stream(["docker", "push", moved], lambda _: None, next_step=f"docker push {moved}")
            finally:
                with suppress(UserError):  # a tag too many is no reason to fail, nor to hide a failure
                    docker("rmi", moved, timeout=_SECONDS)
        elif find_tool("buildah"):
            with suppress(CommandFailedError):  # Buildah does not have it
                capture(buildah.push_command(own, moved, plain_http=self.plain_http), timeout=_SECONDS * 10)
