"""`shapes`: a drawn, seeded, versioned set of scenes at any resolution; nothing is downloaded.

A scene is a photographic background, small marks, one large object near the centre and up to two smaller
ones. Its class is the form of the large object; colour, place, size and contrast are drawn independently of
the class, so that pixels as they are tell little and a network that has learnt form tells much.

Every scene is drawn in unit coordinates first and rendered after: the image is the square [0, 1] x [0, 1],
x to the right and y down, so one scene can be rendered at 32 px and at 96 px. Scene i of a split depends on
(VERSION, grade, split, i) alone. Train backgrounds are cut from the left halves of scikit-learn's two
bundled photographs, test backgrounds from the right halves; no photograph pixel is in both.

Grades: easy has upright plain objects on a background of low contrast; medium has more rotation, striped
and chequered surfaces and objects in front of the main one; hard has any rotation, photographic surfaces and
a background of full contrast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

VERSION = 1
SPLITS = ("train", "test")
GRADES = ("easy", "medium", "hard")
CLASSES = ("disc", "square", "triangle", "cross", "star", "ring", "heart", "moon")
FACTORS = ("x", "y", "scale", "angle", "hue", "contrast")
"""Factors of the main object: centre x and y and scale (width of its frame) in image widths, angle in radians
clockwise from upright, hue in turns (0 and 1 are the same hue), contrast as the signed luminance of the object
minus that of the background (image range 0 to 1)."""


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes and everything known about them; N scenes of S x S pixels."""

    images: NDArray[np.uint8]  # (N, 3, S, S)
    label: NDArray[np.int64]  # (N,) class of the main object
    mask: NDArray[np.uint8]  # (N, S, S) 0 background, 1 + class of the object that shows at that pixel
    boxes: NDArray[np.int32]  # (N, 3, 5) x0, y0, x1, y1 (px, x1 and y1 exclusive), class; -1 where none shows
    factors: NDArray[np.float32]  # (N, len(FACTORS))


