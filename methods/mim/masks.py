"""Which patches are hidden, by place alone; `content.py` has the strategies that look at images. A strategy is

    strategy(images (B, C, H, W), (rows, columns), count, generator, *, settings) -> bool (B, N), True = hidden

It hides exactly `count` patches in every image, so that the visible ones stack into one tensor; all end in `hide_top`.
Keyword-only arguments are what it needs of the settings, or of `attention`, `difficulty` and `progress`, which the
model then works out. Random numbers are drawn on the CPU, so that masks are the same on every device.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench.errors import UserError
from ssbench.rng import onto

Grid = tuple[int, int]
Floats = NDArray[np.float32]

ROUNDS = 10  # rectangles an image may take (BEiT gives up after ten tries); what is still missing is hidden at random
TRIES = 4  # shapes drawn for each
BLOCK_ASPECT = 0.3  # a block is at most 1 / 0.3 times as long as wide (BEiT, masking_generator.py)
INVERSE_ASPECT = 0.5  # CAPI, data.py
TARGETS, TARGET_SCALE, TARGET_ASPECT = 4, (0.15, 0.2), (0.75, 1.5)  # I-JEPA, configs/in1k_vith14_ep300.yaml


def random(images: Tensor, grid: Grid, count: int, generator: torch.Generator) -> Tensor:
    """Every set of `count` patches is as likely as every other (MAE, He et al. 2021)."""
    return onto(hide_top(_rand(images, grid, generator), count), images.device)


def unit(images: Tensor, grid: Grid, count: int, generator: torch.Generator, *, unit: int) -> Tensor:
    """Random squares of `unit` x `unit` patches (SimMIM, Xie et al. 2021, data_simmim.py: 32 px, 2 x 2 patches).

    There whole units are hidden; here the last one is trimmed at random to the exact count. A side that `unit` does not
    divide ends in narrower units. A unit of 0 is 2, or 1 below 8 x 8 patches: a quarter of a small image's side.
    """
    unit = unit or (2 if min(grid) >= 8 else 1)
    rows, columns = -(-grid[0] // unit), -(-grid[1] // unit)
    order = torch.rand(len(images), rows * columns, generator=generator).argsort(1)  # (B, units), a permutation
    member = (torch.arange(grid[0]) // unit)[:, None] * columns + torch.arange(grid[1]) // unit  # (rows, columns)
    scores = order[:, member.flatten()] + _rand(images, grid, generator)  # (B, N)
    return onto(hide_top(scores, count), images.device)


def window(images: Tensor, grid: Grid, count: int, generator: torch.Generator) -> Tensor:
    """The grid is cut into as many windows as patches stay visible, and one patch of each stays, at random.

    At 75 % that is UM-MAE's one of 2 x 2 (Li et al. 2022, arXiv:2205.10063; HPM, mask_transform.py). With a fixed
    number of visible patches, masks stay spread over images of any size. Where the number makes no lattice, there are
    a few windows more, and random ones stay wholly hidden.
    """
    rows, columns = grid
    kept = rows * columns - count
    down = min(max(round(math.sqrt(kept * rows / columns)), 1, -(-kept // columns)), rows)
    across = -(-kept // down)
    member = (torch.arange(rows) * down // rows)[:, None] * across + torch.arange(columns) * across // columns
    scores = _rand(images, grid, generator)
    best = torch.zeros(len(images), down * across)
    index = member.flatten().expand(len(images), -1)  # (B, N)
    best = best.scatter_reduce(1, index, scores, "amax")  # (B, windows)
    first = scores == best.gather(1, index)  # (B, N), one a window
    return onto(hide_top(_rand(images, grid, generator) - first.float(), count), images.device)


def block(images: Tensor, grid: Grid, count: int, generator: torch.Generator) -> Tensor:
    """Rectangles at random places until enough is hidden (BEiT, Bao et al. 2021, masking_generator.py).

    As there, a block's area is uniform between the smallest and what is still to be hidden. Unlike there, it is never
    below the smallest, and the count is exact: a last block that hides too much is trimmed at random, where BEiT
    rejects it and stops after ten tries. The smallest area follows the grid by iBOT's rule (16 at 14 x 14, BEiT's own),
    but is never below 4, the default of BEiT's class, unless fewer are hidden in all.
    In both, patches in the middle are hidden more often than those at the border. Raises UserError on fewer than 3 x 3
    patches, where no block fits.
    """
    if min(grid) < 3:
        raise UserError(f"mim.mask=block needs at least 3 x 3 patches, not {grid[0]} x {grid[1]}: set backbone.patch")
    smallest = min(max(4, (min(grid) // 3) ** 2), count)
    # in NumPy, where a small step costs less; several shapes a round, of which the first that fits is taken
    areas, stretch = torch.rand(2, ROUNDS, TRIES, len(images), generator=generator).numpy()
    places = torch.rand(2, ROUNDS, len(images), generator=generator).numpy()
    aspect = np.exp((stretch - 0.5) * np.float32(math.log(BLOCK_ASPECT)))  # (R, T, B), its square root
    shapes = np.stack([aspect, 1 / aspect], 1)  # (R, 2, T, B)
    sides = np.zeros((2, TRIES + 1, len(images)), np.float32)  # height and width; the last one fits: no rectangle
    hidden = np.zeros((grid[0] * grid[1], len(images)), np.float32)  # (N, B), 0 or 1
    taken = np.zeros_like(hidden)  # in how many rounds it was hidden: more for patches of an earlier block
    image, most, each = np.arange(len(images)), np.array(grid, np.float32)[:, None, None], np.ones_like(hidden[:, 0])
    tried, flat = sides[:, :TRIES], sides.reshape(2, -1)
    for area, shape, place in zip(areas, shapes, places.swapaxes(0, 1)):
        more = count - smallest - each @ hidden  # (B,), what is missing beyond the smallest block
        if more.max() <= -smallest:
            break
        np.rint(np.sqrt(smallest + area * np.maximum(more, 0)) * shape, out=tried)
        first = np.logical_and(*(sides < most)).argmax(0)  # (B,)
        found = flat.take(first * len(images) + image, 1)  # (2, B)
        np.maximum(hidden, rectangles(found, place, grid), out=hidden)
        taken += hidden
    return onto(hide_top(torch.from_numpy(taken).T + _rand(images, grid, generator), count), images.device)


def inverse_block(images: Tensor, grid: Grid, count: int, generator: torch.Generator) -> Tensor:
    """All but one rectangle is hidden, which may lie across the borders (CAPI, Darcet et al. 2025, data.py, rolled).

    The log of its aspect ratio is uniform between one half and two, as far as it fits. Its last row may be partial.
    """
    rows, columns = grid
    kept = rows * columns - count
    low, high = (
        max(math.log(INVERSE_ASPECT), math.log(kept / columns**2)),
        min(-math.log(INVERSE_ASPECT), math.log(rows**2 / kept)),
    )
    stretch, down, across = torch.rand(3, len(images), 1, generator=generator)  # (B, 1) each
    width = (kept / (low + stretch * (high - low)).exp()).sqrt().ceil().clamp(-(-kept // rows), columns)
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    row, column = (row - (down * rows).floor()) % rows, (column - (across * columns).floor()) % columns  # (B, N)
    place = torch.where(column < width, row * width + column, torch.inf)  # the order in which the rectangle is filled
    return onto(hide_top(place, count), images.device)


def multi_block(images: Tensor, grid: Grid, count: int, generator: torch.Generator) -> Tensor:
    """Four blocks of 15 to 20 % of the image are hidden (I-JEPA, Assran et al. 2023, src/masks/multiblock.py).

    Drawn for each image, sides and corners independently and up to the border, where the published code ties all three
    to one number and never reaches the last row and column. The count is exact: what the blocks, which may overlap,
    leave too much is trimmed at random, and what is missing is hidden at random, as I-JEPA leaves parts of the rest
    out of the context. All of it is predicted.
    """
    patches = grid[0] * grid[1]
    scale, aspect, *places = torch.rand(4, TARGETS * len(images), generator=generator).numpy()
    area = patches * (TARGET_SCALE[0] + scale * (TARGET_SCALE[1] - TARGET_SCALE[0]))
    aspect = TARGET_ASPECT[0] + aspect * (TARGET_ASPECT[1] - TARGET_ASPECT[0])
    most = np.maximum(np.array(grid, np.float32)[:, None] - 1, 1)
    sides = np.rint(np.sqrt(np.stack([area * aspect, area / aspect]))).clip(1, most)  # (2, 4 * B)
    blocks = rectangles(sides, np.stack(places), grid).reshape(patches, TARGETS, len(images)).max(1)  # (N, B)
    return onto(hide_top(torch.from_numpy(blocks).T + _rand(images, grid, generator), count), images.device)


def hidden_count(patches: int, ratio: float) -> int:
    """Patches hidden in each image; the number kept is truncated, as MAE does. Raises UserError if none is kept."""
    kept = int(patches * (1 - ratio))
    if kept <= 0:
        raise UserError(f"mim.ratio={ratio:g} hides all {patches} patches: set a smaller ratio or backbone.patch")
    return patches - kept


def split(mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Positions of the visible (B, v) and the `count` hidden (B, h) patches of a mask (B, N), without a device sync."""
    order = mask.int().argsort(dim=1, stable=True)
    kept = mask.shape[1] - count
    return order[:, :kept], order[:, kept:]


