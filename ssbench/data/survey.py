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
from ssbench.data.pixels import CLEAR, DEEP, Pixels, Raw, is_cut, orientation, reason, shown_size, span
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
    side: int  # px, the shorter one


@dataclass(frozen=True)
class Survey:
    seen: Mapping[str, tuple[Seen, ...]]  # by split
    pixels: Pixels
    facts: Mapping[str, Any]
    bad: tuple[str, ...]  # names of images that can't be opened


def survey(listing: Listing, settings: DataSettings) -> Survey:
    """Raises UserError naming an image that can't be opened, unless such are skipped, and on what can't be meant."""
    seen: dict[str, list[Seen]] = {}
    modes, frames, turned, cut, sides, bad = Counter[str](), 0, 0, 0, list[tuple[int, int]](), list[str]()
    ranges = list[tuple[float, float]]()
    for split, samples in listing.splits.items():
        seen[split] = []
        for sample in samples.each():
            try:
                raw = sample.open()
                lost = is_cut(raw)  # told by how its pixels are to be read, before they are
                mode, size = raw.mode if isinstance(raw, Image.Image) else _bands_of(raw), shown_size(raw)
                if mode in DEEP or (not isinstance(raw, Image.Image) and raw.dtype != np.uint8):
                    ranges += [span(raw)] if split != "test" else []
            except Exception as error:  # decoders raise whatever broken bytes lead them to
                refuse_bad(listing.where, sample, error, settings)
                bad.append(sample.name)
                continue
            modes[mode] += 1
            sides.append(size)
            frames += getattr(raw, "n_frames", 1) > 1
            turned += orientation(raw) != 1
            cut += lost
            seen[split].append(_seen(sample, min(size)))
    if not sides:
        raise UserError(f"{listing.where} has no image that can be read")
    deep = bool(ranges)
    if deep and any(mode not in DEEP and not mode.startswith("bands") for mode in modes):
        suspect(
            settings,
            "mixed-depth",
            f"{listing.where}: images of more than 8 bit stand beside others: {_counted(modes)}",
        )
    bands = _bands(listing, modes)
    side = settings.image_size or _size(listing.where, [min(one) for one in sides], settings)
    low, high = _scale(ranges) if deep else (0.0, 255.0)
    pixels = Pixels(_channels(listing.where, modes, bands), side, low, high if high > low else low + 1, deep, bands)
    shorter = sorted(min(one) for one in sides)
    facts = {
        "modes": dict(modes),
        "channels": pixels.channels,
        "scale": [low, high] if deep else None,
        "transparent": 0 if bands else sum(count for mode, count in modes.items() if mode in CLEAR),
        "frames": frames,
        "turned": turned,
        "cut": cut,
        "sides": [shorter[0], shorter[len(shorter) // 2], shorter[-1]],
        "sides_counted": [*map(list, sorted(Counter(shorter).items()))],
        "ratios_counted": [*map(list, sorted(Counter(round(width / height, 1) for width, height in sides).items()))],
        "shapes": len({*sides}),
        "square": all(one[0] == one[1] for one in sides),
    }
    return Survey({split: tuple(found) for split, found in seen.items()}, pixels, facts, tuple(bad))


def refuse_bad(where: str, sample: Sample, error: Exception, settings: DataSettings) -> None:
    """Raises UserError naming an image that can't be read, unless such are skipped; what is refused stays refused."""
    if isinstance(error, UserError):
        raise error
    if settings.on_bad_image != "skip":
        hint = "mend it, or leave such images out with --on-bad-image skip, which is --set data.on_bad_image=skip"
        raise UserError(f"{where}: {sample.name} can't be read: {reason(error)}; {hint}") from None


def _seen(sample: Sample, side: int) -> Seen:
    return Seen(sample.key, sample.label, sample.group, sample.boxes, sample.numbers, sample.mask is not None, side)


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
