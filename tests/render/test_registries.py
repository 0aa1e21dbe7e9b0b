"""What tools are told of registries, where one registry is several things at once: each host has one entry."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import CopyProject, read_yaml

HOST = "registry.example.com:5000"
ALIAS = "k3d-shop-registry.localhost:5060"
EXISTING = {"provider": "existing", "kube_context": "kind-kind", "image_repository": f"{HOST}/shop/runner"}
OWN_HTTP = {**EXISTING, "image_repository_http": True}

CASES: dict[str, dict[str, Any]] = {
    "own-registry-is-a-mirror": {
        **OWN_HTTP,
        "image_mirrors": {"docker.io": f"{HOST}/dockerhub"},
        "image_mirrors_plain_http": [HOST],
    },
    "own-registry-is-a-mirror-and-told-once": {**OWN_HTTP, "image_mirrors": {"docker.io": f"{HOST}/dockerhub"}},
    "own-registry-has-a-mirror": {
        **OWN_HTTP,
        "image_mirrors": {HOST: "mirror.example.com/own", "docker.io": HOST},
        "image_mirrors_plain_http": [HOST],
    },
    "mirror-has-a-mirror": {
        **EXISTING,
        "image_mirrors": {"mirror.example.com:5000": "other.example.com", "docker.io": "mirror.example.com:5000/hub"},
        "image_mirrors_plain_http": ["mirror.example.com:5000"],
    },
    "told-twice": {
        **EXISTING,
        "image_mirrors": {"docker.io": "mirror.example.com:5000"},
        "image_mirrors_plain_http": ["mirror.example.com:5000", "mirror.example.com:5000"],
    },
    "registry-of-the-cluster-is-a-mirror": {
        "registry_port": 5060,
        "image_mirrors": {"docker.io": "k3d-shop-registry:5000/hub", "ghcr.io": f"{ALIAS}/github"},
        "image_mirrors_plain_http": ["k3d-shop-registry:5000", ALIAS],
    },
    "registry-of-the-cluster-has-a-mirror": {
        "registry_port": 5060,
        "image_mirrors": {ALIAS: "mirror.example.com/own"},
    },
}


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one with a key twice fails the test."""
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("case", CASES)
def test_each_host_has_one_entry(case: str, tmp_path: Path, copy_project: CopyProject) -> None:
    answers = {"project": "shop", "docker_in_docker": True, **CASES[case]}
    project = copy_project(tmp_path / "env", **answers)
    files = read_yaml(project / "helm" / "arc-registries.yaml")["data"]
    plain = set(answers.get("image_mirrors_plain_http", []))
    if answers.get("image_repository_http"):
        plain.add(HOST)

    buildkit = tomllib.loads(files["buildkitd.toml"])["registry"]  # which fails where a table is there twice
    entries = tomllib.loads(files["registries.conf"])["registry"]
    buildah = {entry.get("prefix", entry["location"]): entry for entry in entries}
    assert len(buildah) == len(entries)
    docker = json.loads(files["daemon.json"], object_pairs_hook=once)["insecure-registries"]
    assert len(set(docker)) == len(docker)

    assert plain <= set(docker)
    for host in plain - {ALIAS}:
        assert buildkit[host]["http"] is True
        assert buildah[host]["insecure"] is True
    for host, mirror in answers["image_mirrors"].items():
        if host == ALIAS:  # the cluster's own
            continue
        assert buildkit[host]["mirrors"] == [mirror]
        insecure = {"insecure": True} if mirror.partition("/")[0] in plain else {}
        assert buildah[host]["mirror"] == [{"location": mirror, **insecure}]
    if answers.get("provider") != "existing":
        assert buildkit[ALIAS] == {"mirrors": ["k3d-shop-registry:5000"]}
        assert buildah[ALIAS]["location"] == "k3d-shop-registry:5000"
        config = read_yaml(project / "k3d.yaml")["registries"]["config"]
        assert config.count(f'"{ALIAS}":') == 1
        assert yaml.safe_load(config)["mirrors"][ALIAS] == {"endpoint": ["http://k3d-shop-registry:5000"]}


def test_registry_with_tls_is_nowhere_called_plain(tmp_path: Path, copy_project: CopyProject) -> None:
    mirrors = {"docker.io": f"{HOST}/dockerhub"}
    project = copy_project(tmp_path / "env", **EXISTING, docker_in_docker=True, image_mirrors=mirrors)
    files = read_yaml(project / "helm" / "arc-registries.yaml")["data"]
    assert tomllib.loads(files["buildkitd.toml"])["registry"] == {"docker.io": {"mirrors": [f"{HOST}/dockerhub"]}}
    assert "insecure = true" not in files["registries.conf"]
    assert json.loads(files["daemon.json"])["insecure-registries"] == []
