"""The shape of the runners' values, as far as envkit reads them or adds to them; all else is the chart's business."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envkit.errors import UserError, validation_problems
from envkit.overlay import is_set_in, local_file, read_overlay

_Mapping = dict[str, Any] | None
_Mappings = list[dict[str, Any]] | None


class _Part(BaseModel):
    """What stands under a key; null is the same as no value."""

    model_config = ConfigDict(extra="allow")


class _Container(_Part):
    env: _Mappings = None
    env_from: _Mappings = Field(default=None, alias="envFrom")
    security_context: _Mapping = Field(default=None, alias="securityContext")
    volume_mounts: _Mappings = Field(default=None, alias="volumeMounts")


class _Spec(_Part):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = Field(default=None, alias="initContainers")
    volumes: _Mappings = None


class _Metadata(_Part):
    annotations: _Mapping = None


class _Template(_Part):
    metadata: _Metadata | None = None
    spec: _Spec | None = None


class _Proxy(_Part):
    no_proxy: list[str] | None = Field(default=None, alias="noProxy")


class _Values(_Part):
    labels: _Mapping = None
    proxy: _Proxy | None = None
    template: _Template | None = None


def check_shape(values: Mapping[str, Any], path: Path) -> None:
    """Raises UserError where something in the values is a mapping and should be a list, or the like.

    Args:
        values: The template's with the team's own over them.
        path: The template's file, which has the team's own beside it.
    """
    try:
        _Values.model_validate(values)
    except ValidationError as error:
        own = local_file(path)
        wrong = own if is_set_in(read_overlay(own), error.errors()[0]["loc"]) else path
        raise UserError(
            f"{wrong} has values that the chart does not take.", validation_problems(error), f"Correct {wrong}."
        ) from error
