"""The forms of the drawn scenes' classes, upright, in a frame from -1 to 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _star(u: Array, v: Array) -> Array:
    """A pentagram is where at least four of the half-planes of its five lines meet."""
    turns = np.arange(5) * 2 * np.pi / 5
    sines, cosines = np.sin(turns).astype(np.float32), np.cos(turns).astype(np.float32)
    v = v - np.float32(0.08)
    return sum((u * sines[k] - v * cosines[k] < 0.35).astype(np.uint8) for k in range(5)) >= 4


def _heart(u: Array, v: Array) -> Array:
    x, y = np.float32(1.18) * u, np.float32(0.12) - np.float32(1.15) * v
    bulge = x * x + y * y - 1
    return bulge * bulge * bulge < x * x * y * y * y


# Whether points (u to the right, v down, frame from -1 to 1) are inside the upright form.
INSIDE: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: u * u + v * v < 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.88,
    "triangle": lambda u, v: (v < 0.8) & (np.abs(u) < (v + 1) * 0.55),
    "cross": lambda u, v: (np.maximum(np.abs(u), np.abs(v)) < 0.98) & (np.minimum(np.abs(u), np.abs(v)) < 0.32),
    "star": _star,
    "ring": lambda u, v: np.abs(u * u + v * v - 0.64) < 0.34,
    "heart": _heart,
    "moon": lambda u, v: (u * u + v * v < 1) & ((u - 0.55) ** 2 + v * v > 0.64),
}
