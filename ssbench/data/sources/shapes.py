"""`shapes`: a drawn, seeded, versioned set of scenes at any resolution; nothing is downloaded.

A scene is a photographic background, small marks, a large object and up to two smaller ones. Its class is the form of
the large object; colour, light, place, size and contrast are drawn independently of the class, so that pixels as they
are tell little and a network that has learnt form tells much.

Every scene is drawn in unit coordinates first and rendered after: the image is the square [0, 1] x [0, 1], x to the
right and y down, so one scene can be rendered at 32 px and at 96 px. Scene i of a split depends on (grade, its version,
split, i) alone. Train backgrounds are cut from the left halves of scikit-learn's two bundled photographs, test
backgrounds from the right halves; no pixel of a photograph is in both.

Grades: easy, which is `shapes`, has three plain objects of one form around the centre of a background that is almost
plain, each turned by up to 46 degrees, lighter or darker than it by itself, in strong light from one side: pixels meet
none of their like, and every part of a scene tells its class. v1, the first version of easy, has one large upright
object and sometimes a small one behind it; medium has more rotation, striped and chequered surfaces and objects in
front of the main one, of which they hide at most two fifths; hard has any rotation, photographic surfaces and a
background of full contrast. In conflict, whose objects are otherwise those of v1, each class has a surface of its own
in train; in test an object has that of another class, drawn evenly (Geirhos et al. 2019, arXiv:1811.12231): who has
learnt the surface answers that class.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssbench.data.sources.looks import CUES, INSIDE, PATTERNS
from ssbench.data.sources.photographs import LUMA, flat, photograph, sums

Array = NDArray[Any]

SPLITS = ("train", "test")
GRADES = ("easy", "medium", "hard", "conflict", "v1")
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
    depth: NDArray[np.float32]  # (N, S, S) how far away is what shows at that pixel, see `_depth`
    surface: NDArray[np.int64]  # (N,) class whose surface the main object has, in conflict; else -1


def draw(split: str, count: int, size: int = 32, grade: str = "easy") -> Scenes:
    """The first `count` scenes of a split, rendered at `size` x `size` pixels.

    `boxes` holds the main object first, then the one behind it, then the one in front; a box is the extent of
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
        np.empty((count, size, size), np.float32),
        np.empty(count, np.int64),
    )
    key = hashlib.sha256(f"shapes/{drawn(grade)}/{split}".encode()).digest()[:16]
    # Raw words of a bit generator are promised to stay the same in later numpy versions; distributions are not.
    words = np.random.Philox(key=int.from_bytes(key, "little"))
    step = max(1, 128 * 32**2 // size**2)  # scenes at once: small enough to stay in the processor's cache
    for start in range(0, count, step):
        stop = min(start + step, count)
        raw = words.random_raw((stop - start) * NUMBERS).reshape(-1, NUMBERS)  # (n, NUMBERS)
        part = _render(_scene((raw >> np.uint64(11)) * 2.0**-53, split, GRADE[grade]), size)
        for field in fields(Scenes):
            getattr(scenes, field.name)[start:stop] = getattr(part, field.name)
    return scenes


NUMBERS = 128  # random numbers set aside for one scene, so that scene i starts at the same place whatever is drawn


class Grade(NamedTuple):
    """What a grade draws from; pairs are (lowest, highest)."""

    turn: float  # largest rotation, radians
    scale: tuple[float, float]  # width of the main object, image widths
    contrast: tuple[float, float]  # luminance between object and background
    spread: tuple[float, float]  # standard deviation of the background's luminance
    light: float  # largest slant of light: luminance added at an edge and taken away at the opposite one
    others: tuple[float, float, float, float]  # probability of none, one behind, one in front, both
    marks: tuple[float, ...]  # probability of each small mark
    surfaces: tuple[str, ...]
    version: int = 1  # of what is drawn
    level: float = 0.15  # how far the background's luminance lies from its mean
    tint: float = 0.25  # largest saturation of the background
    saturation: tuple[float, float] = (0.05, 0.3)  # of objects
    flock: bool = False  # three objects of one form instead of a large one and others


GRADE = {
    "easy": Grade(
        0.8, (0.35, 0.6), (0.3, 0.45), (0, 0.01), 0.5, (0, 0, 0, 1), (), ("plain",), 2, 0.1, 0.1, (0.02, 0.12), True
    ),
    "v1": Grade(0.2, (0.5, 0.85), (0.3, 0.45), (0.02, 0.05), 0.3, (0.75, 0.25, 0, 0), (0.5,), ("plain",)),
    "medium": Grade(
        0.6, (0.5, 0.75), (0.18, 0.3), (0.09, 0.13), 0.2, (0, 0.3, 0.3, 0.4), (0.6, 0.4), ("stripes", "checks")
    ),
    "hard": Grade(np.pi, (0.45, 0.75), (0.2, 0.32), (0.13, 0.2), 0.2, (0, 0.2, 0.3, 0.5), (0.8, 0.6, 0.4), ("photo",)),
    "conflict": Grade(0.2, (0.5, 0.85), (0.3, 0.45), (0.02, 0.05), 0.3, (1, 0, 0, 0), (0.5,), CUES),
}


def drawn(grade: str) -> str:
    """Version and name of a grade as results know them: `v1` is the first version of `easy`."""
    return f"{GRADE[grade].version}/{'easy' if grade == 'v1' else grade}"


class Thing(NamedTuple):
    """One object slot of n scenes."""

    present: Array  # (n,) bool
    shape: Array  # (n,) index into CLASSES
    pose: Array  # (n, 4) x, y, scale (image widths) and angle (radians)
    hue: Array  # (n,) turns
    level: Array  # (n,) luminance
    colour: Array  # (n, 3)
    second: Array  # (n, 3) the other colour of stripes and checks
    shade: Array  # (n,) direction in which the surface grows lighter, radians
    surface: Array  # (n,) name
    pitch: Array  # (n,) stripes in half the object's width
    texture: Array  # (n, 5) crop


class Mark(NamedTuple):
    """A stroke (or a dot, where it has no length) that belongs to no class, in n scenes; image widths."""

    present: Array  # (n,) bool
    place: Array  # (n, 5) x, y, angle (radians), length, radius
    colour: Array  # (n, 3)


class Scene(NamedTuple):
    """n scenes in unit coordinates."""

    background: Array  # (n, 5) crop
    level: Array  # (n,) mean luminance of the background
    spread: Array  # (n,) its standard deviation
    tint: Array  # (n, 3) added to the background, without luminance
    light: Array  # (n, 2) luminance added at the right and at the lower edge, and taken away at those opposite
    marks: list[Mark]
    main: Thing
    behind: Thing
    front: Thing


class _Dice:
    """Hands out the columns of uniform random numbers (n, NUMBERS), one after the other."""

    def __init__(self, numbers: Array) -> None:
        self.columns = iter(numbers.T)

    def between(self, low: float | Array, high: float | Array) -> Array:
        return low + (high - low) * next(self.columns)

    def below(self, count: int) -> Array:
        return (count * next(self.columns)).astype(np.int64)


def _scene(numbers: Array, split: str, grade: Grade) -> Scene:
    """Scenes from uniform random numbers (n, NUMBERS). The order of the draws is part of a grade's version."""
    dice = _Dice(numbers)
    background = _crop(dice, split)
    sign = _sign(dice)
    lean = 0 if grade.flock else 0.1 * sign  # leaves room for the object on its side
    level = 0.5 - lean + dice.between(-grade.level, grade.level)
    spread = dice.between(*grade.spread)
    tint = _chroma(dice.between(0, 1), dice.between(0, grade.tint))  # (n, 3)
    light = np.stack([dice.between(-grade.light, grade.light) for _ in range(2)], 1)  # (n, 2)
    main, behind, front = (_flock if grade.flock else _crowd)(dice, split, grade, level, sign)
    marks = [_mark(dice, probability, level) for probability in grade.marks]
    if grade.surfaces == CUES:
        other = 0 if split == "train" else 1 + dice.below(len(CLASSES) - 1)
        main = main._replace(surface=np.array(CUES)[(main.shape + other) % len(CLASSES)])
    return Scene(background, level, spread, tint, light, marks, main, behind, front)


def _sign(dice: _Dice) -> Array:
    """(n,) is an object lighter (1) or darker (-1) than the background."""
    return 2.0 * dice.below(2) - 1


def _flock(dice: _Dice, split: str, grade: Grade, level: Array, sign: Array) -> tuple[Thing, Thing, Thing]:
    """The largest and two others of its form, each lighter or darker by itself, in a loose ring around the centre."""
    first, scale, things = dice.between(-np.pi, np.pi), dice.between(*grade.scale), []
    for corner in range(3):
        way = first + corner * 2 * np.pi / 3
        x, y = (0.5 + 0.26 * along(way) + dice.between(-0.09, 0.09) for along in (np.cos, np.sin))
        own = scale * dice.between(0.75, 0.95) if corner else scale
        things.append(_thing(dice, split, grade, np.ones(len(x), bool), (x, y, own), level, sign))
        sign = _sign(dice)
    main, *others = things
    behind, front = (one._replace(shape=main.shape) for one in others)
    return main, behind, front


def _crowd(dice: _Dice, split: str, grade: Grade, level: Array, sign: Array) -> tuple[Thing, Thing, Thing]:
    """A large object near the centre, and perhaps one behind and one in front of it, each of any form."""
    x, y, scale = dice.between(0.33, 0.67), dice.between(0.33, 0.67), dice.between(*grade.scale)
    main = _thing(dice, split, grade, np.ones(len(x), bool), (x, y, scale), level, sign)
    others = np.searchsorted(np.cumsum(grade.others[:3]), dice.between(0, 1), side="right")  # 0 none .. 3 both
    # The one behind is centred near the image's border, where the main object rarely hides it.
    way, small = dice.between(-np.pi, np.pi), dice.between(0.22, 0.32)
    reach = 0.4 / np.maximum(np.abs(np.cos(way)), np.abs(np.sin(way)))
    place = (0.5 + reach * np.cos(way), 0.5 + reach * np.sin(way), small)
    # Others are darker where the main object is lighter, so that its outline is not lost in theirs.
    behind = _thing(dice, split, grade, others % 2 == 1, place, level, -sign)
    # The one in front is centred near the main object's rim: with these sizes it hides at most two fifths of it.
    way, reach, small = dice.between(-np.pi, np.pi), dice.between(0.4, 0.5) * scale, dice.between(0.4, 0.55) * scale
    place = (x + reach * np.cos(way), y + reach * np.sin(way), small)
    front = _thing(dice, split, grade, others >= 2, place, level, -sign)
    return main, behind, front


def _thing(
    dice: _Dice, split: str, grade: Grade, present: Array, place: tuple[Array, ...], level: Array, sign: Array
) -> Thing:
    """An object at a place (x, y, scale), lighter (sign 1) or darker (-1) than the background's level."""
    own, hue = level + sign * dice.between(*grade.contrast), dice.between(0, 1)
    saturation, turn = dice.between(*grade.saturation), dice.between(0.2, 0.8)
    return Thing(
        present=present,
        shape=dice.below(len(CLASSES)),
        pose=np.stack([*place, dice.between(-grade.turn, grade.turn)], 1),
        hue=hue,
        level=own,
        colour=own[:, None] + _chroma(hue, saturation),
        # further from the background than the first colour, so that the outline shows along both
        second=(own + sign * 0.15)[:, None] + _chroma(hue + turn, saturation),
        shade=dice.between(-np.pi, np.pi),
        surface=np.array(grade.surfaces)[dice.below(len(grade.surfaces))],
        pitch=dice.between(1.0, 1.8),
        texture=_crop(dice, split),
    )


def _mark(dice: _Dice, probability: float, level: Array) -> Mark:
    place = [dice.between(*pair) for pair in ((0, 1), (0, 1), (0, np.pi), (-0.1, 0.3), (0.02, 0.04))]
    return Mark(
        present=dice.between(0, 1) < probability,
        place=np.stack(place, 1).clip(0),
        colour=(level + dice.between(-0.35, 0.35))[:, None] + _chroma(dice.between(0, 1), dice.between(0, 0.2)),
    )


def _crop(dice: _Dice, split: str) -> Array:
    """Squares (n, 5) cut from the split's half of a photograph: which, x, y, width, height in its pixels.

    Where the width (height) is negative, x (y) is the right (lower) edge and the cut is mirrored.
    """
    photos, _, height, width = (sums().shape - np.array([0, 0, 1, 1])).tolist()
    half, left = width // 2, width // 2 if split == "test" else 0
    photo, side = dice.below(photos), dice.between(0.35 * half, 0.95 * half)
    x, y = left + dice.between(0, half - side), dice.between(0, height - side)
    mirror, flip = dice.below(2), dice.below(2)
    return np.stack([photo, x + mirror * side, y + flip * side, side - 2 * mirror * side, side - 2 * flip * side], 1)


def _chroma(hue: Array, saturation: Array) -> Array:
    """Colours (n, 3) without luminance: what is added to a grey to give it a hue (turns)."""
    colour = np.cos(2 * np.pi * (hue[:, None] - np.arange(3) / 3))  # (n, 3)
    return saturation[:, None] * (colour - (colour * LUMA).sum(1, keepdims=True))


def _render(scene: Scene, size: int) -> Scenes:
    """n scenes at `size` x `size` pixels (S)."""
    image = photograph(scene.background, size)  # (n, 3, S, S) mean 0, deviation 1
    image = image * flat(scene.spread) + flat(scene.level[:, None] + scene.tint)
    for mark in scene.marks:
        rows = np.flatnonzero(mark.present)
        image[rows] += _stroke(_rows(mark, rows), size) * (flat(mark.colour[rows]) - image[rows])

    things = (scene.main, scene.behind, scene.front)
    shown = np.zeros((1 + len(things), len(image), size, size), np.float32)  # (4, n, S, S) share of each pixel
    shown[0] = 1  # the background and its marks
    for slot in (1, 0, 2):  # painted from the back: behind, main, front
        rows = np.flatnonzero(things[slot].present)
        thing = _rows(things[slot], rows)
        cover = _cover(thing, size)  # (m, S, S)
        image[rows] += cover[:, None] * (_surface(thing, size) - image[rows])
        shown[:, rows] *= 1 - cover
        shown[1 + slot, rows] = cover
    owner = shown.argmax(0)  # (n, S, S) 0 background, 1 + slot
    t = np.linspace(1 / size - 1, 1 - 1 / size, size, dtype=np.float32)  # (S,) pixel centres from -1 to 1
    image += flat(scene.light[:, 0]) * t + flat(scene.light[:, 1]) * t[:, None]

    shape = np.stack([thing.shape for thing in things], 1)  # (n, 3)
    colour = np.pad(1 + shape, ((0, 0), (1, 0)))  # (n, 4) mask value of each owner
    return Scenes(
        images=(image.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8),
        label=scene.main.shape,
        mask=colour[np.arange(len(owner))[:, None, None], owner].astype(np.uint8),
        boxes=np.stack([_box(owner == 1 + slot, shape[:, slot]) for slot in range(len(things))], 1),
        factors=np.column_stack([scene.main.pose, scene.main.hue, scene.main.level - scene.level]).astype(np.float32),
        depth=_depth(scene, owner, t),
        surface=(scene.main.surface[:, None] == np.array(CUES)) @ np.arange(1, len(CUES) + 1) - 1,
    )


def _depth(scene: Scene, owner: Array, t: Array) -> NDArray[np.float32]:
    """How far away (n, S, S) is what `owner` (n, S, S) says is shown, from 0 to 5, at pixel centres t from -1 to 1.

    Each object is at one depth: about 1 in front, 2 the main one, 3 behind, the nearer the larger it is. The background
    is a plane about 4, which lies nearer, down to 3.1, where light falls on it. So order, size and light tell the
    depth. All of it follows from numbers that the image was drawn from.
    """
    right, down = (flat(scene.light[:, axis])[:, 0] for axis in (0, 1))  # (n, 1, 1)
    plane = np.float32(4) - np.float32(1.5) * (right * t + down * t[:, None])  # (n, S, S)
    plane = np.maximum(plane, np.float32(3.1))  # behind all objects, however strong the light
    things = ((2.7, scene.main), (3.3, scene.behind), (1.4, scene.front))
    levels = [np.broadcast_to(flat(near - thing.pose[:, 2])[:, 0], owner.shape) for near, thing in things]
    return np.choose(owner, [plane, *levels]).astype(np.float32)


def _rows(record: Any, rows: Array) -> Any:
    """Some of the scenes of a Thing or a Mark."""
    return record._make(values[rows] for values in record)


def _frame(thing: Thing, points: int) -> tuple[Array, Array]:
    """Coordinates (n, P, P) of the image's P x P points in the object's own frame, which reaches from -1 to 1."""
    x, y, scale, angle = thing.pose.T[..., None]  # (n, 1) each
    t = (np.arange(points) + 0.5) / points
    dx, dy = 2 * (t - x) / scale, 2 * (t - y) / scale  # (n, P)
    cos, sin = np.cos(angle), np.sin(angle)
    # Rounded here, so that the last bits of sine and cosine, which differ between machines, stay out of the picture.
    ux, uy, vx, vy = (part.astype(np.float32) for part in (cos * dx, sin * dy, -sin * dx, cos * dy))
    return ux[:, None, :] + uy[:, :, None], vx[:, None, :] + vy[:, :, None]


def _cover(thing: Thing, size: int) -> Array:
    """Share (n, size, size) of each pixel that lies inside the object, from 3 x 3 points a pixel."""
    inside = np.empty((len(thing.shape), 3 * size, 3 * size), np.uint8)
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(thing.shape == index)
        inside[rows] = INSIDE[name](*_frame(_rows(thing, rows), 3 * size))
    lines = inside[:, 0::3] + inside[:, 1::3] + inside[:, 2::3]  # (n, S, 3 S)
    return (lines[:, :, 0::3] + lines[:, :, 1::3] + lines[:, :, 2::3]) / np.float32(9)


def _surface(thing: Thing, size: int) -> Array:
    """Colour (n, 3, size, size) of the object's surface, also where the object is not."""
    u, v = (part[:, None] for part in _frame(thing, size))  # (n, 1, S, S)
    shade = (flat(np.cos(thing.shade)) * u + flat(np.sin(thing.shade)) * v).clip(-1, 1)
    colour = flat(thing.colour) + np.float32(0.06) * shade  # (n, 3, S, S)
    for name, pattern in PATTERNS.items():
        rows = np.flatnonzero(thing.surface == name)
        pitch = flat(thing.pitch[rows])
        wave = pattern(pitch * u[rows], pitch * v[rows])  # (m, 1, S, S)
        colour[rows] += (wave + 1) / 2 * flat((thing.second - thing.colour)[rows])
    rows = np.flatnonzero(thing.surface == "photo")
    colour[rows] += np.float32(0.1) * photograph(thing.texture[rows], size)
    return colour


def _stroke(mark: Mark, size: int) -> Array:
    """Share (n, 1, size, size) of each pixel that a stroke with round ends covers, from its distance."""
    x, y, angle, length, radius = mark.place.T[..., None, None]  # (n, 1, 1) each
    t = (np.arange(size) + 0.5) / size
    dx, dy = t - x, t[:, None] - y  # (n, 1, S), (n, S, 1)
    along = np.maximum(np.abs(np.cos(angle) * dx + np.sin(angle) * dy) - length / 2, 0)  # (n, S, S)
    distance = np.sqrt(along**2 + (np.cos(angle) * dy - np.sin(angle) * dx) ** 2)
    return ((radius - distance) * size + 0.5).clip(0, 1)[:, None].astype(np.float32)


def _box(shows: Array, shape: Array) -> Array:
    """Extent (n, 5) in pixels of where an object shows (n, S, S), with its class; -1 where it doesn't."""
    size = shows.shape[-1]
    columns, lines = np.any(shows, axis=1), np.any(shows, axis=2)  # (n, S)
    box = [columns.argmax(1), lines.argmax(1), size - columns[:, ::-1].argmax(1), size - lines[:, ::-1].argmax(1)]
    return np.where(columns.any(1)[:, None], np.stack([*box, shape], 1), -1)
