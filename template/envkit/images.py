"""Where a cluster's images are kept: their names, whether one is there, and putting them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from envkit import buildah
from envkit.environment import Registry
from envkit.registry import has_image, move_tag, require_answer


class Images(Protocol):
    """A registry, or a part of one."""

    @property
    def title(self) -> str:
        """How it is called where progress is shown."""

    @property
    def plain_http(self) -> bool:
        """Whether it speaks plain HTTP."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines push there, too, so that what this one pushed last says little."""

    def reference(self, image: str) -> str:
        """The name by which nodes pull an image, given as NAME:TAG."""

    def push_reference(self, image: str) -> str:
        """The name by which this machine pushes and pulls it."""

    def owns(self, reference: str) -> bool:
        """Whether a full name is one of an image that is kept here."""

    def inside(self, reference: str) -> str:
        """What a full name says of an image that is kept here, without the place: NAME:TAG."""

    def require_answer(self) -> None:
        """UserError where it does not answer."""

    def has(self, name: str, tag: str) -> bool:
        """Whether it holds an image; UserError where that cannot be told."""

    def move_tag(self, name: str, tag: str, to: str) -> None:
        """Makes the tag `to` name the image that `tag` names; UserError where that cannot be."""


@dataclass(frozen=True)
class OwnImages:
    """Images in the environment's own registry on this machine.

    Attributes:
        registry: The registry.
    """

    registry: Registry

    @property
    def title(self) -> str:
        """How it is called where progress is shown."""
        return f"the registry on port {self.registry.port}"

    @property
    def plain_http(self) -> bool:
        """It has no certificate."""
        return True

    @property
    def is_shared(self) -> bool:
        """It is this machine's."""
        return False

    def reference(self, image: str) -> str:
        """The name by which nodes pull an image, given as NAME:TAG."""
        return f"{self.registry.host_names[0]}/{image}"

    def push_reference(self, image: str) -> str:
        """The name by which this machine pushes and pulls it, also where names under localhost do not resolve."""
        return f"localhost:{self.registry.port}/{image}"

    def owns(self, reference: str) -> bool:
        """Whether a full name is one of an image that is kept here, whatever the port is."""
        hosts = (*self.registry.host_names, *self.registry.cluster_names)
        return reference.partition("/")[0].partition(":")[0] in {host.partition(":")[0] for host in hosts}

    def inside(self, reference: str) -> str:
        """What a full name says of an image that is kept here, without the registry: NAME:TAG."""
        return reference.partition("/")[2]

    def require_answer(self) -> None:
        """UserError where it does not answer."""
        require_answer(self.registry)

    def has(self, name: str, tag: str) -> bool:
        """Whether it holds an image; UserError where it does not answer."""
        return has_image(self.registry, name, tag)

    def move_tag(self, name: str, tag: str, to: str) -> None:
        """Makes the tag `to` name the image that `tag` names; UserError where that cannot be."""
        move_tag(self.registry, name, tag, to)


def push_command(builder: str, reference: str, *, plain_http: bool) -> list[str]:
    """The command that puts a local image under its own name into a registry; `builder` says who has it."""
    if builder == "docker":
        return ["docker", "push", reference]
    return buildah.push_command(reference, reference, plain_http=plain_http)