def draw(split: str, count: int, size: int = 32, grade: str = "easy") -> Scenes:
    """The first `count` scenes of a split, rendered at `size` x `size` pixels.

    `boxes` holds the main object first, then the one behind it, then the one before it; a box is the extent of
    what shows of an object in the mask, so an object of which no pixel shows has none.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    if grade not in GRADES:
        raise ValueError(f"unknown grade {grade!r}; allowed: {', '.join(GRADES)}")
    if count < 1 or size < 8:
        raise ValueError(f"count must be at least 1 and size at least 8, not count {count} and size {size}")
    scenes = Scenes(
        np.empty((count, 3, size, size), np.uint8),
        np.empty(count, np.int64),
        np.empty((count, size, size), np.uint8),
        np.empty((count, 3, 5), np.int32),
        np.empty((count, len(FACTORS)), np.float32),
    )
    key = hashlib.sha256(f"shapes/{VERSION}/{grade}/{split}".encode()).digest()[:16]
    # Raw words of a bit generator are promised to stay the same in later numpy versions; distributions are not.
    words = np.random.Philox(key=int.from_bytes(key, "little"))
    step = max(1, 128 * 32**2 // size**2)  # scenes at once: small enough to stay in the processor's cache
    for start in range(0, count, step):
        stop = min(start + step, count)
        raw = words.random_raw((stop - start) * NUMBERS).reshape(-1, NUMBERS)  # (n, NUMBERS)
        scene = _scene((raw >> np.uint64(11)) * 2.0**-53, split, GRADE[grade])
        part = _render(scene, size)
        for field in fields(Scenes):
            getattr(scenes, field.name)[start:stop] = getattr(part, field.name)
    return scenes


# ------------------------------------------------------------------------------------------------ what is drawn

NUMBERS = 128  # random numbers set aside for one scene, so that scene i starts at the same place whatever is drawn


@dataclass(frozen=True)
class Grade:
    """What a grade draws from; ranges are (lowest, highest)."""

    turn: float  # largest rotation, radians
    scale: tuple[float, float]  # width of the main object, image widths
    contrast: tuple[float, float]  # luminance between object and background
    backdrop: tuple[float, float]  # standard deviation of the background
    others: tuple[float, float, float, float]  # probability of none, one behind, one before, both
    marks: tuple[float, ...]  # probability of each small mark
    surfaces: tuple[str, ...]


GRADE = {
    "easy": Grade(0.2, (0.55, 0.8), (0.25, 0.38), (0.04, 0.08), (0.75, 0.25, 0, 0), (0.5,), ("plain",)),
    "medium": Grade(
        0.6, (0.5, 0.75), (0.22, 0.34), (0.07, 0.12), (0, 0.3, 0.3, 0.4), (0.6, 0.4), ("stripes", "checks")
    ),
    "hard": Grade(np.pi, (0.45, 0.75), (0.2, 0.32), (0.13, 0.2), (0, 0.2, 0.3, 0.5), (0.8, 0.6, 0.4), ("photo",)),
}


@dataclass(frozen=True)
class Crop:
    """A square cut from a photograph, for n scenes; each field (n,)."""

    photo: Ints
    x: Floats  # left edge, photograph pixels; the right edge where `width` is negative (mirrored)
    y: Floats  # upper edge, photograph pixels; the lower edge where `height` is negative
    width: Floats
    height: Floats


@dataclass(frozen=True)
class Thing:
    """One object slot of n scenes; each field (n,) or (n, 3), lengths in image widths."""

    present: Bools
    shape: Ints
    x: Floats
    y: Floats
    scale: Floats
    angle: Floats
    hue: Floats
    level: Floats  # luminance
    colour: Floats  # (n, 3)
    second: Floats  # (n, 3) the other colour of stripes and checks
    light: Floats  # direction of the shading, radians
    surface: NDArray[np.str_]
    pitch: Floats  # stripes in half the object's width
    texture: Crop


@dataclass(frozen=True)
class Mark:
    """A stroke (or a dot, where it has no length) that belongs to no class; each field (n,) or (n, 3)."""

    present: Bools
    x: Floats
    y: Floats
    angle: Floats
    length: Floats
    radius: Floats
    colour: Floats  # (n, 3)


Record = TypeVar("Record", Thing, Mark, Crop)


@dataclass(frozen=True)
class Scene:
    """n scenes in unit coordinates."""

    background: Crop
    level: Floats  # (n,) mean luminance of the background
    spread: Floats  # (n,) standard deviation of the background
    tint: Floats  # (n, 3) added to the background, without luminance
    marks: list[Mark]
    main: Thing
    behind: Thing
    front: Thing


class _Dice:
    """Hands out the columns of (n, NUMBERS) uniform random numbers, one after the other."""

    def __init__(self, numbers: Floats) -> None:
        self.columns = iter(numbers.T)

    def between(self, low: float | Floats, high: float | Floats) -> Floats:
        return low + (high - low) * next(self.columns)

    def below(self, count: int) -> Ints:
        return (count * next(self.columns)).astype(np.int64)

    def chance(self, probability: float) -> Bools:
        return np.asarray(next(self.columns) < probability)


def _scene(numbers: Floats, split: str, grade: Grade) -> Scene:
    """Scenes from uniform random numbers (n, NUMBERS). The order of the draws is part of VERSION."""
    dice = _Dice(numbers)
    background = _crop(dice, split)
    level, spread = dice.between(0.42, 0.58), dice.between(*grade.backdrop)  # (n,)
    tint = _chroma(dice.between(0, 1), dice.between(0, 0.12))  # (n, 3)
    sign = np.where(dice.chance(0.5), 1.0, -1.0)
    x, y, scale = dice.between(0.4, 0.6), dice.between(0.4, 0.6), dice.between(*grade.scale)
    main = _thing(dice, split, grade, np.ones(len(numbers), bool), x, y, scale, level, sign)

    others = np.searchsorted(np.cumsum(grade.others)[:-1], dice.between(0, 1), side="right")  # 0 none .. 3 both
    # The one behind sits on the border of the image, where the main object rarely hides it.
    way = dice.between(-np.pi, np.pi)
    reach = 0.4 / np.maximum(np.abs(np.cos(way)), np.abs(np.sin(way)))
    bx, by, small = 0.5 + reach * np.cos(way), 0.5 + reach * np.sin(way), dice.between(0.22, 0.32)
    # Others stand out the other way (lighter for darker), so that the main object's outline is not lost in theirs.
    behind = _thing(dice, split, grade, (others == 1) | (others == 3), bx, by, small, level, -sign)
    # The one before sits on the main object's rim: with these sizes it hides a half at the very most.
    way, reach, small = dice.between(-np.pi, np.pi), dice.between(0.4, 0.5) * scale, dice.between(0.4, 0.55) * scale
    fx, fy = x + reach * np.cos(way), y + reach * np.sin(way)
    front = _thing(dice, split, grade, others >= 2, fx, fy, small, level, -sign)
    marks = [_mark(dice, probability, level) for probability in grade.marks]
    return Scene(background, level, spread, tint, marks, main, behind, front)


def _thing(
    dice: _Dice,
    split: str,
    grade: Grade,
    present: Bools,
    x: Floats,
    y: Floats,
    scale: Floats,
    level: Floats,
    sign: Floats,
) -> Thing:
    contrast, hue = dice.between(*grade.contrast), dice.between(0, 1)
    saturation, turn = dice.between(0.05, 0.2), dice.between(0.2, 0.8)
    own = level + sign * contrast
    return Thing(
        present=present,
        shape=dice.below(len(CLASSES)),
        x=x,
        y=y,
        scale=scale,
        angle=dice.between(-grade.turn, grade.turn),
        hue=hue,
        level=own,
        colour=own[:, None] + _chroma(hue, saturation),
        # further from the background than the first colour, so that the outline shows along both
        second=(own + sign * 0.15)[:, None] + _chroma((hue + turn) % 1, saturation),
        light=dice.between(-np.pi, np.pi),
        surface=np.array(grade.surfaces)[dice.below(len(grade.surfaces))],
        pitch=dice.between(1.0, 1.8),
        texture=_crop(dice, split),
    )


def _mark(dice: _Dice, probability: float, level: Floats) -> Mark:
    return Mark(
        present=dice.chance(probability),
        x=dice.between(0, 1),
        y=dice.between(0, 1),
        angle=dice.between(0, np.pi),
        length=np.maximum(dice.between(-0.1, 0.3), 0),
        radius=dice.between(0.02, 0.04),
        colour=(level + dice.between(-0.35, 0.35))[:, None] + _chroma(dice.between(0, 1), dice.between(0, 0.2)),
    )


def _crop(dice: _Dice, split: str) -> Crop:
    photos, height, width = _integral().shape[0], _integral().shape[2] - 1, _integral().shape[3] - 1
    half = width // 2
    left = half if split == "test" else 0
    photo, side = dice.below(photos), dice.between(0.35 * half, 0.95 * half)
    x, y = left + dice.between(0, half - side), dice.between(0, height - side)
    mirror, flip = dice.chance(0.5), dice.chance(0.5)
    return Crop(
        photo=photo,
        x=np.where(mirror, x + side, x),
        y=np.where(flip, y + side, y),
        width=np.where(mirror, -side, side),
        height=np.where(flip, -side, side),
    )


def _chroma(hue: Floats, saturation: Floats) -> Floats:
    """Colours (n, 3) without luminance: what is added to a grey to give it a hue (turns)."""
    colour = np.cos(2 * np.pi * (hue[:, None] - np.arange(3) / 3))  # (n, 3)
    return np.asarray(saturation[:, None] * (colour - (colour @ LUMA)[:, None]))


LUMA = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue (ITU-R BT.601)


# ---------------------------------------------------------------------------------------------- how it is rendered


def _render(scene: Scene, size: int) -> Scenes:
    things = (scene.main, scene.behind, scene.front)
    image = _photograph(scene.background, size)  # (n, 3, S, S), mean 0 and deviation 1
    image *= scene.spread[:, None, None, None].astype(np.float32)
    image += (scene.level[:, None] + scene.tint)[:, :, None, None].astype(np.float32)
    for mark in scene.marks:
        rows = np.flatnonzero(mark.present)
        colour = mark.colour[rows, :, None, None].astype(np.float32)
        image[rows] += _stroke(_rows(mark, rows), size)[:, None] * (colour - image[rows])

    shown = np.zeros((1 + len(things), *image[:, 0].shape), np.float32)  # (4, n, S, S) share of each pixel
    shown[0] = 1  # the background and its marks
    for slot in (1, 0, 2):  # painted from the back: behind, main, front
        rows = np.flatnonzero(things[slot].present)
        thing = _rows(things[slot], rows)
        cover = _cover(thing, size)  # (m, S, S)
        image[rows] += cover[:, None] * (_surface(thing, size) - image[rows])
        shown[:, rows] *= 1 - cover
        shown[1 + slot, rows] = cover
    owner = shown.argmax(0)  # (n, S, S) 0 background, 1 + slot

    shape = np.stack([thing.shape for thing in things], 1)  # (n, 3)
    classes = np.concatenate([np.zeros_like(shape[:, :1]), 1 + shape], 1)  # (n, 4)
    mask = np.take_along_axis(classes[:, :, None], owner.reshape(len(owner), 1, -1), 1)  # (n, 1, S * S)
    main = scene.main
    factors = np.stack([main.x, main.y, main.scale, main.angle, main.hue, main.level - scene.level], 1)
    return Scenes(
        images=(image.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8),
        label=main.shape,
        mask=np.take_along_axis(classes[:, :, None], owner.reshape(len(owner), 1, -1), 1)
        .reshape(owner.shape).astype(np.uint8),
        boxes=np.stack([_boxes(owner == 1 + slot, shape[:, slot]) for slot in range(len(things))], 1),
        factors=factors.astype(np.float32),
    )  # fmt: skip


def _rows(record: Record, rows: Ints) -> Record:
    """The given scenes of a Thing, Mark or Crop."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return replace(
        record, **{name: _rows(v, rows) if isinstance(v, Crop) else v[rows] for name, v in values.items()}
    )


