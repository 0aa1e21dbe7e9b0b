"""What this environment is: `k3d.yaml`, `environment.toml` and the developer's `.env`, checked and combined.

`k3d.yaml` is the home of the cluster's facts. What a team wants otherwise may stand in `k3d.local.yaml`, which updates
of the template leave alone. A developer may put other ports into `.env` without a commit;
the result is the *effective* configuration, which is what k3d gets. k3d itself expands `$name` in its file and
lets `K3D_*` variables override it, so neither may carry anything of ours.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from envkit.corporate_network import (
    CA_PATH_IN_NODES,
    DOTENV_KEYS,
    own_addresses,
    proxy_variables,
    read_corporate_network,
    read_own_ca_bundle,
)
from envkit.dotenv_file import RUNNER_KEYS, read_dotenv, refuse_mistyped
from envkit.environment import (
    ALL_INTERFACES,
    HASH_LABEL,
    HIGHEST_PORT,
    REGISTRY_INTERNAL_PORT,
    ROOT_LABEL,
    Environment,
    Lens,
    PortUse,
    Registry,
    parse_port_mapping,
    with_host_port,
)
from envkit.errors import UserError
from envkit.go_yaml import YAML_ERRORS, read_yaml, yaml_text
from envkit.overlay import is_set_in, local_file, merged, read_overlay
from envkit.paths import ROOT
from envkit.process import redact
from envkit.wording import quoted

_PortNumber = Annotated[int, Field(ge=1, le=HIGHEST_PORT)]
_UnprivilegedPort = Annotated[int, Field(ge=1024, le=HIGHEST_PORT)]


def _checked_port(text: str) -> str:
    if not 1 <= int(text) <= HIGHEST_PORT:
        raise ValueError(f"not a port between 1 and {HIGHEST_PORT}")
    return text


_PortText = Annotated[str, Field(pattern=r"^[0-9]+$"), AfterValidator(_checked_port)]


class Overrides(BaseModel):
    """The lines of `.env` that envkit knows; all optional."""

    model_config = ConfigDict(extra="ignore")

    HTTP_PORT: _PortNumber | None = None
    HTTPS_PORT: _PortNumber | None = None
    API_PORT: _UnprivilegedPort | None = None
    REGISTRY_PORT: _UnprivilegedPort | None = None
    LENS: Lens | None = None
    RUNNER_NAME: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?$")] | None = None


_K3D_KEYS = (
    "agents",
    "apiVersion",
    "env",
    "files",
    "hostAliases",
    "image",
    "kind",
    "kubeAPI",
    "metadata",
    "network",
    "options",
    "ports",
    "registries",
    "servers",
    "subnet",
    "token",
    "volumes",
)
"""Keys of k3d's configuration, k3d.io/v1alpha5."""


