"""Words for people, and commands that they copy."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support import ROOT

from envkit.wording import quoted

SUGGESTED = re.compile(
    r"(?:git -C|\bcd|\bls -ld?|(?<!volume )\brm|\bmv|\bopen|chmod 600|--save|--load|KUBECONFIG=|grep \w+) ?\{([^}]*)\}"
)
"""Commands in texts of the code that take a path."""

SOURCES = [path for folder in ("template/envkit", "hooks") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", ["/home/jo/my env", "/srv/it's", "/a;b", "/a$b"])
def test_a_path_is_one_word_for_the_shell(path: str) -> None:
    assert shlex.split(quoted(Path(path))) == [path]


def test_an_ordinary_path_stays_as_it_is() -> None:
    assert quoted(Path("/home/jo/k3d-env.d")) == "/home/jo/k3d-env.d"


def test_paths_in_suggested_commands_are_quoted() -> None:
    values = [(source.name, value) for source in SOURCES for value in SUGGESTED.findall(source.read_text("utf-8"))]

    assert len(values) > 30
    assert [pair for pair in values if not pair[1].startswith(("quoted(", "shlex.quote("))] == []
