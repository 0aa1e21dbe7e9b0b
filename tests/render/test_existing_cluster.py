"""What an environment for a cluster that is there already contains, and what it leaves out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs.markdown import broken_links, recipes_named, table_column
from jsonc import parse
from support import ROOT, CopyProject, read_yaml

from envkit import config
from envkit.corporate_network import DOTENV_KEYS
from envkit.dotenv_file import RUNNER_KEYS
from envkit.existing import settings as existing_settings

ANSWERS: dict[str, Any] = {
    "project": "shop",
    "provider": "existing",
    "kube_context": "kind-kind",
    "image_repository": "registry.example.com/shop/runner",
    "lens": "none",
}
ABSENT = {"create", "start", "stop", "restart", "ports", "delete", "clean", "images"}


def menu(provider: str) -> dict[str, Any]:
    """The recipes of a provider's justfile, as just reads them."""
    just = shutil.which("just")
    assert just, "just is not on PATH; script/test brings it"
    file = ROOT / "template" / f"{{% if provider == '{provider}' %}}justfile{{% endif %}}"
    dump = subprocess.run(
        [just, "--justfile", file, "--dump", "--dump-format", "json"], capture_output=True, text=True, check=True
    )
    recipes: dict[str, Any] = json.loads(dump.stdout)["recipes"]
    return recipes


@pytest.fixture
def project(tmp_path: Path, copy_project: CopyProject) -> Path:
    return copy_project(tmp_path / "env", **ANSWERS)


def test_menu_is_that_of_k3d_without_what_makes_a_cluster() -> None:
    k3d, existing = menu("k3d"), menu("existing")
    assert set(k3d) - set(existing) == ABSENT
    assert set(existing) < set(k3d)
    for name, recipe in existing.items():
        for key in ("body", "parameters"):
            assert recipe[key] == k3d[name][key], name


def test_nothing_of_a_cluster_of_k3d_is_there(project: Path) -> None:
    assert not (project / "k3d.yaml").exists()
    settings = tomllib.loads((project / "environment.toml").read_text(encoding="utf-8"))
    assert settings["cluster"] == {"provider": "existing", "name": "shop-dev", "context": "kind-kind"}
    assert settings["images"] == {"repository": "registry.example.com/shop", "plain_http": False}
    assert settings["runner"] == {"image": "runner"}
    for name in ("README.md", "environment.toml", ".env.example", "justfile", "ansible/group_vars/all.yml"):
        assert not re.search(r"k3d|registry\.localhost|5050|6550", (project / name).read_text(encoding="utf-8")), name
    for path in (project / "helm").glob("*.yaml"):
        assert "k3d" not in path.read_text(encoding="utf-8"), path.name
    recorded = read_yaml(project / ".copier-answers.yml")
    assert not recorded.keys() & {"agents", "servers", "http_port", "registry_port", "ingress", "create_cluster"}


def test_documents_agree_with_the_menu(project: Path) -> None:
    readme = (project / "README.md").read_text(encoding="utf-8")
    listed = [cell.strip("`").removeprefix("just ") for cell in table_column(readme, "Command")]
    assert sorted(listed) == sorted(menu("existing"))
    assert recipes_named(readme) <= set(menu("existing"))
    assert broken_links(project / "README.md") == []


@pytest.mark.parametrize("plain_http", [False, True])
def test_runners_reach_the_registry_by_its_one_name(
    plain_http: bool, tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(
        tmp_path / "env", **ANSWERS, image_repository_http=plain_http, image_pull_secret="pull-secret"
    )
    spec = read_yaml(project / "helm" / "arc-runners.yaml")["template"]["spec"]
    (runner,) = spec["containers"]
    assert runner["image"] == "registry.example.com/shop/runner:latest"
    assert {"name": "REGISTRY", "value": "registry.example.com/shop"} in runner["env"]
    assert spec["imagePullSecrets"] == [{"name": "pull-secret"}]
    data = read_yaml(project / "helm" / "arc-registries.yaml")["data"]
    assert ('[registry."registry.example.com"]' in data["buildkitd.toml"]) == plain_http
    assert ("insecure = true" in data["registries.conf"]) == plain_http
    tomllib.loads(data["buildkitd.toml"])
    tomllib.loads(data["registries.conf"])


@pytest.mark.parametrize("provider", ["k3d", "existing"])
def test_env_example_names_exactly_the_settings_that_are_read(
    provider: str, tmp_path: Path, copy_project: CopyProject
) -> None:
    answers = ANSWERS if provider == "existing" else {}
    example = (copy_project(tmp_path / "env", **answers) / ".env.example").read_text(encoding="utf-8")
    named = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    own = (existing_settings._Local if answers else config.Overrides).model_fields
    assert sorted(named) == sorted({*own, *RUNNER_KEYS, *DOTENV_KEYS})


def test_readme_advises_nothing_that_is_so_already_or_has_no_runners(tmp_path: Path, copy_project: CopyProject) -> None:
    advice = "just update -d buildkit_mode=privileged"
    for mode in ("rootless", "privileged"):
        project = copy_project(tmp_path / mode, **ANSWERS, buildkit_mode=mode)
        assert (advice in (project / "README.md").read_text(encoding="utf-8")) == (mode == "rootless")
    project = copy_project(tmp_path / "none", provider="existing", kube_context="kind-kind", arc=False)
    readme = (project / "README.md").read_text(encoding="utf-8")
    troubles = readme.partition("## Troubleshooting")[2]
    assert "install-arc" not in troubles
    assert "no runners and no place for images: the recipes about them say so" in readme
    assert "to build images" not in readme


def test_env_example_speaks_of_runners_only_where_there_are_some(tmp_path: Path, copy_project: CopyProject) -> None:
    project = copy_project(tmp_path / "env", provider="existing", kube_context="kind-kind", arc=False)
    example = (project / ".env.example").read_text(encoding="utf-8")
    assert "ARC_" not in example
    assert "runner" not in example.lower()


def test_dev_container_needs_no_network_of_dockers(project: Path) -> None:
    found = parse((project / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")).value
    assert "runArgs" not in found
    assert found["containerEnv"]["KUBECONFIG"] == "/home/vscode/.kube/shop-dev.devcontainer.yaml"
    assert found["mounts"]


def test_without_runners_neither_image_nor_registry_is_needed(tmp_path: Path, copy_project: CopyProject) -> None:
    project = copy_project(tmp_path / "env", provider="existing", kube_context="kind-kind", arc=False)
    assert not (project / "helm").exists()
    assert tomllib.loads((project / "environment.toml").read_text(encoding="utf-8"))["images"]["repository"] == ""
    assert yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))["provider"] == "existing"
