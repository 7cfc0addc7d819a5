"""Assignments of a batch to prototypes that use all of them equally."""

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3) -> Tensor:
    """Codes (B, K) of scores (B, K): each row sums to 1, and all columns to the same, as far as iterations bring it.

    It is SwAV's (Caron et al. 2020, main_swav.py, distributed_sinkhorn) on logarithms, which can't overflow.
    """
    log = scores.float() / epsilon
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)  # prototypes are used equally
        log = log - log.logsumexp(1, keepdim=True)  # each image is one
    return log.exp()
