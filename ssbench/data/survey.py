"""What the images of a data set are, before they are brought to one size: sizes, channels, depth, transparency, frames.

One pass opens every file, which reads its header; pixels are looked at where their range is not known from their type
(more than 8 bit, signed, float), and of some where a fourth channel may be transparency or data.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssbench.data.labels import Labels
from ssbench.data.listing import Box, Listing, Sample
from ssbench.data.pixels import CLEAR, DEEP, Pixels, Raw, content, is_cut, orientation, reason, shown_size, span
from ssbench.data.suspicion import suspect
from ssbench.errors import UserError
from ssbench.spec import DataSettings

LARGEST, SMALLEST, STEP = 224, 8, 8  # px of a side that is not asked for: at most, at least, a multiple of
SOLID = 0.5  # share of pixels that are wholly clear or solid, above which a fourth channel is transparency
FAR = 8  # widths of the usual range
LOOKED_AT = 32  # images whose fourth channel is looked at


class Seen(NamedTuple):
    """A sample without its pixels."""

    key: str
    label: Labels
    group: str
    boxes: Sequence[Box] | None
    numbers: Sequence[float]
    masked: bool
    depth: bool
    content: str  # the digest of its bytes
    mode: str  # Pillow's, or `bands 5 uint16`
    size: tuple[int, int]  # px, upright
    several: bool  # frames or pages
    turned: bool  # by its orientation tag
    cut: bool  # only the upper 8 of its 16 bits are read
    span: tuple[float, float] | None  # where its values lie, if that is not 8 bit


@dataclass(frozen=True)
class Survey:
    seen: Mapping[str, tuple[Seen, ...]]  # by split
    pixels: Pixels
    facts: Mapping[str, Any]
    bad: tuple[str, ...]  # names of images that can't be opened


def survey(listing: Listing, settings: DataSettings) -> Survey:
    """Raises UserError naming an image that can't be opened, unless such are skipped, and on what can't be meant."""
    seen: dict[str, list[Seen]] = {split: [] for split in listing.splits}
    bad = list[str]()
    for split, samples in listing.splits.items():
        for sample in samples.each():
            try:
                seen[split].append(_look(sample))
            except Exception as error:  # decoders raise whatever broken bytes lead them to
                refuse_bad(listing.where, sample, error, settings)
                bad.append(sample.name)
    every = [one for found in seen.values() for one in found]
    if not every:
        raise UserError(f"{listing.where} has no image that can be read")
    pixels, facts = _pixels(listing, seen, every, settings), _facts(every)
    scale = [pixels.low, pixels.high] if pixels.deep else None
    facts |= {"channels": pixels.channels, "scale": scale} | ({"transparent": 0} if pixels.bands else {})
    return Survey({split: tuple(found) for split, found in seen.items()}, pixels, facts, tuple(bad))


def _look(sample: Sample) -> Seen:
    raw = sample.open()
    cut = is_cut(raw)  # told by how its pixels are to be read, before they are
    deep = raw.mode in DEEP if isinstance(raw, Image.Image) else raw.dtype != np.uint8
    return Seen(
        sample.key,
        sample.label,
        sample.group,
        sample.boxes,
        sample.numbers,
        sample.mask is not None,
        sample.depth is not None,
        content(raw),
        raw.mode if isinstance(raw, Image.Image) else _bands_of(raw),
        shown_size(raw),
        getattr(raw, "n_frames", 1) > 1,
        orientation(raw) != 1,
        cut,
        span(raw) if deep else None,
    )


def _pixels(
    listing: Listing, seen: Mapping[str, Sequence[Seen]], every: Sequence[Seen], settings: DataSettings
) -> Pixels:
    """The scale is of all but test, unless nothing else is there."""
    modes = Counter(one.mode for one in every)
    spans = [one.span for split, found in seen.items() for one in found if one.span and split != "test"]
    spans = spans or [one.span for one in every if one.span]
    if spans and any(one.span is None for one in every):
        suspect(
            settings,
            "mixed-depth",
            f"{listing.where}: images of more than 8 bit stand beside others: {_counted(modes)}",
        )
    side = settings.image_size or _size(listing.where, [min(one.size) for one in every], settings)
    low, high = _scale(spans) if spans else (0.0, 255.0)
    bands = _bands(listing, modes)
    channels = _channels(listing.where, modes, bands)
    return Pixels(channels, side, low, high if high > low else low + 1, bool(spans), bands)


def _facts(every: Sequence[Seen]) -> dict[str, Any]:
    """What is counted: values of JSON."""
    shorter = sorted(min(one.size) for one in every)
    ratios = Counter(round(one.size[0] / one.size[1], 1) for one in every)
    return {
        "modes": dict(Counter(one.mode for one in every)),
        "transparent": sum(one.mode in CLEAR for one in every),
        "frames": sum(one.several for one in every),
        "turned": sum(one.turned for one in every),
        "cut": sum(one.cut for one in every),
        "sides": [shorter[0], shorter[len(shorter) // 2], shorter[-1]],
        "sides_counted": [*map(list, sorted(Counter(shorter).items()))],
        "shapes": len({one.size for one in every}),
        "square": all(one.size[0] == one.size[1] for one in every),
        "ratios_counted": [*map(list, sorted(ratios.items()))],
    }


def refuse_bad(where: str, sample: Sample, error: Exception, settings: DataSettings) -> None:
    """Raises UserError naming an image that can't be read, unless such are skipped; what is refused stays refused."""
    if isinstance(error, UserError):
        raise error
    if settings.on_bad_image != "skip":
        hint = "mend it, or leave such images out with --on-bad-image skip, which is --set data.on_bad_image=skip"
        raise UserError(f"{where}: {sample.name} can't be read: {reason(error)}; {hint}") from None


