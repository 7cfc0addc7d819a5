"""How sure one score is: percentile bootstrap over test samples, or over clusters of them. No torch.

A resample is drawn once for a number of test samples and shared by all runs, so that the draws of two runs are joint
and their difference is a paired one. Samples of one patient, video or site are no independent ones: where the data
names such groups, groups are what is drawn.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from ssbench.results.metrics import KINDS, Array, Kind
from ssbench.rng import derive

Arrays = Mapping[str, NDArray[np.generic]]  # of one run: what its kind of metric needs, see metrics.Metric
GROUP = "group"  # among the arrays: which cluster a sample is of, (N,)
DRAWS = 2000
BLOCK = 50  # draws multiplied at once: 20 MB of weights for 50,000 samples


def interval(kind: Kind, arrays: Arrays) -> tuple[float, float]:
    """The 95 % interval of one run's score over test samples (Efron 1979, percentile bootstrap, 2,000 draws).

    Over clusters, which are few, it is the expanded percentile interval (Hesterberg 2015, arXiv:1411.5279, 5.3).
    """
    ((low, high),) = intervals(kind, units(kind, arrays)[:, None], GROUP in arrays)
    return float(low), float(high)


def intervals(kind: Kind, stacked: Array, clustered: bool = False) -> Array:
    """Those of several runs with the same test samples, (R, 2), from their statistics a unit, (U, R, k)."""
    count, tail = len(stacked), 0.025
    if clustered and count > 1:
        tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, tail)))
    return np.asarray(np.percentile(drawn(kind, stacked), [100 * tail, 100 - 100 * tail], axis=0).T)


def units(kind: Kind, arrays: Arrays) -> Array:
    """The statistics that are resampled, (U, k): of each sample, or summed over those of each cluster."""
    each = KINDS[kind][0](arrays)
    if GROUP not in arrays:
        return each
    _, at = np.unique(arrays[GROUP], return_inverse=True)
    summed = np.zeros((at.max() + 1, *each.shape[1:]))
    np.add.at(summed, at, each)
    return summed


def drawn(kind: Kind, stacked: Array) -> Array:
    """The metric of R runs on each resample of the units, (DRAWS, R), from their statistics, (U, R, k)."""
    flat = stacked.reshape(len(stacked), -1)  # (N, R * k)
    weights = _weights(len(stacked))  # (DRAWS, N)
    sums = [weights[at : at + BLOCK].astype(np.float64) @ flat for at in range(0, DRAWS, BLOCK)]
    return KINDS[kind][1](np.concatenate(sums).reshape(DRAWS, *stacked.shape[1:]), stacked.sum(0))


@lru_cache(maxsize=1)
def _weights(samples: int) -> NDArray[np.uint8]:
    """How often each test sample is in each resample, (DRAWS, N): multinomial counts, always the same for one N."""
    generator = np.random.default_rng(derive(0, "bootstrap"))
    weights = np.empty((DRAWS, samples), np.uint8)  # a mean of 1: 256 never happens
    for row in weights:
        row[:] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
    return weights
