"""Two environments that differ in every answer the documents depend on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from copier import run_copy

ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "other": {
        "project": "shop",
        "github_org": "Shop",
        "cluster_name": "shop-local",
        "agents": 1,
        "http_port": 8080,
        "https_port": 8443,
        "api_port": 6560,
        "registry_port": 5060,
        "ingress": "none",
        "lens": "none",
    },
}


@dataclass(frozen=True)
class Generated:
    """A generated repository and the answers it was made from."""

    folder: Path
    answers: dict[str, Any]

    @property
    def readme(self) -> str:
        """The text of its README."""
        return (self.folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session", params=ANSWERS)
def generated(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    answers = ANSWERS[request.param]
    folder = tmp_path_factory.mktemp("generated") / "env"
    run_copy(str(template), folder, answers, defaults=True, quiet=True, unsafe=True, skip_tasks=True)
    return Generated(folder, answers)
