"""The ridge classifier whose penalty `select` picks, for tasks that then do different things with it."""

from typing import Any

from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import Bench, choose

from .classes import one_hot
from .closed_form import Ridge, apply, standardised
from .grids import search

TOP1 = Metric("top1", "%", "higher", "accuracy")
DECADES = (-2, -1, 0, 1, 2, 3, 4, 5, 6)  # of penalties beside the sum of squared errors: 1 sample to the weight of 10^6


def chosen(bench: Bench, decades: tuple[float, ...] = DECADES) -> tuple[Tensor, list[dict[str, Any]], dict[str, Any]]:
    """The head (D + 1, C) of `fit` on standardised features of the first pooling, the sweep, and what was selected.

    One eigendecomposition gives the heads of all penalties. Raises RuntimeError where features are not finite.
    """
    truth = bench.select.target("label")
    x, chosen_on = standardised(bench.fit.pooled(), bench.select.pooled())
    ridge = Ridge(x, one_hot(bench.fit.target("label"), len(bench.data.classes)))
    found = search(
        decades,
        lambda exponent: apply(ridge.head(10.0**exponent), chosen_on).argmax(1),
        lambda predicted: (predicted == truth).double().mean().item(),
    )
    answers = [*found.values()]
    sweep: list[dict[str, Any]] = [
        {
            "penalty": 10.0**exponent,
            "select_top1": 100 * (predicted == truth).double().mean().item(),
            "diverged": False,
        }
        for exponent, predicted in found.items()
    ]
    best, at_edge = choose(
        sweep,
        TOP1,
        ("penalty",),
        lambda i: {"predicted": answers[i].cpu().numpy(), "truth": truth.cpu().numpy()},
        "check the features",
    )
    selected = {**sweep[best], "pooling": bench.fit.poolings[0], "at_edge": at_edge}
    return ridge.head(sweep[best]["penalty"]), sweep, selected
