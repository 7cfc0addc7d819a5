"""Fewer labels: parts of `fit` and `select` that are nested, stratified and fixed by hash. No torch to parse."""

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from ssbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ssbench.data import Split

ALL = "100%"


def parse(text: str) -> str:
    """`5%` of the labelled images, or `4` a class; all of them are the empty string. Raises UserError."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(%?)", text.strip())
    amount = float(found[1]) if found else 0.0
    if not found or amount <= 0 or (found[2] and amount > 100) or (not found[2] and amount != int(amount)):
        raise UserError(f"--labels {text}: expected a share such as 5%, or a number a class such as 4")
    return "" if found[2] and amount == 100 else f"{amount:g}{found[2]}"


def labelled(split: "Split", labels: str, draw: int, of: int) -> "Tensor":
    """Positions of the samples whose labels may be seen, in the split's order.

    Samples stand in the order of the SHA-256 of the draw and their keys, within each class where there is one label an
    image, so that fewer are part of more. A share is of each class, a number is of `fit` and as much of `select` as
    it has of samples beside the `of` samples of fit; at least one of each class stays.
    """
    import torch

    order = sorted(range(len(split)), key=lambda at: sha256(f"{draw}|{split.keys[at]}".encode()).digest())
    label = split.targets.get("label")
    classes: dict[int, list[int]] = {}
    for at in order:
        classes.setdefault(0 if label is None else int(label[at]), []).append(at)
    kept = [at for members in classes.values() for at in members[: _count(labels, len(members), len(split) / of)]]
    return torch.tensor(sorted(kept), dtype=torch.int64)


def _count(labels: str, members: int, share: float) -> int:
    """How many of a class's members; `share` is how large this part is beside fit."""
    wanted = float(labels[:-1]) / 100 * members if labels.endswith("%") else int(labels) * share
    return max(round(wanted), 1)
