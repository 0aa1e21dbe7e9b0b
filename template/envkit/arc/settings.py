"""What the runners should be: `helm/arc-*.yaml`, `ansible/group_vars/all.yml` and the developer's `.env`, combined.

A team's `helm/arc-*.local.yaml` are laid over those of the template, which are complete by themselves, so that Helm can
use them without envkit. What only this machine knows (the tag of the image that was built last, a developer's own name
for the runners) replaces what they say.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envkit.arc.corporate import AUTHORITIES, CA_KEY, add_corporate_network, authorities_manifest
from envkit.arc.value_shapes import check_shape
from envkit.cluster import Cluster
from envkit.corporate_network import CorporateNetwork
from envkit.dotenv_file import read_dotenv
from envkit.errors import UserError
from envkit.go_yaml import YAML_ERRORS, read_yaml
from envkit.overlay import local_file, merged, read_overlay
from envkit.paths import ROOT, file_named, just_command
from envkit.wording import quoted

CONTROLLER_NAMESPACE = "arc-systems"
RUNNERS_NAMESPACE = "arc-runners"
CONTROLLER_RELEASE = "arc"

OWNER_LABEL = "envkit.cluster"
"""Label on the scale set: the environment's cluster, by which its own scale sets are known."""

_CONTROLLER_CHART = "gha-runner-scale-set-controller"
_RUNNERS_CHART = "gha-runner-scale-set"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")


@dataclass(frozen=True)
class LocalSettings:
    """The lines of `.env` that concern runners; empty where they are not set. No credential is among them.

    Attributes:
        app_id: App ID or client ID of the GitHub App.
        installation_id: ID of its installation.
        private_key_file: Its private key; None where the line is missing.
        has_token: Whether there is a token.
        runner_name: A developer's own name for the runners.
        config_url: Where the runners belong on GitHub.
        ca_file: Certificates of a GitHub Enterprise Server's own authority.
    """

    app_id: str
    installation_id: str
    private_key_file: Path | None
    has_token: bool
    runner_name: str
    config_url: str
    ca_file: str


@dataclass(frozen=True)
class ArcSettings:
    """All that an installation is made from.

    Attributes:
        version: Version of both charts.
        chart_repository: `oci://` address or folder.
        plain_http: Whether that registry speaks plain HTTP.
        controller_values: Values of the controller's chart.
        runner_values: Values of the scale set's chart, complete.
        manifests: Other resources that the runners need.
        ca_file: Certificates for GitHub Enterprise Server; None without.
        local: The lines of `.env`.
        own_keys: Keys of the runners' values that the team's own file sets.
        corporate: Authorities and proxies of a company's network.
    """

    version: str
    chart_repository: str
    plain_http: bool
    controller_values: Mapping[str, Any]
    runner_values: Mapping[str, Any]
    manifests: tuple[Mapping[str, Any], ...]
    ca_file: Path | None
    local: LocalSettings
    own_keys: frozenset[str] = frozenset()
    corporate: CorporateNetwork = field(default_factory=CorporateNetwork)

    @property
    def name(self) -> str:
        """Name of the scale set, which workflows write into `runs-on`."""
        return str(self.runner_values.get("runnerScaleSetName", ""))

    @property
    def config_url(self) -> str:
        """Address of the organisation, repository or enterprise on GitHub."""
        return str(self.runner_values.get("githubConfigUrl", ""))

    @property
    def image(self) -> str:
        """Image of the runners."""
        return str((runner_container(self.runner_values) or {}).get("image", ""))

    @property
    def uses_rootless_buildkit(self) -> bool:
        """Whether BuildKit runs beside the runners without privileges."""
        sidecar = next((c for c in _containers(self.runner_values, "initContainers") if c["name"] == "buildkitd"), None)
        return sidecar is not None and not (sidecar.get("securityContext") or {}).get("privileged")

    def chart(self, kind: str) -> str:
        """Reference of a chart for Helm: `controller` or `runners`.

        Raises UserError where a folder does not hold it.
        """
        name = _CONTROLLER_CHART if kind == "controller" else _RUNNERS_CHART
        if self.chart_repository.startswith("oci://"):
            return f"{self.chart_repository.rstrip('/')}/{name}"
        folder = Path(self.chart_repository)
        for candidate in (folder / f"{name}-{self.version}.tgz", folder / name):
            if candidate.exists():
                return str(candidate)
        raise UserError(
            f"The chart {name} {self.version} is not in {folder}.",
            f"It should be there as {name}-{self.version}.tgz, or unpacked as {name}/.",
            f"helm pull oci://ghcr.io/actions/actions-runner-controller-charts/{name}"
            f" --version {self.version} --destination {folder}",
        )


