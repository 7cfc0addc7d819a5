"""What methods of this family with prototypes share: crops, a temperature that warms up, how prototypes are used."""

from dataclasses import replace
from math import log

import torch
from torch import Tensor

from ssbench.method import View

Range = tuple[float, float]


def crops(large: Range, small: Range, count: int, blur: float) -> list[View]:
    """Two full-size crops, of which the second alone is solarised, and `count` of half the size (DINO, main_dino.py).

    `blur` is the probability for the first; it is a tenth for the second and half for the small ones.
    """
    first = View(crop=large, jitter=(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=blur)
    second, local = replace(first, blur=blur / 10, solarise=0.2), replace(first, crop=small, blur=blur / 2)
    return [first, second, replace(local, count=count, size=0.5)]


def warmed(first: float, last: float, share: float, progress: float) -> float:
    """From `first` to `last` by a line over a share of the budget, and `last` from then on."""
    return first + (last - first) * min(progress / share, 1) if share else last


@torch.no_grad()
def usage(shares: Tensor) -> dict[str, float]:
    """How a teacher's probabilities (B, K) use the prototypes.

    `teacher entropy` is the mean over images, over log K: 1 where nothing is told. `prototypes in use` is the
    perplexity of the mean image, over K: 1 / K where all are told alike, at most B / K where the teacher is sure.
    """
    choices, entropy = shares.shape[1], torch.special.entr(shares).sum(1).mean()
    perplexity = torch.special.entr(shares.mean(0)).sum().exp()
    return {"teacher entropy": float(entropy) / log(choices), "prototypes in use": float(perplexity) / choices}
