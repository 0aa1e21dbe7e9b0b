"""What a generated repository contains, for many answers."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from answers import Answers, complete, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined, Template
from jsonc import parse
from jsonschema import Draft7Validator
from pytest_copie.plugin import Copie
from questions import all_questions
from questions import render as render_value
from support import ROOT, SCHEMAS, CopyProject, commit_all, fixture_files, git, read_yaml

from envkit import go_yaml
from envkit.config import read_environment

TEMPLATE = ROOT / "template"
K3D_SCHEMA = SCHEMAS / "k3d-v1alpha5.schema.json"
DEV_CONTAINER_FILES = {".copier-answers.devcontainer.yml", ".devcontainer/devcontainer.json"}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def render(copie: Copie, template: Path, **answers: Any) -> Path:
    """Generate through pytest-copie, which puts exceptions into its result: none is let pass here."""
    result = copie.copy(answers, template_dir=template)
    assert result.exception is None
    assert result.project_dir is not None
    return result.project_dir


@cache
def template_of(name: str) -> Template:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((TEMPLATE / f"{name}.jinja").read_text(encoding="utf-8"))


def rendered(name: str, **answers: Any) -> str:
    context = complete(answers)
    for question in all_questions():
        if question.is_computed:
            value = render_value(question.default, context)
            context[question.key] = yaml.safe_load(value) if question.type == "yaml" else value
    return str(template_of(name).render(**context))


def rendered_k3d(**answers: Any) -> str:
    return rendered("k3d.yaml", **answers)


@cache
def k3d_schema() -> Draft7Validator:
    if not K3D_SCHEMA.exists():
        pytest.skip(f"k3d's schema is not there ({K3D_SCHEMA}), so no configuration was checked with it")
    return Draft7Validator(json.loads(K3D_SCHEMA.read_text(encoding="utf-8")))


def k3d_problems(text: str) -> list[str]:
    """What k3d's own schema and two rules it does not hold find wrong with a configuration."""
    config = yaml.safe_load(text)
    found = ["a dollar sign, which k3d expands"] if "$" in text else []
    found += [
        f"not open to this machine alone: {port['port']}"
        for port in config["ports"]
        if not port["port"].startswith("127.0.0.1:")
    ]
    return found + [error.message for error in k3d_schema().iter_errors(config)]


@pytest.mark.parametrize("path", fixture_files("valid"))
def test_k3d_configuration_is_valid(path: Path) -> None:
    assert k3d_problems(rendered_k3d(**read_yaml(path))) == []


def test_defaults_make_the_environment_of_mathtrail(copie: Copie, template: Path) -> None:
    project = render(copie, template)
    config = read_yaml(project / "k3d.yaml")
    assert config["metadata"] == {"name": "mathtrail-dev"}
    assert (config["servers"], config["agents"]) == (1, 2)
    assert config["kubeAPI"] == {"hostIP": "127.0.0.1", "hostPort": "6550"}
    assert [port["port"] for port in config["ports"]] == ["127.0.0.1:80:80", "127.0.0.1:443:443"]
    assert config["registries"]["create"] == {
        "name": "k3d-mathtrail-registry",
        "host": "127.0.0.1",
        "hostPort": "5050",
        "image": "docker.io/library/registry:3",
        "volumes": ["k3d-mathtrail-registry:/var/lib/registry"],
    }
    assert yaml.safe_load(config["registries"]["config"]) == {
        "mirrors": {
            "k3d-mathtrail-registry.localhost:5050": {"endpoint": ["http://k3d-mathtrail-registry:5000"]},
            "localhost:5050": {"endpoint": ["http://k3d-mathtrail-registry:5000"]},
        }
    }
    assert config["options"]["kubeconfig"] == {
        "updateDefaultKubeconfig": False,
        "switchCurrentContext": False,
    }
    assert tomllib.loads((project / "environment.toml").read_text(encoding="utf-8")) == {
        "project": "mathtrail",
        "ide": {"lens": "openlens"},
        "runner": {"image": "mathtrail-runners"},
    }


def test_a_shared_registry_has_its_own_name_everywhere(tmp_path: Path, copy_project: CopyProject) -> None:
    project = copy_project(tmp_path / "env", project="shop", registry="shared", registry_name="common")
    config = read_yaml(project / "k3d.yaml")
    assert config["registries"]["create"]["name"] == "k3d-common"
    assert config["registries"]["create"]["volumes"] == ["k3d-common:/var/lib/registry"]
    settings = tomllib.loads((project / "environment.toml").read_text(encoding="utf-8"))
    assert settings["registry"] == {"shared": True}
    assert "k3d-common:5000" in (project / "helm" / "arc-registries.yaml").read_text(encoding="utf-8")
    assert not [
        name
        for name in files_of(project)
        if name != "runner/README.md" and b"k3d-shop-registry" in (project / name).read_bytes()
    ]


