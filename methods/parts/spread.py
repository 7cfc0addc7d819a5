"""Whether embeddings use their space: what collapse takes away first."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def spread(z: Tensor) -> float:
    """Standard deviation of unit vectors along z (B, D), times sqrt(D): 1 in all directions alike, 0 collapsed.

    It is SimSiam's sign of collapse (Chen & He 2021, arXiv:2011.10566, figure 2).
    """
    return float(F.normalize(z.float(), dim=1).std(0, correction=0).mean() * z.shape[1] ** 0.5)
