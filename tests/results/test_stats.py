import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import bootstrap, norm, ttest_ind
from scipy.stats import t as student

from ssbench.results import stats
from ssbench.results.bootstrap import DRAWS, Arrays, _weights, interval
from ssbench.results.marks import leaders
from ssbench.results.metrics import score
from ssbench.results.stats import Difference, Run, ahead, holm


def run(hits: "np.ndarray[Any, Any]") -> Arrays:
    """Predictions of class 1 where the truth is, class 0 elsewhere."""
    return {"predicted": hits.astype(np.int64), "truth": np.ones(len(hits), np.int64)}


def hits(share: float, samples: int = 400) -> "np.ndarray[Any, Any]":
    return np.arange(samples) < round(share * samples)


def runs(*shares: float) -> dict[int, Run]:
    return stats.runs("accuracy", "higher", {seed: run(hits(share)) for seed, share in enumerate(shares)})


def drawn(values: list[float], spread: float = 0.0, seed: int = 0, shared: float = 0.0) -> dict[int, Run]:
    """Runs with these scores whose draws vary by `spread` each and by `shared` all alike."""
    draw = np.random.default_rng(seed)
    common = shared * draw.normal(size=DRAWS)
    return {at: Run(value, value + common + spread * draw.normal(size=DRAWS), 100) for at, value in enumerate(values)}


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
    _weights.cache_clear()
    assert interval("accuracy", sample) == first
    assert interval("class-accuracy", run(np.ones(50, bool))) == (100.0, 100.0)


def test_resamples_are_as_large_as_the_test_set_and_uniform() -> None:
    weights = _weights(300)
    assert (weights.sum(1, dtype=np.int64) == 300).all()
    assert np.abs(weights.mean(0) - 1).max() < 5 / math.sqrt(2000)  # counts of variance 1: five standard errors
    assert len(np.unique(weights, axis=0)) == 2000


def test_without_noise_of_test_samples_it_is_scipys_welch_test() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        a, b = draw.normal(1, 1, draw.integers(3, 9)).tolist(), draw.normal(0, 3, 4).tolist()
        expected = ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
        assert ahead(drawn(a), drawn(b)) == pytest.approx(expected, abs=1e-9)


def test_without_noise_of_seeds_it_is_the_normal_test_of_a_paired_bootstrap() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random(400) < 0.62, draw.random(400) < 0.6
    found = [stats.runs("accuracy", "higher", dict.fromkeys(range(3), run(one))) for one in (a, b)]
    difference = 100.0 * a - 100.0 * b
    expected = norm.sf(difference.mean() / (difference.std() / 20))
    assert ahead(*found) == pytest.approx(expected, abs=0.02)  # the bootstrap's deviation is known to 1.6 %


def test_with_both_it_is_the_tail_of_their_sum() -> None:
    draw = np.random.default_rng(2)
    a, b = [3.0, 4.5, 5.0], [2.0, 2.0, 2.0]
    one, other = drawn(a, shared=0.5), drawn(b, seed=1)
    error = float((one[0].draws - other[0].draws).std(ddof=1)) * draw.normal(size=400_000)
    error += np.std(a, ddof=1) / math.sqrt(3) * draw.standard_t(2, size=400_000)
    assert ahead(one, other) == pytest.approx(float((error > np.mean(a) - 2).mean()), abs=0.002)


def test_what_is_each_runs_own_noise_is_not_counted_twice() -> None:
    a, b = [50.0, 53.0, 56.0, 59.0], [40.0, 43.0, 46.0, 49.0]
    noisy = ahead(drawn(a, spread=3.0), drawn(b, spread=3.0, seed=1))
    assert noisy == pytest.approx(ahead(drawn(a), drawn(b)), rel=0.25)


def test_equal_scores_of_different_answers_are_no_certainty() -> None:
    draw = np.random.default_rng(3)
    lucky = stats.runs("accuracy", "higher", {seed: run(draw.permutation(hits(0.6, 100))) for seed in range(3)})
    still = stats.runs("accuracy", "higher", dict.fromkeys(range(3), run(hits(0.55, 100))))
    assert {found.value for found in lucky.values()} == {60.0}
    assert ahead(lucky, still) > 0.05


def test_a_clear_difference_is_one_and_its_opposite_is_none() -> None:
    a, b = runs(0.9, 0.91, 0.92), runs(0.5, 0.51, 0.52)
    assert ahead(a, b) < 1e-5 and ahead(b, a) > 1 - 1e-5
    assert ahead(a, a) == pytest.approx(0.5)


def test_where_lower_is_better_the_lower_one_is_ahead() -> None:
    draw = np.random.default_rng(6)
    values = [{seed: {"value": draw.normal(mean, 0.1, 200)} for seed in range(3)} for mean in (1.0, 2.0)]
    small, large = (stats.runs("mean", "lower", one) for one in values)
    assert ahead(small, large) < 1e-4
    small, large = (stats.runs("mean", "higher", one) for one in values)
    assert ahead(large, small) < 1e-4


def test_two_seeds_say_too_little() -> None:
    assert math.isnan(ahead(runs(0.6, 0.61, 0.62, 0.1), runs(0.5, 0.51)))


def test_runs_on_different_numbers_of_samples_are_not_compared() -> None:
    other = stats.runs("accuracy", "higher", {0: run(hits(0.1)), 1: run(hits(0.1, 200)), 2: run(hits(0.1))})
    assert [found.samples for found in other.values()] == [400, 200, 400]
    assert math.isnan(ahead(runs(0.9, 0.9, 0.9), other))


