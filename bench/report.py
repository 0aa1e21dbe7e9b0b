"""The results as a table and as a plot."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from pairs import Result

_GENERATION = """\
Generation is over its limit, because Copier takes its time for each file: it asks Git about every file that it writes,
and compiles every part of every path as a Jinja template. The second row says what is left when both sides have the
same files: its raw side, divided by that of the first row, is what Copier alone makes of so many files."""


def table(results: Sequence[Result]) -> str:
    """A Markdown table: medians with the range, and the ratio against its limit."""
    lines = [
        "| what | ours | raw tool | ours, s | raw, s | ratio (min to max) | limit |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        ours, raw = (_seconds(times) for times in (result.ours_seconds, result.raw_seconds))
        ratio = f"**{result.ratio:.2f}** ({min(result.ratios):.2f} to {max(result.ratios):.2f})"
        lines.append(
            f"| {result.name} | {result.ours} | {result.raw} | {ours} | {raw} | {ratio} | {result.limit:.2f} |"
        )
    return "\n".join(lines)


def page(results: Sequence[Result]) -> str:
    """The page that is kept: the table, and how it came about."""
    runs = len(results[0].ours_seconds)
    return (
        "# Measured against the raw tools\n\n"
        f"Written by `script/bench --save`. {runs} runs each, in turn, on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}). "
        "Seconds are medians with the range; a ratio is the median of the pairs' ratios.\n\n"
        f"{table(results)}\n\n"
        f"{_GENERATION}\n\n"
        "![Ratios](results.svg)\n"
    )


def plot(results: Sequence[Result], path: Path) -> None:
    """Every pair's ratio as a dot, its median as a bar, the limit as a line."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 * len(results) + 0.8))
    for row, result in enumerate(reversed(results)):
        axes.barh(row, result.ratio, height=0.5, color="#4c78a8")
        axes.plot(result.ratios, [row] * len(result.ratios), "o", color="#1b1b1b", markersize=3)
        axes.plot([result.limit] * 2, [row - 0.35, row + 0.35], color="#e45756", linewidth=2)
    axes.set_yticks(range(len(results)), [result.name for result in reversed(results)])
    axes.axvline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time / time of the raw tool   (red: limit)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _seconds(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
