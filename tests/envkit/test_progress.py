from __future__ import annotations

import io
import os
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest

from envkit import report
from envkit.progress import Steps


def test_a_pipe_gets_a_line_for_the_start_and_the_end_of_each_step() -> None:
    shown = io.StringIO()

    with Steps(shown) as steps:
        with steps.step("Creating") as step:
            step.note("pulling")
            assert shown.getvalue() == "  Creating ...\n"
        steps.say("between [x]")

    assert re.fullmatch(r"  Creating \.\.\.\n✓ Creating \(\d\.\d s\)\nbetween \[x\]\n", shown.getvalue())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_step_that_fails_is_marked_and_its_error_goes_on_up(error: type[BaseException]) -> None:
    shown = io.StringIO()

    with pytest.raises(error), Steps(shown) as steps, steps.step("Creating"):
        raise error

    assert shown.getvalue().splitlines()[1].startswith("✗ Creating")


def test_a_steps_time_stands_still_when_it_has_ended() -> None:
    with Steps(io.StringIO()) as steps, steps.step("Creating") as step:
        time.sleep(0.02)
        assert step.elapsed > 0.01

    ended = step.elapsed
    time.sleep(0.02)
    assert step.elapsed == ended


def test_nothing_is_shown_without_a_step() -> None:
    shown = io.StringIO()

    with Steps(shown):
        pass

    assert shown.getvalue() == ""


class Terminal:
    """A terminal of a few rows, and what was written to it."""

    def __init__(self) -> None:
        self._reader, writer = pty.openpty()
        self.stream = os.fdopen(writer, "w", encoding="utf-8")

    def shown(self, *, until: str) -> str:
        """What has come since the last look, up to a text; the terminal hands it on in parts."""
        self.stream.flush()
        shown = ""
        deadline = time.monotonic() + 5
        while until not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{until!r} is not in {shown!r}"
            assert select.select([self._reader], [], [], left)[0], f"nothing comes after {shown!r}"
            shown += os.read(self._reader, 2**16).decode()
        return shown

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)


_CURSOR_IS_BACK = "\x1b[?25h"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "60"), ("LINES", "6")):
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    yield terminal
    terminal.close()


def _lines(shown: str) -> list[str]:
    return [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()]


def test_a_terminal_gets_a_live_list(terminal: Terminal) -> None:
    with Steps(terminal.stream) as steps:
        with steps.step("Creating") as step:
            step.note("pulling [layer]")
            time.sleep(0.3)
        steps.say("warning: [x]")
        with pytest.raises(ValueError, match="no"), steps.step("Waiting"):
            raise ValueError("no")
    shown = terminal.shown(until=_CURSOR_IS_BACK)

    assert "pulling [layer]" in shown
    assert "warning: [x]" in shown
    assert any(re.match(r"✓\s+Creating\s+0\.\d s", line) for line in _lines(shown))
    assert any(re.match(r"✗\s+Waiting\s+0\.0 s", line) for line in _lines(shown))


def test_the_step_that_runs_is_in_sight_where_rows_are_few_and_all_are_there_at_the_end(terminal: Terminal) -> None:
    with Steps(terminal.stream) as steps:
        for number in range(9):
            with steps.step(f"Image {number}"):
                pass
        with steps.step("The last one") as step:
            step.note("17.3 MB")
            assert "The last one" in terminal.shown(until="17.3 MB")
    last_frame = terminal.shown(until=_CURSOR_IS_BACK).rpartition("\x1b[2K")[2]

    names = [re.sub(r"^✓\s+|\s+0\.\d s$", "", line) for line in _lines(last_frame) if line]
    assert names == [*(f"Image {number}" for number in range(9)), "The last one"]


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    with Steps(terminal.stream) as steps, steps.step("Creating"):
        assert _lines(terminal.shown(until="\n")) == ["Creating ..."]


def test_a_table_in_a_pipe_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    table = report.new_table(columns=2)
    table.add_row("Drift", report.plain("[red]" + "x" * 300))
    report.print_report(table)

    assert capsys.readouterr().out == f"Drift  [red]{'x' * 300}\n"