@pytest.mark.parametrize(("servers", "subnet"), [(1, None), (3, "auto")])
def test_servers_that_keep_etcd_have_fixed_addresses(servers: int, subnet: str | None) -> None:
    config = yaml.safe_load(rendered_k3d(servers=servers))
    assert (config["servers"], config.get("subnet")) == (servers, subnet)


@pytest.mark.parametrize(("ingress", "arguments"), [("traefik", None), ("none", ["--disable=traefik"])])
def test_ingress_none_takes_traefik_out_and_traefik_leaves_k3s_alone(ingress: str, arguments: list[str] | None) -> None:
    k3s = yaml.safe_load(rendered_k3d(ingress=ingress))["options"].get("k3s")
    assert (k3s and [argument["arg"] for argument in k3s["extraArgs"]]) == arguments


def test_image_that_yaml_would_read_as_a_time_stays_text() -> None:
    assert yaml.safe_load(rendered_k3d(k3s_image="12:30"))["image"] == "12:30"


def test_cluster_name_that_yaml_would_read_as_yes_stays_text() -> None:
    assert yaml.safe_load(rendered_k3d(cluster_name="yes"))["metadata"]["name"] == "yes"


@pytest.mark.parametrize("lens", ["openlens", "freelens", "none"])
def test_ide_reaches_the_recipes(lens: str, tmp_path: Path, copy_project: CopyProject) -> None:
    settings = (copy_project(tmp_path / "env", lens=lens) / "environment.toml").read_text(encoding="utf-8")
    assert tomllib.loads(settings)["ide"]["lens"] == lens


def test_local_settings_offer_the_ports_and_the_github_app(tmp_path: Path, copy_project: CopyProject) -> None:
    example = (copy_project(tmp_path / "env", github_app_id=123) / ".env.example").read_text(encoding="utf-8")
    for line in ["#HTTP_PORT=8080", "#HTTPS_PORT=8443", "#API_PORT=6550", "#REGISTRY_PORT=5050"]:
        assert line in example.splitlines()
    assert "GITHUB_APP_ID=123" in example.splitlines()


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"runner_name": "r" * 45},
        {"runner_name": f"{'r' * 35}-{'r' * 9}"},
        {"https_port": 8080},
        {"https_port": 8080, "api_port": 8081, "registry_port": 8082},
        {"http_port": 8443},
        {"http_port": 8443, "api_port": 8444, "registry_port": 8445},
        {"api_port": 8080, "registry_port": 8443},
        {"http_port": 443, "https_port": 80},
    ],
    ids=str,
)
def test_local_settings_hold_as_they_are_offered_each_alone_and_all_together(
    answers: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "k3d.yaml").write_text(rendered_k3d(**answers), encoding="utf-8")
    example = rendered(".env.example", **answers)
    lines = re.findall(r"^#((?:[A-Z]+_PORT|RUNNER_NAME)=.*)$", example, re.MULTILINE)
    assert len(lines) == 5
    for taken in [[line] for line in lines] + [lines]:
        (tmp_path / ".env").write_text("\n".join(taken), encoding="utf-8")
        read_environment(tmp_path)


def test_without_runners_nothing_of_a_github_app_is_left(tmp_path: Path, copy_project: CopyProject) -> None:
    assert "GITHUB" not in (copy_project(tmp_path / "env", arc=False) / ".env.example").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "answers", [{}, {"arc": False, "lens": "none"}, {"ingress": "none"}, {"scope": "devcontainer"}]
)
def test_no_template_syntax_is_left_in_rendered_files(
    answers: dict[str, Any], tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **answers)
    sources = [source.relative_to(ROOT / "template") for source in (ROOT / "template").rglob("*.jinja")]
    rendered = [project / source.with_suffix("") for source in sources if "{{" not in source.name]
    for file in [*rendered, *project.glob(".copier-answers*.yml")]:
        if file.exists():
            assert not re.search(r"\{\{|\{%|\{#", file.read_text(encoding="utf-8")), file
    assert not [name for name in files_of(project) if name.endswith(".jinja") or "{" in name]


