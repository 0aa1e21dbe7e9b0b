"""The table of questions in README.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import question_table
from answers import Answers, complete
from question_table import COMPUTED, END, START, main, table, with_table

MARKED = f"# Title\n\n{START}\nold\n{END}\n\nMore\n"


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "README.md"
    monkeypatch.setattr(question_table, "README", file)
    return file


def test_committed_table_is_up_to_date() -> None:
    assert main(["--check"]) == 0


def test_table_has_a_row_for_each_question() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(Answers.model_fields)


def test_computed_defaults_are_shown_as_they_come_out() -> None:
    answers = complete({"project": "<project>", "runner_name": "x"} | {"cluster_name": "x"})
    assert {key: f"`{answers[key]}`" for key in COMPUTED if key.endswith(("port", "max"))} == {
        key: shown for key, shown in COMPUTED.items() if key.endswith(("port", "max"))
    }


def test_table_replaces_what_stood_between_the_markers_and_nothing_else() -> None:
    text = with_table(MARKED)
    assert text.startswith("# Title\n\n")
    assert text.endswith(f"{END}\n\nMore\n")
    assert "old" not in text
    assert with_table(text) == text


def test_check_changes_nothing_and_fails_when_out_of_date(readme: Path) -> None:
    readme.write_text(MARKED, encoding="utf-8")
    assert main(["--check"]) == 1
    assert readme.read_text(encoding="utf-8") == MARKED
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_readme_without_markers_is_named(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme.write_text("# Title\n", encoding="utf-8")
    assert main([]) == 1
    assert START in capsys.readouterr().err
