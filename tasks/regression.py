"""Numbers from frozen features: a ridge regression for each factor, such as place, size, angle or hue."""

import math
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ssbench.errors import UserError
from ssbench.features import Part
from ssbench.results.metrics import Metric, score
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism

from .closed_form import Ridge, apply, standardised
from .grids import search

CIRCULAR = ("hue:1",)


class Regression(Task):
    """Each factor by ridge regression on the standardised features of the first pooling; `select` picks its penalty.

    Penalties stand beside the sum of squared errors, and a head is solved again on fit and select with the one picked.
    A circular factor is two columns, the cosine and sine of its angle. Samples whose factor is not known (NaN) are left
    out of it. `r2` is the mean over columns of the coefficient of determination; `mae` the mean over columns of the
    absolute error in units of the column's deviation in `fit`. The profiles have both by column.
    """

    class Settings(Base):
        decades: tuple[float, ...] = setting(
            (-2, -1, 0, 1, 2, 3, 4, 5, 6),
            "penalties as exponents of ten; then quarters around the best; grows where needed",
            source="project: 1 sample to the weight of 10^6",
            min_length=1,
        )
        circular: tuple[str, ...] = setting(
            CIRCULAR,
            "factors that come back to the same, as NAME:PERIOD; the default where there is such a factor",
            source="shapes: hue in turns",
        )

    needs = frozenset({"factors"})
    metrics = (Metric("r2", "", "higher", "r2"), Metric("mae", "deviations", "lower", "mean"))

    def work(self, bench: Bench) -> Work:
        (fit, select, _), dim = bench.sizes, bench.fit.dim
        each = 2 * (2 * fit + select) * dim**2 + 20 * dim**3
        return Work(sum(bench.sizes), gflops=1e-9 * len(bench.data.factors) * each)

    def evaluate(self, bench: Bench) -> Outcome:
        periods = _periods(self.settings.circular, bench.data.factors)
        names, y = columns(bench.fit, bench.data.factors, periods)  # (N, F)
        truth = columns(bench.select, bench.data.factors, periods)[1]
        x, chosen_on = standardised(bench.fit.pooled(), bench.select.pooled())
        sweep, penalties, edges = list[dict[str, Any]](), dict[str, float](), list[str]()
        for at, name in enumerate(names):
            points, best, at_edge = self._column(name, (x, y[:, at]), (chosen_on, truth[:, at]))
            sweep += points
            penalties[name] = points[best]["penalty"]
            edges += [name] * at_edge
        read = {"pooling": bench.fit.poolings[0], "at_edge": bool(edges), "refit": "fit+select"}
        selected = {"penalty": penalties, **read}

        test = bench.test(selected)
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        known, wanted = torch.cat([y, truth]), columns(test, bench.data.factors, periods)[1]
        ridges = {name: _ridge(x, column) for name, column in zip(names, known.T)}
        predicted = torch.cat([apply(ridge.head(penalties[name]), tested) for name, ridge in ridges.items()], 1)
        error, constant = ((wanted - said).abs() / _deviation(y) for said in (predicted, known.nanmedian(0).values))
        outcome = Outcome(selected, sweep, details={"columns at an edge": edges})
        outcome.add("r2", predicted=predicted, truth=wanted)
        outcome.add("mae", value=_shares(error), constant=_shares(constant))
        r2 = {name: _r2(predicted[:, at], wanted[:, at]) for at, name in enumerate(names)}
        gains = [
            ahead(sweep, name, penalties[name], ridges[name], tested, wanted[:, at]) for at, name in enumerate(names)
        ]
        if defined := [gain for gain in gains if math.isfinite(gain)]:
            outcome.details["optimism"] = fmean(defined)
        outcome.details["profile"] = {"R2 by factor": r2, "MAE by factor": dict(zip(names, error.nanmean(0).tolist()))}
        return outcome

    def _column(
        self, name: str, fit: tuple[Tensor, Tensor], select: tuple[Tensor, Tensor]
    ) -> tuple[list[dict[str, Any]], int, bool]:
        """The sweep of one column, the position of the best of it, and whether that is at the edge."""
        ridge, (features, truth) = _ridge(*fit), select
        found = search(
            self.settings.decades,
            lambda exponent: apply(ridge.head(10.0**exponent), features)[:, 0],
            lambda predicted: _finite(_r2(predicted, truth)),
        )
        points = [
            {"factor": name, "penalty": 10.0**exponent, "select_r2": _finite(_r2(said, truth)), "diverged": False}
            for exponent, said in found.items()
        ]
        said = [*found.values()]

        def made(i: int) -> dict[str, Any]:
            return _arrays(said[i], truth)

        return points, *choose(points, self.metrics[0], ("penalty",), made, "check the factors")


