"""What stands beside top-1 wherever classes are told apart, so that no score flatters on unequal classes."""

import torch
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import Bench, Outcome

BESIDE = (
    Metric("mean-class", "%", "higher", "class-accuracy"),
    Metric("macro-f1", "%", "higher", "f1"),
    Metric("auroc", "%", "higher", "auroc"),
)
UNEQUAL = 2.0  # the most frequent class of fit over the rarest, from which ranks are scored too
MOST = 100  # classes: AUROC takes a table of scores a class


def classified(outcome: Outcome, bench: Bench, scores: Tensor, truth: Tensor) -> None:
    """Hand in top-1, mean per-class accuracy and macro F1, and where classes are unequal in number AUROC.

    `scores` are (N, classes), the larger the likelier; the smallest class wins a tie. `truth` is (N,).
    """
    predicted, classes = scores.argmax(1), scores.shape[1]
    for name in ("top1", *(metric.name for metric in BESIDE[:2])):
        outcome.add(name, predicted=predicted, truth=truth)
    counts = bench.fit.target("label").bincount(minlength=classes)
    counts = counts[counts > 0]
    if classes <= MOST and counts.max() >= UNEQUAL * counts.min() and torch.isfinite(scores).all():
        outcome.add(BESIDE[2].name, scores=scores.float(), truth=truth)
