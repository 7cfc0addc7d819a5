"""Scores as functions of sums over test samples: all that values, intervals and paired tests need. No torch.

Each kind of metric turns stored predictions into a statistic per sample, (N, k), and reduces a (weighted) sum of them,
(k,), to the score; the plain sum of all is given beside it. Resampling test samples is then a matrix product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["accuracy", "class-accuracy", "f1", "auroc", "iou", "mean"]


@dataclass(frozen=True)
class Metric:
    """A score's name, unit, direction and kind. Kinds and the arrays they need:

    accuracy: predicted, truth, each (N,), class numbers; in %.
    class-accuracy: the same arrays; the mean of each class's accuracy (balanced accuracy), in %.
    f1: the same arrays; the mean of each class's F1 score (macro F1), in %.
    auroc: scores (N, C) and truth (N,); the mean over classes of the area under the ROC curve of one class against the
    rest, in %. Resamples reweight each sample's share of the area, to first order (DeLong et al. 1988).
    The three are over the classes in the truth; one that a resample misses counts there with its value over all.
    iou: confusion (N, C, C), counts of (truth, predicted) pixels an image, or of some pixels of each class alone hit,
    truth, predicted, each (N, C); mean over the classes in the truth, in %.
    Resamples keep those classes: one that a resample misses counts there with its value over all samples.
    mean: value (N,), averaged.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    kind: Kind


def _accuracy(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    hit = arrays["predicted"] == arrays["truth"]
    return np.stack([hit, np.ones_like(hit)], 1).astype(np.float64)  # (N, 2)


def _ratio(total: Array, whole: Array) -> Array:
    return total[..., 0] / total[..., 1]


def _one_hot(numbers: NDArray[np.generic], classes: int) -> Array:
    return np.eye(classes)[numbers.astype(np.int64)]


def _per_class(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Hits, truth and predictions of each class, (N, 3 C)."""
    truth, predicted = arrays["truth"], arrays["predicted"]
    classes = int(max(truth.max(), predicted.max())) + 1
    wanted, given = _one_hot(truth, classes), _one_hot(predicted, classes)
    return np.concatenate([wanted * given, wanted, given], 1)


def _areas(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Each sample's placement among the other side of each class, (N, 4 C): positives', counts, negatives', counts.

    A positive's placement is the share of negatives below it, and half of those that are level; a negative's the
    share of positives above.
    """
    scores, truth = arrays["scores"].astype(np.float64), arrays["truth"].astype(np.int64)
    found = np.zeros((4, *scores.shape))
    for one in range(scores.shape[1]):
        own = truth == one
        for slot, side, other in ((0, own, ~own), (2, ~own, own)):
            ordered = np.sort(scores[other, one])
            low, high = (np.searchsorted(ordered, scores[side, one], end) for end in ("left", "right"))
            below = (low + high) / 2 / max(len(ordered), 1)
            found[slot, side, one] = below if slot == 0 else 1 - below
            found[slot + 1, side, one] = 1
    return found.transpose(1, 0, 2).reshape(len(scores), -1)


def _mean_over_classes(each: Array, whole: Array) -> Array:
    """In %, over the classes that `whole` has; one that a resample misses counts with its value there."""
    return 100 * np.asarray(np.nanmean(np.where(np.isnan(each), whole, each), axis=-1))


def _parted(total: Array, parts: int = 3) -> Array:
    return total.reshape(*total.shape[:-1], parts, -1)


def _recalls(total: Array) -> Array:
    hit, truth, _ = np.moveaxis(_parted(total), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(truth > 0, hit / truth, np.nan)


def _f1s(total: Array) -> Array:
    hit, truth, given = np.moveaxis(_parted(total), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(truth > 0, 2 * hit / (truth + given), np.nan)


def _auroc(total: Array, whole: Array) -> Array:
    def sides(sums: Array) -> tuple[Array, Array]:
        above, positives, below, negatives = np.moveaxis(_parted(sums, 4), -2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return above / positives, below / negatives

    (up, down), (area, _) = sides(total), sides(whole)
    return _mean_over_classes(up + down - area, area)


def _regions(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Pixels that are hit, in the truth and in the prediction of each class, (N, 3 C)."""
    if "confusion" in arrays:
        table = arrays["confusion"].astype(np.float64)
        return np.concatenate([np.einsum("ncc->nc", table), table.sum(2), table.sum(1)], 1)
    return np.concatenate([arrays[name] for name in ("hit", "truth", "predicted")], 1).astype(np.float64)


def iou_per_class(total: Array) -> Array:
    """(..., 3 C) summed hits, truth, prediction -> (..., C) intersection over union, NaN where there is no truth."""
    hit, truth, predicted = np.moveaxis(_parted(total), -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(truth > 0, hit / (truth + predicted - hit), np.nan)


def _mean_iou(total: Array, whole: Array) -> Array:
    """Over the classes that the truth of all samples has. One that `total` misses has its value over all samples.

    Left out there, it would change what the mean is over, and so the scale; as 0 it would draw the interval down.
    """
    each = iou_per_class(total)
    return 100 * np.asarray(np.nanmean(np.where(np.isnan(each), iou_per_class(whole), each), axis=-1))


def _value(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    value = arrays["value"].astype(np.float64)
    return np.stack([value, np.ones_like(value)], 1)


Statistic = Callable[[Mapping[str, NDArray[np.generic]]], Array]
KINDS: dict[str, tuple[Statistic, Callable[[Array, Array], Array]]] = {
    "accuracy": (_accuracy, lambda total, whole: 100 * _ratio(total, whole)),
    "class-accuracy": (_per_class, lambda total, whole: _mean_over_classes(_recalls(total), _recalls(whole))),
    "f1": (_per_class, lambda total, whole: _mean_over_classes(_f1s(total), _f1s(whole))),
    "auroc": (_areas, _auroc),
    "iou": (_regions, _mean_iou),
    "mean": (_value, _ratio),
}


def score(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float:
    """The metric's value on all samples."""
    per_sample, reduce = KINDS[kind]
    whole = per_sample(arrays).sum(0)
    return float(reduce(whole, whole))


def floor(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float | None:
    """What the best constant answer scores on the same samples; None where there is no such answer."""
    if kind == "mean":
        return None
    if kind == "auroc":
        return 50.0
    if kind in ("accuracy", "class-accuracy", "f1"):
        counts = np.unique(arrays["truth"], return_counts=True)[1]
        share = float(counts.max() / counts.sum())
        return (
            100
            * {"accuracy": share, "class-accuracy": 1 / len(counts), "f1": 2 * share / (1 + share) / len(counts)}[kind]
        )
    if "confusion" not in arrays:
        return None
    truth = arrays["confusion"].sum((0, 2), dtype=np.float64)  # (C,) pixels
    return float(100 * truth.max() / truth.sum() / (truth > 0).sum())
