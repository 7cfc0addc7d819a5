"""Accuracy from few labels, as a curve: one closed-form head for each number of labels and each draw of them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work

from .classes import one_hot
from .closed_form import Ridge, apply, standardised

PENALTIES = tuple(10 ** (step / 2) for step in range(-12, 17))  # 10^-6 to 10^8, which is a nearest-mean rule
GAIN = 1e-3  # of a correlation, by which an end of the penalties is worth going on from
MANY = 50  # labels a class, from which half as many draws say as much


class FewLabels(Task):
    """Ridge classification of one-hot classes from 1, 2, 5, ... labels a class of `fit` up to all of them.

    Within a class images stand in the order of the SHA-256 of draw and position: fewer labels are part of more. A class
    that has fewer gives all. Features of the first pooling are standardised by all images of `fit`, which takes no
    label. The penalty is that whose head tells labelled images best when they are left out one at a time, in closed
    form (`chosen`): no label beside those counted is seen, none of `select`.

    `area` is the share of draws in which a test image is told right, averaged over the curve by the trapezoid rule over
    the logarithm of the number of labels. The profile has the accuracy for each number of labels and its 95 % interval
    over draws (Student's t). Raises RuntimeError where features are not finite.
    """

    class Settings(Base):
        shots: tuple[int, ...] = setting(
            (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
            "labels a class, those below the largest class; all of them are added",
            source="1, 2 and 5: MSN, imagenet_subsets1",
            min_length=1,
        )
        draws: int = setting(10, "draws of labels; half as many from 50 a class on", source="project", ge=2, le=100)

    metrics = (Metric("area", "%", "higher", "mean"),)

    def work(self, bench: Bench) -> Work:
        (fit, _, test), dim, classes = bench.sizes, bench.fit.dim, len(bench.data.classes)
        sizes = [(min(shots * classes, fit), self._draws(shots)) for shots in self.settings.shots if shots < fit]
        heads = sum(draws * _cost(size, dim) for size, draws in sizes)
        return Work(fit + test, gflops=1e-9 * (heads + _cost(fit, dim)))

    def evaluate(self, bench: Bench) -> Outcome:
        labels, classes = bench.fit.target("label"), len(bench.data.classes)
        counts = labels.bincount(minlength=classes)
        x, y = standardised(bench.fit.pooled())[0], one_hot(labels, classes)
        heads, sweep, sizes = defaultdict[str, list[Tensor]](list), list[dict[str, Any]](), dict[str, float]()
        orders = [order(labels.tolist(), draw) for draw in range(self.settings.draws)]
        for shots in [*(shots for shots in sorted(self.settings.shots) if shots < counts.max()), math.inf]:
            for draw, ranks in enumerate(orders[: self._draws(shots)]):
                rows = torch.from_numpy(np.flatnonzero(ranks < shots)).to(x.device)
                head, point = chosen(x[rows], y[rows])
                name = "all" if shots == math.inf else str(shots)
                heads[name].append(head)
                sizes[name] = float(len(rows))
                sweep.append({"labels a class": name, "draw": draw, "labels": len(rows), **point})
            bench.progress(f"few labels: {name} a class")
        selected: dict[str, Any] = {
            "penalty": "by labelled images left out",
            "pooling": bench.fit.poolings[0],
        }
        edges = sum(point["at_edge"] for point in sweep)
        selected |= {"at_edge": edges > 0, "refit": "none"}

        test = bench.test(selected)
        tested, truth = standardised(bench.fit.pooled(), test.pooled())[1], test.target("label")
        right = {  # (draws, N) each
            name: torch.stack([apply(head, tested).argmax(1) == truth for head in each]).double()
            for name, each in heads.items()
        }
        curve = {name: interval(100 * each.mean(1).cpu().numpy()) for name, each in right.items()}
        weights = areas([*sizes.values()])
        area = sum(100 * weight * each.mean(0) for weight, each in zip(weights, right.values()))
        assert isinstance(area, Tensor)
        constant = 100 * (truth == truth.bincount().argmax()).double()
        details = {"profile": {"labels a class": curve}, "labels": sizes, "weights": dict(zip(right, weights))}
        details["heads at an edge"] = edges
        outcome = Outcome(selected, sweep, details=details)
        outcome.add("area", value=area, constant=constant)
        return outcome

    def _draws(self, shots: float) -> int:
        """All labels can be drawn once."""
        draws: int = self.settings.draws
        return 1 if shots == math.inf else draws if shots < MANY else -(-draws // 2)


def order(labels: Sequence[int], draw: int) -> NDArray[np.int64]:
    """How many of its class stand before each sample, by the SHA-256 of draw and position, (N,)."""
    seen, ranks = defaultdict[int, int](int), np.empty(len(labels), np.int64)
    for at in sorted(range(len(labels)), key=lambda at: sha256(f"{draw}|{at}".encode()).digest()):
        ranks[at] = seen[labels[at]]
        seen[labels[at]] += 1
    return ranks


def chosen(features: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, float]]:
    """The head whose penalty tells each of the labelled samples (N, D) best by all others; the largest of equals.

    Best is the largest correlation, over samples and classes, of what is said of a sample and its class, each less the
    shares of classes among the others. Squared error would shrink weak features to nothing, where the largest score
    needs no scale; left-out hits are few, and all wrong with one label a class. At the edge: it is
    the smallest or largest penalty and ahead of its neighbour by more than `GAIN`; heads come to a limit at both ends.
    """
    ridge, count = Ridge(features, targets), len(features)
    if count < 2:
        return ridge.head(PENALTIES[-1]), {"penalty": PENALTIES[-1], "left_out_correlation": 0.0, "at_edge": False}
    others = (targets.sum(0) - targets) / (count - 1)  # (N, K)
    truth = F.normalize((targets - others).flatten(), dim=0)
    found = {p: F.normalize((ridge.left_out(p) - others).flatten(), dim=0).dot(truth).item() for p in PENALTIES}
    best = max(reversed(PENALTIES), key=found.__getitem__)
    ends = {PENALTIES[0]: PENALTIES[1], PENALTIES[-1]: PENALTIES[-2]}
    at_edge = best in ends and found[best] - found[ends[best]] > GAIN
    return ridge.head(best), {"penalty": best, "left_out_correlation": found[best], "at_edge": at_edge}


def interval(draws: NDArray[np.float64]) -> list[float] | float:
    """Mean of draws (K,) and its 95 % interval by Student's t; the mean alone of one draw."""
    mean = float(draws.mean())
    if len(draws) < 2:
        return mean
    reach = float(stdtrit(len(draws) - 1, 0.975) * draws.std(ddof=1) / math.sqrt(len(draws)))
    return [mean, mean - reach, mean + reach]


def areas(sizes: Sequence[float]) -> list[float]:
    """The weight of each point of a curve in its mean over the logarithm of increasing sizes, by trapezoids."""
    logs = np.log(sizes)
    if len(logs) == 1 or logs[-1] == logs[0]:
        return [1 / len(logs)] * len(logs)
    steps = np.diff(logs) / 2 / (logs[-1] - logs[0])
    weights: list[float] = (np.append(steps, 0) + np.insert(steps, 0, 0)).tolist()
    return weights


def _cost(samples: int, dim: int) -> float:
    """FLOPs of one head: the smaller of both tables, its decomposition (about 10 n^3), and the leverages."""
    small = min(samples, dim)
    return 4 * samples * dim * small + 10 * small**3 + 4 * samples * small * len(PENALTIES)
