"""Squares cut from scikit-learn's two bundled photographs, at any size, without aliasing."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LUMA = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue (ITU-R BT.601)


def flat(values: Array) -> Array:
    """Values (n,) or (n, 3) in the shape (n, 1 or 3, 1, 1) of a uniform image."""
    return (values if values.ndim == 2 else values[:, None])[..., None, None].astype(np.float32)


@cache
def sums() -> Array:
    """Sums of both photographs (values 0 to 1) over all that is above and left of each corner: (2, 3, H + 1, W + 1)."""
    from sklearn.datasets import load_sample_image  # slow to import; to name the data it isn't needed

    photos = np.stack([load_sample_image(name) for name in ("china.jpg", "flower.jpg")])  # (2, H, W, 3)
    added = photos.transpose(0, 3, 1, 2).cumsum(2, dtype=np.int64).cumsum(3)  # (2, 3, H, W)
    return np.pad(added, ((0, 0), (0, 0), (1, 0), (1, 0))) / 255


def photograph(crop: Array, size: int) -> Array:
    """Crops (n, 5) as images (n, 3, size, size), less their mean, at a luminance deviation of 1."""
    coarse = means(crop, 8)  # (n, 3, 8, 8) for statistics that don't depend on `size`
    centre = coarse.mean((2, 3))  # (n, 3)
    spread = (coarse * LUMA[:, None, None]).sum(1).std((1, 2))  # (n,)
    # Smooth sky is not blown up to full contrast: that would show the noise of the photograph.
    return (means(crop, size).astype(np.float32) - flat(centre)) / flat(np.maximum(spread, 0.06))


def means(crop: Array, size: int) -> Array:
    """Means (n, 3, size, size) of crops (n, 5) over their pixels' areas.

    They are exact: differences of the integral image, which is bilinear between corners. So nothing aliases,
    and an image at half the size is this one averaged down.
    """
    whole = sums()
    height, width = whole.shape[2:]
    photo, x, y, across, down = crop.T[..., None]  # (n, 1) each
    x, y = (start + length * np.arange(size + 1) / size for start, length in ((x, across), (y, down)))  # (n, S + 1)
    left, top = x.astype(np.int64).clip(0, width - 2), y.astype(np.int64).clip(0, height - 2)
    fx, fy = (x - left)[:, None, None, :], (y - top)[:, None, :, None]
    plane = 3 * photo.astype(np.int64)[..., None, None] + np.arange(3)[:, None, None]  # (n, 3, 1, 1)
    corner = (plane * height + top[:, None, :, None]) * width + left[:, None, None, :]  # (n, 3, S + 1, S + 1)
    upper = whole.take(corner) * (1 - fx) + whole.take(corner + 1) * fx
    lower = whole.take(corner + width) * (1 - fx) + whole.take(corner + width + 1) * fx
    total = np.diff(np.diff(upper * (1 - fy) + lower * fy, axis=2), axis=3)  # (n, 3, S, S)
    return total * (size**2 / (across * down))[..., None, None]
