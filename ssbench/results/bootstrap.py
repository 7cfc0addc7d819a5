"""How sure one score is: a bootstrap over test samples, or over clusters of them. No torch.

A resample is drawn once for a number of test samples and shared by all runs, so that the draws of two runs are joint
and their difference is a paired one. Samples of one patient, video or site are no independent ones: where the data
names such groups, groups are what is drawn.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtrit
from scipy.stats import binomtest

from ssbench.results.metrics import KINDS, Array, Kind
from ssbench.rng import derive

Statistics = tuple[Kind, Array]  # a run's metric, and what is summed for it of each unit, (U, k)
Arrays = Mapping[str, NDArray[np.generic]]  # of one run: what its kind of metric needs, see metrics.Metric
GROUP = "group"  # among the arrays: which cluster a sample is of, (N,)
DRAWS = 2000
BLOCK = 50  # draws multiplied at once: 20 MB of weights for 50,000 samples
EXACT = 2**24  # whole numbers up to it are sums in float32, too
NORMAL = float(ndtri(0.025))
UPWARD: tuple[Kind, ...] = ("ece",)  # metrics that are larger on resamples than on what those are drawn from
DOWNWARD: tuple[Kind, ...] = ("f1", "f1-labels")  # and smaller
FIRST_ORDER: tuple[Kind, ...] = ("auroc", "ap")  # whose resamples are linear
SLIGHT = 1e-9  # of rounding


def interval(kind: Kind, arrays: Arrays) -> tuple[float, float]:
    """The 95 % interval of one run's score over test samples (Efron 1979, bootstrap, 2,000 draws).

    Most are percentile intervals, expanded since few samples, or groups of them, vary less than what they are of
    (Hesterberg 2015, arXiv:1411.5279, 5.3). Others where percentiles do not hold the truth:
    - accuracy of samples that are in no groups: Wilson's (1927), since all right is no certainty; other scores that no
      resample changes, such as a perfect F1, have an interval of no width;
    - AUROC and average precision, whose resamples are of first order and leave the scale near its ends: by the
      bootstrap's standard error on the logit;
    - F1, which is smaller on a resample: percentiles or the basic ones, mirrored at the value (Davison and Hinkley
      1997, 5.2), whichever reach further;
    - calibration error, a sum of absolute values and so larger on a resample: the basic one with the value in it.
    """
    ((low, high),) = intervals([(kind, units(kind, arrays))])
    return float(low), float(high)


def intervals(found: Sequence[Statistics]) -> Array:
    """Those of several scores over the same number of units, (R, 2)."""
    tail, draws = float(ndtr(NORMAL * expansion(len(found[0][1])))), drawn(found)
    ends = np.percentile(draws, [100 * tail, 100 - 100 * tail], axis=0).T
    for at, (kind, each) in enumerate(found):
        value, own = float(KINDS[kind][1](each.sum(0), each.sum(0))), ends[at]
        if kind == "accuracy" and (each[:, 1] == 1).all():
            hits = binomtest(round(each[:, 0].sum()), len(each)).proportion_ci(method="wilson")
            ends[at] = 100 * hits.low, 100 * hits.high
        elif kind in FIRST_ORDER and SLIGHT < value < 100 - SLIGHT:
            reach = NORMAL * expansion(len(each)) * draws[:, at].std(ddof=1) / (value * (1 - value / 100))
            ends[at] = 100 * expit(logit(value / 100) + reach * np.array([1, -1]))
        elif kind in DOWNWARD:
            ends[at] = np.clip(value + np.abs(own - value).max() * np.array([-1, 1]), 0, 100)
        elif kind in UPWARD:
            ends[at] = np.clip(2 * value - own[::-1], [0, value], [value, 100])
    return np.asarray(ends)


def expansion(units: int) -> float:
    """How much wider intervals over so many units are than a normal law and the variance on resamples make them.

    Resamples vary less by (N - 1) / N, and of few units the variance is not known; 1 of a single one, which has none.
    """
    return float(np.sqrt(units / (units - 1)) * stdtrit(units - 1, 0.025) / NORMAL) if units > 1 else 1.0


def units(kind: Kind, arrays: Arrays) -> Array:
    """The statistics that are resampled, (U, k): of each sample, or summed over those of each cluster."""
    each = KINDS[kind][0](arrays)
    if GROUP not in arrays:
        return each
    _, at = np.unique(arrays[GROUP], return_inverse=True)
    summed = np.zeros((at.max() + 1, *each.shape[1:]))
    np.add.at(summed, at, each)
    return summed


def drawn(found: Sequence[Statistics]) -> Array:
    """Each run's metric on each resample of the units, whose number is the same in all, (DRAWS, R)."""
    sums = _sums(np.concatenate([each for _, each in found], 1))
    parts = np.split(sums, np.cumsum([each.shape[1] for _, each in found])[:-1], 1)
    return np.stack([KINDS[kind][1](part, each.sum(0)) for (kind, each), part in zip(found, parts)], 1)


def _sums(columns: Array) -> Array:
    """Those of each column, (U, n), over each resample, (DRAWS, n).

    Equal columns, such as runs with the same test samples have of the truth, are summed once, and whole numbers in
    float32, whose products take half as long.
    """
    rows = np.ascontiguousarray(columns.T)
    whole = (rows == np.rint(rows)).all(1) & (len(columns) * np.abs(rows).max(1) < EXACT)
    weights, sums = _weights(len(columns)), np.empty((DRAWS, len(rows)))
    for kind, some in (("f4", np.flatnonzero(whole)), ("f8", np.flatnonzero(~whole))):
        part, first = rows[some].astype(kind), dict[bytes, int]()
        same = [first.setdefault(row.tobytes(), at) for at, row in enumerate(part)]
        kept, back = np.unique(np.array(same, int), return_inverse=True)
        for start in range(0, DRAWS, BLOCK) if same else ():
            block = slice(start, start + BLOCK)
            sums[block, some] = (weights[block].astype(kind) @ part[kept].T)[:, back]
    return sums


@lru_cache(maxsize=1)
def _weights(samples: int) -> NDArray[np.uint8]:
    """How often each test sample is in each resample, (DRAWS, N): multinomial counts, always the same for one N."""
    generator = np.random.default_rng(derive(0, "bootstrap"))
    weights = np.empty((DRAWS, samples), np.uint8)  # a mean of 1: 256 never happens
    for row in weights:
        row[:] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
    return weights
