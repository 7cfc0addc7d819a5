"""From images as they lie (files, cells of a table) to uint8 tensors of one size: shared by the sources.

A source lists its samples; opening one gives its image, label and mask. All that is decided about pixels is decided
here: orientation, colour, size, and what happens to an image that can't be read.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ssbench.data import Source, Split, allocate
from ssbench.errors import UserError, one_line
from ssbench.spec import DataSettings

LARGEST = 64  # px: the side of images whose size is not asked for is theirs, and at most this
STEP = 8  # px: such a side is a multiple of this, so that the default patches fit

Pixels = NDArray[np.uint8]


class Opened(NamedTuple):
    """A sample as it lies; PIL decodes pixels when they are first asked for."""

    image: Image.Image
    label: int | None = None
    mask: Image.Image | None = None  # its pixels' values are the classes


class Sample(NamedTuple):
    """A sample that is not opened yet."""

    key: str
    name: str  # what a message calls it
    open: Callable[[], Opened]


class Samples(NamedTuple):
    """A split that is not decoded yet."""

    total: int
    each: Iterable[Sample]


def decode(where: str, splits: Mapping[str, Samples], classes: tuple[str, ...], settings: DataSettings) -> Source:
    """All samples at one size, which the first image of the first split gives unless the settings do.

    Raises UserError naming `where` and the image when one can't be read, unless `settings.on_bad_image` is `skip`.
    """
    size, decoded, skipped = settings.image_size, {}, []
    for name, samples in splits.items():
        decoded[name], left_out = _split(where, name, samples, size, settings.on_bad_image == "skip")
        size = decoded[name].images.shape[-1]
        skipped += left_out
    masks = [split.targets["mask"] for split in decoded.values() if "mask" in split.targets]
    return Source(decoded, classes, _mask_classes(masks, settings.ignore_index), skipped=tuple(skipped))


def _split(where: str, split: str, samples: Samples, size: int, skip: bool) -> tuple[Split, list[str]]:
    """A decoded split and the names of the images left out; `size` 0 is the first image's own."""
    keys: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    images = masks = torch.empty(0, dtype=torch.uint8)
    for sample in samples.each:
        try:
            pixels, label, mask = _pixels(sample.open(), size)  # (S, S, 3), -, (S, S)
        except Exception as error:  # decoders raise whatever broken bytes lead them to; the image is named
            if skip:
                skipped.append(sample.name)
                continue
            hint = "mend it, or leave such images out with --on-bad-image skip"
            raise UserError(f"{where}: {sample.name} can't be read: {reason(error)}; {hint}") from None
        if not keys:
            size = len(pixels)
            images = allocate((samples.total, 3, size, size), torch.uint8)
            masks = allocate((samples.total if mask is not None else 0, size, size), torch.uint8)
        images[len(keys)] = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, S, S)
        if mask is not None:
            masks[len(keys)] = torch.from_numpy(mask)
        if label is not None:
            labels.append(label)
        keys.append(sample.key)
    if not keys:
        raise UserError(f"{where} has no image that can be read in the split {split}")
    targets = {"label": torch.tensor(labels)} if labels else {}
    if len(masks):
        targets["mask"] = masks[: len(keys)]
    return Split(images[: len(keys)], tuple(keys), targets), skipped


def _pixels(opened: Opened, size: int) -> tuple[Pixels, int | None, Pixels | None]:
    """Decoded image (S, S, 3), label, and mask (S, S)."""
    image = rgb(upright(opened.image))
    side = size or shorter_side(image)
    mask = None if opened.mask is None else classes_at_size(opened.mask, side)
    return to_size(image, side, whole=mask is not None), opened.label, mask


def upright(image: Image.Image) -> Image.Image:
    """The image as its camera's orientation tag (EXIF) says it is to be seen."""
    ImageOps.exif_transpose(image, in_place=True)
    return image


def rgb(image: Image.Image) -> Image.Image:
    """Any image in RGB, 8 bit a channel. Raises ValueError on pixels without a known range."""
    if image.mode in ("I", "F"):
        raise ValueError("its 32-bit pixels have no known range; store it with 8 or 16 bit")
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 what reaches 65535
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def shorter_side(image: Image.Image) -> int:
    """The side in pixels of the squares that a data set with such an image is read as."""
    return max(min(*image.size, LARGEST) // STEP * STEP, STEP)


def to_size(image: Image.Image, side: int, whole: bool) -> Pixels:
    """RGB pixels (S, S, 3), bicubic and antialiased: of the centre square, or of the `whole` image squashed to it."""
    if whole:
        return np.array(image.resize((side, side), Image.Resampling.BICUBIC))
    return np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


def classes_at_size(mask: Image.Image, side: int) -> Pixels:
    """The classes (S, S) of an 8-bit or palette mask squashed to a square, each pixel the nearest one's.

    Raises ValueError on a mask in colour: its values are not classes.
    """
    if mask.mode not in ("1", "L", "P"):
        raise ValueError(f"its mask is of mode {mask.mode}; the values of an 8-bit or palette image are the classes")
    return np.array(upright(mask).resize((side, side), Image.Resampling.NEAREST), dtype=np.uint8)


def reason(error: Exception) -> str:
    """What is wrong with an image, in one line."""
    if isinstance(error, UnidentifiedImageError):  # whose own text shows an object's address
        return "it is not an image"
    return one_line(error)


def _mask_classes(masks: list[Tensor], ignore: int) -> int:
    """One more than the largest class in some masks, the ignored value left out."""
    counts = sum((mask.flatten().bincount(minlength=256) for mask in masks), torch.zeros(256, dtype=torch.int64))
    counts[ignore] = 0
    return int(counts.nonzero().max()) + 1 if counts.any() else 0
