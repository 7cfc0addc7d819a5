"""Depth maps as they lie (16-bit PNG, TIFF, NumPy's arrays) -> float32 beside their images, NaN where nothing is known.

Any number for each pixel is meant: depth, height, density.
"""

import numpy as np
from numpy.typing import NDArray

from ssbench.data.listing import Sample
from ssbench.data.masks import nearest
from ssbench.data.pixels import NO_DATA, Raw, orientation, shown_size
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings


def read(where: str, sample: Sample, image: Raw, side: int, settings: DataSettings) -> NDArray[np.float32]:
    """A sample's map (S, S), each pixel the nearest one's, with its values as they are.

    NaN is what is not finite, NO_DATA, below -1e30, and 0 in integers of more than 8 bits (`data.ignore_index` in its
    place). Raises UserError where the map has another aspect ratio than its `image`, ValueError where all is NaN.
    """
    assert sample.depth is not None
    raw, (width, height) = sample.depth(), shown_size(image)
    if abs(raw.shape[1] - width * raw.shape[0] / height) > 1 and abs(raw.shape[0] - height * raw.shape[1] / width) > 1:
        shape = f"{sample.name} is {width} x {height} px, and its depth map {raw.shape[1]} x {raw.shape[0]}"
        raise UserError(f"{where}: {shape}: maps may be smaller than images, but of the same aspect ratio")
    if orientation(image) != 1:
        text = f"{where}: {sample.name} has an orientation tag: whether its depth map is turned too can't be seen"
        suspect(settings, "mask-orientation", f"{text}; store both turned")
    values = nearest(raw, side).astype(np.float32)
    void = [*NO_DATA, settings.ignore_index] if settings.ignore_index >= 0 else [*NO_DATA]
    if settings.ignore_index < 0 and raw.dtype.kind in "ui" and raw.dtype.itemsize > 1:
        void.append(0)
    values[~np.isfinite(values) | (values < -1e30) | np.isin(values, void)] = np.nan
    if np.isnan(values).all():
        raise ValueError(f"its depth map has no value at {side} px: all are 0, not finite or data.ignore_index")
    return values
