"""Logistic regression on frozen features, solved to the end for each penalty, and the information that it can use."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism

from .classes import BESIDE, SURE, classified, one_hot, predictions, prior
from .closed_form import standardised
from .grids import search
from .lbfgs import Path, Solved

STEPS = 200  # of L-BFGS a penalty, about, from which the plan tells the time
TRIED = 1e-4  # slope at which a point of the sweep is solved, as scikit-learn's tol; the chosen one goes on to 1e-6


class Logreg(Task):
    """Multinomial logistic regression on the standardised vector of the encoder's first pooling, for a path of C.

    C multiplies the sum of losses beside half the squared weights, as in scikit-learn: equal C is a weaker relative
    penalty where there are more samples. Biases are not penalised. `select` picks C by top-1, the least NLL first among
    equals, and the head is solved again on fit and select with that C.

    `v-information` is that of labels in features for linear classifiers (Xu et al. 2020, arXiv:2002.10689): how many
    bits fewer a label costs than under the frequencies in fit and select, by the head of least NLL on `select`. On test
    samples it is a lower bound of what such classifiers, trained on endless data, could use. Raises RuntimeError
    where features are not finite.
    """

    class Settings(Base):
        decades: tuple[float, ...] = setting(
            tuple(range(-6, 3)),
            "C as exponents of ten; then quarters around the best; grows where needed",
            source="DINOv2, log_regression.py, whose 10^3 to 10^5 are solved where the choice goes there",
            min_length=1,
        )
        iterations: int = setting(1000, "steps of L-BFGS for each C, at most", source="DINOv2, log_regression.py", ge=1)

    metrics = (
        Metric("top1", "%", "higher", "accuracy"),
        *BESIDE,
        *SURE,
        Metric("v-information", "bits", "higher", "mean"),
    )

    def work(self, bench: Bench) -> Work:
        (fit, select, _), s = bench.sizes, self.settings
        points, steps = len(s.decades) + 6, min(STEPS, s.iterations)
        samples = points * fit + 2 * (fit + select)
        return Work(sum(bench.sizes), gflops=4e-9 * 1.25 * samples * steps * bench.fit.dim * len(bench.data.classes))

    def evaluate(self, bench: Bench) -> Outcome:
        s, classes, truth = self.settings, len(bench.data.classes), bench.select.target("label")
        labels = bench.fit.target("label")
        x, chosen_on = standardised(bench.fit.pooled(), bench.select.pooled())
        path = Path(x, one_hot(labels, classes), iterations=s.iterations, tolerance=TRIED)
        tried, samples = dict[float, Solved](), len(x)

        def solve(exponent: float) -> dict[str, Any]:
            c = 10.0**exponent
            solved = tried[c] = path.at(coefficient(c, samples))
            point = judged(c, solved, solved.scores(chosen_on), truth, samples)
            bench.progress(f"logreg: C {point['C']:.3g}  select top1 {point['select_top1']:.1f} %")
            return point

        found = search(s.decades, solve, lambda point: (point["select_top1"], -point["select_nll"]))
        sweep = sorted(
            found.values(), key=lambda point: (point["select_nll"], point["C"])
        )  # so that equals stand by it

        def made(features: Tensor, wanted: Tensor) -> Callable[[int], Mapping[str, NDArray[np.generic]]]:
            return predictions([tried[point["C"]].scores(features) for point in sweep], wanted)

        best, at_edge = choose(sweep, self.metrics[0], ("C",), made(chosen_on, truth), "check the features")
        informed = next((point for point in sweep if not point["diverged"]), sweep[best])["C"]
        chosen = {**sweep[best], "C of v-information": informed, "pooling": bench.fit.poolings[0]}
        selected = {**chosen, "at_edge": at_edge, "refit": "fit+select"}

        test = bench.test(selected)
        target = test.target("label")
        ahead = optimism(sweep, self.metrics[0], best, made(standardised(bench.fit.pooled(), test.pooled())[1], target))
        labels = torch.cat([labels, truth])
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        path = Path(x, one_hot(labels, classes), iterations=s.iterations)
        heads = {c: path.at(coefficient(c, len(x))) for c in sorted({sweep[best]["C"], informed})}
        head = heads[sweep[best]["C"]]
        steps = {"coefficient": coefficient(sweep[best]["C"], len(x)), "iterations": head.iterations}
        converged = {"converged": head.gradient <= path.tolerance, "gradient": head.gradient}
        outcome = Outcome(selected, [*found.values()], details={"refit": steps | converged, **ahead})
        classified(outcome, bench, head.scores(tested), target, logits=True)
        cost = F.cross_entropy(heads[informed].scores(tested), target, reduction="none")
        bits = -prior(labels, classes).log()[target] - cost
        outcome.add("v-information", value=bits / math.log(2), constant=torch.zeros_like(bits))
        return outcome


def coefficient(c: float, samples: int) -> float:
    """What half the squared weights are multiplied by beside the mean loss, where C multiplies the sum of losses."""
    return 1 / (c * samples)


def judged(c: float, solved: Solved, scores: Tensor, truth: Tensor, samples: int) -> dict[str, Any]:
    """A point of the sweep: scores (N, classes) of `select` under the head of one C."""
    finite = bool(scores.isfinite().all())
    return {
        "C": c,
        "coefficient": coefficient(c, samples),
        "select_top1": 100 * (scores.argmax(1) == truth).double().mean().item(),
        "select_nll": F.cross_entropy(scores, truth).item() if finite else math.inf,
        "iterations": solved.iterations,
        "gradient": solved.gradient,
        "diverged": not finite,
    }
