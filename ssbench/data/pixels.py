"""One image as it lies -> 8-bit planes of one size: orientation, depth, transparency, colour."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ssbench.errors import one_line

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow with more than 8 bit
CLEAR = ("LA", "La", "PA", "RGBA", "RGBa")
NO_DATA = (-9999.0, -32768.0)  # what maps and scans have where nothing was measured; so is what is below -1e30
TURNED = 0x0112  # EXIF's tag of orientation

BEHIND = 128  # the grey that transparent images are laid on: neither black nor white ink vanishes

Raw = Image.Image | NDArray[np.generic]


@dataclass(frozen=True)
class Pixels:
    """How images become uint8 of so many channels, the same for all of a data set."""

    channels: int
    size: int  # px
    low: float = 0.0  # of the values that become 0 and 255
    high: float = 255.0
    deep: bool = False  # values have that scale; else 8 bit are as they are
    bands: bool = False  # a fourth channel of 8-bit files is data


def orientation(raw: Raw) -> int:
    """The orientation tag of its camera (EXIF), 1 where it has none; from 5 on width and height change places."""
    return int(raw.getexif().get(TURNED, 1)) if isinstance(raw, Image.Image) else 1


def is_cut(raw: Raw) -> bool:
    """Whether Pillow reads the upper 8 of 16 bits alone, as it does of PNG files in colour."""
    tiles: list[Any] = getattr(raw, "tile", [])
    return bool(tiles) and not (isinstance(raw, Image.Image) and raw.mode in DEEP) and ";16" in str(tiles[0][3])


def content(raw: Raw) -> str:
    """The digest of an image's bytes as they lie, or of its pixels where it came without; before they are decoded."""
    file = getattr(raw, "fp", None)
    if file is None:
        return blake2b(np.ascontiguousarray(np.asarray(raw)).tobytes(), digest_size=16).hexdigest()
    at = file.tell()
    file.seek(0)
    found = blake2b(file.read(), digest_size=16).hexdigest()
    file.seek(at)
    return found


def shown_size(raw: Raw) -> tuple[int, int]:
    """Width and height of an image once it is upright."""
    if not isinstance(raw, Image.Image):
        return raw.shape[1], raw.shape[0]
    return raw.size[::-1] if orientation(raw) >= 5 else raw.size


def upright(image: Image.Image) -> Image.Image:
    """The image as its camera's orientation tag (EXIF) says it is to be seen."""
    ImageOps.exif_transpose(image, in_place=True)
    return image


def bytes_of(raw: Raw, how: Pixels) -> list[Image.Image]:
    """Planes of 8 bit: one image in RGB or grey, or a grey one for each of other numbers of channels."""
    if not isinstance(raw, Image.Image):
        values = np.asarray(raw)
        return [_stretched(values[..., band], how) for band in range(values.shape[2])]
    if raw.mode in DEEP:
        grey = _stretched(np.asarray(raw), how)
        return [grey if how.channels == 1 else grey.convert("RGB")]
    if how.bands:
        return [*raw.split()]
    if raw.mode in CLEAR or "transparency" in raw.info:
        clear = raw.convert("RGBA")
        raw = Image.alpha_composite(Image.new("RGBA", raw.size, (BEHIND, BEHIND, BEHIND, 255)), clear)
    return [raw.convert("L" if how.channels == 1 else "RGB")]


def _stretched(values: NDArray[np.generic], how: Pixels) -> Image.Image:
    if values.dtype == np.uint8 and not how.deep:
        return Image.fromarray(np.ascontiguousarray(values))
    scaled = (values.astype(np.float32).clip(how.low, how.high) - how.low) * (255 / (how.high - how.low))
    return Image.fromarray(np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8))


def to_size(planes: list[Image.Image], side: int, whole: bool) -> NDArray[np.uint8]:
    """Pixels (C, S, S), bicubic and antialiased: of the centre square, or of the `whole` image squashed to it."""
    fitted = [
        np.asarray(
            plane.resize((side, side), Image.Resampling.BICUBIC)
            if whole
            else ImageOps.fit(plane, (side, side), Image.Resampling.BICUBIC)
        )
        for plane in planes
    ]
    found = np.stack(fitted) if fitted[0].ndim == 2 else fitted[0].transpose(2, 0, 1)
    return np.ascontiguousarray(found)


def span(raw: Raw) -> tuple[float, float]:
    """Where nearly all values of an image lie: without the outermost 0.05 % of either end, such as dead pixels.

    Without NO_DATA too, which becomes the lowest value.
    """
    values = np.asarray(raw).astype(np.float64)
    values = values[np.isfinite(values) & (values > -1e30) & ~np.isin(values, NO_DATA)]
    if not values.size:
        raise ValueError("none of its values is a finite measurement")
    low, high = np.percentile(values, (0.05, 99.95))
    return float(low), float(high)


def reason(error: Exception) -> str:
    """What is wrong with an image, in one line."""
    if isinstance(error, UnidentifiedImageError):  # whose own text shows an object's address
        return "it is not an image"
    if isinstance(error, OSError) and error.strerror:  # whose own text repeats the path
        return error.strerror
    return one_line(error)
