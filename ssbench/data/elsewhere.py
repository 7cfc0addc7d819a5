"""Another data set's test split in the terms of the data that a task is fitted on."""

from dataclasses import replace

from ssbench.data import Dataset
from ssbench.errors import UserError, near

NAMES = {"label": "classes", "labels": "classes", "boxes": "box_classes", "factors": "factors"}


def judged_on(fitted: Dataset, other: Dataset, source: str, needs: frozenset[str]) -> Dataset:
    """`fitted` with the test split of `other`, whose classes are matched by name; it may lack some of them.

    Raises UserError where it has not what is needed, or a class that nothing is fitted to.
    """
    if missing := needs - other.targets:
        raise UserError(f"--test-on {source}: it has no {', '.join(sorted(missing))}")
    channels = fitted.fit.images.shape[1], other.test.images.shape[1]
    if channels[0] != channels[1]:
        raise UserError(f"--test-on {source} has {channels[1]} channels, and what is fitted on has {channels[0]}")
    test, targets = other.test, dict(other.test.targets)
    if "label" in needs:
        targets["label"] = _numbers(fitted.classes, other.classes, source)[targets["label"]]
    if "mask" in needs and other.mask_classes > fitted.mask_classes:
        raise UserError(f"--test-on {source} has {other.mask_classes} classes of pixels, not {fitted.mask_classes}")
    for target in needs & {"labels", "boxes", "factors"}:
        has, wanted = getattr(other, NAMES[target]), getattr(fitted, NAMES[target])
        if has != wanted:
            raise UserError(f"--test-on {source}: its {target} are of {', '.join(has)}, not of {', '.join(wanted)}")
    return replace(fitted, test=replace(test, targets=targets))


def _numbers(fitted: tuple[str, ...], other: tuple[str, ...], source: str):  # type: ignore[no-untyped-def]
    """What each of the other's class numbers is among those fitted, (C,)."""
    import torch

    for name in other:
        if name not in fitted:
            raise UserError(f"--test-on {source}: nothing is fitted to its class {name!r}{near(name, fitted)}")
    return torch.tensor([fitted.index(name) for name in other], dtype=torch.int64)
