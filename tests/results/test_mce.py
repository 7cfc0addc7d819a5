"""Errors under corruption relative to a named row, from records whose errors are known."""

from typing import Any

import pytest

from ssbench.results.groups import groups
from ssbench.results.mce import mce
from ssbench.results.record import Record, Score

from .records import done, spec

CONTROLS = {"random-init": "floor", "supervised": "ceiling"}
TOP = Score(value=50, low=0, high=0, unit="%", better="higher", kind="mean", samples=9)


def record(method: str, noise: float, fog: float, clean: float, seed: int = 0, **details: Any) -> Record:
    """Error sums over two severities and the error on clean images, in %."""
    told = details or {"errors": {"noise": noise, "fog": fog}, "clean_error": clean, "severities": [1, 5]}
    return done(spec(method, seed, "robustness"), "corrupted", TOP, details=told)


def test_mce_is_the_mean_ratio_of_errors_and_the_relative_one_that_of_what_corruption_adds() -> None:
    found = [record("random-init", 160, 120, 50), record("mim", 80, 90, 30)]
    (frame,) = mce(groups(found), CONTROLS)
    assert frame.header == ("method", "mCE", "relative mCE", "clean error %", "noise", "fog")
    rows = {row[0].text: [value.mean for value in row[1:]] for row in frame.rows}
    assert rows["random-init"] == [100, 100, 50, 100, 100]
    # 80/160 and 90/120; less twice the clean error: 20/60 and 30/20
    assert rows["mim"] == pytest.approx([62.5, 100 * (1 / 3 + 1.5) / 2, 30, 50, 75])
    assert rows["supervised"] == [None] * 5, "a control that was not run has a row of dashes"
    assert "errors in % of those of random-init" in frame.title and frame.slug.startswith(
        "shapes-vit-nano-samples-1000"
    )


def test_seeds_are_measured_against_the_mean_of_the_named_row() -> None:
    found = [record("random-init", 100 + 60 * seed, 100, 20, seed) for seed in (0, 1)]
    found += [record("mim", 65 * (1 + seed), 100, 20, seed) for seed in (0, 1)]
    (frame,) = mce(groups(found), CONTROLS)
    value = next(row[1] for row in frame.rows if row[0].text == "mim")
    assert value.text == "87.5 ± 17.7" and value.mean == pytest.approx((75 + 100) / 2)


def test_where_corruption_adds_nothing_to_the_named_row_there_is_no_relative_mce() -> None:
    (frame,) = mce(groups([record("random-init", 100, 120, 50), record("mim", 80, 90, 30)]), CONTROLS)
    assert [row[2].text for row in frame.rows] == ["–"] * 3


def test_without_the_named_row_or_without_errors_there_is_no_table() -> None:
    assert mce(groups([record("mim", 80, 90, 30)]), CONTROLS) == []
    assert mce(groups([record("random-init", 0, 0, 0, k=1), record("mim", 0, 0, 0, k=1)]), CONTROLS) == []
    found = groups([record("supervised", 90, 90, 30), record("mim", 80, 90, 30)])
    (frame,) = mce(found, CONTROLS, against="supervised")
    assert "of supervised" in frame.title
