"""Bars of counts: of each class, in each part, and histograms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from ssbench.data.pages.pictures import GAP, INK, PALE, TEXT, fitted, grid, png

SHADES = ((52, 101, 164), (120, 170, 220), (230, 150, 60))  # fit, select, test
BARS, ENDS = 24, 12  # of more bars the first and the last
WIDE, NAMES, HIGH = 640, 190, 18  # px of a panel of bars, of its names, of a bar
BINS = 16  # of a histogram


class Bars(NamedTuple):
    """A panel: how much of each name, in each part."""

    title: str
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]  # of a name: one, or one for each of fit, select and test
    form: str = ",.0f"  # how a value is written


def histogram(title: str, counts: Mapping[Any, int]) -> Bars:
    """How many have each value: as it is where values are few, else in bins of a round width."""
    low, high = min(counts), max(counts)
    if len(counts) <= BINS:
        order = sorted(counts)
        return Bars(title, tuple(f"{one:g}" for one in order), tuple((counts[one],) for one in order))
    widths = (step * 10.0**power for power in range(-2, 9) for step in (1, 2, 5))
    wide = next(width for width in widths if _bin(high, width) - _bin(low, width) < BINS)
    first = _bin(low, wide)
    bins = [0] * (_bin(high, wide) - first + 1)
    for one, count in counts.items():
        bins[_bin(one, wide) - first] += count
    names = tuple(f"from {(first + at) * wide:g}" for at in range(len(bins)))
    return Bars(title, names, tuple((count,) for count in bins))


def _bin(value: float, wide: float) -> int:
    return math.floor(value / wide + 1e-6)  # 1.0 // 0.2 is 4


def draw(panels: Sequence[Bars]) -> bytes:
    """Panels of bars, two a row, as a PNG; where a name has one value for each part, parts have shades."""
    cells = [(_panel(one), list[str]()) for one in panels]
    return png(grid(cells, 2 if len(cells) > 1 else 1))


def _panel(one: Bars) -> Image.Image:
    shown = [*zip(one.names, one.values)]
    cut = len(shown) > BARS
    rows = [*shown[:ENDS], (f"({len(shown) - 2 * ENDS} more)", ()), *shown[-ENDS:]] if cut else shown
    page = Image.new("RGB", (WIDE, (len(rows) + 1) * HIGH + 2 * GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT)
    pen.text((0, 2), one.title, fill=INK, font=font)
    if max(map(len, one.values)) > 1:
        for at, role in enumerate(("fit", "select", "test")):
            left = WIDE - 190 + 62 * at
            pen.rectangle((left, 4, left + 10, 14), fill=SHADES[at])
            pen.text((left + 15, 2), role, fill=INK, font=font)
    most = max(map(sum, one.values)) or 1
    texts = [" + ".join(f"{value:{one.form}}" for value in values) for _, values in rows]
    room = WIDE - NAMES - 10 - max(map(font.getlength, texts))
    for row, (name, values) in enumerate(rows, 1):
        top, done = row * HIGH + GAP, 0.0
        text = fitted(name, font, NAMES - 10)
        pen.text((NAMES - 8 - font.getlength(text), top), text, fill=INK if values else PALE, font=font)
        for at, value in enumerate(values):
            left, right = (NAMES + round(room * part / most) for part in (done, done + value))
            if value:
                pen.rectangle((left, top + 1, max(right - 1, left), top + HIGH - 4), SHADES[at])
            done += value
        pen.text((NAMES + room * done / most + 5, top), texts[row - 1], fill=PALE, font=font)
    return page
