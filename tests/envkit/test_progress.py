from __future__ import annotations

import io
import os
import pty
import re
import time

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


def test_a_terminal_gets_a_live_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as terminal:
        with Steps(terminal) as steps:
            with steps.step("Creating") as step:
                step.note("pulling [layer]")
                time.sleep(0.3)
            steps.say("warning: [x]")
            with pytest.raises(ValueError, match="no"), steps.step("Waiting"):
                raise ValueError("no")
        terminal.flush()
        shown = ""
        while not shown.rstrip().endswith("\x1b[?25h"):  # the cursor is back; the terminal hands it on in parts
            shown += os.read(reader, 2**16).decode()
    os.close(reader)

    assert "pulling [layer]" in shown
    assert "warning: [x]" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
    assert any(re.match(r"✓\s+Creating\s+0\.\d s", line.strip()) for line in last)
    assert any(re.match(r"✗\s+Waiting\s+0\.0 s", line.strip()) for line in last)


def test_a_table_in_a_pipe_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    table = report.new_table(columns=2)
    table.add_row("Drift", report.plain("[red]" + "x" * 300))
    report.print_report(table)

    assert capsys.readouterr().out == f"Drift  [red]{'x' * 300}\n"