class _Section(BaseModel):
    """Part of `k3d.yaml`. Keys that envkit does not need are k3d's business and pass unchecked."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)


class _Metadata(_Section):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=32)


class _KubeApi(_Section):
    host_ip: str = Field(default=ALL_INTERFACES, alias="hostIP")
    host_port: _PortText


class _Port(_Section):
    port: str
    node_filters: list[str] = []

    @field_validator("port")
    @classmethod
    def _splits(cls, value: str) -> str:
        parse_port_mapping(value)
        return value


class _RegistryCreate(_Section):
    name: str = Field(min_length=1)
    host: str = ALL_INTERFACES
    host_port: _PortText
    image: str = "docker.io/library/registry:2"
    volumes: list[str] = []


class _Registries(_Section):
    create: _RegistryCreate
    use: list[str] | None = None
    config: str = ""


class _Runtime(_Section):
    labels: list[dict[str, Any]] | None = None


class _K3sArgument(_Section):
    arg: str


class _K3s(_Section):
    extra_args: list[_K3sArgument] | None = None


class _LoadBalancer(_Section):
    config_overrides: list[str] | None = None


class _K3d(_Section):
    loadbalancer: _LoadBalancer | None = None


class _Options(_Section):
    k3d: _K3d | None = Field(default=None, alias="k3d")
    k3s: _K3s | None = Field(default=None, alias="k3s")
    runtime: _Runtime | None = None


class _K3dConfig(_Section):
    api_version: Literal["k3d.io/v1alpha5"]
    kind: Literal["Simple"]
    metadata: _Metadata
    servers: int = Field(default=1, ge=1)
    agents: int = Field(default=0, ge=0)
    image: str
    kube_api: _KubeApi = Field(alias="kubeAPI")
    ports: list[_Port] = []
    files: list[dict[str, Any]] | None = None
    env: list[dict[str, Any]] | None = None
    registries: _Registries
    options: _Options | None = None
    subnet: str = ""


def read_environment(root: Path = ROOT) -> Environment:
    """Reads and combines the files.

    Raises:
        UserError: A file is missing or wrong; names the file, the key and what is allowed.
    """
    path = root / "k3d.yaml"
    document, local = _read_k3d_yaml(path), read_overlay(local_file(path))
    _refuse_unknown(local, local_file(path))
    document = _laid_over(document, local, local_file(path))
    dotenv = read_dotenv(root / ".env")
    overrides = _overrides(dotenv, root / ".env")
    effective = _apply(overrides, document)
    settings = _read_settings(root / "environment.toml")
    config = _validate(effective, path, local)
    _refuse_clashes(config, root)
    create = config.registries.create
    return Environment(
        cluster=config.metadata.name,
        servers=config.servers,
        agents=config.agents,
        image=config.image,
        api_port=int(config.kube_api.host_port),
        ports=tuple(_ports(config)),
        registry=Registry(
            name=create.name,
            port=int(create.host_port),
            image=create.image,
            volume=next((v.partition(":")[0] for v in create.volumes if not v.startswith(("/", "."))), ""),
            address=create.host,
            mounts=tuple(create.volumes),
            shared=settings.registry.shared,
        ),
        lens=overrides.LENS or settings.ide.lens,
        effective=_with_shared_registry(effective) if settings.registry.shared else effective,
        corporate=read_corporate_network(config.metadata.name, _own_addresses(config), root),
    )


def k3d_input(environment: Environment, root: Path = ROOT) -> str:
    """The YAML that k3d gets: the effective configuration and the labels by which envkit knows its clusters.

    Raises UserError where it holds a `$`, which k3d would take for a variable.
    """
    from urllib.parse import quote

    document = copy.deepcopy(environment.effective)
    # A section whose lines were all taken out is null in YAML.
    document["options"] = options = document.get("options") or {}
    options["runtime"] = runtime = options.get("runtime") or {}
    labels = {HASH_LABEL: environment.config_hash, ROOT_LABEL: quote(str(root))}
    runtime["labels"] = [
        *(runtime.get("labels") or []),
        *({"label": f"{key}={value}", "nodeFilters": ["server:0"]} for key, value in labels.items()),
    ]
    _add_corporate_network(document, environment, root)
    text = yaml_text(document)
    if "$" in text:
        line = redact(next(line.strip() for line in text.splitlines() if "$" in line))
        raise UserError(
            f"{' or '.join(_k3d_files(root))} contains a dollar sign.",
            f"k3d replaces every $name in its configuration by a variable, without a way to escape it: {line}",
            "Take the $ out of it (a file mounted through `volumes:` can hold such text).",
        )
    return text


_REGISTRIES = "registries.config"
"""The text of k3s about registries, which is YAML in YAML."""


def _laid_over(document: dict[str, Any], local: dict[str, Any], path: Path) -> dict[str, Any]:
    """The document with the team's own over it, and so the text in `registries.config`, which is YAML by itself.

    Replaced as a whole, it would take with it the mirrors by which nodes reach the environment's registry.
    """
    result = merged(document, local, path)
    own = _registries_config(local)
    if not isinstance(own, str):
        return result
    try:
        over = read_yaml(own)
    except YAML_ERRORS as error:
        raise UserError(
            f"{path} is not a configuration of k3d.",
            f"{_REGISTRIES} is not valid YAML: {error}",
            f"Correct {_REGISTRIES} in {path}.",
        ) from error
    base = _mapping_in(_registries_config(document))
    if base and isinstance(over, dict) and (both := merged(base, over, path, _REGISTRIES)) != over:
        result["registries"]["config"] = yaml_text(both)
    return result


def _registries_config(document: dict[str, Any]) -> object:
    registries = document.get("registries")
    return registries.get("config") if isinstance(registries, dict) else None


def _mapping_in(text: object) -> dict[str, Any] | None:
    """What a text of YAML says; None where it is no text or no mapping, or wrong, which k3d finds and says."""
    if not isinstance(text, str):
        return None
    try:
        document = read_yaml(text)
    except YAML_ERRORS:
        return None
    return document if isinstance(document, dict) else None


def _read_k3d_yaml(path: Path) -> dict[str, Any]:
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing.", "It describes the cluster.", f"git -C {quoted(path.parent)} checkout -- {path.name}"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read.", str(error), f"ls -l {quoted(path)}") from error
    except YAML_ERRORS as error:
        raise UserError(
            f"{path} is not valid YAML.", str(error), f"Correct it, or: git -C {quoted(path.parent)} diff {path.name}"
        ) from error
    if not isinstance(document, dict):
        raise UserError(
            f"{path} is not a mapping of keys to values.", "", f"git -C {quoted(path.parent)} diff {path.name}"
        )
    return document


def _overrides(values: dict[str, str], path: Path) -> Overrides:
    refuse_mistyped(values, [*Overrides.model_fields, *RUNNER_KEYS, *DOTENV_KEYS], path)
    try:
        return Overrides.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path} has a value that is not allowed.", _problems(error), f"Correct {path}.") from error


def _own_addresses(config: _K3dConfig) -> tuple[str, ...]:
    k3s = config.options.k3s if config.options else None
    return own_addresses(
        cluster=config.metadata.name,
        registry=config.registries.create.name,
        servers=config.servers,
        agents=config.agents,
        arguments=[argument.arg for argument in (k3s.extra_args if k3s else None) or []],
        subnet=config.subnet,
    )


def _add_corporate_network(document: dict[str, Any], environment: Environment, root: Path) -> None:
    """Gives the nodes the certificates and the proxy."""
    nodes = ["server:*", *(["agent:*"] if environment.agents else [])]
    bundle = read_own_ca_bundle(root) if environment.corporate.ca_sha256 else None
    if bundle:
        file = {"description": "authorities", "source": bundle.text, "destination": CA_PATH_IN_NODES}
        document["files"] = [*(document.get("files") or []), file | {"nodeFilters": nodes}]
    variables = {key: value for key, value in proxy_variables(environment, root).items() if key.isupper()}
    if variables:
        env = [{"envVar": f"{key}={value}", "nodeFilters": nodes} for key, value in variables.items()]
        document["env"] = [*(document.get("env") or []), *env]


class _Ide(BaseModel):
    lens: Lens = "openlens"


class _SharedRegistry(BaseModel):
    shared: StrictBool = False


class _Settings(BaseModel):
    """The tables of `environment.toml` that say what `k3d.yaml` cannot hold."""

    ide: _Ide = _Ide()
    registry: _SharedRegistry = _SharedRegistry()


def _read_settings(path: Path) -> _Settings:
    try:
        return _Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _Settings(ide=_Ide(lens="none"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        why = _problems(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path} is not right.", why, f"git -C {quoted(path.parent)} diff {path.name}") from error


def _refuse_unknown(local: dict[str, Any], path: Path) -> None:
    """A key that k3d does not have would only be found when a cluster is created."""
    for key in local:
        if key not in _K3D_KEYS:
            nearest = difflib.get_close_matches(str(key), _K3D_KEYS, n=1)
            raise UserError(
                f"{path} sets {key}, which k3d does not know.",
                f"Did you mean {nearest[0]}?" if nearest else f"It knows {', '.join(_K3D_KEYS)}.",
                f"Correct the line in {path}.",
            )


def _k3d_files(root: Path) -> list[str]:
    """The names of the files that make up the configuration of k3d."""
    path = root / "k3d.yaml"
    return [path.name, *([local_file(path).name] if local_file(path).exists() else [])]


def _validate(document: dict[str, Any], path: Path, local: dict[str, Any]) -> _K3dConfig:
    try:
        return _K3dConfig.model_validate(document)
    except ValidationError as error:
        # The first problem decides which file is named; those of the other file say so in their line.
        wrong = local_file(path) if is_set_in(local, error.errors()[0]["loc"]) else path
        raise UserError(
            f"{wrong} is not a configuration that this environment can use.",
            _problems(error, local, local_file(path).name),
            f"Correct {wrong}, or: git -C {quoted(wrong.parent)} diff {wrong.name}",
        ) from error


def _refuse_clashes(config: _K3dConfig, root: Path) -> None:
    clashes = [
        f"{one.purpose} and {other.purpose} both want port {one.number}."
        for one, other in itertools.combinations(_ports(config), 2)
        if (one.number, one.protocol) == (other.number, other.protocol)
        and (one.address == other.address or ALL_INTERFACES in (one.address, other.address))
    ]
    if clashes:
        raise UserError(
            "Two parts of this environment want the same port.",
            "\n".join(clashes),
            f"Change one of them in {root / '.env'} or {root / 'k3d.yaml'}.",
        )


def _problems(error: ValidationError, local: dict[str, Any] | None = None, local_name: str = "") -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        given = problem.get("input")
        shown = "" if isinstance(given, dict) else f" (given: {given!r})"
        source = f"{local_name}: " if local and is_set_in(local, problem["loc"]) else ""
        lines.append(f"{source}{where}: {problem['msg']}{shown}")
    return "\n".join(lines)


_PORT_VARIABLES = {80: "HTTP_PORT", 443: "HTTPS_PORT"}


def _apply(overrides: Overrides, document: dict[str, Any]) -> dict[str, Any]:
    """The document with the ports of `.env`; parts of the wrong shape are left for validation to name."""
    effective = copy.deepcopy(document)
    for entry in _list(effective.get("ports")):
        if not isinstance(entry, dict) or not isinstance(entry.get("port"), str):
            continue
        try:
            container = parse_port_mapping(entry["port"])[2]
        except ValueError:
            continue
        wanted = getattr(overrides, _PORT_VARIABLES.get(container, ""), None)
        if wanted:
            entry["port"] = with_host_port(entry["port"], wanted)
    if overrides.API_PORT and isinstance(effective.get("kubeAPI"), dict):
        effective["kubeAPI"]["hostPort"] = str(overrides.API_PORT)
    registries = effective.get("registries")
    if overrides.REGISTRY_PORT and isinstance(registries, dict) and isinstance(registries.get("create"), dict):
        team_port = str(registries["create"].get("hostPort"))
        registries["create"]["hostPort"] = str(overrides.REGISTRY_PORT)
        registries["config"] = _mirror_also(registries.get("config"), team_port, str(overrides.REGISTRY_PORT))
    return effective


def _with_shared_registry(document: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a registry that k3d neither makes nor deletes: it finds the container by its name.

    `k3d.yaml` describes the registry in the same way for both kinds; envkit makes a shared one itself.
    """
    registries = dict(document["registries"])
    create = registries.pop("create")
    used = [*(registries.get("use") or []), f"{create['name']}:{REGISTRY_INTERNAL_PORT}"]
    return document | {"registries": {"use": used, **{k: v for k, v in registries.items() if k != "use"}}}


