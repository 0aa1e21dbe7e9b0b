"""What answers are allowed: one model for every way in which answers arrive.

Copier's validators in copier.yml guide a person at a prompt, one question at a time. This model holds
the same rules, and those that Copier cannot check (unknown keys, values that Copier would convert in
silence), and reports everything that is wrong at once.

    python hooks/answers.py check FILE [--given=JSON]    exit 1 and the list of problems
    python hooks/answers.py schema                       the JSON Schema of a data file

Runs in Copier's own Python, which has pydantic, PyYAML and Jinja2 and nothing more.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from destination import ANSWERS_FILE
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from questions import all_questions, answerable, render
from refused_copy import what_is_left
from update_files import ABORT, committed
from yaml_text import YAML_ERRORS, mapping_if_readable

TRUE_WORDS = frozenset({"y", "yes", "t", "true", "on", "1"})
FALSE_WORDS = frozenset({"n", "no", "f", "false", "off", "0"})


def as_text(value: object) -> str:
    """The text Copier reads from this value.

    Raises:
        ValueError: Copier would turn the value into text that nobody wrote: a yes/no, or a number with
            a point, which loses its last zeros.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("not text")


def as_int(value: object) -> int:
    """The whole number Copier reads from this value.

    Raises:
        ValueError: There is none, or Copier would cut digits off or count a yes as 1.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.lstrip("+-").isdigit():
        return int(value)
    raise ValueError("not a whole number")


def as_bool(value: object) -> bool:
    """The yes or no Copier reads from this value.

    Raises:
        ValueError: Copier would count the value as yes only because it is not empty or not zero.
    """
    word = str(value).strip().lower()
    if isinstance(value, bool | int | str) and word in TRUE_WORDS | FALSE_WORDS:
        return word in TRUE_WORDS
    raise ValueError("neither yes nor no")


def as_yaml(value: object) -> object:
    """The value Copier reads from this one: text is YAML, all else stays as it is.

    Raises:
        ValueError: The text is not YAML.
    """
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError("not YAML") from error


NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
# The grammar of the distribution project's reference package, with a tag or digest that is not optional.
IMAGE = (
    r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$"
)

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_DOTTED_HOST = rf"{_LABEL}(\.{_LABEL})+(:[0-9]+)?"
# A first part without a dot or a port is no host in an image's name.
_MIRROR_HOST = rf"({_DOTTED_HOST}|{_LABEL}:[0-9]+|localhost)"

# The readers stand last in each type, so that its limits apply to what they read and reach the JSON Schema.
Text = BeforeValidator(as_text)
Integer = BeforeValidator(as_int)
YesNo = Annotated[bool, Field(description="yes or no"), BeforeValidator(as_bool)]
Scope = Annotated[Literal["environment", "devcontainer"], Text]
Provider = Annotated[Literal["k3d", "existing"], Text]
RegistryKind = Annotated[Literal["own", "shared"], Text]
Ingress = Annotated[Literal["traefik", "none"], Text]
Lens = Annotated[Literal["openlens", "freelens", "none"], Text]
BuildkitMode = Annotated[Literal["rootless", "privileged"], Text]


def _name(limit: int) -> Any:
    return Field(
        pattern=NAME,
        max_length=limit,
        description=f"1 to {limit} lower-case letters, digits and hyphens, with no hyphen at either end",
    )


def _number(lowest: int, highest: int, what: str = "a whole number") -> Any:
    return Field(ge=lowest, le=highest, description=f"{what} from {lowest} to {highest}")


_PREFIX = "k3d-"
# `<project>-dev` has to fit k3d's 32 characters.
ProjectName = Annotated[str, _name(28), Text]
RegistryName = Annotated[str, _name(45), Field(json_schema_extra={"not": {"pattern": f"^{_PREFIX}"}}), Text]
ClusterName = Annotated[str, _name(32), Text]
RunnerName = Annotated[str, _name(45), Text]
GithubName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$",
        max_length=39,
        description="1 to 39 letters, digits and single hyphens, with no hyphen at either end",
    ),
    Text,
]
# What may stand in kubeconfigs, shells and YAML as it is. Context names of the large clouds are longer than any other.
KubeContext = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,252})?$",
        description="1 to 253 letters, digits and any of . _ : / @ + = - with a letter or digit first",
    ),
    Text,
]
ServerCount = Annotated[Literal[1, 3], Integer]
AgentCount = Annotated[int, _number(0, 10), Integer]
Port = Annotated[int, _number(1, 65535, "a port"), Integer]
HighPort = Annotated[int, _number(1024, 65535, "a port"), Integer]
GithubId = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{0,20}$",
        description="digits only, at most 20, or nothing",
        json_schema_extra={"type": ["string", "integer"]},
    ),
    Text,
]
Image = Annotated[
    str,
    Field(
        pattern=IMAGE,
        description="an image reference with a tag or digest, such as docker.io/library/registry:3",
    ),
    Text,
]
OptionalImage = Annotated[
    str,
    Field(
        pattern=f"^$|{IMAGE}",
        description="nothing, or an image reference with a tag or digest, such as registry.example.com/team/dev:1",
    ),
    Text,
]
ImageRepository = Annotated[
    str,
    Field(
        pattern=(
            r"^(([A-Za-z0-9-]+([.][A-Za-z0-9-]+)+(:[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)"
            r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+)?$"
        ),
        description="nothing, or a registry with a path and no tag, such as registry.example.com/team/runner",
    ),
    Text,
]
SecretName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$",
        max_length=253,
        description="nothing, or at most 253 lower-case letters, digits, hyphens and dots",
    ),
    Text,
]
ChartRepository = Annotated[
    str,
    Field(
        pattern=r"^(oci://[A-Za-z0-9.-]+(:[0-9]+)?)?(/[A-Za-z0-9._-]+)+$",
        description="an address such as oci://HOST/PATH, or an absolute path",
    ),
    Text,
]
Version = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$",
        description="a version such as 0.15.0",
    ),
    Text,
]

ImageMirrors = Annotated[
    dict[
        Annotated[str, Field(pattern=rf"^{_DOTTED_HOST}$")],
        Annotated[str, Field(pattern=rf"^{_MIRROR_HOST}(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")],
    ],
    Field(
        description="a mapping from registries to mirrors, such as {docker.io: mirror.example.com/dockerhub},"
        " without https://"
    ),
    BeforeValidator(as_yaml),
]
PlainHttpMirrors = Annotated[
    list[str],
    Field(description="a list of hosts of image_mirrors, such as [mirror.example.com:5000]"),
    BeforeValidator(as_yaml),
]
MirrorAddress = Annotated[
    str,
    Field(
        pattern=r"^(https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._-]+)*)?$",
        description="nothing, or an address such as https://mirror.example.com/path, without a slash at its end",
    ),
    Text,
]

MIRROR_ADDRESSES = ("download_mirror", "python_index", "npm_registry", "apt_mirror")
"""The answers that are of this kind."""

# In JSON: what stands before the last `@` of a text, but for that of an image's digest. As in includes/given.jinja.
_LOGIN = re.compile(r'"((?:https?|oci)://)?(?:[^"\\]|\\.)*@(?!sha256:)')

DevContainerFile = Annotated[
    str,
    Field(
        pattern=r"^(\.devcontainer\.json|\.devcontainer/([A-Za-z0-9_-][A-Za-z0-9._-]*/)?devcontainer\.json)?$",
        description="nothing, .devcontainer/devcontainer.json, .devcontainer/NAME/devcontainer.json"
        " or .devcontainer.json",
    ),
    Text,
]

PORT_KEYS = ("http_port", "https_port", "api_port", "registry_port")


class Answers(BaseModel):
    """Answers to the questions of copier.yml. Defaults are there too, and only there."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Answers for a local Kubernetes environment")

    scope: Scope
    project: ProjectName
    github_org: GithubName
    provider: Provider
    kube_context: KubeContext
    cluster_name: ClusterName
    servers: ServerCount
    agents: AgentCount
    http_port: Port
    https_port: Port
    api_port: HighPort
    registry_port: HighPort
    registry: RegistryKind
    registry_name: RegistryName
    ingress: Ingress
    lens: Lens
    arc: YesNo
    runner_name: RunnerName
    runners_min: Annotated[int, _number(0, 1000), Integer]
    runners_max: Annotated[int, _number(1, 1000), Integer]
    github_app_id: GithubId
    github_app_installation_id: GithubId
    buildkit_mode: BuildkitMode
    docker_in_docker: YesNo
    image_repository: ImageRepository
    image_repository_http: YesNo
    image_pull_secret: SecretName
    create_cluster: YesNo
    devcontainer_image: OptionalImage
    devcontainer_file: DevContainerFile
    image_mirrors: ImageMirrors
    image_mirrors_plain_http: PlainHttpMirrors
    download_mirror: MirrorAddress
    python_index: MirrorAddress
    npm_registry: MirrorAddress
    apt_mirror: MirrorAddress
    k3s_image: Image
    registry_image: Image
    arc_chart_repository: ChartRepository
    arc_version: Version
    runner_base_image: Image
    buildkit_image: Image
    dind_image: Image

    # `info.data` holds the earlier fields that are valid, so each check speaks only of sound values,
    # and all of them are reported together.

    @field_validator(*PORT_KEYS)
    @classmethod
    def _has_an_owner_of_its_own(cls, port: int, info: ValidationInfo) -> int:
        for other in PORT_KEYS[: PORT_KEYS.index(str(info.field_name))]:
            if info.data.get(other) == port:
                raise _conflict(
                    other,
                    f"{info.field_name}: {port} is also the answer to {other}; ports have to differ.",
                )
        return port

    @field_validator("registry_name")
    @classmethod
    def _has_no_prefix(cls, name: str, info: ValidationInfo) -> str:
        # An environment that has such a name keeps it: under another one it would have another, empty registry.
        if name.startswith(_PREFIX) and "registry_name" not in (info.context or ()):
            raise _conflict(
                "registry_name",
                f"registry_name: {_shown(name)} was given; {_PREFIX} is put before it, so allowed is what stands behind"
                f" that: {name.removeprefix(_PREFIX)}.",
            )
        return name

    @field_validator("runners_max")
    @classmethod
    def _is_not_below_the_minimum(cls, highest: int, info: ValidationInfo) -> int:
        lowest = info.data.get("runners_min", highest)
        if highest < lowest:
            raise _conflict(
                "runners_min",
                f"runners_max: {highest} was given; allowed is at least runners_min, {lowest}.",
            )
        return highest

    @field_validator("image_mirrors_plain_http")
    @classmethod
    def _are_mirrors(cls, hosts: list[str], info: ValidationInfo) -> list[str]:
        mirrors = info.data.get("image_mirrors")
        known = {mirror.partition("/")[0] for mirror in mirrors.values()} if mirrors is not None else {*hosts}
        if unknown := [host for host in hosts if host not in known]:
            raise _conflict(
                "image_mirrors",
                f"image_mirrors_plain_http: {_shown(unknown[0])} was given; allowed are the hosts of the mirrors in"
                f" image_mirrors: {', '.join(sorted(known)) or 'there is none'}.",
            )
        return hosts

    @field_validator("provider")
    @classmethod
    def _has_an_environment(cls, provider: str, info: ValidationInfo) -> str:
        if provider == "existing" and info.data.get("scope") == "devcontainer":
            raise _conflict("scope", 'provider: "existing" was given; with scope devcontainer allowed is k3d.')
        return provider

    @field_validator("kube_context")
    @classmethod
    def _names_the_cluster(cls, context: str, info: ValidationInfo) -> str:
        if not context and info.data.get("provider") == "existing":
            raise _conflict(
                "provider",
                "kube_context: nothing was given; with provider existing allowed is the name of a context,"
                " as `kubectl config get-contexts` shows it.",
            )
        return context

    @field_validator("image_repository")
    @classmethod
    def _is_there_for_runners(cls, repository: str, info: ValidationInfo) -> str:
        if not repository and info.data.get("provider") == "existing" and info.data.get("arc"):
            raise _conflict(
                "provider",
                "image_repository: nothing was given; with provider existing and runners allowed is the repository of"
                " their image, such as registry.example.com/team/runner.",
            )
        return repository

    @field_validator("create_cluster")
    @classmethod
    def _has_a_cluster_to_create(cls, wanted: bool, info: ValidationInfo) -> bool:
        for key, value in (("scope", "devcontainer"), ("provider", "existing")):
            if wanted and info.data.get(key) == value:
                raise _conflict(key, f"create_cluster: yes was given; with {key} {value} allowed is no.")
        return wanted