def test_file_that_names_an_unknown_answer_stops_generation(tmp_path: Path, template: Path, copie: Copie) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(template, broken)
    (broken / "template" / "file.jinja").write_text("{{ no_such_answer }}", encoding="utf-8")
    commit_all(broken, "break it")
    assert "'no_such_answer' is undefined" in str(copie.copy(template_dir=broken).exception)


def test_dev_container_scope_makes_the_snippet_alone(tmp_path: Path, copy_project: CopyProject) -> None:
    folder = copy_project(tmp_path / "service", run_tasks=True, scope="devcontainer", project="shop")
    assert files_of(folder) == DEV_CONTAINER_FILES


def test_dev_container_scope_renders_its_answers_alone(tmp_path: Path, copy_project: CopyProject) -> None:
    folder = copy_project(tmp_path / "service", scope="devcontainer", project="shop")
    assert files_of(folder) == {".copier-answers.devcontainer.yml"}
    assert read_yaml(folder / ".copier-answers.devcontainer.yml")["cluster_name"] == "shop-dev"


def test_answers_that_equal_the_pins_are_left_out_so_that_updates_bring_newer_ones(
    tmp_path: Path, copy_project: CopyProject
) -> None:
    image = "mirror.example/rancher/k3s:v1.36.4-k3s1"
    recorded = read_yaml(copy_project(tmp_path / "env", k3s_image=image, arc_version="0.15.0") / ".copier-answers.yml")
    assert recorded["k3s_image"] == image
    assert not {"arc_version", "registry_image", "buildkit_image", "pins"} & set(recorded)


MIRRORED: dict[str, Any] = {
    "image_mirrors": {"docker.io": "mirror.example.com/hub", "ghcr.io": "mirror.example.com:5000"},
    "image_mirrors_plain_http": ["mirror.example.com:5000"],
    "download_mirror": "https://mirror.example.com/downloads",
    "python_index": "https://mirror.example.com/python/simple",
    "npm_registry": "https://mirror.example.com/npm",
    "apt_mirror": "https://mirror.example.com/apt",
}


def test_mirrors_reach_everything_that_pulls_images(tmp_path: Path, copy_project: CopyProject) -> None:
    project = copy_project(tmp_path / "env", **MIRRORED)
    config = read_yaml(project / "k3d.yaml")
    assert config["image"].startswith("mirror.example.com/hub/rancher/k3s:")
    assert config["registries"]["create"]["image"].startswith("mirror.example.com/hub/library/registry:")
    nodes = yaml.safe_load(config["registries"]["config"])["mirrors"]
    assert {name: nodes[name]["endpoint"] for name in ("docker.io", "ghcr.io", "mirror.example.com:5000")} == {
        "docker.io": ["https://mirror.example.com/v2/hub"],
        "ghcr.io": ["http://mirror.example.com:5000"],
        "mirror.example.com:5000": ["http://mirror.example.com:5000"],
    }
    assert len(nodes) == 5
    assert k3d_problems((project / "k3d.yaml").read_text(encoding="utf-8")) == []

    files = read_yaml(project / "helm" / "arc-registries.yaml")["data"]
    buildkit = tomllib.loads(files["buildkitd.toml"])["registry"]
    assert buildkit["docker.io"] == {"mirrors": ["mirror.example.com/hub"]}
    assert buildkit["ghcr.io"] == {"mirrors": ["mirror.example.com:5000"]}
    assert buildkit["mirror.example.com:5000"] == {"http": True}
    entries = tomllib.loads(files["registries.conf"])["registry"]
    buildah = {entry.get("prefix", entry["location"]): entry for entry in entries}
    assert buildah["docker.io"]["mirror"] == [{"location": "mirror.example.com/hub"}]
    assert buildah["ghcr.io"]["mirror"] == [{"location": "mirror.example.com:5000", "insecure": True}]
    assert buildah["mirror.example.com:5000"]["insecure"]

    controller = read_yaml(project / "helm" / "arc-controller.yaml")
    assert controller["image"] == {"repository": "mirror.example.com:5000/actions/gha-runner-scale-set-controller"}
    assert read_yaml(project / "ansible" / "group_vars" / "all.yml")["arc_chart_plain_http"] is True
    settings = tomllib.loads((project / "environment.toml").read_text(encoding="utf-8"))
    assert settings["mirrors"] == {
        "images": MIRRORED["image_mirrors"],
        "plain_http": ["mirror.example.com:5000"],
        "downloads": "https://mirror.example.com/downloads",
        "python_index": "https://mirror.example.com/python/simple",
        "npm_registry": "https://mirror.example.com/npm",
        "apt": "https://mirror.example.com/apt",
    }
    assert settings["runner"]["base_image"].startswith("mirror.example.com:5000/actions/actions-runner:")


