"""How much of each class there is in a part."""

import torch

from ssbench.data import Dataset, Split
from ssbench.data.understood import value


def label_counts(part: Split, classes: int) -> list[float]:
    """Images of each class."""
    if "labels" in part.targets:
        return part.targets["labels"].sum(0, dtype=torch.int64).tolist()
    return part.targets["label"].bincount(minlength=classes).tolist()


def mask_shares(part: Split, data: Dataset) -> list[float]:
    """The share of pixels that each class has, and void in the end if there is any."""
    total = torch.zeros(256, dtype=torch.int64)
    for mask in part.targets.get("mask", ()):
        total += mask.flatten().long().bincount(minlength=256)
    shares = (total / total.sum().clamp_min(1)).tolist()
    return [shares[number] for number in mask_names(data)]


def mask_names(data: Dataset) -> dict[int, str]:
    """What to call the classes of masks, by number; void is the last where there is any."""
    values, void = data.understood.get("mask_values", []), data.understood.get("mask_void")
    named = {
        number: f"{number} (value {value(values[number])})" if values else str(number)
        for number in range(data.mask_classes)
    }
    return named | ({} if void is None else {data.ignore_index: f"void (value {value(void)})"})


def box_counts(part: Split, classes: int) -> list[float]:
    """Boxes of each class."""
    kinds = part.targets["boxes"][..., 4].flatten()
    return kinds[kinds >= 0].long().bincount(minlength=classes).tolist()


def longer_sides(part: Split) -> list[float]:
    """Of each box, in px."""
    boxes = part.targets["boxes"].flatten(0, 1)
    sides = boxes[:, 2:4] - boxes[:, :2]
    return sides[boxes[:, 4] >= 0].max(1).values.tolist()
