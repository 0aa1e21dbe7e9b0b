"""Changes of the template in files that the team has removed or moved."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from changes_not_taken import changes_not_taken
from support import commit_all, git
from update_files import UpdatedFiles

FILES = ("renovate.json", "README.md", "runner/README.md", "runner/Dockerfile", "helm/arc-runners.yaml")
LONG = "".join(f"line {number}\n" for number in range(20))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template in two versions; all files differ but the last one, and one is new."""
    root = tmp_path / "template repo"
    for name in FILES:
        file = root / "template" / f"{name}{'.jinja' if name == 'README.md' else ''}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n{LONG}", encoding="utf-8")
    (root / "template" / "{% if provider == 'k3d' %}justfile{% endif %}").write_text("a\n", encoding="utf-8")
    (root / "copier.yml").write_text("a\n", encoding="utf-8")
    commit_all(root, "first", "v1.0.0")
    for file in root.rglob("*"):
        if file.is_file() and ".git" not in file.parts and file.name != "arc-runners.yaml":
            file.write_text(file.read_text(encoding="utf-8") + "new\n", encoding="utf-8")
    (root / "template" / "SECURITY.md").write_text("new\n", encoding="utf-8")
    commit_all(root, "second", "v2.0.0")
    return root


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment of the first version, one of several folders of a repository."""
    root = tmp_path / "repo" / "env"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n{LONG}", encoding="utf-8")
    git(root, "init", "--quiet")
    (root / ".git").rename(root.parent / ".git")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=generated")
    return root


def told(environment: Path, template: Path, old: dict[str, Any] | None = None, **new: Any) -> str:
    git(environment, "add", "--all", ".")
    git(environment, "commit", "--quiet", "--allow-empty", "--message=edited by the team")
    before: dict[str, Any] = {"_commit": "v1.0.0", "_src_path": str(template), "arc": True, **(old or {})}
    after = {**before, "_commit": "v2.0.0", **new}
    return "".join(changes_not_taken(UpdatedFiles(environment), before, after, template))


def test_environment_with_all_files_is_told_nothing(environment: Path, template: Path) -> None:
    assert not told(environment, template)


def test_removed_and_moved_files_are_named_with_a_command_that_shows_the_changes(
    environment: Path, template: Path
) -> None:
    (environment / "renovate.json").unlink()
    (environment / "ci").mkdir()
    (environment / "runner" / "Dockerfile").rename(environment / "ci" / "Dockerfile")
    (environment / "helm" / "arc-runners.yaml").unlink()  # has not changed
    printed = told(environment, template)
    assert printed.splitlines()[1:-1] == [
        "    renovate.json",
        "    runner/Dockerfile, which is ci/Dockerfile now",
        "To see them:",
    ]
    command = printed.splitlines()[-1].strip()
    assert command.startswith(f"git -C {shlex.quote(str(template))} diff v1.0.0 v2.0.0 -- ")
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert shown.count("+new") == 2


def test_file_with_the_suffix_of_a_template_is_known(environment: Path, template: Path) -> None:
    (environment / "README.md").unlink()
    assert "    README.md\n" in told(environment, template)


def test_file_that_was_moved_and_removed_later_is_removed(environment: Path, template: Path) -> None:
    (environment / "runner" / "Dockerfile").rename(environment / "Dockerfile")
    told(environment, template)
    (environment / "Dockerfile").unlink()
    assert "    runner/Dockerfile\n" in told(environment, template)


def test_file_that_is_there_but_ignored_is_not_gone(environment: Path, template: Path) -> None:
    git(environment, "rm", "--quiet", "--cached", "renovate.json")
    (environment / ".gitignore").write_text("renovate.json\n", encoding="utf-8")
    assert not told(environment, template)


@pytest.mark.parametrize(("old", "new"), [(False, False), (True, False), (False, True)])
def test_files_that_the_answers_leave_out_are_no_loss(
    environment: Path, template: Path, *, old: bool, new: bool
) -> None:
    (environment / "runner" / "Dockerfile").unlink()
    assert not told(environment, template, {"arc": old}, arc=new)


def test_many_files_are_counted(environment: Path, template: Path) -> None:
    for number in range(14):
        (template / "template" / f"{number:02}").write_text("1\n", encoding="utf-8")
    commit_all(template, "third", "v3.0.0")
    for number in range(14):
        (template / "template" / f"{number:02}").write_text("2\n", encoding="utf-8")
    commit_all(template, "fourth", "v4.0.0")
    printed = told(environment, template, {"_commit": "v3.0.0"}, _commit="v4.0.0")
    assert "    11\n    and 2 more\nTo see them:" in printed
    assert printed.endswith(" template/11")


@pytest.mark.parametrize("scheme", ["https", "git+https"])
def test_template_at_an_address_is_named_without_a_password(environment: Path, template: Path, scheme: str) -> None:
    (environment / "renovate.json").unlink()
    printed = told(environment, template, {"_src_path": f"{scheme}://me:secret@example.com/t.git"})
    assert printed.endswith(
        f"in a clone of {scheme}://example.com/t.git:\n    git diff v1.0.0 v2.0.0 -- template/renovate.json"
    )


@pytest.mark.parametrize(("before", "after"), [("v0.0.1", "v2.0.0"), ("", "v2.0.0"), ("v1.0.0", "")])
def test_version_that_is_not_known_is_no_reason_to_fail(
    environment: Path, template: Path, before: str, after: str
) -> None:
    (environment / "renovate.json").unlink()
    assert not told(environment, template, {"_commit": before}, _commit=after)
