"""How finely a column sees: what makes one score's deviation, and the smallest difference it can show. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import fmean, median, median_low, variance

import numpy as np

from ssbench.results.stats import LEVEL, SEEDS, Difference, Side, difference, own, smallest

MANY = 1000  # seeds: what takes more, more test samples would do


@dataclass(frozen=True)
class Precision:
    """Of one column, in the units of its score."""

    seeds: float  # standard deviation of one score over seeds, beyond what test samples and probes explain
    probes: float | None  # over seeds of the task's own draws, of one encoder; None: judged once
    samples: float  # and over test samples
    least: float  # the difference of two rows that one test at 5 % sees in 4 of 5 cases
    among: float  # and that the first of all the table's pairs is seen by, two-sided
    count: int  # seeds of a typical pair of rows
    halving: int | None  # seeds that would show half of it; None: more than MANY


def precision(sides: Sequence[Side], again: Sequence[Sequence[float]] = (), pairs: int = 1) -> Precision | None:
    """Of typical rows: mean variances and median errors; None where no two rows can be compared.

    `again` are the scores of one encoder each, judged several times; `pairs` are those of the whole table.
    """
    several = [side for side in sides if len(side) >= SEEDS]
    tried = combinations(several, 2)
    found = [(one, other, made) for one, other in tried if (made := difference(one, other)) is not None]
    if not found:
        return None
    error, freedom, shared = (
        median(getattr(made, key) for *_, made in found) for key in ("error", "freedom", "shared")
    )
    count = median_low(min(len(one), len(other)) for one, other, _ in found)
    least, among = smallest(error, freedom, shared), smallest(error, freedom, shared, LEVEL / 2 / pairs)
    halving = seeds_for(Difference(least / 2, error, freedom, shared), count)
    values = [np.array([run.value for run in side.values()]) for side in several]
    probes = fmean(variance(of) for of in again) if again else None
    beyond = fmean(float(of.var(ddof=1)) - max(own(side), probes or 0.0) for of, side in zip(values, several))
    samples = fmean(float(run.draws.var(ddof=1)) for side in several for run in side.values())
    by_probes = None if probes is None else sqrt(probes)
    return Precision(sqrt(max(beyond, 0.0)), by_probes, sqrt(samples), least, among, count, halving)


def seeds_for(found: Difference, count: int) -> int | None:
    """How many seeds of each row see a difference of this mean in 4 of 5 cases; its errors are those of `count`.

    None: more than MANY, since what test samples leave open no seeds tell.
    """

    def seen(seeds: int) -> bool:
        error, freedom = found.error * sqrt(count / seeds), found.freedom * (seeds - 1) / (count - 1)
        return smallest(error, freedom, found.shared) <= found.mean

    few, many = count, MANY
    if not seen(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if seen(middle) else (middle, many)
    return many