def _conflict(other: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError("conflict", "{sentence}", {"sentence": sentence, "other": other})


@dataclass(frozen=True)
class Problem:
    """Something wrong with the answers: a sentence, and the keys it speaks of."""

    keys: tuple[str, ...]
    sentence: str


def problems(given: Mapping[str, Any], recorded: Collection[str] = ()) -> list[Problem]:
    """Everything that is wrong with these answers, once the defaults are filled in; empty if nothing is.

    Args:
        given: The answers.
        recorded: Which of them are of an environment that may be there already.
    """
    errors = _errors({**complete({}), **given}, recorded)
    wrong = {str(error["loc"][0]) for error in errors}
    filled = complete({key: value for key, value in given.items() if key not in wrong})
    return [_problem(error) for error in _errors({**filled, **given}, recorded)]


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """The answers with each missing one filled in as Copier does it, from copier.yml's defaults.

    Unknown keys are left out. The given answers must be valid: defaults are computed from them.
    """
    readers: dict[str, Callable[[Any], Any]] = {
        "int": as_int,
        "bool": as_bool,
        "str": as_text,
        "yaml": as_yaml,
    }
    values: dict[str, Any] = {}
    for question in all_questions():
        value = given[question.key] if question.key in given else render(question.default, values)
        values[question.key] = readers[question.type](value)
    return {question.key: values[question.key] for question in answerable()}


def unchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Which of these answers are those of before."""
    return {key for key, value in after.items() if key in before and before[key] == value}


def changed_scope(before: Mapping[str, Any], after: Mapping[str, Any]) -> Problem | None:
    """What is wrong where an update would make a snippet of an environment, or the other way round; None elsewhere.

    Copier would remove all files of the one, with the .gitignore that keeps secrets out of Git, and render the other.
    """
    instead = {
        "devcontainer": "this is an environment, and an update makes no dev container snippet of it. For the snippet of"
        " a service repository, in a clone of the template: script/new ../service -d scope=devcontainer",
        "environment": "this is a dev container snippet, and an update makes no environment of it. For an environment,"
        " in a clone of the template: script/new ../env",
    }
    old, new = str(before.get("scope", "environment")), str(after.get("scope", ""))
    return Problem(("scope",), f"scope: {instead[new]}") if new in instead and new != old else None


def _errors(answers: Mapping[str, Any], recorded: Collection[str]) -> list[Any]:
    try:
        Answers.model_validate(answers, context=recorded)
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _problem(error: Mapping[str, Any]) -> Problem:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return Problem((key,), f"{key}: there is no such question.{_nearest(key, Answers.model_fields)}")
    if error["type"] == "conflict":
        return Problem((key, error["ctx"]["other"]), error["ctx"]["sentence"])
    value = error["input"]
    annotation = Answers.model_fields[key].annotation
    choices = [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []
    if choices:
        return Problem((key,), f"{key}: {_shown(value)} was given.{_nearest(str(value), choices)}")
    allowed = Answers.model_fields[key].description
    return Problem(
        (key,),
        f"{key}: {_shown(value)} was given; allowed is {allowed}.{_quoting_hint(key, value)}{_login_hint(key, value)}",
    )


def _nearest(word: str, candidates: Iterable[str]) -> str:
    names = list(candidates)
    near = difflib.get_close_matches(word.lower().replace("-", "_"), names, n=1)
    return (f" Did you mean {near[0]}?" if near else "") + f" Allowed: {', '.join(names)}."


def _quoting_hint(key: str, value: object) -> str:
    """Why a value that looks right in YAML is not: unquoted yes, 1.10 and 2026-01-01 are not text there."""
    is_text = key in {question.key for question in answerable() if question.type == "str"}
    return " Put it in quotes to have it read as text." if is_text and isinstance(value, bool | float | date) else ""


def _login_hint(key: str, value: object) -> str:
    """Where user name and password of a mirror belong: an answer is in Git, and in what builds leave behind."""
    if "@" not in str(value) or key not in MIRROR_ADDRESSES:
        return ""
    return (
        " User name and password belong into ~/.netrc, which pip and uv read, or ~/.npmrc; other mirrors have to be"
        " readable without."
    )


def _shown(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError):  # a date for a key, or what holds itself
        text = json.dumps(str(value), ensure_ascii=False)
    return _LOGIN.sub(r'"\1***@', text)


def listed(found: Iterable[Problem]) -> str:
    """The problems as a list for a person, under a line that counts them."""
    sentences = [problem.sentence for problem in found]
    count = "is 1 problem" if len(sentences) == 1 else f"are {len(sentences)} problems"
    return "\n".join([f"There {count} with the answers:", *(f"  - {sentence}" for sentence in sentences)])


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a data file (`--data-file`): every key is optional and has copier.yml's default."""
    schema = Answers.model_json_schema()
    del schema["required"]
    for key, value in complete({}).items():
        schema["properties"][key]["default"] = value
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _recorded(path: Path) -> dict[str, Any]:
    """The answers of a file; OSError or one of `YAML_ERRORS` where there are none to be read."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError("it is no mapping from questions to answers")  # noqa: TRY004
    return {str(key): value for key, value in document.items() if not str(key).startswith("_")}


def _answers_of_before(path: Path) -> dict[str, Any]:
    """The answers that are committed, of the scope that was checked there; empty in Copier's temporary folders.

    With another scope, the answers file has another name, too. One that cannot be read may be another template's, in a
    repository that gets the snippet.
    """
    return mapping_if_readable(committed(Path.cwd(), path.as_posix()) or committed(Path.cwd(), ANSWERS_FILE))


def _check(path: Path, answers: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    # Copier drops unknown keys and converts values in silence: the file shows neither any more.
    raw = {key: value for key, value in given.items() if key not in Answers.model_fields or value is not None}
    operation = os.environ.get("COPIER_OPERATION")
    is_update = operation == "update"
    before = _answers_of_before(path) if operation else {}
    scope = changed_scope(before, answers) if is_update and before else None
    checked = {**answers, **raw}
    # What a copy has written there may have been typed just now.
    recorded = unchanged(before, checked) if operation == "copy" else answers.keys() - raw.keys()
    found = [scope] if scope else problems(checked, recorded)
    if not found:
        return 0
    print(listed(found), file=sys.stderr)
    if is_update:
        print(f"The update stopped. To undo it: {ABORT}", file=sys.stderr)
    else:
        print(what_is_left(path, str(answers.get("scope"))), file=sys.stderr)
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line that the module's docstring shows; returns the exit status."""
    parser = argparse.ArgumentParser(description="Checks answers against the questions of copier.yml.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="exit 1 and list all problems if the answers are not allowed")
    check.add_argument("file", type=Path, help="the answers as YAML, for instance .copier-answers.yml")
    check.add_argument(
        "--given", type=json.loads, default={}, metavar="JSON", help="answers as they were given to Copier"
    )
    commands.add_parser("schema", help="print the JSON Schema of a data file")
    options = parser.parse_args(arguments)
    if options.command == "schema":
        print(json.dumps(json_schema(), indent=2))
        return 0
    if "COPIER_OPERATION" in os.environ and not options.file.is_file():
        print(
            f"{options.file} was left out, and updates begin with it. Repeat the command without that.", file=sys.stderr
        )
        return 1
    try:
        recorded = _recorded(options.file)
    except (OSError, *YAML_ERRORS) as error:
        parser.error(f"{options.file} holds no answers that can be read: {error}")
    return _check(options.file, recorded, options.given)


if __name__ == "__main__":
    sys.exit(main())
