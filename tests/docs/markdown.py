"""The parts of Markdown documents that tests compare with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_CODE = re.compile(r"```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_RECIPE = re.compile(r"(?:^|[\s`(&=/])just (?:--yes )?([a-z][a-z-]*)")


def broken_links(document: Path) -> list[str]:
    """The relative links of a document that lead nowhere, to a file or to a heading."""
    found = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            found.append(link)
    return found


def recipes_named(text: str) -> set[str]:
    """The recipes that code in a text calls, such as `just create`."""
    return {name for code in _CODE.findall(text) for name in _RECIPE.findall(code)}


def table_column(text: str, heading: str) -> Iterator[str]:
    """The cells of the first column of the table whose first column has this heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            next(lines)
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield line.split("|")[1].strip()


def _anchors(document: Path) -> set[str]:
    headings = _HEADING.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
