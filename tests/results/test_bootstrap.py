"""Intervals over clusters of test samples: against a slow resampling, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import norm, t

from ssbench.results.bootstrap import GROUP, Statistics, _weights, drawn, interval, intervals, units
from ssbench.results.metrics import BINS, KINDS, Kind, score
from ssbench.results.stats import ahead, runs

CLUSTERS, EACH = 30, 12


def labelled(seed: int = 0) -> dict[str, np.ndarray]:
    """Answers of 30 patients, of whom some are easy and some are hard."""
    draw = np.random.default_rng(seed)
    group = np.repeat(np.arange(CLUSTERS), EACH)
    ease = draw.uniform(0.2, 1.0, CLUSTERS)[group]
    truth = draw.integers(4, size=len(group))
    predicted = np.where(draw.random(len(group)) < ease, truth, (truth + 1) % 4)
    order = draw.permutation(len(group))
    return {"predicted": predicted[order], "truth": truth[order], GROUP: group[order]}


@pytest.mark.parametrize("kind", ["accuracy", "class-accuracy"])
def test_whole_clusters_are_resampled(kind: Kind) -> None:
    arrays, draw = labelled(), np.random.default_rng(1)
    members = [np.flatnonzero(arrays[GROUP] == one) for one in range(CLUSTERS)]
    slow = []
    for _ in range(4000):
        rows = np.concatenate([members[one] for one in draw.integers(CLUSTERS, size=CLUSTERS)])
        slow.append(score(kind, {name: value[rows] for name, value in arrays.items()}))
    tail = 100 * norm.cdf(np.sqrt(CLUSTERS / (CLUSTERS - 1)) * t.ppf(0.025, CLUSTERS - 1))
    assert interval(kind, arrays) == pytest.approx(tuple(np.percentile(slow, [tail, 100 - tail])), abs=0.6)


def test_clusters_of_one_sample_are_samples_and_their_names_do_not_matter() -> None:
    arrays = labelled()
    alone = arrays | {GROUP: np.arange(len(arrays["truth"]))}
    assert np.array_equal(units("accuracy", alone), KINDS["accuracy"][0](arrays))
    low, high = interval("accuracy", alone)
    plain = interval("accuracy", {name: value for name, value in arrays.items() if name != GROUP})
    assert (low, high) == pytest.approx(plain, abs=0.3)
    renamed = arrays | {GROUP: 1000 - 7 * arrays[GROUP]}
    assert np.diff(interval("accuracy", renamed)) == pytest.approx(np.diff(interval("accuracy", arrays)), rel=0.1)


def means(values: np.ndarray, each: int = 1) -> list[Statistics]:
    """Of each column of values, sums of so many, (U, R)."""
    return [("mean", np.stack([column, np.full(len(column), float(each))], 1)) for column in values.T]


def summed(simulations: int, clusters: int, spread: float, seed: int = 0) -> np.ndarray:
    """Sums of a mean of 0 in each cluster, (clusters, simulations)."""
    draw = np.random.default_rng(seed)
    effect = spread * draw.normal(size=(clusters, simulations, 1))
    values = effect + draw.normal(size=(clusters, simulations, EACH))
    return np.asarray(values.sum(2))


def covered(found: np.ndarray) -> float:
    return float(((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean())


@pytest.mark.parametrize("clusters", [10, 30, 100])
def test_intervals_over_clusters_hold_the_truth_in_95_of_100(clusters: int) -> None:
    assert 0.93 <= covered(intervals(means(summed(2000, clusters, 1.0), EACH))) <= 0.97


def test_intervals_that_ignore_clusters_do_not() -> None:
    draw = np.random.default_rng(0)
    values = np.repeat(draw.normal(size=(CLUSTERS, 500)), EACH, 0) + draw.normal(size=(CLUSTERS * EACH, 500))
    assert covered(intervals(means(values))) < 0.75


def test_intervals_over_samples_hold_the_truth_in_95_of_100() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(200, 2000))
    assert 0.93 <= covered(intervals(means(values))) <= 0.97


def told(samples: int, share: float, apart: float, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Scores of two classes, normal and so far apart, of which the second has a share of samples."""
    truth = np.zeros(samples, np.int64)
    truth[: round(samples * share)] = 1
    score = draw.normal(size=samples) + apart * truth
    return {"scores": np.stack([-score, score], 1), "truth": truth}


@pytest.mark.parametrize(
    ("samples", "share", "apart", "least"), [(100, 0.1, 3, 0.86), (300, 0.05, 2, 0.88), (200, 0.5, 1, 0.92)]
)
def test_the_interval_of_an_area_near_its_ceiling_stays_on_the_scale_and_holds_the_truth(
    samples: int, share: float, apart: float, least: float
) -> None:
    """Percentiles of first-order resamples hold the first in 71 of 100, and 85 of 100 end above 100 %."""
    draw, truth, held = np.random.default_rng(0), 100 * norm.cdf(apart / np.sqrt(2)), []
    for _ in range(400):
        arrays = told(samples, share, apart, draw)
        low, high = interval("auroc", arrays)
        assert 0 <= low <= score("auroc", arrays) <= high <= 100
        held.append(low <= truth <= high)
    assert least <= np.mean(held) <= 0.99


