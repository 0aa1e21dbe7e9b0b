"""The values that the charts get, for many answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from arc.conftest import Settings, write_dotenv
from certificates import new_authority
from support import CopyProject

from envkit.arc import settings as arc_settings
from envkit.arc.settings import problems, read_arc_settings
from envkit.config import read_environment
from envkit.errors import UserError

_REGISTRY = "k3d-mathtrail-registry:5000"

_ANSWERS: list[dict[str, Any]] = [
    {},
    {"runners_min": 0, "runners_max": 1},
    {"buildkit_mode": "privileged"},
    {"docker_in_docker": True},
    {"project": "on", "runner_name": "yes", "github_org": "123"},
    {"project": "1", "runner_name": "1e3"},
    {"project": "a" * 28, "runner_name": "a" * 45},
    {"runners_min": 1000, "runners_max": 1000, "registry_port": 5999},
]


@pytest.mark.parametrize("answers", _ANSWERS, ids=str)
def test_rendered_values_have_the_types_that_the_chart_takes(
    answers: dict[str, Any], tmp_path: Path, copy_project: CopyProject
) -> None:
    root = copy_project(tmp_path / "env", **answers)
    settings = read_arc_settings(read_environment(root), root)
    assert list(problems(settings)) == []
    values = settings.runner_values
    for key in ("minRunners", "maxRunners"):
        assert type(values[key]) is int
    for key in ("runnerScaleSetName", "githubConfigUrl", "githubConfigSecret"):
        assert type(values[key]) is str
    assert all(type(value) is str for value in values["labels"].values())
    spec = values["template"]["spec"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert all(type(variable["value"]) is str for variable in container.get("env", []))
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert spec["containers"][0]["command"] == ["/home/runner/run.sh"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["fsGroup"] == 1000


def test_defaults_make_the_runners_of_mathtrail(settings: Settings) -> None:
    made = settings()
    assert made.name == "mathtrail-runners"
    assert (made.runner_values["minRunners"], made.runner_values["maxRunners"]) == (1, 5)
    assert made.config_url == "https://github.com/MathTrail"
    assert made.image == "k3d-mathtrail-registry.localhost:5050/mathtrail-runners:latest"
    assert made.runner_values["controllerServiceAccount"] == {
        "namespace": "arc-systems",
        "name": "arc-gha-rs-controller",
    }


@pytest.mark.parametrize("mode", ["rootless", "privileged"])
def test_buildkit_is_a_sidecar_that_starts_before_the_runner(
    mode: str, tmp_path: Path, copy_project: CopyProject
) -> None:
    root = copy_project(tmp_path / "env", buildkit_mode=mode)
    settings = read_arc_settings(read_environment(root), root)
    sidecar = settings.runner_values["template"]["spec"]["initContainers"][0]
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" in sidecar
    assert "limits" not in sidecar["resources"]
    assert settings.uses_rootless_buildkit is (mode == "rootless")
    assert sidecar["securityContext"].get("privileged", False) is (mode == "privileged")
    # Without it newuidmap may not set the user's range of ids.
    assert "allowPrivilegeEscalation" not in sidecar["securityContext"]


def test_a_docker_engine_beside_the_runner_shares_what_the_runner_names_to_it(
    tmp_path: Path, copy_project: CopyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = "k3d-mathtrail-registry.localhost:5050/mathtrail-runners:abc"
    monkeypatch.setattr("envkit.runner.image.read_built_image", lambda: built)
    root = copy_project(tmp_path / "env", docker_in_docker=True)
    settings = read_arc_settings(read_environment(root), root)
    spec = settings.runner_values["template"]["spec"]
    buildkit, externals, engine = spec["initContainers"]
    (runner,) = spec["containers"]

    assert settings.uses_rootless_buildkit
    assert "restartPolicy" not in externals
    assert (buildkit["restartPolicy"], engine["restartPolicy"]) == ("Always", "Always")
    assert engine["securityContext"] == {"privileged": True}
    # Both start from the image that was built last: the file with the values knows only its moving tag.
    assert (externals["image"], runner["image"]) == (built, built)
    assert _paths(engine).items() >= {"work": "/home/runner/_work", "externals": "/home/runner/externals"}.items()
    assert _paths(runner)["work"] == _paths(engine)["work"]
    host = next(variable["value"] for variable in runner["env"] if variable["name"] == "DOCKER_HOST")
    assert f"--host={host}" in engine["args"]
    assert host == f"unix://{_paths(runner)['docker-run']}/docker.sock"
    assert _paths(runner)["docker-run"] == _paths(engine)["docker-run"]


def _paths(container: dict[str, Any]) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize(
    ("answers", "insecure", "mirrors"),
    [
        ({}, [_REGISTRY], []),
        ({"image_mirrors": {"docker.io": "mirror.example.com"}}, [_REGISTRY], ["https://mirror.example.com"]),
        ({"image_mirrors": {"docker.io": "mirror.example.com/hub"}}, [_REGISTRY], []),
        (
            {
                "image_mirrors": {"docker.io": "mirror.example.com:5000"},
                "image_mirrors_plain_http": ["mirror.example.com:5000"],
            },
            [_REGISTRY, "mirror.example.com:5000"],
            ["http://mirror.example.com:5000"],
        ),
    ],
    ids=["plain", "mirror", "mirror with a path", "mirror of plain HTTP"],
)
def test_docker_reaches_the_registry_and_a_mirror_of_docker_hub(
    answers: dict[str, Any], insecure: list[str], mirrors: list[str], tmp_path: Path, copy_project: CopyProject
) -> None:
    root = copy_project(tmp_path / "env", docker_in_docker=True, **answers)
    manifest = read_arc_settings(read_environment(root), root).manifests[0]
    daemon = json.loads(manifest["data"]["daemon.json"])

    assert (daemon["insecure-registries"], daemon["registry-mirrors"]) == (insecure, mirrors)


def test_without_docker_in_docker_nothing_speaks_of_it(settings: Settings) -> None:
    made = settings()
    assert "daemon.json" not in made.manifests[0]["data"]
    assert "docker-run" not in json.dumps(made.runner_values)


def test_values_that_only_one_of_the_two_versions_knows_are_not_set(settings: Settings) -> None:
    made = settings()
    assert set(made.controller_values["flags"]) == {"logLevel"}
    assert "scaleSetLabels" not in made.runner_values
    assert "listenerConfig" not in made.runner_values


def test_registry_is_plain_http_for_buildkit_and_never_insecure_too(settings: Settings) -> None:
    import tomllib

    data = settings().manifests[0]["data"]
    registries = tomllib.loads(data["buildkitd.toml"])["registry"]
    assert registries["k3d-mathtrail-registry:5000"] == {"http": True}
    assert registries["k3d-mathtrail-registry.localhost:5050"] == {"mirrors": ["k3d-mathtrail-registry:5000"]}
    assert [entry["insecure"] for entry in tomllib.loads(data["registries.conf"])["registry"]] == [True, True]


def test_changed_registries_make_new_pods(root: Path, settings: Settings) -> None:
    def mark() -> str:
        return str(settings().runner_values["template"]["metadata"]["annotations"]["envkit.registries"])

    before = mark()
    path = root / "helm" / "arc-registries.yaml"
    path.write_text(path.read_text().replace("8GB", "9GB"))
    assert mark() != before


def test_own_name_and_place_take_those_of_the_team(root: Path, settings: Settings) -> None:
    write_dotenv(
        root, RUNNER_NAME="mine", GITHUB_CONFIG_URL="https://git.example.com/team/app", GITHUB_CA_FILE="ca.crt"
    )
    made = settings()
    assert (made.name, made.config_url) == ("mine", "https://git.example.com/team/app")
    assert made.runner_values["githubServerTLS"]["certificateFrom"]["configMapKeyRef"]["name"] == "github-ca"
    assert ["ca.crt" in what for what, _ in problems(made)] == [True]


@pytest.mark.parametrize("own", [True, False])
def test_missing_certificates_of_githubs_are_told_with_the_line_that_names_them(
    own: bool, root: Path, settings: Settings
) -> None:
    team = root / "ansible" / "group_vars" / "all.yml"
    team.write_text(team.read_text().replace('arc_github_ca_file: ""', "arc_github_ca_file: team.crt"))
    if own:
        write_dotenv(root, GITHUB_CA_FILE="own.crt")
    ((what, fix),) = problems(settings())
    assert what.endswith(f"{root / ('own.crt' if own else 'team.crt')}.")
    place = "GITHUB_CA_FILE in .env" if own else "arc_github_ca_file in ansible/group_vars/all.yml"
    assert fix == f"Correct {place}."


def test_proxy_leaves_out_the_clusters_own_addresses(root: Path, settings: Settings) -> None:
    path = root / "helm" / "arc-runners.yaml"
    values = yaml.safe_load(path.read_text())
    values["proxy"] = {"https": {"url": "http://proxy.example.com:3128"}, "noProxy": ["example.com"]}
    path.write_text(yaml.safe_dump(values))
    assert settings().runner_values["proxy"]["noProxy"] == ["example.com", "10.43.0.0/16", "k3d-mathtrail-registry"]


def test_tag_of_the_built_image_takes_the_place_of_latest(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envkit.runner.image.read_built_image", lambda: "k3d-mathtrail-registry.localhost:5050/r:abc")
    assert settings().image == "k3d-mathtrail-registry.localhost:5050/r:abc"
    path = root / "helm" / "arc-runners.yaml"
    path.write_text(path.read_text().replace("k3d-mathtrail-registry.localhost:5050/", "ghcr.io/team/"))
    assert settings().image == "ghcr.io/team/mathtrail-runners:latest"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("minRunners", "1", "not a whole number"),
        ("maxRunners", True, "not a whole number"),
        ("maxRunners", 1.5, "not a whole number"),
        ("minRunners", -1, "not a whole number"),
        ("minRunners", 6, "less than 6"),
        ("maxRunners", None, "not a whole number"),
        ("runnerScaleSetName", "Big_Runners", "cannot be a scale set's name"),
        ("githubConfigUrl", "https://github.com", "names no organisation"),
        ("githubConfigUrl", "https://[::1/shop", "names no organisation"),
        ("template", {"spec": {"containers": [{"name": "main"}]}}, "called runner"),
    ],
)
def test_wrong_value_is_named(key: str, value: object, told: str, root: Path, settings: Settings) -> None:
    path = root / "helm" / "arc-runners.yaml"
    values = yaml.safe_load(path.read_text())
    values[key] = value
    path.write_text(yaml.safe_dump(values))
    found = list(problems(settings()))
    assert len(found) == 1, found
    assert told in found[0][0]


def test_charts_come_from_a_registry_or_a_folder(root: Path, settings: Settings, tmp_path: Path) -> None:
    repository = "oci://ghcr.io/actions/actions-runner-controller-charts"
    assert settings().chart("controller") == f"{repository}/gha-runner-scale-set-controller"
    charts = tmp_path / "charts"
    (charts / "gha-runner-scale-set").mkdir(parents=True)
    team = root / "ansible" / "group_vars" / "all.yml"
    team.write_text(team.read_text().replace(repository, str(charts)))
    (charts / "gha-runner-scale-set-controller-0.15.0.tgz").touch()
    made = settings()
    assert made.chart("controller").endswith("gha-runner-scale-set-controller-0.15.0.tgz")
    assert made.chart("runners").endswith("gha-runner-scale-set")
    (charts / "gha-runner-scale-set").rmdir()
    with pytest.raises(UserError, match=r"0\.15\.0 is not in"):
        made.chart("runners")


def test_environment_without_runners_has_nothing_of_them(tmp_path: Path, copy_project: CopyProject) -> None:
    root = copy_project(tmp_path / "env", arc=False)
    assert not (root / "helm").exists()
    assert not (root / "ansible").exists()
    with pytest.raises(UserError, match="no runners") as error:
        arc_settings.require_runners(root)
    assert "arc=true" in error.value.next_step


def test_own_values_are_laid_over_those_of_the_template(root: Path, settings: Settings) -> None:
    before = settings()
    (root / "helm" / "arc-controller.local.yaml").write_text("flags:\n  logLevel: debug\n  watchSingleNamespace: x\n")
    (root / "helm" / "arc-runners.local.yaml").write_text(
        "maxRunners: 9\ntemplate:\n  spec:\n    nodeSelector: {pool: ci}\n"
    )
    made = settings()
    assert made.controller_values["flags"] == {"logLevel": "debug", "watchSingleNamespace": "x"}
    assert made.controller_values["replicaCount"] == 1
    assert made.runner_values["maxRunners"] == 9
    spec = dict(made.runner_values["template"]["spec"])
    assert spec.pop("nodeSelector") == {"pool": "ci"}
    assert spec == before.runner_values["template"]["spec"]
    assert not list(problems(made))


def test_date_is_text_as_it_is_to_helm(root: Path, settings: Settings) -> None:
    (root / "helm" / "arc-runners.local.yaml").write_text("template: {metadata: {annotations: {since: 2026-01-01}}}\n")
    values = json.loads(json.dumps(settings().runner_values))
    assert values["template"]["metadata"]["annotations"]["since"] == "2026-01-01"


def test_own_name_of_the_team_is_the_runners_name(root: Path, settings: Settings) -> None:
    (root / "helm" / "arc-runners.local.yaml").write_text("runnerScaleSetName: ours\n")
    assert settings().name == "ours"


@pytest.mark.parametrize("name", ["arc-runners.yaml", "arc-runners.local.yaml"])
def test_a_number_that_is_none_is_told_with_its_file(name: str, root: Path, settings: Settings) -> None:
    with (root / "helm" / name).open("a", encoding="utf-8") as file:
        file.write("since: 0b_\n")

    with pytest.raises(UserError, match=rf"{re.escape(name)} is not valid YAML"):
        settings()


@pytest.mark.parametrize("key", ["GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_CA_FILE"])
def test_a_home_folder_of_nobody_is_told_with_its_line(key: str, root: Path, settings: Settings) -> None:
    write_dotenv(root, **{key: "~nosuchuser/x.pem"})

    with pytest.raises(UserError, match=rf"{key} in \.env is the name of no file: '~nosuchuser/x\.pem'"):
        settings()


@pytest.mark.parametrize("key", ["GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_CA_FILE"])
def test_key_in_place_of_its_file_is_refused_and_not_shown(key: str, pem: str, root: Path, settings: Settings) -> None:
    write_dotenv(root, **{key: f'"{pem}"'})

    with pytest.raises(UserError, match=rf"{key} in \.env holds what belongs into a file") as error:
        settings()

    assert not any(part in str(error.value) for part in pem.splitlines())


def test_wrong_own_value_is_named_with_its_file(root: Path, settings: Settings) -> None:
    own = root / "helm" / "arc-runners.local.yaml"
    own.write_text("maxRunners: '9'\n")
    (problem,) = problems(settings())
    assert problem[0].startswith("maxRunners in helm/arc-runners.local.yaml is '9'")
    own.write_text("template: none\n")
    with pytest.raises(UserError, match=r"arc-runners\.local\.yaml cannot be laid over"):
        settings()


_SHARED = """\
template:
  spec:
    containers:
      - name: runner
        image: example.com/runner:1
        env:
        volumeMounts: &mounts
          - {name: work, mountPath: /home/runner/_work}
      - name: helper
        image: example.com/helper:1
        volumeMounts: *mounts
