"""Masks as they lie (8 or 16 bit, palettes, colours) -> classes 0..C-1 and VOID, by the values that a whole set has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssbench.data.listing import Sample
from ssbench.data.pixels import Raw, orientation, shown_size, upright
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings

VOID = 255  # what is no class, in decoded masks
MOST = 255  # classes
MANY, BUSY = 40, 24  # values of a set and of a typical mask above which they are smeared rather than classes
COLOUR = 2**24  # added to the 24 bits of a colour, so that none is a grey level
LOSSY = ("JPEG", "MPO")


@dataclass
class Values:
    """The values met so far, in the order in which they were, which decoded masks have in their place."""

    numbers: dict[int, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)  # of each mask
    lock: Lock = field(default_factory=Lock)  # samples are opened in parallel
    lossy: bool = False


def read(
    where: str, sample: Sample, image: Raw, side: int, values: Values, settings: DataSettings
) -> NDArray[np.uint8]:
    """A sample's mask at a size, as `at_size` gives it; raises UserError where it does not fit its `image`."""
    assert sample.mask is not None
    mask = sample.mask()
    form, tags = mask.format or "", [orientation(one) for one in (image, mask)]
    (width, height), shape = shown_size(image), shown_size(mask)
    if shape != (width, height):
        turned = " once its orientation tag turns it" if tags[0] != 1 and tags[1] == 1 else ""
        suspect(
            settings,
            "mask-shapes",
            f"{where}: {sample.name} is {width} x {height} px{turned}, and its mask {shape[0]} x {shape[1]}: "
            "store both in one shape and orientation",
        )
    elif tags[0] != tags[1]:
        suspect(
            settings,
            "mask-orientation",
            f"{where}: {sample.name} has an orientation tag and its mask has another or none: whether the mask is "
            "turned too can't be seen; store both turned",
        )
    return at_size(upright(mask), side, values, form)


def at_size(mask: Image.Image, side: int, values: Values, form: str) -> NDArray[np.uint8]:
    """A mask (S, S), each pixel the nearest one's, with its values numbered as they are met; adds to `values`.

    Raises ValueError where a set has more values than classes can be numbered.
    """
    raw = _integers(mask)
    each = np.unique(raw).tolist()
    with values.lock:
        values.lossy |= form in LOSSY and len(each) > 2
        values.counts.append(len(each))
        for value in each:
            values.numbers.setdefault(value, len(values.numbers))
        if len(values.numbers) > MOST + 1:
            raise ValueError(f"with it masks have more than {MOST + 1} values: they number objects, not classes")
        found, back = np.unique(nearest(raw, side), return_inverse=True)
        numbers = np.array([values.numbers[one] for one in found.tolist()], np.uint8)
    return numbers[back].reshape(side, side)


def _integers(mask: Image.Image) -> NDArray[np.int64]:
    """Values (H, W): of a palette its numbers, of a grey pixel its level, of a colour COLOUR and its 24 bits."""
    if mask.mode in ("RGBA", "LA"):
        *colour, alpha = mask.split()
        if all(low == high for low, high in (band.getextrema() for band in colour)) and len({*alpha.getextrema()}) > 1:
            mask = alpha  # drawn on nothing in one colour
    if mask.mode in ("RGB", "RGBA", "LA"):
        rgb = np.asarray(mask.convert("RGB")).astype(np.int64)
        grey = (rgb[..., 0] == rgb[..., 1]) & (rgb[..., 0] == rgb[..., 2])
        return np.where(grey, rgb[..., 0], COLOUR + rgb @ np.array([65536, 256, 1]))
    values = np.asarray(mask)
    if values.dtype.kind == "f" and not (values == values.round()).all():
        raise ValueError(f"its mask is of mode {mask.mode}, with values between whole numbers: they are no classes")
    return values.astype(np.int64)


def nearest(values: NDArray[Any], side: int) -> NDArray[Any]:
    """(H, W) -> (S, S): the value at the middle of each place."""
    rows, columns = ((np.arange(side) + 0.5) * length / side for length in values.shape)
    return values[rows.astype(int)[:, None], columns.astype(int)]


@dataclass(frozen=True)
class Mapped:
    """What the values of masks stand for: `table[number]` is the class of a value by its number."""

    table: NDArray[np.uint8]
    classes: int
    values: tuple[int, ...]  # the value of each class, as it lies
    void: int | None  # the value that is no class

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"mask_values": [*self.values], "mask_void": self.void}


def mapped(where: str, values: Values, settings: DataSettings) -> Mapped:
    """Classes in the order of the values; raises UserError on one value alone, and on smeared ones."""
    found = sorted(values.numbers)
    void: int | None = settings.ignore_index
    if void == -1:
        void = VOID if len(found) > 2 and VOID in found and found[-1] < COLOUR else None
    kept = [value for value in found if value != void]
    shown = ", ".join(map(_shown, kept[:12])) + (", ..." if len(kept) > 12 else "")
    typical = median(values.counts)
    if values.lossy:
        suspect(
            settings,
            "smeared-masks",
            f"{where}: masks are JPEG files, whose {len(kept)} values ({shown}) are smeared: they can't be classes; "
            "store masks as PNG",
        )
    elif (len(kept) > MANY and typical > BUSY) or len(kept) > MOST:
        suspect(
            settings,
            "smeared-masks",
            f"{where}: masks have {len(kept)} values ({shown}), {typical:.0f} in a typical one: smeared edges or "
            "objects by number, not classes",
        )
    if len(kept) > MOST:
        raise UserError(f"{where}: masks have {len(kept)} values that are classes; at most {MOST} can be read")
    if len(kept) < 2:
        suspect(
            settings,
            "one-mask-value",
            f"{where}: masks have one value that is a class ({shown or 'none'}"
            f"{'' if void is None else f', beside {void}, which is none (data.ignore_index)'}); two are needed",
        )
    table = np.full(len(values.numbers), VOID, np.uint8)
    for number, value in enumerate(kept):
        table[values.numbers[value]] = number
    return Mapped(table, len(kept), tuple(kept), void if void in found else None)


def _shown(value: int) -> str:
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)
