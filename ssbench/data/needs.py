"""Whether a task makes sense on some data: the same reasons wherever it is asked."""

from ssbench.data import Dataset
from ssbench.data.leaks import Copied
from ssbench.data.suspicion import suspect
from ssbench.data.understood import sentence
from ssbench.errors import UserError
from ssbench.spec import DataSettings

COPIED = 0.01  # share of test images among fit and select that is not refused


def refuse_targets(task: str, needs: frozenset[str], source: str, found: Dataset, settings: DataSettings) -> None:
    """Raises UserError where the data has not what a task `needs`, or where any answer would be right."""
    has = ", ".join(sorted(found.targets)) or "none"
    if missing := needs - found.targets:
        several = "; it has several labels an image, and this task wants one" * ("labels" in found.targets)
        alone = f"; to pretrain on it and judge elsewhere: --pretrain-on {source}" * (not found.targets)
        text = f"{task} needs {', '.join(missing)}, which {source} does not have; its targets: {has}"
        raise UserError(text + several + alone)
    if "label" in needs and len(found.classes) < 2:
        suspect(
            settings,
            "one-class",
            f"{source} has one class, {found.classes[0]!r}, and {task} can't be wrong ({sentence(found)})",
        )
    for role in ("select", "test") if "mask" in needs else ():
        masks = getattr(found, role).targets.get("mask")
        if masks is None or not (masks != found.ignore_index).any():
            raise UserError(f"{source}: the masks of {role} have no pixel of a class: {task} can't judge there")


def refuse_copies(found: Copied, count: int, source: str, settings: DataSettings) -> None:
    """Raises UserError where more than a few of `count` test images are, pixel for pixel, trained or chosen on.

    What only looks like a copy is counted and said: digits, icons and simple drawings are alike without being copies.
    """
    if found.equal > COPIED * count:
        suspect(
            settings,
            "copies",
            f"{found.equal} of {count} test images of {source} are also in fit or select, pixel for pixel (such as "
            f"{found.example}): scores would be of memory; take them out of one side",
        )
