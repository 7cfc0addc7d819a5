"""Shape or surface: which of two cues that agree in training a frozen encoder's features hand to a linear head.

Geirhos et al. 2019 (arXiv:1811.12231) ask a trained classifier about images with the shape of one class and the texture
of another. Here the data says which surface an image has: `shapes:conflict`, where fit and select show each class with
a surface of its own, and the test with another's.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench.results.metrics import Metric, influences
from ssbench.task import Bench, Outcome, Task, Work

from .closed_form import apply, standardised
from .ridge_head import chosen


class CueConflict(Task):
    """Ridge regression on one-hot classes, on standardised features; `select`, whose cues agree, picks the penalty.

    `shape-bias`: of test answers that are the shape's class or the surface's, the share that are the shape's, in %; 50
    where no answer is either. `shape` and `surface` are the shares among all answers. Images of which both say the same
    count in none of them as a conflict: they are left out of `shape-bias`.
    """

    needs = frozenset({"label", "surface"})
    metrics = (
        Metric("shape-bias", "%", "higher", "mean"),
        Metric("shape", "%", "higher", "accuracy"),
        Metric("surface", "%", "higher", "accuracy"),
    )

    def work(self, bench: Bench) -> Work:
        fit, dim = bench.sizes[0], bench.fit.dim
        return Work(sum(bench.sizes), gflops=1e-9 * (2 * fit * dim**2 + 10 * dim**3))

    def evaluate(self, bench: Bench) -> Outcome:
        head, sweep, selected = chosen(bench)
        selected |= {"refit": "none"}
        test = bench.test(selected)
        answer = apply(head, standardised(bench.fit.pooled(), test.pooled())[1]).argmax(1).cpu()
        shape, surface = test.target("label").cpu(), test.target("surface").cpu()
        outcome = Outcome(selected, sweep)
        outcome.add("shape-bias", value=shape_bias(answer, shape, surface, test.units))
        outcome.add("shape", predicted=answer, truth=shape)
        outcome.add("surface", predicted=answer, truth=surface)
        outcome.details["conflicts"] = int((shape != surface).sum())
        each = {name: shape == c for c, name in enumerate(bench.data.classes) if (shape == c).any()}
        outcome.details["profile"] = {
            "shape": {name: 100 * (answer == shape)[own].double().mean().item() for name, own in each.items()}
        }
        return outcome


def shape_bias(answer: Tensor, shape: Tensor, surface: Tensor, units: NDArray[np.int64]) -> Tensor:
    """A value a sample (N,) whose mean is the share of shape in answers that are one of both, in %.

    `units` (N,) are the images' (`Part.units`).
    """
    own, other = ((answer == cue) & (shape != surface) for cue in (shape, surface))

    def share(some: NDArray[np.int64]) -> float:
        right, wrong = float(own[some].sum()), float(other[some].sum())
        return 100 * right / (right + wrong) if right + wrong else 50.0

    return torch.from_numpy(influences(share, units))
