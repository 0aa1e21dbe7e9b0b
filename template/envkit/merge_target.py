"""Whether the developer's own kubeconfig, which `$KUBECONFIG` may name, is a file to put entries into."""

from __future__ import annotations

import os
from pathlib import Path

from envkit.kubeconfig import KubeconfigPaths, holds_cluster


def is_own(paths: KubeconfigPaths) -> bool:
    """Whether `$KUBECONFIG` names one of the files of this environment, where nothing is to be merged."""
    return _resolved(paths.merged) in (_resolved(paths.host), _resolved(paths.devcontainer))


def why_left_alone(path: Path) -> str:
    """Why a file gets no entries and loses none; empty where it may be changed.

    It would be replaced otherwise, because a rename does not ask: by root even `/dev/null`.
    """
    target = _resolved(path)
    try:
        if not target.exists():
            return ""
        if not target.is_file():
            return "it is not a regular file"
        if context := _environment_of(target):
            return f"it is the own file of the environment {context.removeprefix('k3d-')}"
        # kubectl fails on these two as well; root, who may do anything, is to respect the first.
        if not target.stat().st_mode & 0o222:
            return "it is read-only"
        if not os.access(target, os.W_OK):
            return "this user may not write to it"
    except OSError:
        pass  # whoever reads it says what is wrong with it
    return ""


def _environment_of(target: Path) -> str:
    """The context of the environment that made a file for itself alone, which holds its cluster; empty for any other.

    The name alone does not tell: a developer may have called a file of their own `k3d-all.yaml`.
    """
    for file in (Path.home() / ".kube").glob("k3d-*.yaml"):
        context = file.name.removesuffix(".yaml").removesuffix(".devcontainer")
        if _resolved(file) == target and holds_cluster(target, context):
            return context
    return ""


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # Python before 3.13 has RuntimeError for a symlink to itself
        return path.absolute()
