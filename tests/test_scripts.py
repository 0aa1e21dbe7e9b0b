"""The shell scripts find their own files, whatever the shell is set to."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from shutil import copy2

import pytest
from support import ROOT, git

STAND_IN = """#!/bin/sh
# Makes a virtual environment whose programs say how they are called.
mkdir -p "$1/bin"
for name in python just; do
  printf '#!/bin/sh\\necho "$0 $*"\\n' >"$1/bin/$name"
  chmod +x "$1/bin/$name"
done
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("template/bin/envkit", "{root}/template/.venv/bin/python -P -m envkit x"),
        ("template/bin/just", "{root}/template/.venv/bin/just --justfile {root}/template/justfile"),
        ("script/new", "{root}/.venv/bin/python {root}/hooks/new.py x"),
        ("script/questions", "{root}/.venv/bin/python {root}/hooks/question_table.py x"),
        ("script/remove-dev-container", "{root}/.venv/bin/python {root}/hooks/dev_container.py remove"),
        ("script/bench", "{root}/.venv-bench/bin/python bench/run.py x"),
    ],
)
def test_a_script_finds_its_files_where_the_shell_has_a_search_path_for_folders(
    tmp_path: Path, script: str, expected: str
) -> None:
    root = tmp_path / "clone"
    for name in (script, "template/bin/python-env"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    copy2(ROOT / script, root / script)
    (root / "template/bin/python-env").write_text(STAND_IN, encoding="utf-8")
    (root / "template/bin/python-env").chmod(0o755)
    (root / "x").mkdir()
    (root / "x/.copier-answers.devcontainer.yml").touch()
    (tmp_path / "elsewhere/x").mkdir(parents=True)

    done = subprocess.run(
        ["sh", script, "x"],
        cwd=root,
        env={"PATH": os.defpath, "CDPATH": f".:{tmp_path}/elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.startswith(expected.format(root=root)), done.stderr


def test_the_shell_scripts_of_a_folder_with_a_space_in_its_name_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "jane doe"
    git(tmp_path, "init", "--quiet", str(folder))
    for name in ("one", "the other"):
        (folder / name).write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "shellcheck").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    (tmp_path / "shellcheck").chmod(0o755)
    functions = re.findall(
        r"(?ms)^(?:shell_scripts|lint_shell)\(\) \{.*?^\}", (ROOT / "script" / "test").read_text("utf-8")
    )

    checked = subprocess.check_output(
        ["sh", "-c", "\n".join([*functions, 'lint_shell "$1"']), "sh", folder],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        text=True,
    )

    assert len(functions) == 2
    assert checked.splitlines() == [f"{folder}/one", f"{folder}/the other"]
