import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from ssbench.results.groups import Line
from ssbench.results.ranks import kendall, resamples, spearman


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
