"""The page of the measurements: what of it stays when only some are made anew."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pairs import Result
from report import joined, page, row_of, rows_of
from support import ROOT

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def result(name: str, ours: tuple[float, ...] = (1.0, 2.0, 4.0), raw: tuple[float, ...] = (2.0, 2.0, 2.0)) -> Result:
    return Result(name, "ours", "the raw tool", ours, raw, limit=1.5)


def test_a_page_is_read_as_it_was_written() -> None:
    rows = [row_of(result(name), NOW) for name in ("generation", "generation, same files")]

    assert rows_of(page(rows)) == rows


def test_rows_that_were_not_measured_stay_in_their_places_with_their_time() -> None:
    kept = rows_of((ROOT / "bench" / "results.md").read_text(encoding="utf-8"))

    rows = rows_of(page(joined(kept, [row_of(result("cold create"), NOW), row_of(result("new"), NOW)])))

    names = [row.name for row in kept]
    assert "cold create" in names
    assert [row.name for row in rows] == [*names, "new"]
    anew = [row for row in rows if row.measured.startswith("2026-11-28 09:30 UTC, 3 times, ")]
    assert [row.name for row in anew] == ["cold create", "new"]
    assert [row for row in rows if row not in anew] == [row for row in kept if row.name != "cold create"]


def test_a_row_has_medians_with_their_range() -> None:
    (row,) = rows_of(page([row_of(result("x"), NOW)]))

    assert (row.ours_seconds, row.raw_seconds) == ("2.00 (1.00 to 4.00)", "2.00 (2.00 to 2.00)")
    assert (row.ratio, row.lowest, row.highest, row.limit) == (1.0, 0.5, 2.0, 1.5)


@pytest.mark.parametrize(
    ("part", "why"), [("**", "is no ratio with its range"), ("| measured |", "no table with the columns of now")]
)
def test_what_was_written_otherwise_is_not_dropped_in_silence(part: str, why: str) -> None:
    text = page([row_of(result("x"), NOW)])

    with pytest.raises(ValueError, match=why):
        rows_of(text.replace(part, ""))


def test_the_committed_page_is_as_it_would_be_written() -> None:
    text = (ROOT / "bench" / "results.md").read_text(encoding="utf-8")

    assert page(rows_of(text)) == text
