"""What stands beside top-1 wherever classes are told apart, so that no score flatters on unequal classes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import Bench, Outcome

BESIDE = (
    Metric("mean-class", "%", "higher", "class-accuracy"),
    Metric("macro-f1", "%", "higher", "f1"),
    Metric("auroc", "%", "higher", "auroc"),
)
SURE = (Metric("nll", "nats", "lower", "mean"), Metric("ece", "%", "lower", "ece"))  # of scores that are logits
UNEQUAL = 2.0  # the most frequent class of fit over the rarest, from which ranks are scored too
MOST = 100  # classes: AUROC takes a table of scores a class


def classified(outcome: Outcome, bench: Bench, scores: Tensor, truth: Tensor, logits: bool = False) -> None:
    """Hand in top-1, mean per-class accuracy and macro F1, and AUROC of several classes that are unequal in number.

    `scores` are (N, classes), the larger the likelier; the smallest class wins a tie. `truth` is (N,). Scores that are
    `logits`, of which softmax makes probabilities, also have a negative log-likelihood and a calibration error.
    """
    predicted, classes = scores.argmax(1), scores.shape[1]
    for name in ("top1", *(metric.name for metric in BESIDE[:2])):
        outcome.add(name, predicted=predicted, truth=truth)
    if not torch.isfinite(scores).all():
        return
    labels = bench.fit.target("label")
    counts = labels.bincount(minlength=classes)
    counts = counts[counts > 0]
    if classes <= MOST and counts.max() >= UNEQUAL * counts.min() and len(truth.unique()) > 1:
        outcome.add(BESIDE[2].name, scores=scores.float(), truth=truth)
    if logits:
        constant = -prior(labels, classes).log()[truth]
        outcome.add("nll", value=F.cross_entropy(scores.double(), truth, reduction="none"), constant=constant)
        outcome.add("ece", confidence=scores.double().softmax(1).amax(1), hit=predicted == truth)


def predictions(scores: Sequence[Tensor], truth: Tensor) -> Callable[[int], dict[str, NDArray[np.generic]]]:
    """What the i-th of scores, (N, classes) each, predicts of truth (N,), as `choose` and `optimism` take it."""
    wanted = truth.cpu().numpy()
    return lambda i: {"predicted": scores[i].argmax(1).cpu().numpy(), "truth": wanted}


def prior(labels: Tensor, classes: int) -> Tensor:
    """The share of each class in labels (N,), float64; a class that they lack counts as one sample."""
    counts = labels.bincount(minlength=classes).clamp(min=1).double()
    return counts / counts.sum()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels (N,) -> (N, classes) of 0 and 1, float64."""
    return F.one_hot(labels, classes).double()
