"""What the losses and the measures of this family read off a batch of embeddings, in float32."""

import torch
from torch import Tensor

from ..parts.spread import spread

FLOOR = 1e-4  # added to a variance before its root (vicreg, main_vicreg.py)
COLLAPSED = 1 - FLOOR**0.5  # the variance term of embeddings that are all alike


@torch.no_grad()
def measured(z: Tensor) -> dict[str, float]:
    """How evenly embeddings (B, D) use their space.

    `embedding std` is that of unit vectors, times sqrt(D): 1 in all directions alike, 0 collapsed. `embedding
    correlation` is the root mean square over pairs of dimensions: about 1 / sqrt(B) where they are independent.
    """
    z = z.float()
    scaled = (z - z.mean(0)) / z.std(0).clamp(min=1e-6)
    others = off_diagonal(scaled.T @ scaled / (len(z) - 1)).square().sum() / (z.shape[1] * (z.shape[1] - 1))
    return {"embedding std": spread(z), "embedding correlation": float(others.sqrt())}


def off_diagonal(square: Tensor) -> Tensor:
    """Matrices (..., D, D) with zeros on their diagonal; no boolean index, for which a GPU must be waited."""
    return square - torch.diag_embed(square.diagonal(dim1=-2, dim2=-1))


def variance(z: Tensor) -> Tensor:
    """VICReg's hinge (main_vicreg.py): how much deviations over the batch of (B, ..., D) lack to 1, on average."""
    return (1 - (z.var(0) + FLOOR).sqrt()).relu().mean()


def covariance(z: Tensor) -> Tensor:
    """VICReg's squared covariances of pairs of dimensions of (B, D) or (B, N, D), over D; the mean of the N."""
    centred = (z - z.mean(0)).movedim(0, -2)  # (..., B, D)
    found = centred.transpose(-1, -2) @ centred / (len(z) - 1)  # (..., D, D)
    return off_diagonal(found).square().sum((-1, -2)).mean() / z.shape[-1]