def test_a_dev_container_comes_from_mirrors_too(tmp_path: Path, copy_project: CopyProject) -> None:
    mirrors = {"mcr.microsoft.com": "mirror.example.com/mcr", "ghcr.io": "mirror.example.com/github"}
    text = (copy_project(tmp_path / "env", image_mirrors=mirrors) / ".devcontainer" / "devcontainer.json").read_text()
    assert '"image": "mirror.example.com/mcr/devcontainers/base:' in text
    assert '"mirror.example.com/github/devcontainers/features/kubectl-helm-minikube:' in text


def test_a_dev_container_of_an_own_image_downloads_nothing(tmp_path: Path, copy_project: CopyProject) -> None:
    image = "mirror.example.com/team/dev:1"
    text = (
        copy_project(tmp_path / "env", devcontainer_image=image) / ".devcontainer" / "devcontainer.json"
    ).read_text()
    settings = parse(text).value
    assert settings["image"] == image
    assert "features" not in settings
    assert settings["runArgs"]


def test_no_file_of_a_mirrored_environment_pulls_from_a_registry_that_is_mirrored(
    tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **MIRRORED)
    # Comments aside, and the runner's own Dockerfile, whose base environment.toml replaces.
    for name in ("k3d.yaml", "helm/arc-runners.yaml", "helm/arc-controller.yaml", "ansible/group_vars/all.yml"):
        lines = (project / name).read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if not line.lstrip().startswith("#")]
        assert not [line for line in code if re.search(r"(docker|ghcr)[.]io/", line)], name


def test_mirrors_are_recorded_and_what_follows_from_them_is_not(tmp_path: Path, copy_project: CopyProject) -> None:
    recorded = read_yaml(copy_project(tmp_path / "env", **MIRRORED) / ".copier-answers.yml")
    assert {key: recorded[key] for key in MIRRORED} == MIRRORED
    assert not {"k3s_image", "registry_image", "arc_chart_repository", "runner_base_image"} & recorded.keys()
    assert not {"mirrored_pins", "node_mirrors"} & recorded.keys()
    plain = read_yaml(copy_project(tmp_path / "plain") / ".copier-answers.yml")
    assert not MIRRORED.keys() & plain.keys()


@pytest.mark.parametrize(("mode", "tag"), [("rootless", "v0.33.0-rootless"), ("privileged", "v0.34.0")])
def test_buildkit_image_follows_its_mode(mode: str, tag: str) -> None:
    assert f":{tag}@sha256:" in complete({"buildkit_mode": mode})["buildkit_image"]


def test_leftovers_of_tools_are_not_copied(tmp_path: Path, template: Path, copie: Copie) -> None:
    littered = tmp_path / "littered"
    shutil.copytree(template, littered)
    for name in (
        "__pycache__/a.pyc",
        ".venv/bin/python",
        ".DS_Store",
        "envkit/.mypy_cache/x",
        "b.pyc",
        "kept",
    ):
        file = littered / "template" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("", encoding="utf-8")
    git(littered, "add", "--all", "--force")
    commit_all(littered, "litter")
    names = files_of(render(copie, littered))
    assert "kept" in names
    assert not [name for name in names if re.search(r"pyc|\.venv|DS_Store|cache", name)]


# Strategies from the same patterns would prove only that a pattern matches itself, so they are wider, and
# the model decides.
names = st.text("abcz019-._ $\"'{}\n", max_size=34) | st.from_regex(r"[a-z0-9-]{1,34}", fullmatch=True)
ports = st.integers(-1, 70000) | st.sampled_from([80, 443, 5050, 6550, 8080])
images = st.text("abz09./:@$-_ \"'#", max_size=20) | st.builds(
    "{}{}:{}{}".format,
    st.sampled_from(["", "localhost:5000/", "mirror.example/a_b/"]),
    st.text("ab0-_.", min_size=1, max_size=6),
    st.text("aB0-_.", max_size=6),
    st.sampled_from(["", "@sha256:" + 64 * "0", "@sha256:0"]),
)
answer_sets = st.fixed_dictionaries(
    {},
    optional={
        "project": names,
        "cluster_name": names,
        "servers": st.integers(0, 4),
        "agents": st.integers(-1, 12),
        "registry": st.sampled_from(["own", "shared"]),
        "registry_name": names,
        "http_port": ports,
        "https_port": ports,
        "api_port": ports,
        "registry_port": ports,
        "ingress": st.sampled_from(["traefik", "none"]),
        "k3s_image": images,
        "registry_image": images,
        "image_mirrors": st.dictionaries(
            st.sampled_from(["docker.io", "ghcr.io", "quay.io:443", "x"]),
            st.sampled_from(["mirror.example.com/a", "mirror:5000", "a.b:1/x/y", "$(a).b/c", "localhost", "a.b/"]),
        ),
        "image_mirrors_plain_http": st.lists(st.sampled_from(["mirror:5000", "a.b:1", "localhost"]), max_size=2),
    },
)


