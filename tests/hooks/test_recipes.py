"""Which recipes a justfile has; just itself, where it is there, has to find the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from recipes import recipes
from support import ROOT

RECIPES = {
    "plain": "status:",
    "with a space before the colon": "status :",
    "with dependencies": "status: build (test 'a:b') && tidy",
    "quiet": "@status:",
    "with a hyphen": "show-status:",
    "private by its name": "_status:",
    "with a parameter": "status name:",
    "with a default": 'status name="x":',
    "with an empty default": "status name='':",
    "with a colon in the default": "status name='a: b' other=\"c := d\":",
    "with a default in backticks": "status name=`date +%H:%M`:",
    "with a default over several lines": 'status name="""\n  a: b\n""":',
    "with an escaped quote in the default": 'status name="a\\": b":',
    "with a default that knows the shell's variables": "status name=x'~/a:b':",
    "with a variable as default": "status name=other:",
    "with spaces around the default": "status name = 'x' :",
    "with an expression as default": "status name=(other + ' (:'):",
    "with a call in the default": "status name=(env('HOME', join('a', 'b')) / 'x'):",
    "with one or more": "status +names:",
    "with any number": "status *names='a b':",
    "exported": "status $name $other='x':",
    "exported and variadic": "status target *$names:",
    "after attributes": "[group('x: y')]\n[private]\nstatus:",
    "after a comment": "# Don't say status: it's.\nstatus name='it':",
    "called as a keyword is": "import name:",
}
OTHERS = {
    "an assignment": 'other := "status:"',
    "an assignment without spaces": "other:='x'",
    "an exported assignment": "export other := 'status:'",
    "an alias": "alias status := build",
    "a setting": 'set shell := ["bash", "-euc"]',
    "a setting without a value": "set quiet",
    "an import": "import? 'status:x.just'",
    "a module": "mod? status 'a:b'",
    "a comment": "# status:",
    "a line of a recipe": "build:\n    status: x\n\tother 'a' b:\n",
    "a text of several lines": "other := '''\nstatus:\n'''",
    "an attribute": "[doc('status:')]\nbuild:",
}
# What some of them name.
_DEFINED = "\nother := 'x'\nbuild:\ntest name:\ntidy:\n"


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_recipe_is_found(text: str) -> None:
    name = {"with a hyphen": "show-status", "private by its name": "_status", "called as a keyword is": "import"}
    expected = next((found for kind, found in name.items() if RECIPES[kind] == text), "status")
    assert recipes(f"{text}\n    true\n") == {expected}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_is_no_recipe_is_not_taken_for_one(text: str) -> None:
    assert recipes(text) - {"build"} == set()


def test_long_lines_that_are_no_recipes_cost_no_time() -> None:
    started = time.monotonic()
    assert recipes("a " * 2000 + "\n" + "a" * 5000 + "\n" + "a b=(" * 200 + "\n") == set()
    assert time.monotonic() - started < 1


def test_recipes_after_any_other_line_are_found() -> None:
    text = "\n\n".join([*OTHERS.values(), 'status name="x":\n    true', "last:"])
    assert recipes(text) == {"build", "status", "last"}


@pytest.mark.skipif(shutil.which("just") is None, reason="just is not installed")
@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_just_reads_each_of_these_as_a_recipe_too(text: str, tmp_path: Path) -> None:
    file = tmp_path / "justfile"
    file.write_text(f"{text}\n    true\n{_DEFINED}", encoding="utf-8")
    assert names_by_just(file) == recipes(file.read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("just") is None, reason="just is not installed")
def test_just_finds_the_same_in_the_templates_justfile(tmp_path: Path) -> None:
    for source in (ROOT / "template").glob("*justfile*"):
        file = tmp_path / "justfile"
        shutil.copy(source, file)
        assert names_by_just(file) == recipes(file.read_text(encoding="utf-8"))


def names_by_just(file: Path) -> set[str]:
    command = ["just", "--justfile", str(file), "--dump", "--dump-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)["recipes"])
