"""The ridge classifier whose penalty `select` picks, for tasks that then do different things with it."""

from typing import Any

from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import Bench, choose

from .classes import one_hot, predictions
from .closed_form import Ridge, apply, standardised
from .grids import search

TOP1 = Metric("top1", "%", "higher", "accuracy")
DECADES = (-2, -1, 0, 1, 2, 3, 4, 5, 6)  # of penalties beside the sum of squared errors: 1 sample to the weight of 10^6
Found = tuple[Tensor, list[dict[str, Any]], dict[str, Any]]


def chosen(bench: Bench, decades: tuple[float, ...] = DECADES) -> Found:
    """`chosen_of` the first pooling, which is named in what was selected."""
    head, sweep, selected = chosen_of(bench.fit.pooled(), bench.select.pooled(), bench, decades)
    return head, sweep, {**selected, "pooling": bench.fit.poolings[0]}


def chosen_of(fit: Tensor, select: Tensor, bench: Bench, decades: tuple[float, ...] = DECADES) -> Found:
    """The head (D + 1, C) of features `fit` (N, D), standardised by themselves, the sweep, and what was selected.

    One eigendecomposition gives the heads of all penalties. `select` (M, D) picks one by top-1, the least squared error
    first among equals. Raises RuntimeError where features are not finite.
    """
    truth, classes = bench.select.target("label"), len(bench.data.classes)
    x, chosen_on = standardised(fit, select)
    ridge = Ridge(x, one_hot(bench.fit.target("label"), classes))
    wanted, scores = one_hot(truth, classes), dict[float, Tensor]()

    def solve(exponent: float) -> dict[str, Any]:
        penalty = 10.0**exponent
        said = scores[penalty] = apply(ridge.head(penalty), chosen_on)
        right, error = (said.argmax(1) == truth).double().mean(), (said - wanted).square().sum(1).mean()
        return {"penalty": penalty, "select_top1": 100 * right.item(), "error": error.item(), "diverged": False}

    found = search(decades, solve, lambda point: (point["select_top1"], -point["error"]))
    sweep = sorted(found.values(), key=lambda point: point["error"])  # so that equals stand by it
    made = predictions([scores[point["penalty"]] for point in sweep], truth)
    best, at_edge = choose(sweep, TOP1, ("penalty",), made, "check the features")
    return ridge.head(sweep[best]["penalty"]), [*found.values()], {**sweep[best], "at_edge": at_edge}
