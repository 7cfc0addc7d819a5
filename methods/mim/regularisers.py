"""What keeps representations apart: a term beside the reconstruction, on the mean patch token of each image (B, D)."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from lightly.loss import KoLeoLoss, SIGReg
from lightly.loss.vicreg_loss import variance_loss
from torch import Tensor

VARIANCE, COVARIANCE = 25.0, 1.0  # VICReg, main_vicreg.py
SLICES = 256  # LeJEPA's minimal page; its package has 1,024
SHARPNESS = 2.0  # uniformity's t (Wang and Isola 2020)


def vicreg(vectors: Tensor) -> Tensor:
    """Each dimension's deviation up to 1, and no covariances (Bardes et al. 2021, arXiv:2105.04906), for one view."""
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred / (len(vectors) - 1)  # (D, D)
    apart = covariance.square().sum() - covariance.diagonal().square().sum()  # lightly's waits for the device
    return VARIANCE * variance_loss(vectors) + COVARIANCE * apart / len(covariance)


def koleo(vectors: Tensor) -> Tensor:
    """Far from the nearest other image of the batch (Sablayrolles et al. 2018, arXiv:1806.03198; DINOv2)."""
    return KoLeoLoss()(vectors)


def sigreg(vectors: Tensor) -> Tensor:
    """An isotropic normal distribution (LeJEPA, Balestriero and LeCun 2025, arXiv:2511.08544); grows with the batch."""
    return _sigreg(vectors.device)(vectors)


@cache
def _sigreg(device: torch.device) -> SIGReg:
    return SIGReg(num_vectors=SLICES).to(device)


def uniformity(vectors: Tensor) -> Tensor:
    """Spread over the sphere: log E exp(-2 d^2) over pairs of images (Wang and Isola 2020, arXiv:2005.10242)."""
    return torch.pdist(F.normalize(vectors, dim=1)).square().mul(-SHARPNESS).exp().mean().log()


REGULARISERS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "none": None,
    "vicreg": vicreg,
    "koleo": koleo,
    "sigreg": sigreg,
    "uniformity": uniformity,
}