def _mirror_also(config: object, team_port: str, port: str) -> object:
    """Repeats the mirrors of the team's port for a developer's own.

    The team's names stay, so a manifest that says `:5050` still works where a developer uses another port.
    """
    document = _mapping_in(config)
    mirrors = document.get("mirrors") if document else None
    if not isinstance(mirrors, dict):
        return config
    for name in list(mirrors):
        if str(name).endswith(f":{team_port}"):
            mirrors[re.sub(rf":{team_port}$", f":{port}", str(name))] = copy.deepcopy(mirrors[name])
    return yaml_text(document)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _ports(config: _K3dConfig) -> list[PortUse]:
    names = {80: "HTTP", 443: "HTTPS"}
    uses = []
    for entry in config.ports:
        address, host, container = parse_port_mapping(entry.port)
        purpose = names.get(container, f"port {container} of the cluster")
        protocol = entry.port.partition("/")[2] or "tcp"
        uses.append(PortUse(address, host, purpose, _PORT_VARIABLES.get(container, ""), protocol))
    api, create = config.kube_api, config.registries.create
    uses.append(PortUse(api.host_ip, int(api.host_port), "Kubernetes API", "API_PORT"))
    uses.append(PortUse(create.host, int(create.host_port), "image registry", "REGISTRY_PORT"))
    return uses
