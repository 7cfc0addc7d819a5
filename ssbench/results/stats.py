"""How sure a score is: percentile bootstrap over test samples, and paired comparisons of two methods. No torch.

A resample is drawn once for a number of test samples and shared by all runs, so that the draws of two runs are joint
and their difference is a paired one. How training runs differ is judged apart, by the pooled deviation over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssbench.results.metrics import KINDS, Array, Kind, score
from ssbench.rng import derive

Arrays = Mapping[
    str, NDArray[np.generic]
]  # of one run: what its kind of metric needs, see ssbench.results.metrics.Metric
DRAWS = 2000
BLOCK = 50  # draws multiplied at once: 20 MB of weights for 50,000 samples


@dataclass(frozen=True)
class Comparison:
    """How far `best` is ahead, in the metric's unit; positive is ahead whichever direction is better."""

    difference: float  # of the means over seeds
    low: float  # 95 % interval of the difference, over test samples; NaN where the runs can't be paired
    high: float
    pooled_sd: float  # over seeds; NaN where a side has one seed
    real: bool


def interval(kind: Kind, arrays: Arrays) -> tuple[float, float]:
    """The 95 % interval of one run's score over test samples (Efron 1979, percentile bootstrap, 2,000 draws)."""
    return _limits(_draws(kind, [arrays])[:, 0])


def ahead(
    kind: Kind, better: Literal["higher", "lower"], best: Sequence[Arrays], other: Sequence[Arrays]
) -> Comparison:
    """Whether the runs of `best` (one a seed) are really ahead of those of `other` on the same test samples.

    Real means: the paired 95 % interval of the difference lies above zero, the difference of means exceeds the pooled
    standard deviation over seeds, and both sides have at least two seeds. Runs whose numbers of test samples differ
    can't be compared, so nothing about them is real.
    """
    sign = 1 if better == "higher" else -1
    values = [np.array([score(kind, run) for run in side]) for side in (best, other)]
    difference = sign * float(values[0].mean() - values[1].mean())
    pooled = _pooled_sd(values[0], values[1])
    if len({len(KINDS[kind][0](run)) for run in (*best, *other)}) > 1:
        return Comparison(difference, nan, nan, pooled, False)
    draws = sign * _draws(kind, [*best, *other])  # (DRAWS, seeds of both)
    low, high = _limits(draws[:, : len(best)].mean(1) - draws[:, len(best) :].mean(1))
    return Comparison(difference, low, high, pooled, low > 0 and difference > pooled)  # never above NaN


def leads(
    kind: Kind,
    better: Literal["higher", "lower"],
    sides: Sequence[Sequence[Arrays]],
    seeds: Sequence[Sequence[int]],
) -> NDArray[np.bool_] | None:
    """Which sides have the best mean on each resample of test samples and seeds, (DRAWS, sides); equals lead together.

    A side is its runs, one a seed, and `seeds` names them. Sides that have the same seeds are resampled with the same
    ones, so that what a seed does to all of them cancels. None where the numbers of test samples differ.
    """
    if len({len(KINDS[kind][0](run)) for side in sides for run in side}) > 1:
        return None
    means = []
    for side, names in zip(sides, seeds):
        generator = np.random.default_rng(derive(0, f"bootstrap of seeds {[*names]}"))
        picks = generator.integers(len(side), size=(DRAWS, len(side)))
        means.append(np.take_along_axis(_draws(kind, side), picks, 1).mean(1))
    scores = np.stack(means, 1) * (1 if better == "higher" else -1)
    return np.asarray(scores >= scores.max(1, keepdims=True) - 1e-9)  # sums of equals differ in their last digits


def _pooled_sd(a: Array, b: Array) -> float:
    """Of two sets of seeds; NaN unless each has at least two."""
    if min(len(a), len(b)) < 2:
        return nan
    squares = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
    return float(np.sqrt(squares / (len(a) + len(b) - 2)))


def _limits(draws: Array) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _draws(kind: Kind, runs: Sequence[Arrays]) -> Array:
    """The metric of each run on each resample of the test samples, (DRAWS, R)."""
    per_sample, reduce = KINDS[kind]
    stacked = np.stack([per_sample(run) for run in runs], 1)  # (N, R, k)
    flat = stacked.reshape(len(stacked), -1)  # (N, R * k)
    weights = _weights(len(stacked))  # (DRAWS, N)
    sums = [weights[at : at + BLOCK].astype(np.float64) @ flat for at in range(0, DRAWS, BLOCK)]
    return reduce(np.concatenate(sums).reshape(DRAWS, *stacked.shape[1:]))


@lru_cache(maxsize=1)
def _weights(samples: int) -> NDArray[np.uint8]:
    """How often each test sample is in each resample, (DRAWS, N): multinomial counts, always the same for one N."""
    generator = np.random.default_rng(derive(0, "bootstrap"))
    weights = np.empty((DRAWS, samples), np.uint8)  # a mean of 1: 256 never happens
    for row in weights:
        row[:] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
    return weights
