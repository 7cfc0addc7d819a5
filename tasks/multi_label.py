"""Several labels an image from frozen features: one logistic regression a label, against all images without it."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.results.metrics import Metric, score
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism

from .closed_form import standardised
from .grids import search
from .lbfgs import Path, Solved

STEPS = 100  # of L-BFGS a penalty, about, from which the plan tells the time


class MultiLabel(Task):
    """One-vs-rest logistic regression on the standardised features of the first pooling, one C for all labels.

    C multiplies the sum of losses beside half the squared weights, as in scikit-learn. `select` picks it by mAP, the
    least NLL first among equals, and the heads are solved again on fit and select. `map` is the mean over labels of
    average precision; `macro-f1` that of F1, where a label is given from a probability of a half on. Raises
    RuntimeError where features are not finite.
    """

    class Settings(Base):
        decades: tuple[float, ...] = setting(
            (-5, -4, -3, -2, -1, 0, 1, 2),
            "C as exponents of ten; then quarters around the best; grows where needed",
            source="project: about half of DINOv2's range, log_regression.py",
            min_length=1,
        )
        iterations: int = setting(1000, "steps of L-BFGS for each C, at most", source="DINOv2, log_regression.py", ge=1)

    needs = frozenset({"labels"})
    metrics = (Metric("map", "%", "higher", "ap"), Metric("macro-f1", "%", "higher", "f1-labels"))

    def work(self, bench: Bench) -> Work:
        (fit, select, _), s = bench.sizes, self.settings
        samples = (len(s.decades) + 6) * fit + fit + select
        steps = min(STEPS, s.iterations)
        return Work(sum(bench.sizes), gflops=5e-9 * samples * steps * bench.fit.dim * len(bench.data.classes))

    def evaluate(self, bench: Bench) -> Outcome:
        s, labels, truth = self.settings, bench.fit.target("labels"), bench.select.target("labels")
        x, chosen_on = standardised(bench.fit.pooled(), bench.select.pooled())
        path, tried = Path(x, labels, "sigmoid", s.iterations), dict[float, Solved]()

        def solve(exponent: float) -> dict[str, Any]:
            c = 10.0**exponent
            solved = tried[c] = path.at(1 / (c * len(x)))
            found = solved.scores(chosen_on)
            finite = bool(found.isfinite().all())
            value = score("ap", _arrays(found, truth)) if finite and truth.any() else 0.0
            nll = F.binary_cross_entropy_with_logits(found, truth.double()).item() if finite else math.inf
            bench.progress(f"multi-label: C {c:.3g}  select mAP {value:.1f} %")
            point = {"C": c, "select_map": value, "select_nll": nll, "diverged": not finite}
            return point | {"iterations": solved.iterations, "gradient": solved.gradient}

        found = search(s.decades, solve, lambda point: (point["select_map"], -point["select_nll"]))
        sweep = sorted(
            found.values(), key=lambda point: (point["select_nll"], point["C"])
        )  # so that equals stand by it

        def made(features: Tensor, wanted: Tensor) -> Callable[[int], dict[str, Any]]:
            return lambda i: _arrays(tried[sweep[i]["C"]].scores(features), wanted)

        best, at_edge = choose(sweep, self.metrics[0], ("C",), made(chosen_on, truth), "check the features")
        selected = {**sweep[best], "pooling": bench.fit.poolings[0], "at_edge": at_edge, "refit": "fit+select"}

        test = bench.test(selected)
        wanted = test.target("labels")
        seen = standardised(bench.fit.pooled(), test.pooled())[1]
        ahead = optimism(sweep, self.metrics[0], best, made(seen, wanted))
        x, tested = standardised(torch.cat([bench.fit.pooled(), bench.select.pooled()]), test.pooled())
        path = Path(x, torch.cat([labels, truth]), "sigmoid", s.iterations)
        head = path.at(1 / (sweep[best]["C"] * len(x)))
        said = head.scores(tested)
        converged = {"converged": head.gradient <= path.tolerance, "gradient": head.gradient}
        outcome = Outcome(
            selected, [*found.values()], details={"refit": {"iterations": head.iterations} | converged, **ahead}
        )
        outcome.add("map", scores=said.float(), truth=wanted)
        outcome.add("macro-f1", predicted=(said >= 0).to(torch.uint8), truth=wanted)
        names = zip(bench.data.classes, said.T, wanted.T)
        each = {name: _ap(one, there) for name, one, there in names if there.any()}
        outcome.details["profile"] = {"average precision by label": each}
        return outcome


def _arrays(scores: Tensor, truth: Tensor) -> dict[str, Any]:
    return {"scores": scores.float().cpu().numpy(), "truth": truth.cpu().numpy()}


def _ap(scores: Tensor, truth: Tensor) -> float:
    return score("ap", _arrays(scores[:, None], truth[:, None]))
