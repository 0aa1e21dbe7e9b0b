"""The presets are documented, and each makes an environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import ROOT, CopyProject, read_yaml

PRESETS = sorted((ROOT / "presets").glob("*.yml"))


def test_the_document_on_teams_lists_every_preset() -> None:
    text = (ROOT / "docs" / "teams.md").read_text(encoding="utf-8")
    assert PRESETS
    assert [path.name for path in PRESETS if f"[`presets/{path.name}`](../presets/{path.name})" not in text] == []


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_makes_an_environment(path: Path, tmp_path: Path, copy_project: CopyProject) -> None:
    answers = read_yaml(path)
    project = copy_project(tmp_path / "env", **answers)
    recorded = read_yaml(project / ".copier-answers.yml")
    assert {key: recorded[key] for key in answers} == answers
    if answers.get("provider") == "existing":
        assert not (project / "k3d.yaml").exists()
    else:
        config = yaml.safe_load((project / "k3d.yaml").read_text(encoding="utf-8"))
        assert config["agents"] == answers.get("agents", 2)
    assert (project / "runner").exists() == answers.get("arc", True)
