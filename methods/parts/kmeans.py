"""k-means of unit vectors by their cosines."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16_384  # vectors at once, so that their scores fit into memory


@torch.no_grad()
def kmeans(vectors: Tensor, clusters: int, iterations: int) -> Tensor:
    """Unit centroids (K, D) of unit vectors (N, D), N >= K; torch's generator on the CPU draws the first ones.

    It starts at K of the vectors, and a cluster that loses all of its own stays where it is (facebookresearch/swav,
    main_deepclusterv2.py).
    """
    centroids = vectors[torch.randperm(len(vectors))[:clusters].to(vectors.device)]
    for _ in range(iterations):
        nearest = assigned(vectors, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=clusters)
        centroids = F.normalize(torch.where(counts[:, None] > 0, sums, centroids), dim=1)
    return centroids


@torch.no_grad()
def assigned(vectors: Tensor, centroids: Tensor) -> Tensor:
    """The centroid (N,) that each of (N, D) has the largest product with."""
    return torch.cat([(some @ centroids.T).argmax(1) for some in vectors.split(CHUNK)])