def hide_top(scores: Tensor, count: int) -> Tensor:
    """True at the `count` highest scores of each row, (B, N)."""
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    return hidden.scatter_(1, scores.topk(count, sorted=False).indices, True)


def rectangles(sides: Floats, places: Floats, grid: Grid) -> Floats:
    """Rectangles of these heights and widths, placed by two numbers in 0..1, both (2, B) -> 0 or 1, (N, B).

    Sides are at most the grid's own; there is no rectangle where they are 0.
    """
    starts, lines = _lines(grid)
    start = (places * (starts - sides)).astype(np.intp)  # (2, B)
    along = lines.take(start * (max(grid) + 1) + sides.astype(np.intp), 1)  # (max(grid), 2, B)
    return (along[: grid[0], None, 0] * along[: grid[1], 1]).reshape(-1, sides.shape[1])


@cache
def _lines(grid: Grid) -> tuple[Floats, Floats]:
    """Places for a line of no length in rows and columns, (2, 1), and what lines cover, (max(grid), places * sizes)."""
    step = np.arange(max(grid) + 1)
    inside = (step[:-1, None, None] >= step[:, None]) & (step[:-1, None, None] < step[:, None] + step)
    return np.array(grid, np.float32)[:, None] + 1, inside.reshape(max(grid), -1).astype(np.float32)


def _rand(images: Tensor, grid: Grid, generator: torch.Generator) -> Tensor:
    """Uniform numbers on the CPU, (B, N)."""
    return torch.rand(len(images), grid[0] * grid[1], generator=generator)
