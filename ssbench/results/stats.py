"""Whether two methods differ: tests over test samples and seeds, of scores on joint resamples. No torch."""

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, hypot, nan, sqrt
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, fdtrc, ndtri, polygamma, stdtr, stdtrit

from ssbench.results.bootstrap import DRAWS, Arrays, drawn, expansion, units
from ssbench.results.metrics import Array, Kind, score
from ssbench.rng import derive

K = TypeVar("K", bound=Hashable)
LEVEL = 0.05
SEEDS = 3  # that a test needs: two say too little of their own variance
UNTESTED = f"fewer than {SEEDS} seeds, or one group of test images,"  # where there is no `difference`
LEAST = 4  # rows that say something of a variance together
WIDE = 500  # statistics a sample that are resampled at once
WIDER = 0.05  # p of a variance beside its column's, below which they are not alike
TINY = 1e-18  # a variance of nothing but rounding
FINE = 128  # points from -8 to 8 that sum a function over the standard normal, where it is no steeper than 1 / 4
STEEPEST = 64  # times as many


@dataclass(frozen=True, eq=False)
class Run:
    """One seed of a row: its score, and its scores on resamples of the test samples. Higher is better.

    Draws are as much further from the score as few samples, or few groups of them, leave open (`expansion`).
    """

    value: float
    draws: Array  # (DRAWS,)
    samples: int  # or groups of them


@dataclass(frozen=True)
class Prior:
    """What the rows of a column say of a row's variance over seeds before its own: as much as so many more seeds."""

    freedom: float
    variance: float


class Moderated(dict[int, Run]):
    """The runs of a row, and what its column's rows say of its variance."""

    prior: Prior | None = None


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
            draws = sign * drawn([(kind, each[key]) for key in some])  # (DRAWS, runs)
            for key, own in zip(some, draws.T):
                value = sign * score(kind, arrays[key])
                made[key] = Run(value, value + expansion(shape[0]) * (own - value), shape[0])
    return {key: made[key] for key in arrays}


@dataclass(frozen=True)
class Difference:
    """How far the mean of one row is above that of another, with two errors: over seeds, and over test samples.

    That over seeds is Welch's t-test (1947), of variances that a column's rows share in part (`moderated`); of
    these the part that is the column's is one for both rows, and so are its degrees of freedom. That over test
    samples does not average out over seeds, which share them: it is normal, with the variance that a paired
    bootstrap gives for the difference of means, less the part of it that is each run's own, since seeds show that
    too. A run's own part is also the least variance that seeds are given: equal scores of different answers are no
    certainty.
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
        steep = ceil(min(self.shared / self.error / 4, STEEPEST))
        points, weights = _normal(max(steep, 1))
        shifted = self.mean - least + self.shared * points
        return float(weights @ stdtr(self.freedom, -shifted / self.error))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The values that the two-sided test does not reject."""
        tail, reach = (1 - level) / 2, 1e3 * (self.error + self.shared)  # of a t-test with one degree of freedom, too
        low = brentq(lambda least: self.above(least) - tail, self.mean - reach, self.mean)
        high = brentq(lambda least: self.above(least) - (1 - tail), self.mean, self.mean + reach)
        return float(low), float(high)


@lru_cache
def _normal(steep: int) -> tuple[Array, Array]:
    """Points and weights of a mean over the standard normal: the trapezoidal rule, all but exact for what is smooth."""
    points = np.linspace(-8, 8, FINE * steep + 1)
    density = np.exp(-(points**2) / 2)
    return points, density / density.sum()


def ahead(one: Side, other: Side) -> float:
    """How likely the mean of `one` were this far above that of `other`, if it were not (p).

    One-sided. NaN, which is neither small nor large, where there is no `difference`.
    """
    found = difference(one, other)
    return nan if found is None else found.above()


def difference(one: Side, other: Side) -> Difference | None:
    """Of two rows; None where one has fewer than SEEDS seeds, numbers of test samples differ, or there is one alone."""
    samples = {run.samples for side in (one, other) for run in side.values()}
    if min(len(one), len(other)) < SEEDS or len(samples) > 1 or samples == {1}:
        return None
    means, draws, owns, spreads = [], [], [], []
    for side in (one, other):
        mean, alone = _over_samples(tuple(side.values()))
        means.append(float(np.mean([run.value for run in side.values()])))
        draws.append(mean)
        owns.append(alone / len(side))
        spreads.append(_over_seeds(side, max(alone, TINY)))
    error = sum(row + column for row, column, _ in spreads)
    told = sum(row**2 / (len(side) - 1) for (row, *_), side in zip(spreads, (one, other)))
    shared_by = max(of for *_, of in spreads)  # the prior's degrees of freedom, which both rows have together
    told += sum(column for _, column, _ in spreads) ** 2 / shared_by if shared_by else 0.0
    shared = max(float((draws[0] - draws[1]).var(ddof=1)) - sum(owns), 0.0)
    return Difference(means[0] - means[1], sqrt(error), error**2 / told, sqrt(shared))