def test_holm_is_the_step_down_of_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == [] and holm([0.02]) == [0.02]


@pytest.mark.parametrize("flat", [False, True])
def test_of_equal_rows_at_most_one_table_in_twenty_has_a_leader(flat: bool) -> None:
    """500 tables of two rows with three seeds each; `benchmarks/bold.py` has the larger ones."""
    draw = np.random.default_rng(8)
    false = 0
    for _ in range(500):
        rows = []
        for still in (False, flat):
            shift, draws = (
                draw.normal(),
                draw.normal(size=DRAWS),
            )  # of these test samples, the same for all seeds
            spread = 0.0 if still else 2.0
            rows.append({seed: Run(shift + spread * draw.normal(), draws, 100) for seed in range(3)})
        false += bool(leaders({"column": dict(enumerate(rows))}))
    assert false <= 25 + 2 * math.sqrt(500 * 0.05 * 0.95)


def test_variances_of_one_law_are_found_again() -> None:
    """Smyth's model itself: variances from a scaled inverse chi-squared law, estimates from few seeds each."""
    draw, freedom, scale = np.random.default_rng(0), 8.0, 2.0
    true = freedom * scale / draw.chisquare(freedom, 20_000)
    freedoms = [2, 9] * 10_000
    seen = [variance * draw.chisquare(of) / of for variance, of in zip(true, freedoms)]
    found = stats.prior(seen, freedoms)
    assert found is not None
    assert found.freedom == pytest.approx(freedom, rel=0.05) and found.variance == pytest.approx(scale, rel=0.03)


def test_equal_variances_are_pooled_and_say_no_more_than_the_other_rows() -> None:
    found = stats.prior([1.0, 1.2, 0.9, 1.1, 1.3], [2] * 5)
    assert found is not None and found.freedom == 8.0 and found.variance == pytest.approx(1.1)
    assert stats.prior([1.0, 1.2, 0.9], [2] * 3) is None


def test_a_moderated_test_is_the_t_test_with_both_variances() -> None:
    """Without noise of test samples, by the formulas of the paper; what does not vary has no part in it."""
    scores = {"a": [10.0, 11.0, 12.5], "b": [8.0, 8.3, 9.1], "c": [5.0, 7.0, 6.1], "d": [1.0, 1.9, 3.0]}
    sides = {name: drawn(values) for name, values in scores.items()} | {"pixels": drawn([4.0] * 3)}
    made = stats.moderated(sides, {"pixels"})
    prior = made["a"].prior
    assert prior is not None and made["pixels"].prior is None
    assert prior == stats.prior([float(np.var(values, ddof=1)) for values in scores.values()], [2] * 4)
    rows = [2 * np.var(scores[name], ddof=1) / (prior.freedom + 2) / 3 for name in "ab"]
    column = prior.freedom * prior.variance / (prior.freedom + 2) / 3
    error = sum(rows) + 2 * column
    freedom = error**2 / (sum(one**2 / 2 for one in rows) + (2 * column) ** 2 / prior.freedom)  # one prior for both
    t = (np.mean(scores["a"]) - np.mean(scores["b"])) / math.sqrt(error)
    assert ahead(made["a"], made["b"]) == pytest.approx(student.sf(t, freedom), rel=1e-6)
    assert ahead(made["a"], made["b"]) < ahead(sides["a"], sides["b"])


def test_a_row_that_varies_more_than_its_column_keeps_its_own_variance() -> None:
    """With the column's it would be told from others far too often."""
    draw = np.random.default_rng(0)
    rows = {str(at): drawn([*draw.normal(50, 1, 3)]) for at in range(12)} | {"wide": drawn([40.0, 52.0, 61.0])}
    made = stats.moderated(rows)
    assert made["wide"].prior is None and sum(side.prior is not None for side in made.values()) >= 11
    assert ahead(made["wide"], made["0"]) == pytest.approx(ahead(rows["wide"], rows["0"]), abs=0.05)


def test_what_no_seed_makes_has_no_part_in_the_columns_variance() -> None:
    rows = {str(at): drawn([10.0 + at, 11.0 + 1.1 * at, 12.5]) for at in range(4)}
    pixels = drawn([4.0, 4.1, 4.2])
    apart = stats.moderated(rows | {"pixels": pixels}, {"pixels"})
    assert apart["pixels"].prior is None and apart["0"].prior == stats.moderated(rows)["0"].prior


@pytest.mark.parametrize("shared", [0.0, 0.01, 0.5, 1, 4, 20])
@pytest.mark.parametrize("freedom", [1.2, 4, 30])
def test_a_p_value_is_the_integral_over_the_error_of_test_samples(freedom: float, shared: float) -> None:
    for mean in (0.0, 1.0, 3.0):
        found = Difference(mean * np.hypot(1, shared), 1.0, freedom, shared)

        def tail(z: float, found: Difference = found) -> float:
            return float(norm.pdf(z) * student.sf(found.mean + shared * z, freedom))

        steep = [-found.mean / shared] if shared and found.mean < 9 * shared else None
        expected, _ = quad(tail, -9, 9, points=steep, limit=500, epsabs=1e-12)
        assert found.above() == pytest.approx(expected, rel=1e-5)
