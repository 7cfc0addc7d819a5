"""Ridge classification: least squares on one-hot classes, in closed form, so that nothing depends on an optimiser."""

from typing import Any

import torch
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose

from .classes import BESIDE, classified, one_hot
from .closed_form import Ridge, apply, standardised
from .grids import search


class RidgeProbe(Task):
    """The class whose 0 or 1 a ridge regression on standardised features, of the first pooling, says is largest.

    One eigendecomposition gives the heads of all penalties. `select` picks one by top-1, the least squared error first
    among equals, and the head is solved again on fit and select with the same penalty. Raises RuntimeError where
    features are not finite.
    """

    class Settings(Base):
        decades: tuple[float, ...] = setting(
            (-2, -1, 0, 1, 2, 3, 4, 5, 6),
            "exponents of ten; penalties stand beside the sum of squared errors; grows where needed",
            source="project: 1 sample to the weight of 10^6",
            min_length=1,
        )

    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE)

    def work(self, bench: Bench) -> Work:
        (fit, select, _), dim, classes = bench.sizes, bench.fit.dim, len(bench.data.classes)
        solved = 2 * (fit + fit + select) * dim * (dim + classes) + 40 * dim**3  # a decomposition is about 10 D^3
        return Work(sum(bench.sizes), gflops=1e-9 * (solved + 2 * select * dim * classes * 20))

    def evaluate(self, bench: Bench) -> Outcome:
        classes, truth = len(bench.data.classes), bench.select.target("label")
        labels = bench.fit.target("label")
        x, chosen_on = standardised(bench.fit.pooled(), bench.select.pooled())
        ridge = Ridge(x, one_hot(labels, classes))
        wanted, scores = one_hot(truth, classes), dict[float, Tensor]()

        def solve(exponent: float) -> dict[str, Any]:
            penalty = 10.0**exponent
            said = scores[penalty] = apply(ridge.head(penalty), chosen_on)
            right, error = (said.argmax(1) == truth).double().mean(), (said - wanted).square().sum(1).mean()
            return {"penalty": penalty, "select_top1": 100 * right.item(), "error": error.item(), "diverged": False}

        found = search(self.settings.decades, solve, lambda point: (point["select_top1"], -point["error"]))
        sweep = sorted(found.values(), key=lambda point: point["error"])  # so that equals stand by it

        def predictions(point: int) -> dict[str, Any]:
            return {"predicted": scores[sweep[point]["penalty"]].argmax(1).cpu().numpy(), "truth": truth.cpu().numpy()}

        best, at_edge = choose(sweep, self.metrics[0], ("penalty",), predictions, "check the features")
        selected = {
            **sweep[best],
            "pooling": bench.fit.poolings[0],
            "at_edge": at_edge,
            "refit": "fit+select",
        }
        test = bench.test(selected)
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        head = Ridge(x, one_hot(torch.cat([labels, truth]), classes)).head(sweep[best]["penalty"])
        outcome = Outcome(selected, [*found.values()])
        classified(outcome, bench, apply(head, tested), test.target("label"))
        return outcome
