from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from envkit import doctor
from envkit.preflight import Verdict
from envkit.runner.age import check_age

RELEASED = date(2026, 10, 6)


@pytest.mark.parametrize(("today", "verdict"), [(date(2026, 11, 5), Verdict.OK), (date(2026, 11, 6), Verdict.WARN)])
def test_a_base_is_too_old_after_thirty_days(repository: Path, today: date, verdict: Verdict) -> None:
    check = check_age(repository, today)

    assert check.verdict is verdict
    assert f"{(today - RELEASED).days} days ago, on 2026-10-06" in check.detail


def test_what_to_change_is_named(repository: Path) -> None:
    assert "BASE_IMAGE of runner/Dockerfile" in check_age(repository, date(2027, 1, 1)).fix

    own = '[runner]\nimage = "x"\nbase_image = "mirror/actions-runner:2.338.0"\n'
    (repository / "environment.toml").write_text(own, encoding="utf-8")

    assert "base_image of environment.toml" in check_age(repository, date(2027, 1, 1)).fix


def test_a_base_whose_day_is_not_known_is_no_young_one(repository: Path) -> None:
    own = '[runner]\nimage = "x"\nbase_image = "mirror/actions-runner:2.340.0"\n'
    (repository / "environment.toml").write_text(own, encoding="utf-8")

    check = check_age(repository, RELEASED)

    assert check.verdict is Verdict.WARN
    assert "2.340.0" in check.detail
    assert "runner-checksums" in check.fix


def test_doctor_looks_at_the_age_where_there_are_runners(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor._check_runner() == []

    monkeypatch.setattr(doctor, "ROOT", repository)
    assert [check.subject for check in doctor._check_runner()] == ["Runner"]


def test_doctor_tells_a_broken_file_instead_of_stopping(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "runner" / "tools.toml").write_text("[base\n", encoding="utf-8")
    monkeypatch.setattr(doctor, "ROOT", repository)

    (check,) = doctor._check_runner()

    assert check.verdict is Verdict.WARN
    assert "is not right" in check.detail