def own(side: Side) -> float:
    """The part of a run's variance over test samples that is its own: other seeds of the row do not share it."""
    return _over_samples(tuple(side.values()))[1]


@lru_cache(maxsize=1024)  # a row is compared with all others
def _over_samples(found: tuple[Run, ...]) -> tuple[Array, float]:
    """The mean of some runs on each resample, (DRAWS,), and the part of a run's variance that is its own."""
    drawn = np.stack([run.draws for run in found], 1)
    mean = drawn.mean(1)
    return mean, float((drawn - mean[:, None]).var(0, ddof=1).sum()) / max(len(found) - 1, 1)


def _over_seeds(side: Side, least: float) -> tuple[float, float, float]:
    """The variance of a row's mean, in two parts: what its own seeds say and what its column does; and the prior's
    degrees of freedom. Together they are no less than that of so many seeds with a variance of `least`."""
    count, prior = len(side), side.prior if isinstance(side, Moderated) else None
    variance = float(np.var([run.value for run in side.values()], ddof=1))
    if prior is None:
        return max(variance, least) / count, 0.0, 0.0
    both = prior.freedom + count - 1
    row, column = (count - 1) * variance / both / count, prior.freedom * prior.variance / both / count
    return max(row, least / count - column), column, prior.freedom


def moderated(sides: Mapping[K, Side], fixed: Container[K] = ()) -> dict[K, Moderated]:
    """The rows of a column, each with what all of them say of a variance over seeds (Smyth 2004).

    Three seeds tell little of their own variance, but rows of one column have variances of one size, more or less: by
    how much they agree, one of the column counts beside the row's own. What is `fixed` has no seed of its own, such as
    pixels, and no part in it. A row that varies more than the column lets expect keeps to its own variance alone, since
    the column's would make it too sure.
    """
    made = {key: Moderated(side) for key, side in sides.items()}
    several = [side for key, side in made.items() if len(side) > 1 and key not in fixed]
    known = [(side, float(np.var([run.value for run in side.values()], ddof=1))) for side in several]
    varying = [(side, variance) for side, variance in known if variance > TINY]
    found = prior([variance for _, variance in varying], [len(side) - 1 for side, _ in varying])
    for side, variance in varying:
        if found and fdtrc(len(side) - 1, found.freedom, variance / found.variance) >= WIDER:
            side.prior = found
    return made


def prior(variances: Sequence[float], freedoms: Sequence[int]) -> Prior | None:
    """Of a scaled inverse chi-squared law that variances come from, by the moments of their logarithms.

    Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), 3, section 6.2. Its degrees of freedom
    are no more than all rows but one have. None for fewer than LEAST rows.
    """
    if len(variances) < LEAST:
        return None
    half, most = np.asarray(freedoms) / 2, sum(freedoms) * (1 - 1 / len(freedoms))
    logs = np.log(variances) - digamma(half) + np.log(half)
    beyond = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if beyond <= polygamma(1, most / 2):  # no more apart than estimates of one variance are
        return Prior(most, float(np.average(variances, weights=freedoms)))
    freedom = 2 * brentq(lambda x: polygamma(1, x) - beyond, 1e-3, most / 2)
    return Prior(freedom, float(np.exp(logs.mean() + digamma(freedom / 2) - np.log(freedom / 2))))


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


def smallest(error: float, freedom: float, shared: float, level: float = LEVEL, power: float = 0.8) -> float:
    """The difference that the one-sided test sees in `power` of all cases, with these errors of a Difference."""
    reach = (error + shared) / level * 100  # of a t-test with one degree of freedom, too
    critical = brentq(lambda mean: Difference(mean, error, freedom, shared).above() - level, 0.0, reach)
    return float(critical + hypot(error * stdtrit(freedom, power), shared * ndtri(power)))


def _draws(side: Side) -> Array:
    return np.stack([run.draws for run in side.values()], 1)  # (DRAWS, seeds)