def test_the_interval_of_an_average_precision_is_on_its_scale() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        truth = (np.arange(200) < 10).astype(np.int64)[:, None]
        low, high = interval("ap", {"scores": draw.normal(size=(200, 1)) + 3 * truth, "truth": truth})
        assert 0 < low < high <= 100


def test_all_right_is_no_certainty_and_no_error_of_calibration_is_above_100() -> None:
    truth = np.zeros(100, np.int64)
    assert interval("accuracy", {"predicted": truth, "truth": truth}) == pytest.approx((96.3, 100), abs=0.05)  # Wilson
    low, high = interval("ece", {"confidence": np.linspace(0.9, 1, 20), "hit": np.arange(20) < 1})
    assert low < 91 < high <= 100
    perfect = {"scores": np.eye(2)[truth[:4]] + np.eye(2)[[0, 1, 0, 1]], "truth": np.array([0, 1, 0, 1])}
    assert interval("auroc", perfect) == (100, 100)


def test_the_interval_of_f1_with_many_classes_holds_the_truth() -> None:
    """Of 100 classes with five samples each resamples miss some, and F1 is lower: percentiles hold it in half."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(200):
        truth = draw.integers(100, size=500)
        wrong = (truth + draw.integers(1, 100, size=500)) % 100
        predicted = np.where(draw.random(500) < 0.6, truth, wrong)
        low, high = interval("f1", {"predicted": predicted, "truth": truth})
        held += low <= 60 <= high  # precision and recall are both 0.6
    assert 180 <= held <= 198


def test_scores_of_several_kinds_are_resampled_together_as_each_by_itself() -> None:
    """Equal columns, numbers that are not whole, that float32 does not hold, and that are not there."""
    draw = np.random.default_rng(0)
    truth, answers = draw.integers(4, size=90), draw.integers(4, size=(3, 90))
    found: list[Statistics] = [("f1", KINDS["f1"][0]({"predicted": one, "truth": truth})) for one in answers]
    found += [("class-accuracy", found[0][1]), ("accuracy", np.stack([truth == answers[0], np.ones(90)], 1))]
    found += [("mean", np.stack([draw.random(90), np.ones(90)], 1)), ("mean", np.stack([2.0**40 + truth, truth], 1))]
    found += [("ap", np.where([True, False], np.nan, draw.random((90, 2))))]
    weights = _weights(90).astype(np.float64)
    for at, (kind, each) in enumerate(found):
        slow = KINDS[kind][1](weights @ each, each.sum(0))
        assert np.allclose(drawn(found)[:, at], slow, rtol=1e-13, atol=0), kind


def calibrated(samples: int, shift: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and how likely each is right: less so by `shift` on the scale of the logistic."""
    z = draw.normal(size=samples)
    return 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-(z - shift)))


@pytest.mark.parametrize(("shift", "least"), [(1.0, 0.93), (0.3, 0.85), (0.1, 0.85)])
def test_the_interval_of_a_calibration_error_has_its_value_and_mostly_the_truth(shift: float, least: float) -> None:
    """Of 19.7, 6.2 and 2.1 %; a percentile interval of the last holds it once in a hundred times."""
    draw = np.random.default_rng(0)
    confidence, right = calibrated(1_000_000, shift, draw)
    bins = np.ceil(confidence * BINS).astype(int)
    truth = 100 * abs(np.bincount(bins, confidence - right)).sum() / len(bins)
    held = []
    for _ in range(300):
        confidence, right = calibrated(2000, shift, draw)
        arrays = {"confidence": confidence, "hit": draw.random(2000) < right}
        low, high = interval("ece", arrays)
        assert 0 <= low <= score("ece", arrays) <= high
        held.append(low <= truth <= high)
    assert np.mean(held) >= least


def test_rows_are_compared_over_clusters_too() -> None:
    """What is sure over many samples is not where they are those of few patients."""
    draw, group = np.random.default_rng(0), np.repeat(np.arange(6), 60)
    better = np.array([0.95, 0.95, 0.95, 0.5, 0.5, 0.45])[group]  # at three patients of six
    truth = np.zeros(360, np.int64)
    one = {seed: (draw.random(360) < better).astype(np.int64) for seed in range(3)}
    two = {seed: (draw.random(360) < 0.6).astype(np.int64) for seed in range(3)}

    def made(of: dict[int, np.ndarray], clustered: bool) -> dict[int, dict[str, np.ndarray]]:
        more = {GROUP: group} if clustered else {}
        return {seed: {"predicted": 1 - hits, "truth": truth, **more} for seed, hits in of.items()}

    def p(clustered: bool) -> float:
        first, second = (runs("accuracy", "higher", made(of, clustered)) for of in (one, two))
        return ahead(first, second)

    assert p(clustered=False) < 0.05 < p(clustered=True)
