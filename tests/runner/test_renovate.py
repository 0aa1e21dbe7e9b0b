"""`renovate.json` finds every pin of a generated repository, each with the right source, and nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, CopyProject

from envkit.runner.tools import read_pins

CONFIG: dict[str, Any] = json.loads((ROOT / "template" / "renovate.json").read_text(encoding="utf-8"))

BUILT_IN = {
    "mise.toml": "mise",
    "mise.lock": "mise",
    "runner/Dockerfile": "dockerfile",
    "requirements.txt": "pip_requirements",
    "ansible/requirements.txt": "pip_requirements",
    ".copier-answers.yml": "copier",
}
"""Files whose pins a manager of Renovate's own finds, by the names that it goes by without any settings."""

NOT_PINNED_HERE = re.compile(
    r"envkit/|bin/|README|justfile|\.env\.example|runner/(fetch-tool|README)|renovate\.json|.*\.in$"
)
"""Code of the template, which `copier update` brings, and words."""

NO_PIN = re.compile(r"^\s*(#|//)|127\.0\.0\.1|is version\(|^(checked|sha256\.(amd64|arm64)) = |devcontainers/features/")
"""Comments, addresses, lowest versions, what `just runner-checksums` writes, what Renovate reads in dev containers."""

DIGEST = "sha256:" + "0123456789abcdef" * 4


@dataclass(frozen=True)
class Pin:
    """What a custom manager finds in a file."""

    file: str
    datasource: str
    name: str
    version: str
    digest: str | None = None


@pytest.fixture
def project(copy_project: CopyProject, tmp_path: Path) -> Path:
    return copy_project(tmp_path / "env", project="shop")


def found(folder: Path) -> set[Pin]:
    """What the custom managers find in a repository."""
    return {pin for manager in CONFIG["customManagers"] for pin in found_by(manager, folder)}


def found_by(manager: dict[str, Any], folder: Path) -> Iterator[Pin]:
    for file in files(folder):
        if not any(re.search(pattern.strip("/"), file) for pattern in manager["managerFilePatterns"]):
            continue
        text = (folder / file).read_text(encoding="utf-8")
        for expression in manager["matchStrings"]:
            for match in re.finditer(as_python(expression), text):
                groups = match.groupdict()
                yield Pin(
                    file,
                    groups.get("datasource") or manager["datasourceTemplate"],
                    groups.get("depName") or manager["depNameTemplate"],
                    groups["currentValue"],
                    groups.get("currentDigest"),
                )


def files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def as_python(expression: str) -> str:
    return expression.replace("(?<", "(?P<")


def versions(folder: Path, file: str) -> list[tuple[str, str, str]]:
    return sorted((pin.datasource, pin.name, pin.version) for pin in found(folder) if pin.file == file)


def test_every_tool_of_the_runner_image_is_bumped(project: Path) -> None:
    tools = read_pins(ROOT).tools

    assert versions(project, "runner/tools.toml") == sorted(
        [
            ("golang-version", "go", tools["go"].version),
            ("github-releases", "kubernetes/kubernetes", tools["kubectl"].version),
            ("github-releases", "helm/helm", tools["helm"].version),
            ("github-releases", "GoogleContainerTools/skaffold", tools["skaffold"].version),
            ("github-releases", "moby/buildkit", tools["buildkit"].version),
            ("npm", "esbuild", tools["esbuild"].version),
            ("github-releases", "golangci/golangci-lint", tools["golangci-lint"].version),
            ("github-releases", "casey/just", tools["just"].version),
        ]
    )
    assert len(versions(project, "runner/tools.toml")) == len(tools)


def test_a_tool_of_one_s_own_is_bumped_by_the_comment_in_the_readme(project: Path) -> None:
    readme = (project / "runner" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"(?s)```toml\n(\[tools\..+?)```", readme)
    (project / "runner" / "tools.local.toml").write_text(example, encoding="utf-8")

    (tool,) = tomllib.loads(example)["tools"].values()
    assert versions(project, "runner/tools.local.toml") == [("github-releases", "jqlang/jq", tool["version"])]
    assert "jq" in read_pins(project).tools


def test_releases_whose_tags_begin_with_v_are_read_without_it() -> None:
    text = (ROOT / "runner" / "tools.toml").read_text(encoding="utf-8")

    for tool in read_pins(ROOT).tools.values():
        if "github.com" in tool.url + tool.sums or "k8s" in tool.url or "helm" in tool.url:
            tagged_v = "v{version}" in tool.url
            line = text[: text.index(f'version = "{tool.version}"')].splitlines()[-1]
            assert ("extractVersion=^v(?<version>.+)$" in line) == tagged_v, line


def test_the_images_of_the_cluster_are_bumped(project: Path) -> None:
    document = yaml.safe_load((project / "k3d.yaml").read_text(encoding="utf-8"))
    images = [document["image"], document["registries"]["create"]["image"]]

    assert versions(project, "k3d.yaml") == sorted(("docker", *image.rsplit(":", 1)) for image in images)


@pytest.mark.parametrize("mode", ["rootless", "privileged"])
def test_buildkit_is_bumped_with_its_digest(copy_project: CopyProject, tmp_path: Path, mode: str) -> None:
    project = copy_project(tmp_path / "env", buildkit_mode=mode)

    (pin,) = [pin for pin in found(project) if "buildkit" in pin.name and pin.datasource == "docker"]

    assert pin.file == "helm/arc-runners.yaml"
    assert pin.name == "docker.io/moby/buildkit"
    assert pin.digest
    assert f"{pin.name}:{pin.version}@{pin.digest}" in (project / pin.file).read_text(encoding="utf-8")


