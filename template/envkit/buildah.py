"""What Buildah is told of the registry that it talks to."""

from __future__ import annotations


def registry_options(*, plain_http: bool) -> list[str]:
    """The options for a registry. Docker has a list of its own (`insecure-registries`) of those with plain HTTP."""
    return ["--tls-verify=false"] if plain_http else []


def push_command(image: str, reference: str, *, plain_http: bool) -> list[str]:
    """The command that puts an image of Buildah's store into a registry under the name `reference`."""
    return ["buildah", "push", *registry_options(plain_http=plain_http), image, f"docker://{reference}"]
