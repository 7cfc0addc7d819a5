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
Kind = Literal["accuracy", "class-accuracy", "f1", "f1-labels", "auroc", "ap", "iou", "r2", "ece", "mean"]
GROUPS = 20  # of samples, left out one after another to see how sure a score is
BINS = 15  # of confidence (Guo et al. 2017)


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
    f1-labels: predicted and truth (N, C), 0 or 1; the mean of each class's F1, in %.
    ap: scores and truth (N, C), truth 0 or 1; the mean of each class's average precision, in %. Resamples reweight each
    sample's share of it, to first order.
    r2: predicted and truth (N, F); the mean of each column's coefficient of determination, without NaN in the truth.
    ece: confidence and hit (N,); how far confidence is from accuracy in 15 equal bins, weighted by their samples (the
    expected calibration error, Guo et al. 2017), in %.
    mean: value (N,), averaged; constant (N,), where it is known: what the best constant answer scores on each sample.
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
    for one in np.flatnonzero(np.bincount(truth, minlength=scores.shape[1]) < len(truth)):  # of all, no area is known
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


def _per_label(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Hits, truth and predictions of each class, (N, 3 C)."""
    wanted, given = (arrays[name].astype(np.float64) for name in ("truth", "predicted"))
    return np.concatenate([wanted * given, wanted, given], 1)


def _precisions(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Each sample's share of the average precision of each class, (N, C), in 0..1; NaN for a class without positives.

    AP is the mean over positives of the precision at their rank, equals counted in full. A share is AP / N and the
    derivative of AP by the sample's weight, whose sum over samples is zero.
    """
    scores, truth = arrays["scores"].astype(np.float64), arrays["truth"].astype(np.float64)
    count = len(scores)
    found = np.full(scores.shape, np.nan)
    for one in np.flatnonzero(truth.sum(0)):
        order = np.argsort(-scores[:, one], kind="stable")
        ranked, positive = scores[order, one], truth[order, one]
        last = np.searchsorted(-ranked, -ranked, "right") - 1  # the last that scores as much
        above, hits = last + 1.0, positive.cumsum()[last]
        precision, total = hits / above, positive.sum()
        value = (precision * positive).sum() / total
        # a positive at i counts sample j where j is not below i: weights of what j adds to hits and to ranks
        first = np.searchsorted(-ranked, -ranked, "left")
        by_hit, by_rank = (_from(positive * part)[first] for part in (1 / above, precision / above))
        slope = (positive * (precision - value) + positive * by_hit - by_rank) / total
        found[order, one] = value / count + slope
    return found


def _from(values: Array) -> Array:
    """Sums from each position to the end."""
    return values[::-1].cumsum()[::-1]


def _residuals(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Count, truth, squared truth and squared error of each column, (N, 4 F)."""
    truth, predicted = (arrays[name].astype(np.float64) for name in ("truth", "predicted"))
    known = ~np.isnan(truth)
    truth = np.where(known, truth, 0)
    truth = truth - np.where(known, truth.sum(0) / np.maximum(known.sum(0), 1), 0)  # for the sake of rounding
    error = np.where(known, np.nan_to_num(arrays["truth"].astype(np.float64)) - predicted, 0)
    return np.concatenate([known.astype(np.float64), truth, truth**2, error**2], 1)


def _r2(total: Array, whole: Array) -> Array:
    def each(sums: Array) -> Array:
        count, first, second, error = np.moveaxis(_parted(sums, 4), -2, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = second - first**2 / count
            return np.where(spread > 0, 1 - error / spread, np.nan)

    return _mean_over_classes(each(total), each(whole)) / 100


def _binned(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Confidence less hit in the bin of each sample, and one, (N, BINS + 1)."""
    confidence, hit = (arrays[name].astype(np.float64) for name in ("confidence", "hit"))
    index = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # bins are open below
    return np.concatenate([_one_hot(index, BINS) * (confidence - hit)[:, None], np.ones((len(hit), 1))], 1)


def _value(arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    value = arrays["value"].astype(np.float64)
    return np.stack([value, np.ones_like(value)], 1)


Statistic = Callable[[Mapping[str, NDArray[np.generic]]], Array]
KINDS: dict[str, tuple[Statistic, Callable[[Array, Array], Array]]] = {
    "accuracy": (_accuracy, lambda total, whole: 100 * _ratio(total, whole)),
    "class-accuracy": (_per_class, lambda total, whole: _mean_over_classes(_recalls(total), _recalls(whole))),
    "f1": (_per_class, lambda total, whole: _mean_over_classes(_f1s(total), _f1s(whole))),
    "auroc": (_areas, _auroc),
    "f1-labels": (_per_label, lambda total, whole: _mean_over_classes(_f1s(total), _f1s(whole))),
    "ap": (_precisions, _mean_over_classes),
    "iou": (_regions, _mean_iou),
    "r2": (_residuals, _r2),
    "ece": (_binned, lambda total, whole: 100 * np.abs(total[..., :-1]).sum(-1) / total[..., -1]),
    "mean": (_value, _ratio),
}


def score(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float:
    """The metric's value on all samples."""
    per_sample, reduce = KINDS[kind]
    whole = per_sample(arrays).sum(0)
    return float(reduce(whole, whole))


def floor(kind: Kind, arrays: Mapping[str, NDArray[np.generic]]) -> float | None:
    """What the best constant answer scores on the same samples; None where there is no such answer, or it is not known.

    A constant answer is as well calibrated as any.
    """
    if kind == "ece" or (kind in ("mean", "iou") and not {"constant", "confusion"} & arrays.keys()):
        return None
    return float(_FLOORS[kind](arrays))


def _of_classes(of: Callable[[float, int], float]) -> Callable[[Mapping[str, NDArray[np.generic]]], float]:
    """From the share of the most frequent class in the truth and the number of those there."""

    def found(arrays: Mapping[str, NDArray[np.generic]]) -> float:
        counts = np.unique(arrays["truth"], return_counts=True)[1]
        return 100 * of(float(counts.max() / counts.sum()), len(counts))

    return found


def _labels_floor(arrays: Mapping[str, NDArray[np.generic]]) -> float:
    """Every label of every sample: F1 of a class is 2 p / (1 + p) for its share p."""
    share = arrays["truth"].mean(0, dtype=np.float64)
    return float(100 * (2 * share / (1 + share))[share > 0].mean())


def _ap_floor(arrays: Mapping[str, NDArray[np.generic]]) -> float:
    share = arrays["truth"].mean(0, dtype=np.float64)
    return float(100 * share[share > 0].mean())


def _iou_floor(arrays: Mapping[str, NDArray[np.generic]]) -> float:
    truth = arrays["confusion"].sum((0, 2), dtype=np.float64)  # (C,) pixels
    return float(100 * truth.max() / truth.sum() / (truth > 0).sum())


_FLOORS: dict[str, Callable[[Mapping[str, NDArray[np.generic]]], float]] = {
    "accuracy": _of_classes(lambda share, classes: share),
    "class-accuracy": _of_classes(lambda share, classes: 1 / classes),
    "f1": _of_classes(lambda share, classes: 2 * share / (1 + share) / classes),
    "f1-labels": _labels_floor,
    "auroc": lambda arrays: 50.0,
    "ap": _ap_floor,
    "iou": _iou_floor,
    "r2": lambda arrays: 0.0,
    "mean": lambda arrays: float(arrays["constant"].mean(dtype=np.float64)),
}


def influences(score: Callable[[NDArray[np.int64]], float], units: NDArray[np.int64], groups: int = GROUPS) -> Array:
    """A value a sample, (N,), for a score that is no sum over samples: their mean is the score of all of them.

    `score(index)` is that of the samples at these positions. `units` (N,) are numbers from 0, `Part.units`: samples
    with the same one, such as images of one patient, are left out together. A sample's value says what its group, of
    `groups` that units are dealt to and that are left out one after another, does to the score: the spread of units'
    sums is the error of the delete-a-group jackknife (Kott 2001), so that a bootstrap of units has that error.
    """
    count, everyone = int(units.max()) + 1, np.arange(len(units))
    groups = min(groups, count)
    group = units % groups
    whole = score(everyone)
    without = np.array([score(everyone[group != one]) for one in range(groups)]) if groups > 1 else np.array([whole])
    members = np.bincount(np.arange(count) % groups)  # units of each group
    sums = (without.mean() - without) * len(units) * np.sqrt((groups - 1) / groups / members)  # of each of its units
    values = sums[group] / np.bincount(units)[units]
    return np.asarray(whole + values - values.mean())
