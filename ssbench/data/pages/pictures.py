"""Pictures of data: samples with what is known of them drawn in, bars of counts, copies side by side."""

from collections.abc import Iterable, Sequence
from colorsys import hsv_to_rgb
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ssbench.data import Dataset, Split

SHOWN, COLUMNS = 24, 6  # samples
FEW = 4  # whose channels are shown
SIDE = 192  # px of a picture, at most: those of half of it or less are enlarged by a whole factor
GAP, TEXT = 8, 12  # px between pictures, and of letters
TINT = 0.45  # of a class over its pixels
VOID = (128, 128, 128)
INK, PALE = (30, 30, 30), (120, 120, 120)

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]


def colour(number: int) -> Colour:
    """A class's own: neighbouring numbers are far apart in hue."""
    hue, value, saturation = (0.02 + number * 0.618034) % 1, (1.0, 0.75)[number % 2], (0.9, 0.5)[number // 8 % 2]
    red, green, blue = hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def samples(data: Dataset) -> bytes:
    """A grid of images of fit, spread over the classes, as a PNG; their labels stand below."""
    index = spread(members(data), len(data.fit), SHOWN)
    cells = [(drawn(data, data.fit, at), [*captions(data, at)]) for at in index]
    return png(grid(cells, COLUMNS))


def channels(data: Dataset) -> bytes:
    """Each channel of a few images of fit as grey, a PNG with an image a row."""
    index = spread(members(data), len(data.fit), FEW)
    each = [(at, number) for at in index for number in range(data.fit.images.shape[1])]
    cells = [
        (_resized(visible(data.fit.images[at, number : number + 1])), [f"channel {number + 1}"]) for at, number in each
    ]
    return png(grid(cells, data.fit.images.shape[1]))


def pairs(found: Sequence[tuple[Split, int, Split, int, str]], data: Dataset) -> bytes:
    """Copies beside what they are copies of, a PNG with three pairs a row; the text of each stands below."""
    cells = []
    for part, at, other, of, text in found:
        one, two = drawn(data, part, at, plain=True), drawn(data, other, of, plain=True)
        both = Image.new("RGB", (2 * one.width + 2, one.height), "white")
        both.paste(one, (0, 0))
        both.paste(two, (one.width + 2, 0))
        cells.append((both, [text, part.keys[at], f"of {other.keys[of]}"]))
    return png(grid(cells, COLUMNS // 2))


def members(data: Dataset) -> list[list[int]]:
    """The images of fit that have each class: of the labels, else of masks (not the first class), else of boxes."""
    targets, number = data.fit.targets, lambda rows: torch.nonzero(rows)[:, 0].tolist()
    if "label" in targets:
        found = [number(targets["label"] == one) for one in range(len(data.classes))]
    elif "labels" in targets:
        found = [number(one) for one in targets["labels"].T]
    elif "mask" in targets:
        has = torch.stack([presence(mask, data.mask_classes) for mask in targets["mask"]])  # (N, classes)
        found = [number(one) for one in has.T[1:]]
    elif "boxes" in targets:
        found = [number((targets["boxes"][..., 4] == one).any(1)) for one in range(len(data.box_classes))]
    else:
        found = []
    return [one for one in found if one] or [[*range(len(data.fit))]]


def presence(mask: Tensor, classes: int) -> Tensor:
    """Whether each class is in a mask (S, S), (classes,)."""
    return mask.flatten().long().bincount(minlength=256)[:classes] > 0


def spread(groups: Sequence[Sequence[int]], count: int, most: int) -> list[int]:
    """At most `most` of `count` positions: as many of each group, spread within it, in the groups' order."""
    if len(groups) > most:
        groups = [groups[at * len(groups) // most] for at in range(most)]
    each = -(-most // len(groups))
    turns = [(one[at * len(one) // each], number) for at in range(each) for number, one in enumerate(groups)]
    kept: dict[int, int] = {}
    for position, number in [*turns, *((at, len(groups)) for at in range(count))]:
        if len(kept) < most:
            kept.setdefault(position, number)
    return sorted(kept, key=lambda position: (kept[position], position))


def drawn(data: Dataset, part: Split, at: int, plain: bool = False) -> Image.Image:
    """One image at the size it is shown, with its mask's tint and outlines and its boxes unless it is to be `plain`."""
    pixels, targets = visible(part.images[at]), part.targets
    image = _resized(pixels)
    if "mask" in targets and not plain:
        mask = Image.fromarray(targets["mask"][at].numpy()).resize(image.size, Image.Resampling.NEAREST)
        image = Image.fromarray(tinted(np.asarray(image), np.asarray(mask), data.ignore_index))
    if "boxes" in targets and not plain:
        for *corners, number in targets["boxes"][at].tolist():
            if number >= 0:
                _box(image, [one * image.width / len(pixels) for one in corners], int(number), data.box_classes)
    return image


def _resized(pixels: Pixels) -> Image.Image:
    """An image (S, S, 3) at the size it is shown."""
    factor = SIDE // len(pixels)
    side, kind = (factor * len(pixels), Image.Resampling.NEAREST) if factor > 1 else (SIDE, Image.Resampling.LANCZOS)
    return Image.fromarray(pixels).resize((side, side), kind)


def visible(image: Tensor) -> Pixels:
    """An image uint8 (C, S, S) as RGB (S, S, 3): one channel or two as grey of the first, of more the first three."""
    seen = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return np.ascontiguousarray(seen.permute(1, 2, 0).numpy())


def tinted(pixels: Pixels, mask: Pixels, void: int) -> Pixels:
    """Pixels (S, S, 3) under the colours of a mask (S, S): class 0 stays as it is, borders of classes are solid."""
    table = np.array([colour(number) for number in range(256)], np.float32)
    table[void] = VOID
    around = np.pad(mask, 1, mode="edge")
    sides = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    border = np.any([one != mask for one in sides], 0)
    share = (np.where(border, 1.0, TINT) * (mask != 0))[..., None]  # (S, S, 1)
    return (pixels * (1 - share) + table[mask] * share).round().astype(np.uint8)


def _box(image: Image.Image, corners: Sequence[float], number: int, names: Sequence[str]) -> None:
    """The outline of a box, and the name of its class where there is room in it."""
    pen, font, ink = ImageDraw.Draw(image), ImageFont.load_default(TEXT - 2), colour(number)
    x0, y0, x1, y1 = corners
    room = min(x1 - x0, y1 - y0)
    pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=ink, width=2 if room > 24 else 1)
    wide = font.getlength(names[number]) + 4
    if wide <= x1 - x0 and y1 - y0 >= 2 * TEXT:
        pen.rectangle((x0, y0, x0 + wide, y0 + TEXT), fill=ink)
        pen.text((x0 + 2, y0), names[number], fill="white" if sum(ink) - ink[2] < 300 else "black", font=font)


def captions(data: Dataset, at: int) -> Iterable[str]:
    """The label or labels of an image of fit, and its key."""
    targets = data.fit.targets
    if "label" in targets:
        yield data.classes[int(targets["label"][at])]
    if "labels" in targets:
        yield ", ".join(data.classes[one] for one in targets["labels"][at].nonzero()[:, 0].tolist()) or "no label"
    yield data.fit.keys[at]


def legend(names: Sequence[tuple[str, Colour]]) -> bytes:
    """Colours and what they stand for, a PNG."""
    font, wide, high = ImageFont.load_default(TEXT), SIDE + GAP, TEXT + GAP
    rows = -(-len(names) // COLUMNS)
    page = Image.new("RGB", (min(len(names), COLUMNS) * wide + GAP, rows * high + GAP), "white")
    pen = ImageDraw.Draw(page)
    for at, (name, ink) in enumerate(names):
        left, top = GAP + at % COLUMNS * wide, GAP + at // COLUMNS * high
        pen.rectangle((left, top, left + TEXT, top + TEXT), fill=ink, outline=INK)
        pen.text((left + TEXT + 6, top - 1), fitted(name, font, wide - TEXT - 12), fill=INK, font=font)
    return png(page)


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """A text cut in its middle to what fits, on one line."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    half = len(text) // 2
    while half and font.getlength(f"{text[:half]}…{text[-half:]}") > width:
        half -= 1
    return f"{text[:half]}…{text[-half:]}" if half else "…"


def grid(cells: Sequence[tuple[Image.Image, Sequence[str]]], columns: int) -> Image.Image:
    """Pictures in rows, each with its lines of text below."""
    font = ImageFont.load_default(TEXT)
    wide, high = (max(image.size[axis] for image, _ in cells) for axis in (0, 1))
    below = max(len(lines) for _, lines in cells) * (TEXT + 3)
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    page = Image.new("RGB", (columns * (wide + GAP) + GAP, rows * (high + below + GAP) + GAP), "white")
    pen = ImageDraw.Draw(page)
    for at, (image, lines) in enumerate(cells):
        left, top = GAP + at % columns * (wide + GAP), GAP + at // columns * (high + below + GAP)
        page.paste(image, (left, top))
        for row, line in enumerate(lines):
            place = left, top + image.height + 2 + row * (TEXT + 3)
            pen.text(place, fitted(line, font, wide), fill=PALE if row else INK, font=font)
    return page


def png(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