def ahead(
    sweep: list[dict[str, Any]], name: str, picked: float, ridge: Ridge, features: Tensor, truth: Tensor
) -> float:
    """By how much R2 the best penalty of a column on the test split is ahead of the one picked."""
    points = [point for point in sweep if point["factor"] == name]
    penalties = [point["penalty"] for point in points]

    def made(i: int) -> dict[str, Any]:
        return _arrays(apply(ridge.head(penalties[i]), features)[:, 0], truth)

    return optimism(points, Regression.metrics[0], penalties.index(picked), made)["optimism"]


def columns(part: Part, factors: tuple[str, ...], periods: dict[str, float]) -> tuple[list[str], Tensor]:
    """Names and values (N, F) of what is predicted, float64; a factor with a period is its cosine and its sine."""
    names, found = list[str](), list[Tensor]()
    for name, value in zip(factors, part.target("factors").double().T, strict=True):
        if name in periods:
            angle = value * (2 * math.pi / periods[name])
            names += [f"{name} cos", f"{name} sin"]
            found += [angle.cos(), angle.sin()]
        else:
            names.append(name)
            found.append(value)
    return names, torch.stack(found, 1)


def _periods(circular: tuple[str, ...], factors: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in circular:
        name, colon, period = text.rpartition(":")
        try:
            found[name] = float(period)
        except ValueError:
            colon = ""
        if not colon or not found[name] > 0:
            raise UserError(f"regression.circular={text}: expected NAME:PERIOD, such as angle:360")
        if name not in factors and circular != CIRCULAR:
            raise UserError(f"regression.circular={text}: no factor {name} here, but {', '.join(factors)}")
    return found


def _ridge(features: Tensor, target: Tensor) -> Ridge:
    """Of the samples whose target is known; raises RuntimeError where there is none."""
    known = ~target.isnan()
    if not known.any():
        raise RuntimeError("a factor is not known of any image that is trained on")
    return Ridge(features[known], target[known, None])


def _deviation(values: Tensor) -> Tensor:
    """Of each column (N, F) where it is known, 1 where it is constant."""
    std = (values - values.nanmean(0)).square().nanmean(0).sqrt()
    return std.where(std > 0, 1)


def _shares(error: Tensor) -> Tensor:
    """Values a sample, (N,), whose mean is the mean over columns of the mean over what is known of errors (N, F)."""
    known = ~error.isnan()
    return (error.nan_to_num(0) * (len(error) / known.sum(0).clamp(min=1))).mean(1)


def _r2(predicted: Tensor, truth: Tensor) -> float:
    return score("r2", _arrays(predicted, truth))


def _arrays(predicted: Tensor, truth: Tensor) -> dict[str, Any]:
    """Of one column (N,)."""
    return {"predicted": predicted[:, None].cpu().numpy(), "truth": truth[:, None].cpu().numpy()}


def _finite(value: float) -> float:
    """Where select can't tell, as by one sample or a constant, all are equal."""
    return value if math.isfinite(value) else 0.0
