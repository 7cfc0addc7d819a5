"""Looking at a method without disturbing it: numbers that need no task, and the frame in which it is looked at."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from ssbench.data import Split
from ssbench.errors import NotApplicable
from ssbench.features import represent
from ssbench.method import Method
from ssbench.rng import derive

MEASURED = 64  # images that a method's own measures see


@contextmanager
def undisturbed(method: Method, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradient, random numbers from `seed`; afterwards modes and random state are as they were."""
    where = method.encoder.mean.device
    modes = {module: module.training for module in method.modules()}
    with torch.random.fork_rng([where] if where.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        method.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def measure(method: Method, select: Split, seed: int, ignore_index: int, most: int = MEASURED) -> dict[str, float]:
    """RankMe of the judged encoder on all of `select`, then the method's own measures; only what is finite.

    The method sees at most `most` images, evenly spaced, and their masks (B, S, S) where the data has some, with
    ignored pixels as background.
    """
    found = {}
    with undisturbed(method, derive(seed, "measures")):
        encoder, where = method.judged(), method.encoder.mean.device
        with suppress(NotApplicable):
            found["rankme"] = rankme(represent(encoder, select.images, encoder.vectors)[encoder.poolings[0]])
        index = torch.linspace(0, len(select) - 1, min(len(select), most)).long()
        images = method.encoder.normalise(select.images[index].to(where))  # (B, C, S, S)
        objects = select.targets["mask"][index].to(where) if "mask" in select.targets else None
        if objects is not None:
            objects = objects.masked_fill(objects == ignore_index, 0)
        found |= {name: float(value) for name, value in method.measures(images, objects).items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def rankme(features: Tensor) -> float:
    """Effective rank of features (N, D), uncentred: 1 to min(N, D), NaN when they are all zero or not finite.

    The exponential of the entropy of the singular values' shares (RankMe, Garrido et al. 2023, arXiv:2210.02885).
    """
    values = features.detach().cpu().double()  # not every accelerator has float64
    if not values.isfinite().all():
        return math.nan
    singular = torch.linalg.svdvals(values)  # (min(N, D),)
    p = singular / singular.sum() + 1e-7
    return float((-(p * p.log()).sum()).exp())
