"""A list of steps with their elapsed times: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.spinner import Spinner

_DUMB = ("dumb", "unknown")
"""Terminals on which Rich shows a live list only once it has ended (rich.console.Console.is_dumb_terminal)."""

_TICK, _CROSS = "✓", "✗"


class Step:
    """One step of a longer piece of work."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()
        self.seconds: float | None = None
        self.failed = False
        self.spinner: Spinner | None = None

    def note(self, detail: str) -> None:
        """Says what the step is doing at the moment; shown on a terminal only."""
        self.detail = detail

    @property
    def elapsed(self) -> float:
        """Seconds since the step began, or its whole duration once it has ended."""
        return time.monotonic() - self.started if self.seconds is None else self.seconds


class Steps:
    """Shows steps as they run. Use as a context manager; nothing is drawn before the first step.

    Output goes to standard error, so that standard output holds only results.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._steps: list[Step] = []
        self._live: Live | None = None
        # A dumb terminal, such as an editor's, cannot draw over what it has shown.
        self._interactive = self._stream.isatty() and os.environ.get("TERM", "").lower() not in _DUMB

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Runs the body as a step; an exception marks it failed and goes on up."""
        step = Step(title)
        self._steps.append(step)
        self._show_start(step)
        try:
            yield step
        except BaseException:
            step.failed = True
            raise
        finally:
            step.seconds = time.monotonic() - step.started
            self._show_end(step)

    def say(self, line: str) -> None:
        """Prints a line between the steps."""
        if self._live:
            self._live.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def _show_start(self, step: Step) -> None:
        if not self._interactive:
            print(f"  {step.title} ...", file=self._stream, flush=True)
        elif self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(self, console=Console(file=self._stream), refresh_per_second=8)
            self._live.start()

    def _show_end(self, step: Step) -> None:
        if not self._interactive:
            mark = _CROSS if step.failed else _TICK
            print(f"{mark} {step.title} ({step.elapsed:.1f} s)", file=self._stream, flush=True)
        elif self._live:
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column(width=2)
        table.add_column(overflow="ellipsis", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for step in self._shown(options.max_height):
            mark: Text | Spinner
            if step.seconds is None:
                mark = step.spinner = step.spinner or Spinner("dots")
            else:
                mark = Text(_CROSS, style="red") if step.failed else Text(_TICK, style="green")
            title = Text(step.title)
            if step.seconds is None and step.detail:
                title.append(f"  {step.detail}", style="dim")
            table.add_row(mark, title, Text(f"{step.elapsed:.1f} s", style="dim"))
        yield table

    def _shown(self, rows: int) -> list[Step]:
        """Every step at the end; before, the last ones that fit, because what is cut off is the list's end."""
        is_live = self._live is not None and self._live.is_started
        return self._steps[-max(rows - 1, 1) :] if is_live else self._steps
