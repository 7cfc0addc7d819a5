import math

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from ssbench.results.groups import Line, groups
from ssbench.results.ranks import agreement, kendall, resamples, spearman, study
from ssbench.results.record import Record, Score

from .records import done, spec


def test_correlations_of_resamples_with_ties_are_those_of_scipy() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(6, size=20).astype(float), draw.integers(6, size=20).astype(float)
    weights = np.concatenate([np.ones((1, 20)), draw.multinomial(20, np.full(20, 1 / 20), size=5)])
    for found, oracle in ((kendall(x, y, weights), kendalltau), (spearman(x, y, weights), spearmanr)):
        for value, counts in zip(found, weights.astype(int)):
            assert value == pytest.approx(oracle(np.repeat(x, counts), np.repeat(y, counts)).statistic)


def test_a_monotone_relation_is_one_and_a_constant_has_no_order() -> None:
    x, weights = np.arange(8.0), np.ones((1, 8))
    assert kendall(x, np.exp(x), weights)[0] == pytest.approx(1)
    assert spearman(x, -(x**3), weights)[0] == pytest.approx(-1)
    assert np.isnan(kendall(x, np.ones(8), weights)[0])


def test_seeds_of_a_row_are_drawn_together() -> None:
    lines = [Line(method=name) for name in "aabbccdd"]
    counts = resamples(lines, "test")
    assert (counts[0] == 1).all() and (counts[:, ::2] == counts[:, 1::2]).all() and (counts.sum(1) == 8).all()


def record(place: int, seed: int, task: str, value: float, **measures: float) -> Record:
    """A run of the row `method-<place>`."""
    score = Score(value=value, low=0, high=0, unit="%", better="higher", kind="mean", samples=9)
    return done(spec(f"method-{place}", seed, task), "value", score, measures=measures)


ROWS, SEEDS = 12, 2
BY_CHANCE = np.random.default_rng(3).standard_normal((2, ROWS, SEEDS))
RUNS = [(place, seed) for place in range(ROWS) for seed in range(SEEDS)]


def test_what_orders_runs_as_the_task_does_has_one_and_what_does_not_an_interval_around_zero() -> None:
    found = [record(place, seed, "knn", place + 0.1 * seed, rankme=BY_CHANCE[0, place, seed]) for place, seed in RUNS]
    found += [record(place, seed, "diagnostics", math.exp(place + 0.1 * seed)) for place, seed in RUNS]
    (frame,) = study(groups(found), {})
    rows = {(row[0].text, row[1].text): row[2:] for row in frame.rows}
    same, chance = rows["diagnostics value", "knn"], rows["rankme", "knn"]
    for cell in same[:2]:
        assert cell.text == "1.00"
    for cell in chance[:2]:
        low, high = (float(end) for end in cell.text.partition("[")[2].rstrip("]").split(", "))
        assert low < 0 < high
    assert [cell.text for cell in same[2:]] == ["12", "24"]


def test_tasks_that_order_methods_alike_agree_and_others_do_not() -> None:
    found = [record(place, seed, "knn", place + 0.1 * seed) for place, seed in RUNS]
    found += [record(place, seed, "ridge", place**2 + seed) for place, seed in RUNS]
    found += [record(place, seed, "logreg", BY_CHANCE[1, place, seed]) for place, seed in RUNS]
    (frame,) = agreement(groups(found), {})
    cells = {(row[0].text, name): cell for row in frame.rows for name, cell in zip(frame.header[1:], row[1:])}
    assert cells["knn", "ridge"].text == "1.00 n=12" and cells["knn", "knn"].text == "–"
    low, high = (float(end) for end in cells["knn", "logreg"].text.partition("[")[2].partition("]")[0].split(", "))
    assert low < 0 < high


def test_controls_and_few_rows_have_no_study() -> None:
    found = [record(place, 0, "knn", place, rankme=place) for place in range(6)]
    assert len(study(groups(found), {})) == 1
    assert study(groups(found), {"method-0": "floor"}) == [] == agreement(groups(found), {})
