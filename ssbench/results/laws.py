"""Power laws with an offset: what scores do as budgets grow. No torch."""

from dataclasses import dataclass

import numpy as np

from ssbench.results.metrics import Array

EXPONENTS = np.geomspace(0.05, 2.0, 150)  # all but straight in the logarithm, to all but there at once


@dataclass(frozen=True, eq=False)
class Law:
    """Scores of limit + slope * (size / unit) ** -exponent, one law an entry, each (N,)."""

    limit: Array
    slope: Array
    exponent: Array
    unit: float  # the size that counts as one

    def at(self, size: float) -> Array:
        """The scores at a size, (N,)."""
        return np.asarray(self.limit + self.slope * (size / self.unit) ** -self.exponent)


def fitted(sizes: Array, scores: Array, bounds: tuple[float, float]) -> Law:
    """The law of the least squares for each row of scores (N, K) at sizes (K,), K three or more.

    The exponent is the best of EXPONENTS, the limit within `bounds`; for these two the slope follows.
    """
    unit = float(sizes[0])
    x = (sizes / unit) ** -EXPONENTS[:, None]  # (E, K)
    beside = x - x.mean(1, keepdims=True)
    free = scores @ beside.T / (beside**2).sum(1)  # (N, E)
    limit = np.clip(scores.mean(1, keepdims=True) - free * x.mean(1), *bounds)
    slope = ((scores[:, None] - limit[..., None]) * x).sum(2) / (x**2).sum(1)
    off = scores[:, None] - limit[..., None] - slope[..., None] * x  # (N, E, K)
    best = (off**2).sum(2).argmin(1)
    rows = np.arange(len(scores))
    return Law(limit[rows, best], slope[rows, best], EXPONENTS[best], unit)
