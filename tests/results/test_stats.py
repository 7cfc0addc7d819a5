import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from ssbench.results import stats
from ssbench.results.metrics import score
from ssbench.results.stats import Arrays, ahead, interval


def run(hits: "np.ndarray[Any, Any]") -> Arrays:
    """Predictions of class 1 where the truth is, class 0 elsewhere."""
    return {"predicted": hits.astype(np.int64), "truth": np.ones(len(hits), np.int64)}


def hits(share: float, samples: int = 400) -> "np.ndarray[Any, Any]":
    return np.arange(samples) < round(share * samples)


def runs(*shares: float) -> list[Arrays]:
    return [run(hits(share)) for share in shares]


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    sample = np.random.default_rng(0).random(500) < 0.7
    found = interval("accuracy", run(sample))
    expected = bootstrap(
        (100.0 * sample,), np.mean, n_resamples=20_000, method="percentile", batch=200, rng=1
    ).confidence_interval
    error = 0.3  # three standard errors of a 2.5 % quantile from 2,000 draws of deviation 2
    np.testing.assert_allclose(found, expected, atol=error)


def test_the_interval_of_values_is_scipys_percentile_bootstrap() -> None:
    sample = np.random.default_rng(1).normal(3.0, 2.0, 300)
    found = interval("mean", {"value": sample})
    expected = bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="percentile", batch=200, rng=1
    ).confidence_interval
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_the_interval_of_iou_is_that_of_resampled_images() -> None:
    draw = np.random.default_rng(3)
    confusion = draw.integers(20, size=(60, 3, 3)) + 40 * np.eye(3, dtype=np.int64)
    low, high = interval("iou", {"confusion": confusion})
    slow = [score("iou", {"confusion": confusion[draw.integers(60, size=60)]}) for _ in range(2000)]
    np.testing.assert_allclose([low, high], np.percentile(slow, [2.5, 97.5]), atol=0.2)


def test_the_interval_is_the_same_every_time_and_a_point_without_variation() -> None:
    sample = run(np.random.default_rng(0).random(100) < 0.5)
    first = interval("accuracy", sample)
    stats._weights.cache_clear()
    assert interval("accuracy", sample) == first
    assert interval("accuracy", run(np.ones(50, bool))) == (100.0, 100.0)


def test_resamples_are_as_large_as_the_test_set_and_uniform() -> None:
    weights = stats._weights(300)
    assert (weights.sum(1, dtype=np.int64) == 300).all()
    assert np.abs(weights.mean(0) - 1).max() < 5 / math.sqrt(2000)  # counts of variance 1: five standard errors
    assert len(np.unique(weights, axis=0)) == 2000


def test_the_paired_interval_is_scipys() -> None:
    draw = np.random.default_rng(4)
    a, b = draw.random(400) < 0.7, draw.random(400) < 0.6
    found = ahead("accuracy", "higher", [run(a), run(a)], [run(b), run(b)])
    expected = bootstrap(
        (100.0 * a, 100.0 * b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        batch=200,
        rng=1,
    ).confidence_interval
    assert found.difference == pytest.approx(100 * (a.mean() - b.mean()))
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.6)


def test_pairing_narrows_the_interval_of_runs_that_fail_on_the_same_samples() -> None:
    found = ahead("accuracy", "higher", runs(0.62, 0.62), runs(0.6, 0.6))
    assert found.real
    assert found.high - found.low < 4
    low, high = interval("accuracy", runs(0.62)[0])
    assert high - low > 8


def test_a_clear_difference_is_real() -> None:
    found = ahead("accuracy", "higher", runs(0.9, 0.91, 0.92), runs(0.5, 0.51, 0.52))
    assert found.difference == pytest.approx(40.0)
    assert found.pooled_sd == pytest.approx(1.0)
    assert found.low < 40 < found.high
    assert found.real


def test_the_pooled_deviation_weighs_each_side_by_its_seeds() -> None:
    a, b = [50.0, 60.0], [40.0, 42.0, 50.0, 36.0]
    found = ahead("accuracy", "higher", runs(*(x / 100 for x in a)), runs(*(x / 100 for x in b)))
    expected = math.sqrt((np.var(a, ddof=1) + 3 * np.var(b, ddof=1)) / 4)
    assert found.pooled_sd == pytest.approx(expected)


def test_a_difference_within_the_deviation_over_seeds_is_not_real() -> None:
    found = ahead("accuracy", "higher", runs(0.9, 0.5), runs(0.6, 0.6))
    assert found.low > 0  # the test samples alone would call it real
    assert found.difference < found.pooled_sd
    assert not found.real


def test_a_difference_within_the_interval_is_not_real() -> None:
    draw = np.random.default_rng(5)
    a, b = draw.permutation(hits(0.62, 100)), draw.permutation(hits(0.6, 100))
    found = ahead("accuracy", "higher", [run(a), run(a)], [run(b), run(b)])
    assert found.difference > found.pooled_sd == 0
    assert found.low < 0 < found.high
    assert not found.real


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (1, 1)])
def test_one_seed_is_never_real(counts: tuple[int, int]) -> None:
    found = ahead("accuracy", "higher", runs(*[0.9] * counts[0]), runs(*[0.1] * counts[1]))
    assert found.difference == pytest.approx(80.0)
    assert found.low > 70
    assert math.isnan(found.pooled_sd)
    assert not found.real


def test_the_one_behind_is_not_ahead() -> None:
    found = ahead("accuracy", "higher", runs(0.5, 0.5), runs(0.9, 0.9))
    assert found.difference == pytest.approx(-40.0)
    assert found.high < 0
    assert not found.real


def test_where_lower_is_better_the_lower_one_is_ahead() -> None:
    draw = np.random.default_rng(6)
    small, large = ([{"value": draw.normal(mean, 0.1, 200)} for _ in range(2)] for mean in (1.0, 2.0))
    assert ahead("mean", "lower", small, large).real
    assert ahead("mean", "lower", small, large).difference == pytest.approx(1.0, abs=0.05)
    assert not ahead("mean", "lower", large, small).real
    assert ahead("mean", "higher", large, small).real


def test_runs_on_different_numbers_of_samples_are_not_compared() -> None:
    for other in ([run(hits(0.1, 200))] * 2, [run(hits(0.1, 400)), run(hits(0.1, 200))]):
        found = ahead("accuracy", "higher", runs(0.9, 0.9), other)
        assert math.isnan(found.low) and math.isnan(found.high)
        assert not found.real


def test_the_difference_of_iou_lies_in_its_interval_for_seeds_that_differ() -> None:
    draw = np.random.default_rng(7)
    best = [{"confusion": draw.integers(9, size=(80, 3, 3)) + k * np.eye(3, dtype=np.int64)} for k in (5, 60)]
    other = [{"confusion": draw.integers(9, size=(80, 3, 3)) + k * np.eye(3, dtype=np.int64)} for k in (1, 20)]
    found = ahead("iou", "higher", best, other)
    assert found.low < found.difference < found.high
    assert found.high - found.low < 5
