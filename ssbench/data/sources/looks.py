"""How the objects of drawn scenes look: their outlines, and surfaces of two colours.

Both are functions of places in an object's own frame, u to the right and v down; that from -1 to 1 for outlines, in
units of the pitch for surfaces.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def wave(phase: Array) -> Array:
    """A square wave of period 1 between -1 and 1, with soft flanks against aliasing."""
    return (12 * np.abs(phase - np.floor(phase) - np.float32(0.5)) - 3).clip(-1, 1)


SLANT = np.float32(0.5**0.5)

# Between -1 and 1: how much of either colour there is.
PATTERNS: dict[str, Callable[[Array, Array], Array]] = {
    "stripes": lambda u, v: wave(u),
    "checks": lambda u, v: wave(u) * wave(v),
    # one for each class of the grade conflict; all are what they are in a mirror
    "columns": lambda u, v: wave(u),
    "rows": lambda u, v: wave(v),
    "diamonds": lambda u, v: wave(SLANT * (u - v)) * wave(SLANT * (u + v)),
    "dots": lambda u, v: np.minimum(wave(u), wave(v)),
    "chequer": lambda u, v: wave(u) * wave(v),
    "lattice": lambda u, v: np.maximum(wave(u), wave(v)),
    "circles": lambda u, v: wave(np.sqrt(u * u + v * v)),
    "bare": lambda u, v: 0 * u - 1,
}
CUES = tuple(PATTERNS)[2:]


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