def has_runners(root: Path = ROOT) -> bool:
    """Whether this environment was generated with runners."""
    return (root / "helm" / "arc-runners.yaml").exists()


def read_local_settings(root: Path = ROOT) -> LocalSettings:
    """The lines of `.env` that concern runners. Raises UserError where it cannot be read, or names no file."""
    given = read_dotenv(root / ".env")
    key_file = given.get("GITHUB_APP_PRIVATE_KEY_PATH", "")
    return LocalSettings(
        app_id=given.get("GITHUB_APP_ID", ""),
        installation_id=given.get("GITHUB_APP_INSTALLATION_ID", ""),
        private_key_file=root / file_named(key_file, "GITHUB_APP_PRIVATE_KEY_PATH in .env") if key_file else None,
        has_token=bool(given.get("GITHUB_TOKEN")),
        runner_name=given.get("RUNNER_NAME", ""),
        config_url=given.get("GITHUB_CONFIG_URL", ""),
        ca_file=given.get("GITHUB_CA_FILE", ""),
    )


def read_token(root: Path = ROOT) -> str:
    """The GITHUB_TOKEN of `.env`; empty where there is none. Raises UserError where the file cannot be read."""
    return read_dotenv(root / ".env").get("GITHUB_TOKEN", "")


def require_runners(root: Path = ROOT) -> None:
    """Raises UserError where this environment was generated without runners."""
    if not has_runners(root):
        raise UserError(
            "This environment has no runners.",
            "It was generated with the answer arc=false.",
            f"{just_command()} update -d arc=true",
        )


def read_arc_settings(cluster: Cluster, root: Path = ROOT) -> ArcSettings:
    """Reads and combines the files.

    Raises:
        UserError: There are no runners here, or a file is missing, not YAML or of another shape. Wrong values are left
            to `problems`.
    """
    require_runners(root)
    local = read_local_settings(root)
    team = _read_yaml(root / "ansible" / "group_vars" / "all.yml")
    runners = root / "helm" / "arc-runners.yaml"
    ca_name = local.ca_file or str(team.get("arc_github_ca_file") or "")
    ca_file = root / file_named(ca_name, _ca_setting(local)) if ca_name else None
    authorities = authorities_manifest(ca_file, RUNNERS_NAMESPACE, root)
    manifests = (_read_yaml(root / "helm" / "arc-registries.yaml"), *authorities)
    values = _read_values(runners)
    check_shape(values, runners)
    return ArcSettings(
        version=str(team.get("arc_version", "")),
        chart_repository=str(team.get("arc_chart_repository", "")),
        plain_http=bool(team.get("arc_chart_plain_http")),
        controller_values=_read_values(root / "helm" / "arc-controller.yaml"),
        runner_values=_complete(values, local, cluster, manifests, root, with_ca=bool(ca_file)),
        manifests=manifests,
        corporate=cluster.corporate,
        ca_file=ca_file,
        local=local,
        own_keys=frozenset(read_overlay(local_file(runners))),
    )


def problems(settings: ArcSettings) -> Iterator[tuple[str, str]]:
    """What is wrong with the values, each with the edit that puts it right.

    The chart's own checks are repeated (gha-runner-scale-set 0.14 and 0.15), because a chart that fails says less, and
    because it ignores numbers in quotes in silence.
    """

    def where(key: str) -> str:
        return "helm/arc-runners.local.yaml" if key in settings.own_keys else "helm/arc-runners.yaml"

    if not _NAME.fullmatch(settings.name):
        source = (
            "RUNNER_NAME in .env"
            if settings.local.runner_name
            else f"runnerScaleSetName in {where('runnerScaleSetName')}"
        )
        yield (
            f"{source} is {settings.name!r}, which cannot be a scale set's name.",
            "Use 1 to 45 lower-case letters, digits and hyphens.",
        )
    least, most = (settings.runner_values.get(key) for key in ("minRunners", "maxRunners"))
    for key, value in (("minRunners", least), ("maxRunners", most)):
        if type(value) is not int or value < 0:
            yield (
                f"{key} in {where(key)} is {value!r}, not a whole number.",
                f"{key}: 1   (no quotes: the chart ignores text)",
            )
    if type(least) is int and type(most) is int and most < max(least, 1):
        yield (
            f"maxRunners in {where('maxRunners')} is {most}, less than {max(least, 1)}.",
            "Raise maxRunners, or lower minRunners.",
        )
    if not re.fullmatch(r"https?://[^/\s\[\]]+/[^/\s]+(/[^/\s]+)?/?", settings.config_url):
        yield (
            f"githubConfigUrl is {settings.config_url!r}, which names no organisation or repository.",
            f"https://github.com/ORGANISATION in {where('githubConfigUrl')}, or GITHUB_CONFIG_URL in .env.",
        )
    if runner_container(settings.runner_values) is None:
        yield f"No container in {where('template')} is called runner.", f"git diff {where('template')}"
    if settings.ca_file and not settings.ca_file.is_file():
        yield (
            f"The file with GitHub's certificates is missing: {settings.ca_file}.",
            f"Correct {_ca_setting(settings.local)}.",
        )