def _bands_of(raw: NDArray[np.generic]) -> str:
    if raw.ndim != 3:
        raise ValueError(f"its pixels have the shape {raw.shape}, not (height, width, bands)")
    return f"bands {raw.shape[2]} {raw.dtype}"


def _size(where: str, sides: list[int], settings: DataSettings) -> int:
    """The median of the shorter sides, a multiple of STEP so that default patches fit, at most LARGEST."""
    middle = sorted(sides)[len(sides) // 2]
    if middle < SMALLEST:
        suspect(
            settings,
            "tiny-images",
            f"{where}: most images have fewer than {SMALLEST} px a side: {middle}; "
            "if they are to be read all the same, set data.image_size",
        )
    return max(min(middle, LARGEST) // STEP * STEP, STEP)


def _scale(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    """What images' ranges lie in, but for those that reach FAR beyond nine tenths of them: broken ones set no scale."""
    lows, highs = np.array(ranges).T
    low, high = float(np.quantile(lows, 0.1)), float(np.quantile(highs, 0.9))
    reach = FAR * (high - low) or np.inf
    near = [one for one in ranges if low - one[0] <= reach and one[1] - high <= reach]
    return min(one for one, _ in near), max(one for _, one in near)


def _channels(where: str, modes: Counter[str], bands: bool) -> int:
    counts = {int(mode.split()[1]) for mode in modes if mode.startswith("bands")}
    if counts and (len(counts) > 1 or len(modes) > 1):
        raise UserError(f"{where}: images differ in their bands: {_counted(modes)}; leave one kind")
    if counts:
        return counts.pop()
    if bands:
        return 4
    return 1 if all(mode in ("1", "L", *DEEP) for mode in modes) else 3


def _bands(listing: Listing, modes: Counter[str]) -> bool:
    """Whether a fourth channel is data, such as near infrared: in transparency most pixels are clear or solid."""
    if {*modes} != {"RGBA"}:
        return False
    first = next(iter(listing.splits.values()))
    shares = []
    for sample in islice(_openable(first.each()), LOOKED_AT):
        alpha = np.asarray(sample)[..., 3]
        shares.append(float(((alpha == 0) | (alpha == 255)).mean()))
    return bool(shares) and float(np.median(shares)) < SOLID


def _openable(samples: Iterator[Sample]) -> Iterator[Raw]:
    for sample in samples:
        try:
            raw = sample.open()
            np.asarray(raw)
        except Exception:  # said when it is read
            continue
        yield raw


def _counted(modes: Counter[str]) -> str:
    return ", ".join(f"{mode} {count}" for mode, count in modes.most_common())