"""


def test_list_that_an_alias_shares_gets_each_addition_once(root: Path, settings: Settings) -> None:
    (root / "ca-bundle.pem").write_text(new_authority().pem, encoding="ascii")
    (root / "helm" / "arc-runners.local.yaml").write_text(_SHARED)

    runner, helper = settings().runner_values["template"]["spec"]["containers"]

    for container in (runner, helper):
        assert [mount["name"] for mount in container["volumeMounts"]] == ["work", "authorities"]
    assert [variable["name"] for variable in runner["env"]] == ["REQUESTS_CA_BUNDLE"]


@pytest.mark.parametrize(
    "text", ["template:\n", "template: {metadata:}\n", "template: {spec: {volumes:}}\n", "labels:\n"]
)
def test_key_of_which_all_was_commented_out_counts_as_left_out(text: str, root: Path, settings: Settings) -> None:
    (root / "ca-bundle.pem").write_text(new_authority().pem, encoding="ascii")
    (root / "helm" / "arc-runners.local.yaml").write_text(text)

    assert settings().runner_values["template"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("proxy: {noProxy: example.com}\n", "proxy.noProxy"),
        ("template: {spec: {containers: [{name: runner, env: {A: b}}]}}\n", "template.spec.containers.0.env"),
        ("template: {spec: {containers: [{name: runner, env: [A=b]}]}}\n", "template.spec.containers.0.env.0"),
        ("template: {spec: {volumes: [work]}}\n", "template.spec.volumes.0"),
    ],
)
def test_mapping_in_place_of_a_list_is_told_with_its_file(
    text: str, place: str, root: Path, settings: Settings
) -> None:
    (root / "helm" / "arc-runners.local.yaml").write_text(text)

    with pytest.raises(UserError, match=r"arc-runners\.local\.yaml has values that the chart does not take") as error:
        settings()

    assert error.value.why.startswith(f"{place}: ")


def test_key_that_is_no_text_is_one_as_it_is_to_helm(root: Path, settings: Settings) -> None:
    with (root / "helm" / "arc-registries.yaml").open("a", encoding="utf-8") as file:
        file.write("  1: one\n  on: two\n")

    assert {"1", "true", "registries.conf"} <= settings().manifests[0]["data"].keys()