def test_docker_in_docker_is_bumped_with_its_digest(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "env", docker_in_docker=True)

    (pin,) = [pin for pin in found(project) if pin.name == "docker.io/library/docker"]

    assert pin.digest
    assert pin.version.endswith("-dind")
    assert f"{pin.name}:{pin.version}@{pin.digest}" in (project / pin.file).read_text(encoding="utf-8")


def test_the_image_that_is_built_here_is_never_looked_up(project: Path) -> None:
    (rule,) = [rule for rule in CONFIG["packageRules"] if rule.get("enabled") is False]
    (pattern,) = rule["matchPackageNames"]

    names = {pin.name for pin in found(project)}
    ignored = {name for name in names if re.search(pattern[1:-1], name)}
    assert ignored == {name for name in names if "k3d-shop-registry" in name}
    assert not re.search(pattern[1:-1], "mirror.example:5000/moby/buildkit")


def test_both_charts_are_bumped_by_their_one_version(project: Path) -> None:
    version = yaml.safe_load((project / "ansible" / "group_vars" / "all.yml").read_text(encoding="utf-8"))[
        "arc_version"
    ]

    assert versions(project, "ansible/group_vars/all.yml") == [("docker", "actions-runner-controller", version)]


def test_the_tools_of_the_dev_container_are_bumped(project: Path) -> None:
    tools = tomllib.loads((project / "mise.toml").read_text(encoding="utf-8"))["tools"]

    assert versions(project, ".devcontainer/devcontainer.json") == [
        ("github-releases", "helm/helm", tools["helm"]),
        ("github-releases", "kubernetes/kubernetes", tools["kubectl"]),
    ]


@pytest.mark.parametrize(
    ("image", "name", "version", "digest"),
    [
        ("mirror.example/actions-runner:2.338.0", "mirror.example/actions-runner", "2.338.0", None),
        (f"mirror:5000/a/runner:2.338.0@{DIGEST}", "mirror:5000/a/runner", "2.338.0", DIGEST),
    ],
)
def test_a_base_of_one_s_own_is_bumped(
    copy_project: CopyProject, tmp_path: Path, image: str, name: str, version: str, digest: str | None
) -> None:
    project = copy_project(tmp_path / "env", runner_base_image=image)

    assert Pin("environment.toml", "docker", name, version, digest) in found(project)


def test_mirrored_images_are_bumped_where_they_come_from(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "env", k3s_image=f"mirror:5000/rancher/k3s:v1.36.4-k3s1@{DIGEST}")

    assert Pin("k3d.yaml", "docker", "mirror:5000/rancher/k3s", "v1.36.4-k3s1", DIGEST) in found(project)


@pytest.mark.parametrize(
    ("tag", "parts"), [("v1.36.4-k3s1", ("1", "36", "4", "1")), ("v1.36.10-k3s12", ("1", "36", "10", "12"))]
)
def test_a_tag_of_k3s_is_compared_part_by_part(tag: str, parts: tuple[str, ...]) -> None:
    (rule,) = [rule for rule in CONFIG["packageRules"] if str(rule.get("versioning")).startswith("regex:")]

    assert all(re.search(rule["matchPackageNames"][0][1:-1], name) for name in ("docker.io/rancher/k3s", "rancher/k3s"))
    match = re.search(as_python(rule["versioning"].removeprefix("regex:")), tag)

    assert match
    assert match.groups() == parts
    assert not re.search(as_python(rule["versioning"].removeprefix("regex:")), "v1.36.4-rc1-k3s1")


def test_what_renovate_s_own_managers_read_is_in_the_form_that_they_know(project: Path) -> None:
    dockerfile = (project / "runner" / "Dockerfile").read_text(encoding="utf-8")
    base = r"(?m)^ARG BASE_IMAGE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$"

    assert re.search(base, dockerfile)
    assert dockerfile.index("ARG BASE_IMAGE=") < dockerfile.index("FROM ${BASE_IMAGE}")
    assert all((project / name).is_file() for name in BUILT_IN if name != "ansible/requirements.txt")


def test_no_pin_is_left_out(project: Path) -> None:
    """Looks for whatever looks like a version or a digest, and for a manager that changes it."""
    looks_pinned = re.compile(r"[\"':@= ]v?\d+\.\d+\.\d+[\w.-]*[\"'@\s]|sha256[:.= \"\w]*[0-9a-f]{64}")
    pins = found(project)

    left_out = [
        f"{file}: {line.strip()}"
        for file in files(project)
        if file not in BUILT_IN and not NOT_PINNED_HERE.match(file)
        for line in (project / file).read_text(encoding="utf-8").splitlines()
        if looks_pinned.search(line) and not NO_PIN.search(line)
        if not any(pin.file == file and pin.version in line for pin in pins)
    ]

    assert left_out == []


def test_the_expressions_are_of_the_kind_that_renovate_understands() -> None:
    for manager in CONFIG["customManagers"]:
        for expression in [*manager["matchStrings"], *manager["managerFilePatterns"]]:
            assert not re.search(r"\(\?(=|!|<=|<!)|\\[1-9]", expression), (
                "RE2 has neither look-around nor back references"
            )
            re.compile(as_python(expression))
        assert all(re.fullmatch(r"/\^.+\$/", pattern) for pattern in manager["managerFilePatterns"])


def test_a_person_is_told_to_fetch_the_sums() -> None:
    (rule,) = [rule for rule in CONFIG["packageRules"] if "runner/**" in rule.get("matchFileNames", [])]

    assert "just runner-checksums" in rule["prBodyNotes"][0]
