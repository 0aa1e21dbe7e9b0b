"""Helm gets its values as JSON, which it reads as YAML: a text has to come out of that as it went in."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import ROOT

_PLUGIN = ROOT / "template" / "ansible" / "lookup_plugins" / "helm_values_file.py"


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The plugin, without Ansible, which is not installed for the tests."""
    stand_ins: dict[str, Any] = {
        "ansible": SimpleNamespace(),
        "ansible.constants": SimpleNamespace(DEFAULT_LOCAL_TMP=str(tmp_path)),
        "ansible.plugins": SimpleNamespace(),
        "ansible.plugins.lookup": SimpleNamespace(LookupBase=object),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    spec = importlib.util.spec_from_file_location("helm_values_file", _PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LookupModule()


# Half a character is in no text that envkit has read.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
@example("12e4")
@example("one \u2028 two")
@example("one \x85 two")
@example("\x7f\x80\ufeff\uffff")
@example("\U0001f600")
def test_text_is_the_same_to_a_reader_of_yaml(lookup: Any, text: str) -> None:
    values = {"key": text, "list": [text, 1, True, None]}
    [name] = lookup.run([values])
    assert yaml.safe_load(Path(name).read_text(encoding="utf-8")) == values


def test_file_is_its_owners_alone(lookup: Any) -> None:
    [name] = lookup.run([{"key": "value"}])
    assert Path(name).stat().st_mode & 0o777 == 0o600
