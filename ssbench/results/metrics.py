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
Kind = Literal["accuracy", "iou", "mean"]


@dataclass(frozen=True)
class Metric:
    """A score's name, unit, direction and kind. Kinds and the arrays they need:

    accuracy: predicted, truth, each (N,), class numbers; in %.
    iou: confusion (N, C, C), counts of (truth, predicted) pixels an image; mean over the classes in the truth, in %.
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


def _confusion(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    confusion = arrays["confusion"]
    return confusion.reshape(len(confusion), -1).astype(np.float64)  # (N, C*C)


def iou_per_class(total: Array) -> Array:
    """(..., C*C) summed confusion -> (..., C) intersection over union, NaN for a class that the truth does not have."""
    classes = round(total.shape[-1] ** 0.5)
    table = total.reshape(*total.shape[:-1], classes, classes)
    hit, truth, predicted = np.diagonal(table, axis1=-2, axis2=-1), table.sum(-1), table.sum(-2)
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
    "iou": (_confusion, _mean_iou),
    "mean": (_value, _ratio),
}


def score(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float:
    """The metric's value on all samples."""
    per_sample, reduce = KINDS[kind]
    whole = per_sample(arrays).sum(0)
    return float(reduce(whole, whole))


def floor(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float | None:
    """What the best constant answer scores on the same samples; None for a mean of values, which has no such answer."""
    if kind == "mean":
        return None
    if kind == "accuracy":
        counts = np.unique(arrays["truth"], return_counts=True)[1]
        return float(100 * counts.max() / counts.sum())
    truth = arrays["confusion"].sum((0, 2), dtype=np.float64)  # (C,) pixels
    return float(100 * truth.max() / truth.sum() / (truth > 0).sum())