def without_refused(answers: dict[str, Any]) -> dict[str, Any]:
    """The answers that the model lets through; keys it complains of are taken out."""
    while found := problems(answers):
        answers = {key: value for key, value in answers.items() if key not in {p.keys[0] for p in found}}
    return answers


@given(answer_sets)
def test_whatever_passes_the_model_renders_into_a_valid_k3d_configuration(answers: dict[str, Any]) -> None:
    accepted = without_refused(answers)
    text = rendered_k3d(**accepted)
    assert k3d_problems(text) == []
    config, expected = yaml.safe_load(text), Answers(**complete(accepted))
    assert config["metadata"]["name"] == expected.cluster_name
    assert config["image"] == expected.k3s_image
    assert config["registries"]["create"]["image"] == expected.registry_image
    assert config["registries"]["create"]["hostPort"] == str(expected.registry_port)
    assert config["kubeAPI"]["hostPort"] == str(expected.api_port)
    assert len(f"k3d-{expected.cluster_name}-agent-{expected.agents}") <= 63


# What one reader or the other of YAML takes for a number, a date, a truth value or nothing, where it is not in quotes.
loaded_words = st.sampled_from(
    ["12", "08", "0x10", "0o7", "0b1", "1e5", "1-2", "null", "true", "on", "no", "y", "nan", "2026-01-01"]
) | st.from_regex(r"[0-9][0-9eox-]{0,7}[0-9]", fullmatch=True)
loaded_images = st.builds("{}:{}/{}:{}".format, loaded_words, st.integers(1, 9), loaded_words, loaded_words)
loaded_answers = st.fixed_dictionaries(
    {
        "project": loaded_words,
        "cluster_name": loaded_words,
        "runner_name": loaded_words,
        "github_app_id": st.from_regex(r"0[0-9]{1,6}", fullmatch=True),
        "docker_in_docker": st.booleans(),
        **dict.fromkeys(["k3s_image", "registry_image", "runner_base_image", "buildkit_image"], loaded_images),
        "image_mirrors": st.dictionaries(
            st.sampled_from(["0.1", "1.5:22", "12.30:1"]), st.builds("{}:5".format, loaded_words), min_size=1
        ),
    }
)


@settings(max_examples=15)
@given(loaded_answers)
def test_whatever_a_value_looks_like_it_is_text_in_every_rendered_file(answers: dict[str, Any]) -> None:
    made = without_refused(answers)
    expected = Answers(**complete(made))
    own = tomllib.loads(rendered("environment.toml", **made))
    assert (own["project"], own["runner"]["image"]) == (expected.project, expected.runner_name)
    assert own["mirrors"]["images"] == expected.image_mirrors
    assert f"GITHUB_APP_ID={expected.github_app_id}\n" in rendered(".env.example", **made)
    for read in (yaml.safe_load, go_yaml.read_yaml):
        config = read(rendered_k3d(**made))
        assert (config["metadata"]["name"], config["image"]) == (expected.cluster_name, expected.k3s_image)
        assert expected.image_mirrors.keys() < read(config["registries"]["config"])["mirrors"].keys()
        runners = read(rendered("helm/arc-runners.yaml", **made))
        assert runners["runnerScaleSetName"] == expected.runner_name
        assert runners["template"]["spec"]["initContainers"][0]["image"] == expected.buildkit_image
        registries = read(rendered("helm/arc-registries.yaml", **made))["data"]
        assert expected.image_mirrors.keys() < tomllib.loads(registries["buildkitd.toml"])["registry"].keys()
        assert {entry["location"] for entry in tomllib.loads(registries["registries.conf"])["registry"]} > {
            *expected.image_mirrors
        }
        variables = read(rendered("ansible/group_vars/all.yml", **made))
        assert variables["arc_context"] == f"k3d-{expected.cluster_name}"
