"""Ridge regression (Hoerl and Kennard 1970) by one eigendecomposition, for every penalty and every column at once."""

from functools import cached_property

import torch
from torch import Tensor

FLAT = 1e-6  # a deviation of rounding alone, beside the mean's size, by which nothing is divided


def standardised(fit: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Features (N, D) by the mean and deviation of `fit`, float64; a dimension that is constant there becomes 0.

    Raises RuntimeError where they are not finite.
    """
    fit = fit.double()
    mean, std = fit.mean(0), fit.std(0, correction=0)
    if not (fit.isfinite().all() and mean.isfinite().all() and std.isfinite().all()):
        raise RuntimeError("the features are not finite")
    flat = std <= FLAT * mean.abs().clamp(min=FLAT)
    weight = std.where(~flat, 1).reciprocal().masked_fill(flat, 0)
    return tuple((part.double() - mean) * weight for part in (fit, *others))


class Ridge:
    """Heads that minimise the sum of squared errors and penalty * squared weights; the bias is not penalised.

    Features (N, D) and targets (N, K) are centred, and the smaller of covariance (D, D) and Gram matrix (N, N) is
    decomposed. As in scikit-learn's Ridge, a penalty keeps its meaning only for as many samples.
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        self.mean, self.centre = features.mean(0), targets.mean(0)
        x, self.targets = features - self.mean, targets - self.centre
        self.wide = x.shape[1] > len(x)
        values, vectors = torch.linalg.eigh(x @ x.T if self.wide else x.T @ x)
        self.values = values.clamp(min=0)  # (R,)
        self.back = x.T @ vectors if self.wide else vectors  # (D, R)
        self.found = vectors.T @ (self.targets if self.wide else x.T @ self.targets)  # (R, K)
        self.x, self.vectors = x, vectors

    @cached_property
    def seen(self) -> Tensor:
        """Samples in the directions of the decomposition, (N, R), which no head needs."""
        return self.vectors if self.wide else self.x @ self.vectors

    def head(self, penalty: float | Tensor) -> Tensor:
        """The head (D + 1, K), the bias last, of one penalty above 0, or of one for each target (K,)."""
        weight = self.back @ (self.found / self._shrunk(penalty))
        return torch.cat([weight, (self.centre - self.mean @ weight)[None]])

    def left_out(self, penalty: float) -> Tensor:
        """What is said of each sample by the head of all others, (N, K) (Allen 1974); needs two samples."""
        share = (self.values if self.wide else torch.ones_like(self.values)) / (self.values + penalty)  # (R,)
        fitted = self.seen @ (self.found * share[:, None])  # of centred targets
        leverage = 1 / len(fitted) + self.seen.square() @ share[:, None]  # (N, 1)
        return self.targets + self.centre - (self.targets - fitted) / (1 - leverage).clamp(min=1e-12)

    def _shrunk(self, penalty: float | Tensor) -> Tensor:
        return self.values[:, None] + penalty  # (R, K) or (R, 1)


def apply(head: Tensor, features: Tensor) -> Tensor:
    """Features (N, D) under a head (D + 1, K), the bias last: (N, K)."""
    return features @ head[:-1] + head[-1]
