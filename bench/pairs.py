"""Times pairs of commands in turn (A B A B ...), so that a change of the machine's speed hits both alike."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 600


@dataclass(frozen=True)
class Side:
    """One of two things to compare.

    Attributes:
        name: What it is, for the table.
        run: Does it once; what it takes is measured.
        reset: Puts things back before the next run; not measured.
    """

    name: str
    run: Callable[[], None]
    reset: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Result:
    """A comparison.

    Attributes:
        name: What was compared.
        ours: Name of the side that is ours.
        raw: Name of the side that it is measured against.
        ours_seconds: Wall-clock seconds of each run.
        raw_seconds: The same, run for run.
        limit: The ratio that should not be exceeded.
    """

    name: str
    ours: str
    raw: str
    ours_seconds: tuple[float, ...]
    raw_seconds: tuple[float, ...]
    limit: float

    @property
    def ratios(self) -> list[float]:
        """Ours / raw, pair by pair."""
        return [a / b for a, b in zip(self.ours_seconds, self.raw_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def compare(name: str, ours: Side, raw: Side, *, runs: int, limit: float) -> Result:
    """Runs both sides in turn, `runs` times each after one run that is not counted."""
    times: dict[str, list[float]] = {"ours": [], "raw": []}
    for number in range(runs + 1):
        # The one that goes first changes, so that neither always finds the caches warmed by the other.
        order = [("ours", ours), ("raw", raw)] if number % 2 else [("raw", raw), ("ours", ours)]
        for key, side in order:
            side.reset()
            start = time.perf_counter()
            side.run()
            elapsed = time.perf_counter() - start
            if number:
                times[key].append(elapsed)
        print(f"  {name}: run {number} of {runs}", flush=True)
    return Result(name, ours.name, raw.name, tuple(times["ours"]), tuple(times["raw"]), limit)


def call(
    argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path | None = None, stdin: str | None = None
) -> str:
    """Runs a command to its end and returns its output; RuntimeError with the output where it fails."""
    done = subprocess.run(
        argv, env=env, cwd=cwd, input=stdin or "", capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{argv} failed with exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
