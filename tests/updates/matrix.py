"""What becomes of a team's edits in an update: every kind of edit, in an environment of every release.

Run as a program it prints the table: python tests/updates/matrix.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from copier import run_copy, run_update
from support import commit_all, git
from updates.releases import Release, make_tagged_clone, releases

KEPT, CONFLICT, LOST, ABSENT = "kept", "conflict", "lost", "not in it"


@dataclass(frozen=True)
class Edit:
    """Something that a team does to a file of its environment.

    Attributes:
        kind: What it is called in the table.
        path: The file.
        change: Makes the file's new text of the old one; None removes the file.
        mark: What has to be in the file after the update.
        moved_to: Where newer versions of the template have the file.
        is_new: The team makes the file, where the release has none.
    """

    kind: str
    path: str
    change: Callable[[str], str] | None
    mark: str = ""
    moved_to: str = ""
    is_new: bool = False

    def make(self, environment: Path) -> bool:
        """Makes the edit; returns whether the release has a file for it."""
        file = environment / self.path
        if not file.exists() and not self.is_new:
            return False
        if self.change is None:
            file.unlink()
            return True
        file.parent.mkdir(parents=True, exist_ok=True)
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        new = self.change(old)
        assert new != old, f"the edit of {self.path} finds nothing to change"
        file.write_text(new, encoding="utf-8")
        return True

    def outcome(self, environment: Path) -> str:
        """What an update has made of the edit."""
        file = environment / (self.moved_to or self.path)
        if self.change is None:
            return LOST if file.exists() else KEPT
        if not file.exists():
            return LOST
        text = file.read_text(encoding="utf-8")
        if self.mark not in text:
            return LOST
        if "<<<<<<< " not in text:
            return KEPT
        # A conflict has to show in `git status` as well, or it would be committed unseen.
        return CONFLICT if git(environment, "ls-files", "--unmerged", "--", self.moved_to or self.path) else LOST


def replaced(old: str, new: str) -> Callable[[str], str]:
    """A change of the first place that has this text."""
    return lambda text: text.replace(old, new, 1)


def appended(addition: str) -> Callable[[str], str]:
    """A change that adds text at the end."""
    return lambda text: text + addition


EDITS = (
    Edit("value in `k3d.yaml`", "k3d.yaml", replaced("\nagents: 2\n", "\nagents: 4\n"), "\nagents: 4\n"),
    Edit("recipe in `justfile`", "justfile", appended("\nteam-recipe:\n    true\n"), "\nteam-recipe:\n    true\n"),
    Edit("removed file", ".devcontainer/devcontainer.json", None),
    Edit("edited `README.md`", "README.md", replaced("## Quick start", "## First day"), "\n## First day\n"),
    Edit(
        "tool in `.mise.toml`",
        ".mise.toml",
        appended('\n[tasks.team]\nrun = "true"\n'),
        '\n[tasks.team]\nrun = "true"\n',
        moved_to="mise.toml",
    ),
    Edit(
        "tool in `mise.toml`",
        "mise.toml",
        appended('\n[tasks.team]\nrun = "true"\n'),
        '\n[tasks.team]\nrun = "true"\n',
    ),
    Edit(
        "version in `runner/tools.toml`",
        "runner/tools.toml",
        replaced('version = "1.27.2"', 'version = "1.26.9"'),
        'version = "1.26.9"',
    ),
    Edit(
        "base in `runner/Dockerfile`",
        "runner/Dockerfile",
        replaced("ARG BASE_IMAGE=ghcr.io/actions/actions-runner:", "ARG BASE_IMAGE=ghcr.io/team/actions-runner:"),
        "ARG BASE_IMAGE=ghcr.io/team/actions-runner:",
    ),
    Edit(
        "Helm values",
        "helm/arc-runners.yaml",
        lambda text: text.replace("maxRunners: 5", "maxRunners: 9") if text else "maxRunners: 9\n",
        "maxRunners: 9\n",
        is_new=True,
    ),
    Edit("own file", "team/notes.md", appended("our notes\n"), "our notes\n", is_new=True),
    Edit("own file under `helm/`", "helm/team.yaml", appended("team: yes\n"), "team: yes\n", is_new=True),
    *(
        Edit(f"`{path}`", path, appended("# ours\n"), "# ours\n", is_new=True)
        for path in (
            "local.just",
            "k3d.local.yaml",
            "helm/arc-controller.local.yaml",
            "helm/arc-runners.local.yaml",
            "runner/tools.local.toml",
            "ca-bundle.pem",
            ".env",
            ".gitattributes",
        )
    ),
)


def generate(template: Path, folder: Path, version: str, **answers: Any) -> Path:
    """A committed environment of this version. Tasks only check, and are left out; but a snippet is merged by one."""
    skip = answers.get("scope") != "devcontainer"
    run_copy(str(template), folder, answers, defaults=True, quiet=True, unsafe=True, skip_tasks=skip, vcs_ref=version)
    commit_all(folder, f"generate from {version}")
    return folder


def update(environment: Path, version: str | None = None, **answers: Any) -> None:
    """Updates a committed environment, to the newest version unless another is named."""
    run_update(
        environment,
        data=answers,
        defaults=True,
        quiet=True,
        unsafe=True,
        overwrite=True,
        skip_tasks=True,
        vcs_ref=version,
    )


def outcomes(template: Path, folder: Path, release: Release) -> dict[str, str]:
    """What becomes of each kind of edit in an environment of this release that is updated to the newest version."""
    generate(template, folder, release.tag)
    made = [edit for edit in EDITS if edit.make(folder)]
    commit_all(folder, "the team's edits")
    update(folder)
    return {edit.kind: edit.outcome(folder) if edit in made else ABSENT for edit in EDITS}


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The outcomes as a table in Markdown: one line for every kind of edit, one column for every release."""
    lines = [f"| Edit | {' | '.join(rows)} |", f"|---{'|---' * len(rows)}|"]
    lines += [f"| {edit.kind} | {' | '.join(row[edit.kind] for row in rows.values())} |" for edit in EDITS]
    return "\n".join(lines)


def main() -> None:
    """Prints the table of the working tree."""
    with tempfile.TemporaryDirectory() as scratch:
        template = make_tagged_clone(Path(scratch) / "template")
        rows = {release.tag: outcomes(template, Path(scratch) / release.tag, release) for release in releases()}
    sys.stdout.write(f"{table(rows)}\n")


if __name__ == "__main__":
    main()
