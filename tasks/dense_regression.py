"""A number for every pixel, such as depth, from frozen maps: ridge regression on places, brought to pixels."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism
from ssbench.windows import Windowed

from .closed_form import Ridge
from .grids import search
from .heads import Head
from .maps import CHUNK, SHOWN, looked, pixels, places, shown, standard


class DenseRegression(Task):
    """Ridge regression from each standardised place to the mean of its pixels' depth, upsampled bilinearly.

    All penalties come from one eigendecomposition; `select` picks one. `rmse` and `mae` are those of an image, averaged
    over images, in the unit of the data; the constant answer is the mean over `fit`. Pixels whose depth is not a number
    are left out. Raises RuntimeError where the features are not finite.
    """

    class Settings(Windowed):
        decades: tuple[float, ...] = setting(
            tuple(range(-4, 7)), "penalties as exponents of ten", source="project: scikit-learn's alpha", min_length=1
        )
        places: int = setting(65536, "that are learnt from, at most", source="project: for a CPU", unit="places", ge=1)

    needs = frozenset({"depth"})
    metrics = (Metric("rmse", "", "lower", "mean"), Metric("mae", "", "lower", "mean"))
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """The covariance of places, and a product with each head."""
        (fit, select, test), s, part = bench.sizes, self.settings, bench.fit
        seen = math.prod(part.grid)
        learnt = 2 * min(fit * seen, s.places) * part.dim**2 + 10 * part.dim**3
        asked = 2 * (select + test) * len(s.decades) * seen * part.dim
        return replace(looked(bench, s.window), gflops=1e-9 * (learnt + asked))

    def evaluate(self, bench: Bench) -> Outcome:
        s, headline = self.settings, self.metrics[0]
        known, depth = bench.fit.map(s.window), bench.fit.target("depth").float()
        scale = standard(known)
        ridge = Ridge(*taught(scale(known), depth, s.places, bench.generator("places")))
        maps, truth = scale(bench.select.map(s.window)), bench.select.target("depth").float()
        found: dict[float, dict[str, Tensor]] = {}

        def solve(exponent: float) -> dict[str, Any]:
            found[exponent] = errors(predict(head(ridge, exponent), maps, truth), truth)
            value = found[exponent][headline.name].mean().item()
            return {"penalty": 10.0**exponent, "select_rmse": value, "diverged": not math.isfinite(value)}

        points = search(s.decades, solve, lambda point: -point["select_rmse"], finer=1)
        exponents, sweep = [*points], [*points.values()]
        best, at_edge = choose(
            sweep,
            headline,
            ("penalty",),
            lambda i: {"value": found[exponents[i]]["rmse"].cpu().numpy()},
            "check the data",
        )
        test = bench.test(selected := {**sweep[best], "at_edge": at_edge, "refit": "none"})
        truth = test.target("depth").float()  # (N, S, S)
        seen = scale(test.map(s.window))
        said = predict(head(ridge, exponents[best]), seen, truth)
        values, constant = errors(said, truth), errors(torch.full_like(truth, depth.nanmean().item()), truth)

        def made(i: int) -> dict[str, Any]:
            return {"value": errors(predict(head(ridge, exponents[i]), seen, truth), truth)["rmse"].cpu().numpy()}

        details = {"r2": r2(said, truth), "label_resolution": truth.shape[-1]}
        outcome = Outcome(selected, sweep, details=details | optimism(sweep, headline, best, made))
        for metric in self.metrics:
            outcome.add(metric.name, value=values[metric.name], constant=constant[metric.name])
        outcome.pictures["depth"] = pictures(test, said, truth)
        return outcome


def taught(maps: Tensor, depth: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `most` places by chance, (M, D), and the mean of each one's pixels, (M, 1), where it has any; float64."""
    means = pixels(depth, maps.shape[-2:]).nanmean(1, keepdim=True)
    kept = means[:, 0].isfinite().nonzero()[:, 0]
    kept = kept[torch.randperm(len(kept), generator=generator)[:most].sort().values.to(kept.device)]
    return places(maps)[kept].double(), means[kept].double()


def head(ridge: Ridge, exponent: float) -> Head:
    """The head of one penalty."""
    found = ridge.head(10.0**exponent).float()
    return Head(found[:-1], found[-1])


def predict(head: Head, maps: Tensor, truth: Tensor) -> Tensor:
    """What is said of each pixel, (N, S, S)."""
    return torch.cat([head.scores(some, truth.shape[1:])[:, 0] for some in maps.split(CHUNK)])


def errors(said: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Of each image, (N,): the root of the mean squared error and the mean error; 0 where nothing was measured."""
    known = truth.isfinite()
    miss, count = (said - truth).where(known, 0), known.sum((1, 2)).clamp(min=1)
    return {"rmse": (miss.square().sum((1, 2)) / count).sqrt(), "mae": miss.abs().sum((1, 2)) / count}


def r2(said: Tensor, truth: Tensor) -> float:
    """The share of the variance over all pixels that is explained."""
    known = truth.isfinite()
    miss, spread = (said - truth)[known].double(), truth[known].double()
    return 1 - (miss.square().sum() / (spread - spread.mean()).square().sum()).item()


def pictures(part: Part, said: Tensor, truth: Tensor) -> Tensor:
    """Image, truth and prediction of the first few, (B, 3, 3, S, S); near is dark, by the range of the truth."""
    few, guess = truth[:SHOWN].cpu(), said[:SHOWN].cpu()
    known = few[few.isfinite()]
    low, high = (known.min(), known.max()) if len(known) else (torch.tensor(0.0), torch.tensor(1.0))
    grey = [((one - low) / (high - low).clamp(min=1e-12)).nan_to_num(0).clamp(0, 1) for one in (few, guess)]
    return torch.stack([shown(part.images, few), *(one[:, None].expand(-1, 3, -1, -1) for one in grey)], 1)