@cache
def _integral() -> Floats:
    """Sums of both photographs (values 0 to 1) over everything above and left of each corner: (2, 3, H + 1, W + 1)."""
    photos = np.stack([load_sample_image(name) for name in ("china.jpg", "flower.jpg")])  # (2, H, W, 3)
    sums = photos.transpose(0, 3, 1, 2).cumsum(2, dtype=np.int64).cumsum(3)  # (2, 3, H, W)
    return np.asarray(np.pad(sums, ((0, 0), (0, 0), (1, 0), (1, 0))) / 255)


def _photograph(crop: Crop, size: int) -> NDArray[np.float32]:
    """Crops (n, 3, size, size), less their mean, at a coarse luminance deviation of 1.

    Each pixel is the exact mean of the photograph over its area (differences of the integral image, which is
    bilinear between corners): no aliasing, and a rendering at half the size is the mean of this one.
    """
    coarse = _means(crop, 8)  # (n, 3, 8, 8) statistics that don't depend on `size`
    centre = coarse.mean((2, 3), keepdims=True)  # (n, 3, 1, 1)
    spread = np.einsum("nchw,c->nhw", coarse, LUMA).std((1, 2))  # (n,)
    # Smooth sky is not blown up to full contrast: that would show the noise of the photograph.
    spread = np.maximum(spread, 0.06)[:, None, None, None]
    return np.asarray((_means(crop, size) - centre) / spread, np.float32)


