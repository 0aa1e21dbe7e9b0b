"""The template's releases, in a temporary clone whose newest version is the working tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support import ROOT, SNAPSHOT_TAG, UNUSED, commit_all, copy_working_tree, git

# A clone may have no tags, but it has the commits: each release is one with this subject.
_SUBJECT = re.compile(r"release: (v\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Release:
    """A version that environments out there were made of."""

    tag: str
    commit: str


def releases() -> list[Release]:
    """All releases that are in the history of the working tree, the oldest first."""
    found = []
    for line in git(ROOT, "log", "--reverse", "--format=%H %s").splitlines():
        commit, _, subject = line.partition(" ")
        if match := _SUBJECT.fullmatch(subject):
            found.append(Release(match[1], commit))
    return found


def make_tagged_clone(folder: Path) -> Path:
    """Makes a template whose versions are the releases and the working tree, of what environments are made of."""
    git(folder.parent, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), folder.name)
    for release in releases():
        names = git(folder, "ls-tree", "--name-only", release.commit).splitlines()
        git(folder, "read-tree", release.commit)
        git(folder, "rm", "-r", "--quiet", "--cached", *UNUSED.intersection(names))
        tree = git(folder, "write-tree").strip()
        git(folder, "tag", "--force", release.tag, git(folder, "commit-tree", tree, "-m", release.tag).strip())
    copy_working_tree(folder)
    commit_all(folder, "the working tree", SNAPSHOT_TAG)
    return folder
