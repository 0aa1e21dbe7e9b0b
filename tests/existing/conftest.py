"""A generated environment for a cluster that is there already, and a kubectl that stands in for the real one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from copier import run_copy

from envkit.existing.cluster import ExistingCluster
from envkit.existing.settings import read_existing_cluster

CONTEXT = "arn:aws:eks:eu-central-1:123456789012:cluster/team"


@pytest.fixture(scope="session")
def pristine_existing(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated environment, to be copied."""
    destination = tmp_path_factory.mktemp("existing") / "env"
    answers = {
        "project": "shop",
        "provider": "existing",
        "kube_context": CONTEXT,
        "image_repository": "registry.example.com/shop/runner",
        "image_pull_secret": "pull",
        "lens": "freelens",
    }
    run_copy(str(template), destination, answers, defaults=True, quiet=True, unsafe=True, skip_tasks=True)
    return destination


@pytest.fixture
def root(tmp_path: Path, pristine_existing: Path) -> Path:
    """An environment of the test's own."""
    return Path(shutil.copytree(pristine_existing, tmp_path / "env", symlinks=True))


@pytest.fixture
def cluster(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExistingCluster:
    """Its cluster, for a developer with an empty home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("ARC_CONTEXT", raising=False)
    return read_existing_cluster(root)
