"""Ridge classification: least squares on one-hot classes, in closed form, so that nothing depends on an optimiser."""

import torch

from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, optimism

from .classes import BESIDE, classified, one_hot, predictions
from .closed_form import Ridge, apply, standardised
from .ridge_head import DECADES, TOP1, chosen


class RidgeProbe(Task):
    """The class whose 0 or 1 a ridge regression on standardised features, of the first pooling, says is largest.

    One eigendecomposition gives the heads of all penalties. `select` picks one by top-1, the least squared error first
    among equals, and the head is solved again on fit and select with the same penalty. Raises RuntimeError where
    features are not finite.
    """

    class Settings(Base):
        decades: tuple[float, ...] = setting(
            DECADES,
            "exponents of ten; penalties stand beside the sum of squared errors; grows where needed",
            source="project: 1 sample to the weight of 10^6",
            min_length=1,
        )

    metrics = (TOP1, *BESIDE)

    def work(self, bench: Bench) -> Work:
        (fit, select, _), dim, classes = bench.sizes, bench.fit.dim, len(bench.data.classes)
        solved = 2 * (fit + fit + select) * dim * (dim + classes) + 40 * dim**3  # a decomposition is about 10 D^3
        return Work(sum(bench.sizes), gflops=1e-9 * (solved + 2 * select * dim * classes * 20))

    def evaluate(self, bench: Bench) -> Outcome:
        _, sweep, selected = chosen(bench, self.settings.decades)
        selected |= {"refit": "fit+select"}

        test = bench.test(selected)
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        labels = torch.cat([bench.fit.target("label"), bench.select.target("label")])
        ridge, truth = Ridge(x, one_hot(labels, len(bench.data.classes))), test.target("label")
        said = {point["penalty"]: apply(ridge.head(point["penalty"]), tested) for point in sweep}
        best, made = [*said].index(selected["penalty"]), predictions([*said.values()], truth)
        outcome = Outcome(selected, sweep, details=optimism(sweep, TOP1, best, made))
        classified(outcome, bench, said[selected["penalty"]], truth)
        return outcome