def _means(crop: Crop, size: int) -> Floats:
    """Means (n, 3, size, size) of a crop over its pixels' areas."""
    sums = _integral()
    height, width = sums.shape[2:]
    steps = np.arange(size + 1) / size
    x = crop.x[:, None] + crop.width[:, None] * steps  # (n, S + 1) corners of the pixels
    y = crop.y[:, None] + crop.height[:, None] * steps
    left, top = x.astype(np.int64).clip(0, width - 2), y.astype(np.int64).clip(0, height - 2)
    fx, fy = (x - left)[:, None, None, :], (y - top)[:, None, :, None]
    plane = 3 * crop.photo[:, None, None, None] + np.arange(3)[:, None, None]  # (n, 3, 1, 1)
    corner = (plane * height + top[:, None, :, None]) * width + left[:, None, None, :]  # (n, 3, S + 1, S + 1)
    flat = sums.reshape(-1)
    upper = flat[corner] * (1 - fx) + flat[corner + 1] * fx
    lower = flat[corner + width] * (1 - fx) + flat[corner + width + 1] * fx
    total = np.diff(np.diff(upper * (1 - fy) + lower * fy, axis=2), axis=3)  # (n, 3, S, S)
    return np.asarray(total * (size**2 / (crop.width * crop.height))[:, None, None, None])


