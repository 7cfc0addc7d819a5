"""Ridge classification: least squares on one-hot classes, in closed form, so that nothing depends on an optimiser."""

import torch

from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose

from .classes import BESIDE, classified, one_hot
from .closed_form import Ridge, apply, standardised
from .grids import search


class RidgeProbe(Task):
    """The class whose 0 or 1 a ridge regression on standardised features, of the first pooling, says is largest.

    One eigendecomposition gives the heads of all penalties. `select` picks one, and the head is solved again on fit
    and select with the same penalty. Raises RuntimeError where features are not finite.
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
        found = search(
            self.settings.decades,
            lambda exponent: apply(ridge.head(10.0**exponent), chosen_on).argmax(1),
            lambda predicted: (predicted == truth).double().mean().item(),
        )
        sweep = [
            {
                "penalty": 10.0**exponent,
                "select_top1": 100 * (predicted == truth).double().mean().item(),
                "diverged": False,
            }
            for exponent, predicted in found.items()
        ]
        answers = [*found.values()]
        best, at_edge = choose(
            sweep,
            self.metrics[0],
            ("penalty",),
            lambda i: {"predicted": answers[i].cpu().numpy(), "truth": truth.cpu().numpy()},
            "check the features",
        )
        selected = {
            **sweep[best],
            "pooling": bench.fit.poolings[0],
            "at_edge": at_edge,
            "refit": "fit+select",
        }
        test = bench.test(selected)
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        head = Ridge(x, one_hot(torch.cat([labels, truth]), classes)).head(sweep[best]["penalty"])
        outcome = Outcome(selected, sweep)
        classified(outcome, bench, apply(head, tested), test.target("label"))
        return outcome
