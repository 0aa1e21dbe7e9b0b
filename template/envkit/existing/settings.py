"""A cluster that is there already, as `environment.toml` and the developer's `.env` name it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StrictBool, ValidationError

from envkit.corporate_network import DOTENV_KEYS, read_corporate_network
from envkit.dotenv_file import RUNNER_KEYS, read_dotenv, refuse_mistyped
from envkit.environment import Lens
from envkit.errors import UserError, validation_problems
from envkit.existing.cluster import CONSENT_VARIABLE, OWN_ADDRESSES, ExistingCluster
from envkit.existing.repository import Repository
from envkit.paths import ROOT
from envkit.wording import quoted

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
_Context = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,252}$")]


class _Cluster(BaseModel):
    provider: Literal["existing"]
    name: _Name
    context: _Context


class _Images(BaseModel):
    repository: str = ""
    plain_http: StrictBool = False


class _Ide(BaseModel):
    lens: Lens = "none"


class _Settings(BaseModel):
    cluster: _Cluster
    images: _Images = _Images()
    ide: _Ide = _Ide()


class _Local(BaseModel):
    """The lines of `.env` that concern the cluster."""

    KUBE_CONTEXT: _Context | None = None
    ARC_CONTEXT: str = ""
    CONTAINER_API_SERVER: Annotated[str, Field(pattern=r"^(https://[^\s/]+)?$")] = ""
    LENS: Lens | None = None


def read_existing_cluster(root: Path = ROOT) -> ExistingCluster:
    """Reads and combines the files.

    Raises:
        UserError: One is missing or wrong; names the file, the key and what is allowed.
    """
    path = root / "environment.toml"
    try:
        settings = _Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise UserError(f"{path} is not right.", _said(error), f"git -C {quoted(root)} diff {path.name}") from error
    dotenv = root / ".env"
    values = read_dotenv(dotenv)
    refuse_mistyped(values, [*_Local.model_fields, *RUNNER_KEYS, *DOTENV_KEYS], dotenv)
    try:
        local = _Local.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{dotenv} has a value that is not allowed.", _said(error), f"Correct {dotenv}.") from error
    return ExistingCluster(
        name=settings.cluster.name,
        context=local.KUBE_CONTEXT or settings.cluster.context,
        images=Repository(settings.images.repository, plain_http=settings.images.plain_http),
        lens=local.LENS or settings.ide.lens,
        confirmed=os.environ.get(CONSENT_VARIABLE, "").strip() or local.ARC_CONTEXT,
        container_server=local.CONTAINER_API_SERVER,
        corporate=read_corporate_network(settings.cluster.name, OWN_ADDRESSES, root),
    )


def _said(error: Exception) -> str:
    return validation_problems(error) if isinstance(error, ValidationError) else str(error)
