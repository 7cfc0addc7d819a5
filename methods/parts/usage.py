"""Whether clusters are used: what collapse takes away first."""

from math import log

from torch import Tensor


def usage(scores: Tensor, temperature: float) -> dict[str, float]:
    """Of scores (N, K): the entropy of the mean softmax over log K, and the share of clusters that are some image's.

    Both are 1 where all are used alike; fewer images than clusters can use that many at most, which the share allows.
    """
    images, clusters = scores.shape
    p = (scores.float() / temperature).softmax(1).mean(0)  # (K,)
    entropy = -(p * p.clamp(min=1e-12).log()).sum().item()
    used = scores.argmax(1).unique().numel()
    return {"cluster_entropy": entropy / log(clusters), "clusters_used": used / min(images, clusters)}