def _frame(thing: Thing, points: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates (n, P, P) of the image's P x P points in the object's own frame, which reaches from -1 to 1."""
    t = (np.arange(points) + 0.5) / points
    dx = (t - thing.x[:, None]) / (thing.scale[:, None] / 2)  # (n, P)
    dy = (t - thing.y[:, None]) / (thing.scale[:, None] / 2)
    cos, sin = np.cos(thing.angle)[:, None], np.sin(thing.angle)[:, None]
    across = [(part * d).astype(np.float32) for part, d in ((cos, dx), (sin, dy), (-sin, dx), (cos, dy))]
    u = across[0][:, None, :] + across[1][:, :, None]  # (n, P, P)
    v = across[2][:, None, :] + across[3][:, :, None]
    return u, v


def _cover(thing: Thing, size: int) -> NDArray[np.float32]:
    """Share (n, size, size) of each pixel that lies inside the object, from 3 x 3 points a pixel."""
    inside = np.empty((len(thing.shape), 3 * size, 3 * size), np.uint8)
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(thing.shape == index)
        inside[rows] = INSIDE[name](*_frame(_rows(thing, rows), 3 * size))
    lines = inside[:, 0::3] + inside[:, 1::3] + inside[:, 2::3]  # (n, S, 3 S)
    return (lines[:, :, 0::3] + lines[:, :, 1::3] + lines[:, :, 2::3]) / np.float32(9)


def _surface(thing: Thing, size: int) -> NDArray[np.float32]:
    """Colour (n, 3, size, size) of the object's surface, also where the object is not."""
    u, v = _frame(thing, size)  # (n, S, S)
    cos, sin = (part(thing.light).astype(np.float32)[:, None, None] for part in (np.cos, np.sin))
    colour = (thing.colour[:, :, None, None] + 0 * u[:, None]).astype(np.float32)  # (n, 3, S, S)
    colour += (np.float32(0.06) * (cos * u + sin * v).clip(-1, 1))[:, None]  # mild shading
    pitch = thing.pitch.astype(np.float32)[:, None, None]
    for name in ("stripes", "checks"):
        rows = np.flatnonzero(thing.surface == name)
        share = _wave(pitch[rows] * u[rows])  # (m, S, S)
        if name == "checks":
            share = share * _wave(pitch[rows] * v[rows])
        change = (thing.second - thing.colour)[rows, :, None, None].astype(np.float32)
        colour[rows] += (share[:, None] + 1) / 2 * change
    rows = np.flatnonzero(thing.surface == "photo")
    colour[rows] += np.float32(0.1) * _photograph(_rows(thing.texture, rows), size)
    return colour


def _wave(phase: NDArray[np.float32]) -> NDArray[np.float32]:
    """A square wave of period 1 between -1 and 1, with soft flanks against aliasing."""
    return (12 * np.abs(phase - np.floor(phase) - np.float32(0.5)) - 3).clip(-1, 1)


def _stroke(mark: Mark, size: int) -> NDArray[np.float32]:
    """Share (n, size, size) of each pixel that a stroke with round ends covers, from its distance."""
    t = (np.arange(size) + 0.5) / size
    dx, dy = (t - mark.x[:, None])[:, None, :], (t - mark.y[:, None])[:, :, None]  # (n, 1, S), (n, S, 1)
    cos, sin = np.cos(mark.angle)[:, None, None], np.sin(mark.angle)[:, None, None]
    along = np.maximum(np.abs(cos * dx + sin * dy) - mark.length[:, None, None] / 2, 0)  # (n, S, S)
    distance = np.sqrt(along**2 + (cos * dy - sin * dx) ** 2)
    return np.asarray(((mark.radius[:, None, None] - distance) * size + 0.5).clip(0, 1), np.float32)


def _boxes(shows: Bools, shape: Ints) -> NDArray[np.int32]:
    """Extent (n, 5) in pixels of where an object shows (n, S, S), with its class; -1 where it doesn't."""
    size = shows.shape[-1]
    columns, lines = shows.any(1), shows.any(2)  # (n, S)
    box = [columns.argmax(1), lines.argmax(1), size - columns[:, ::-1].argmax(1), size - lines[:, ::-1].argmax(1)]
    return np.where(columns.any(1)[:, None], np.stack([*box, shape], 1), -1).astype(np.int32)


# ------------------------------------------------------------------------------------------------- the eight forms

Form = Callable[[NDArray[np.float32], NDArray[np.float32]], Bools]


def _star(u: NDArray[np.float32], v: NDArray[np.float32]) -> Bools:
    """A pentagram is where at least four of the half-planes of its five lines meet."""
    met = np.zeros(u.shape, np.uint8)
    for turn in np.arange(5) * 2 * np.pi / 5:
        met += u * np.float32(np.sin(turn)) - (v - np.float32(0.08)) * np.float32(np.cos(turn)) < 0.35
    return met >= 4


def _heart(u: NDArray[np.float32], v: NDArray[np.float32]) -> Bools:
    x, y = np.float32(1.18) * u, np.float32(0.12) - np.float32(1.15) * v
    bulge = x * x + y * y - 1
    return bulge * bulge * bulge < x * x * y * y * y


INSIDE: dict[str, Form] = {  # whether (u right, v down) is inside the upright form; the frame reaches from -1 to 1
    "disc": lambda u, v: u * u + v * v < 0.9,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.88,
    "triangle": lambda u, v: (v < 0.8) & (np.abs(u) < (v + 1) * 0.55),
    "cross": lambda u, v: (np.maximum(np.abs(u), np.abs(v)) < 0.98) & (np.minimum(np.abs(u), np.abs(v)) < 0.32),
    "star": _star,
    "ring": lambda u, v: np.abs(u * u + v * v - 0.64) < 0.34,
    "heart": _heart,
    "moon": lambda u, v: (u * u + v * v < 1) & ((u - 0.55) ** 2 + v * v > 0.64),
}
