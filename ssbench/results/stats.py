"""Whether two methods differ: tests over test samples and seeds, of scores on joint resamples. No torch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, nan, sqrt
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr, stdtrit

from ssbench.results.bootstrap import DRAWS, Arrays, drawn, units
from ssbench.results.metrics import Array, Kind, score
from ssbench.rng import derive

K = TypeVar("K", bound=Hashable)
SEEDS = 3  # that a test needs: two say too little of their own variance
WIDE = 500  # statistics a sample that are resampled at once
TINY = 1e-18  # a variance of nothing but rounding
NORMAL = ndtri((np.arange(DRAWS) + 0.5) / DRAWS)  # the standard normal, by its quantiles


@dataclass(frozen=True)
class Run:
    """One seed of a row: its score, and its scores on resamples of the test samples. Higher is better."""

    value: float
    draws: Array  # (DRAWS,)
    samples: int


Side = Mapping[int, Run]  # the runs of one row in one column, by seed


def runs(kind: Kind, better: Literal["higher", "lower"], arrays: Mapping[K, Arrays]) -> dict[K, Run]:
    """The runs of one row by seed, or of several by any key; the sign is turned where lower is better."""
    sign = 1 if better == "higher" else -1
    each = {key: units(kind, run) for key, run in arrays.items()}
    made = {}
    for shape in {one.shape for one in each.values()}:
        keys = [key for key, one in each.items() if one.shape == shape]
        size = max(WIDE // shape[1], 1)
        for start in range(0, len(keys), size):  # many at once, as far as they have room
            some = keys[start : start + size]
            draws = sign * drawn(kind, np.stack([each[key] for key in some], 1))  # (DRAWS, runs)
            for key, own in zip(some, draws.T):
                made[key] = Run(sign * score(kind, arrays[key]), own, shape[0])
    return {key: made[key] for key in arrays}


@dataclass(frozen=True)
class Difference:
    """How far the mean of one row is above that of another, with two errors: over seeds, and over test samples.

    That over seeds is Welch's t-test (1947). That over test samples does not average out over seeds, which share them:
    it is normal, with the variance that a paired bootstrap gives for the difference of means, less the part of it that
    is each run's own, since seeds show that too. A run's own part is also the least variance that seeds are given:
    equal scores of different answers are no certainty.
    """

    mean: float
    error: float  # over seeds, standard
    freedom: float  # of that error
    shared: float  # standard error over test samples

    def above(self, least: float = 0.0) -> float:
        """How likely it were this large if it truly were `least` (p, one-sided).

        The mean of the t-test's p over the error of test samples, which never rejects more than it says, where one
        t-test with the sum of both variances does.
        """
        shifted = self.mean - least + self.shared * NORMAL
        return float(stdtr(self.freedom, -shifted / self.error).mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The values that the two-sided test does not reject."""
        tail, reach = (1 - level) / 2, 1e3 * (self.error + self.shared)  # of a t-test with one degree of freedom, too
        low = brentq(lambda least: self.above(least) - tail, self.mean - reach, self.mean)
        high = brentq(lambda least: self.above(least) - (1 - tail), self.mean, self.mean + reach)
        return float(low), float(high)


def ahead(one: Side, other: Side) -> float:
    """How likely the mean of `one` were this far above that of `other`, if it were not (p).

    One-sided. NaN, which is neither small nor large, where there is no `difference`.
    """
    found = difference(one, other)
    return nan if found is None else found.above()


def difference(one: Side, other: Side) -> Difference | None:
    """Of two rows; None where one has fewer than SEEDS seeds or numbers of test samples differ."""
    if min(len(one), len(other)) < SEEDS or len({run.samples for side in (one, other) for run in side.values()}) > 1:
        return None
    means, draws, spreads, owns = [], [], [], []
    for side in (one, other):
        values, alone = np.array([run.value for run in side.values()]), own(side)
        means.append(float(values.mean()))
        draws.append(_draws(side).mean(1))
        spreads.append(max(float(values.var(ddof=1)), alone, TINY) / len(side))
        owns.append(alone / len(side))
    freedom = sum(spreads) ** 2 / sum(spread**2 / (len(side) - 1) for spread, side in zip(spreads, (one, other)))
    shared = max(float((draws[0] - draws[1]).var(ddof=1)) - sum(owns), 0.0)
    return Difference(means[0] - means[1], sqrt(sum(spreads)), freedom, sqrt(shared))


def own(side: Side) -> float:
    """The part of a run's variance over test samples that is its own: other seeds of the row do not share it."""
    drawn = _draws(side)
    return float((drawn - drawn.mean(1, keepdims=True)).var(0, ddof=1).sum()) / (len(side) - 1)


def holm(found: Sequence[float]) -> list[float]:
    """Each p adjusted for there being several (Holm 1979): below 5 % in any one case in 20 at most, if none is true."""
    order = np.argsort(found)
    least = np.asarray(found)[order] * np.arange(len(found), 0, -1)
    adjusted = np.empty(len(found))
    adjusted[order] = np.minimum(np.maximum.accumulate(least), 1.0)
    return adjusted.tolist()


def leads(sides: Sequence[Side]) -> NDArray[np.bool_] | None:
    """Which sides have the best mean on each resample of test samples and seeds, (DRAWS, sides); equals lead together.

    Sides that have the same seeds are resampled with the same ones, so that what a seed does to all of them cancels.
    None where the numbers of test samples differ.
    """
    if len({run.samples for side in sides for run in side.values()}) > 1:
        return None
    means = []
    for side in sides:
        generator = np.random.default_rng(derive(0, f"bootstrap of seeds {[*side]}"))
        picks = generator.integers(len(side), size=(DRAWS, len(side)))
        means.append(np.take_along_axis(_draws(side), picks, 1).mean(1))
    scores = np.stack(means, 1)
    return np.asarray(scores >= scores.max(1, keepdims=True) - 1e-9)  # sums of equals differ in their last digits


def beliefs(sides: Sequence[Side], name: str) -> list[Array]:
    """Where the means of one row in several columns may truly lie, (DRAWS,) each, jointly; higher is better.

    A mean on each resample of the test samples, and what few seeds leave open of it: a multivariate t with the scatter
    of the row's seeds, so that what a good seed does to several columns it does to them together. `name` is the row's:
    other rows are drawn by themselves. Of two columns with other seeds each has its own.
    """
    made = []
    for side in sides:
        values, count = np.array([run.value for run in side.values()]), len(side)
        generator = np.random.default_rng(derive(0, f"beliefs of {name}, seeds {[*side]}"))
        normal, scale = generator.normal(size=(DRAWS, count)), generator.chisquare(count - 1, DRAWS) / (count - 1)
        spread = normal @ (values - values.mean()) / np.sqrt(count * (count - 1) * scale)
        made.append(_draws(side).mean(1) + spread)
    return made


def smallest(error: float, freedom: float, shared: float, power: float = 0.8) -> float:
    """The difference that the one-sided test at 5 % sees in `power` of all cases, with these errors of a Difference."""
    reach = 1e3 * (error + shared)
    critical = brentq(lambda mean: Difference(mean, error, freedom, shared).above() - 0.05, 0.0, reach)
    return float(critical + hypot(error * stdtrit(freedom, power), shared * ndtri(power)))


def _draws(side: Side) -> Array:
    return np.stack([run.draws for run in side.values()], 1)  # (DRAWS, seeds)
