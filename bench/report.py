"""The results as a table and as a plot. The table holds all that the plot shows, so the page alone is kept."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pairs import Result

_GENERATION = """\
Generation is over its limit, because Copier takes its time for each file: it asks Git about every file that it writes,
and compiles every part of every path as a Jinja template. The second row says what is left when both sides have the
same files: its raw side, divided by that of the first row, is what Copier alone makes of so many files."""

_HEAD = """\
| what | ours | raw tool | ours, s | raw, s | ratio (min to max) | limit | measured |
| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"""

_RATIO = re.compile(r"\*\*([\d.]+)\*\* \(([\d.]+) to ([\d.]+)\)")


@dataclass(frozen=True)
class Row:
    """A comparison as the page has it.

    Attributes:
        name: What was compared.
        ours: Name of the side that is ours.
        raw: Name of the side that it is measured against.
        ours_seconds: The median of ours, with the range.
        raw_seconds: The same of the other.
        ratio: The median of the pairs' ratios.
        lowest: The lowest ratio.
        highest: The highest ratio.
        limit: The ratio that should not be exceeded.
        measured: When that was, how often, and on what machine.
    """

    name: str
    ours: str
    raw: str
    ours_seconds: str
    raw_seconds: str
    ratio: float
    lowest: float
    highest: float
    limit: float
    measured: str

    def __str__(self) -> str:
        ratio = f"**{self.ratio:.2f}** ({self.lowest:.2f} to {self.highest:.2f})"
        cells = (self.name, self.ours, self.raw, self.ours_seconds, self.raw_seconds, ratio, f"{self.limit:.2f}")
        return f"| {' | '.join((*cells, self.measured))} |"


def row_of(result: Result, now: datetime) -> Row:
    """A comparison that was measured just now."""
    machine = f"{os.cpu_count()} cores ({platform.machine()}, {platform.system()})"
    return Row(
        result.name,
        result.ours,
        result.raw,
        _seconds(result.ours_seconds),
        _seconds(result.raw_seconds),
        result.ratio,
        min(result.ratios),
        max(result.ratios),
        result.limit,
        f"{now:%Y-%m-%d %H:%M} UTC, {len(result.ours_seconds)} times, {machine}",
    )


def rows_of(text: str) -> list[Row]:
    """The rows of a page; ValueError where they are not as this module writes them."""
    if _HEAD not in text:
        raise ValueError("the page has no table with the columns of now")
    rows = []
    for line in text.partition(f"{_HEAD}\n")[2].partition("\n\n")[0].splitlines():
        name, ours, raw, ours_seconds, raw_seconds, ratio, limit, measured = line.strip("| ").split(" | ")
        if not (ratios := _RATIO.fullmatch(ratio)):
            raise ValueError(f"{ratio!r} is no ratio with its range")
        median, lowest, highest = map(float, ratios.groups())
        rows.append(
            Row(name, ours, raw, ours_seconds, raw_seconds, median, lowest, highest, float(limit), measured=measured)
        )
    return rows


def joined(kept: Iterable[Row], measured: Iterable[Row]) -> list[Row]:
    """The rows of a page with those that were measured anew in their places, or behind the others."""
    return list({row.name: row for row in (*kept, *measured)}.values())


def table(rows: Iterable[Row]) -> str:
    """A Markdown table: medians with the range, and the ratio against its limit."""
    return "\n".join([_HEAD, *map(str, rows)])


def page(rows: Iterable[Row]) -> str:
    """The page that is kept: the table, and how it came about."""
    return (
        "# Measured against the raw tools\n\n"
        "Written by `script/bench --save`. Both sides of a row ran in turn; rows with another time under `measured` "
        "are of another run. Seconds are medians with the range; a ratio is the median of the pairs' ratios.\n\n"
        f"{table(rows)}\n\n"
        f"{_GENERATION}\n\n"
        "![Ratios](results.svg)\n"
    )


def plot(rows: Sequence[Row], path: Path) -> None:
    """The median of the pairs' ratios as a bar, their range as a black line, the limit as a red one."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 * len(rows) + 0.8))
    for place, row in enumerate(reversed(rows)):
        axes.barh(place, row.ratio, height=0.5, color="#4c78a8")
        axes.plot([row.lowest, row.highest], [place] * 2, "|-", color="#1b1b1b", linewidth=1, markersize=6)
        axes.plot([row.limit] * 2, [place - 0.35, place + 0.35], color="#e45756", linewidth=2)
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.axvline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time / time of the raw tool   (red: limit)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _seconds(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
