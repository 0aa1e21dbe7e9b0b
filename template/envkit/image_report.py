"""The list of images and charts, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence

from envkit.environment import Environment
from envkit.image_list import Found, Needs, needs_of, resolve
from envkit.mirrors import read_mirrors
from envkit.registry_api import Registries


def report(environment: Environment, *, as_json: bool) -> int:
    """Prints all that the environment needs; returns 0, whatever could not be found out."""
    needs = needs_of(environment)
    found = resolve(needs.entries, Registries(read_mirrors().plain_http))
    (_print_json if as_json else _print_table)(found, needs)
    return 0


def _print_json(found: Sequence[Found], needs: Needs) -> None:
    document = {
        "images": [_as_json(entry) for entry in found],
        "incomplete": f"{needs.problem.what} {needs.problem.why}" if needs.problem else "",
    }
    print(json.dumps(document, indent=2))


def _as_json(entry: Found) -> dict[str, object]:
    needed = entry.needed
    return {
        "kind": needed.kind,
        "purpose": needed.purpose,
        "name": needed.name,
        "published": needed.published,
        "digest": entry.digest or None,
        "source": entry.source or None,
        "problem": entry.problem,
    }


def _print_table(found: Sequence[Found], needs: Needs) -> None:
    # Two lines each and no table: neither a name nor a digest may be cut on a narrow terminal.
    purposes = [f"{e.needed.purpose} (chart)" if e.needed.kind == "chart" else e.needed.purpose for e in found]
    width = max(map(len, purposes), default=0)
    for purpose, entry in zip(purposes, found, strict=True):
        print(f"{purpose:<{width}}  {entry.needed.name}")
        print(f"{'':<{width}}  {entry.digest or 'digest unknown'}  {_source(entry)}".rstrip())
    problems = dict.fromkeys(entry.problem for entry in found if entry.problem and not entry.digest)
    if problems:
        print("\n" + "\n".join(problems))
    if needs.problem:
        print(f"\nNot in this list: {needs.problem.what} {needs.problem.why}\n  next: {needs.problem.next_step}")


def _source(entry: Found) -> str:
    return f"from {entry.source}" if entry.source else ""