def _ca_setting(local: LocalSettings) -> str:
    """Where the file with GitHub's certificates is named."""
    return "GITHUB_CA_FILE in .env" if local.ca_file else "arc_github_ca_file in ansible/group_vars/all.yml"


def runner_container(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The container in which jobs run."""
    return next((c for c in _containers(values, "containers") if c["name"] == "runner"), None)


def _containers(values: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    spec = (values.get("template") or {}).get("spec") or {}
    found = spec.get(key) or []
    return [c for c in found if isinstance(c, dict) and "name" in c] if isinstance(found, list) else []


def _complete(
    values: Mapping[str, Any],
    local: LocalSettings,
    cluster: Cluster,
    manifests: tuple[Mapping[str, Any], ...],
    root: Path,
    *,
    with_ca: bool,
) -> dict[str, Any]:
    complete = copy.deepcopy(dict(values))
    if local.runner_name:
        complete["runnerScaleSetName"] = local.runner_name
    if local.config_url:
        complete["githubConfigUrl"] = local.config_url
    complete["labels"] = {**(complete.get("labels") or {}), OWNER_LABEL: cluster.name}
    runner = runner_container(complete)
    named = str(runner.get("image", "")) if runner else ""
    if named and (image := built_image(cluster, named, root)):
        for container in (*_containers(complete, "initContainers"), *_containers(complete, "containers")):
            if container.get("image") == named:
                container["image"] = image
    add_corporate_network(complete, cluster.corporate)
    if with_ca or cluster.corporate.ca_sha256:
        complete.setdefault(
            "githubServerTLS",
            {
                "certificateFrom": {"configMapKeyRef": {"name": AUTHORITIES, "key": CA_KEY}},
                "runnerMountPath": "/usr/local/share/ca-certificates/",
            },
        )
    if proxy := complete.get("proxy"):
        # The listener asks the Kubernetes API through the proxy too unless it is told not to, and then never starts.
        proxy["noProxy"] = list(dict.fromkeys([*(proxy.get("noProxy") or []), *cluster.addresses]))
    annotations = _below(_below(_below(complete, "template"), "metadata"), "annotations")
    # New files in a mounted config map do not reach a BuildKit that runs; a new pod has them.
    made_from = [*manifests, *filter(None, [cluster.corporate.described()])]
    annotations["envkit.registries"] = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    return complete


def _below(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key, made where there is none: what was commented out line by line leaves a null."""
    values[key] = below = values.get(key) or {}
    return below


def built_image(cluster: Cluster, image: str, root: Path = ROOT) -> str | None:
    """The image that `build-runner` pushed last, where `image` is among this environment's own; else None.

    Where other machines push, too, it is the one that `runner/` describes: the same for everybody who has these files.
    """
    if not cluster.images.owns(image):
        return None
    from envkit.runner.image import describe, read_built_image

    return cluster.images.reference(describe(root).tagged) if cluster.images.is_shared else read_built_image()


def _read_values(path: Path) -> dict[str, Any]:
    """Values of a chart: the template's file with the team's own over it."""
    own = local_file(path)
    return merged(_read_yaml(path), read_overlay(own), own)


def _read_yaml(path: Path) -> dict[str, Any]:
    restore = (
        f"git -C {quoted(ROOT)} checkout -- {quoted(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)}"
    )
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read.", str(error.strerror or error), restore) from error
    except YAML_ERRORS as error:
        raise UserError(f"{path} is not valid YAML.", str(error), f"Correct it, or: {restore}") from error
    if not isinstance(document, dict):
        raise UserError(
            f"{path} is not a mapping of keys to values.", "", f"{restore}   (then: {just_command()} install-arc)"
        )
    return document
