"""A team's own YAML files, `*.local.yaml`, laid over those of the template.

The template never has files of these names, so an update cannot conflict with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envkit.errors import UserError
from envkit.go_yaml import YAML_ERRORS, read_yaml
from envkit.wording import quoted


def local_file(path: Path) -> Path:
    """The team's own file beside one of the template: `k3d.local.yaml` beside `k3d.yaml`."""
    return path.with_suffix(f".local{path.suffix}")


def read_overlay(path: Path) -> dict[str, Any]:
    """What a team's own file says; empty where it is missing or has nothing but comments.

    Raises:
        UserError: It cannot be read, is not valid YAML (names the line), or is no mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            document = read_yaml(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read.", str(error.strerror or error), f"ls -l {quoted(path)}") from error
    except YAML_ERRORS as error:
        raise UserError(f"{path} is not valid YAML.", str(error), f"Correct {path}.") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError(
            f"{path} is not a mapping of keys to values.",
            "It has the same form as the file that it is laid over, but only the keys that differ.",
            f"Correct {path}.",
        )
    return document


def merged(document: Mapping[str, Any], overlay: Mapping[str, Any], path: Path, place: str = "") -> dict[str, Any]:
    """The document with the overlay's values over it; mappings are merged, all else (lists, too) is replaced.

    So Helm merges values files.

    Args:
        document: What the template's file says.
        overlay: What the team's own file says.
        path: The team's own file, for errors.
        place: Where in the files both stand, for errors; empty for the whole of them.

    Raises:
        UserError: A key holds a mapping in one file and something else in the other, or a list and something else.
    """
    return _merged(document, overlay, path, f"{place}." if place else "")


def is_set_in(overlay: Any, keys: tuple[str | int, ...]) -> bool:
    """Whether the value at this place of the merged document comes from the overlay."""
    for key in keys:
        if isinstance(overlay, list):
            return True
        if not isinstance(overlay, Mapping) or key not in overlay:
            return False
        overlay = overlay[key]
    return True


def _merged(document: Mapping[str, Any], overlay: Mapping[str, Any], path: Path, prefix: str) -> dict[str, Any]:
    result = copy.deepcopy(dict(document))
    for key, value in overlay.items():
        below, name = result.get(key), f"{prefix}{key}"
        if None not in (below, value) and _kind(below) != _kind(value):
            raise UserError(
                f"{path} cannot be laid over the template's file.",
                f"{name} is {_kind(value)} in it, and {_kind(below)} in the template's file.",
                f"Correct {name} in {path}.",
            )
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(below, value, path, f"{name}.")
        else:
            result[key] = copy.deepcopy(value)
    return result


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else "a single value"
