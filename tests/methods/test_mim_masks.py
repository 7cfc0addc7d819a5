"""Every mask hides exactly its share; those that go by place alone are what their papers say."""

import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from ssbench.errors import UserError
from ssbench.methods.mim import masks
from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.masks import (
    block,
    hidden_count,
    hide_top,
    inverse_block,
    multi_block,
    random,
    rectangles,
    split,
    unit,
    window,
)
from ssbench.methods.mim.settings import named

Cells = NDArray[np.bool_]
Grid = tuple[int, int]

GRIDS = [(3, 3), (4, 4), (3, 7), (7, 4), (8, 8), (14, 14)]
RATIOS = (0.1, 0.3, 0.5, 0.6, 0.75, 0.85)
ALIKE = {"attention"}  # hides the same patches of an image whatever the generator


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, grid: Grid, patch: int = 4) -> Tensor:
    return torch.randn(count, 3, grid[0] * patch, grid[1] * patch, generator=draws(1))


def blank(count: int) -> Tensor:
    """Images for masks that don't look at them."""
    return torch.zeros(count, 1, 1, 1)


def drawn(name: str, images: Tensor, grid: Grid, count: int, seed: int = 0) -> Tensor:
    """A mask by name, with every argument that any of them needs."""
    scores = torch.rand(len(images), grid[0] * grid[1], generator=draws(9)) / 100
    known: dict[str, Any] = {"unit": 2, "tau": 1.0, "complexity": "gradient", "regions": 6, "hides": "regions"}
    known |= {"attention": scores, "attend": "high", "difficulty": scores, "hard_share": 0.5, "progress": 1.0}
    return MASKS[name](images, grid, count, draws(seed), **{key: known[key] for key in named(MASKS[name])})


def agreement(hidden: Tensor, grid: Grid) -> float:
    """Share of neighbouring patches that are both hidden or both visible."""
    cells = hidden.unflatten(1, grid)
    pairs = (cells[:, 1:] == cells[:, :-1]).flatten(), (cells[:, :, 1:] == cells[:, :, :-1]).flatten()
    return float(torch.cat(pairs).float().mean())


def often(hidden: Tensor | Cells) -> Tensor:
    """How often each patch is hidden."""
    return torch.as_tensor(hidden).flatten(1).float().mean(0)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_image_hides_exactly_the_count(name: str, grid: Grid) -> None:
    patches = grid[0] * grid[1]
    for ratio in RATIOS:
        count = hidden_count(patches, ratio)
        hidden = drawn(name, noise(20, grid), grid, count)
        assert hidden.dtype == torch.bool and hidden.shape == (20, patches)
        assert set(hidden.sum(1).tolist()) == {count} == {patches - math.floor(patches * (1 - ratio))}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("count", [1, 63])
def test_one_patch_can_be_hidden_or_visible(name: str, count: int) -> None:
    assert set(drawn(name, noise(20, (8, 8)), (8, 8), count).sum(1).tolist()) == {count}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_follows_from_its_generator_and_differs_between_images(name: str) -> None:
    images = noise(8, (8, 8))
    first, again, other = (drawn(name, images, (8, 8), 32, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name in ALIKE)
    assert len({tuple(row) for row in first.tolist()}) == 8


@pytest.mark.parametrize(
    ("patches", "ratio", "hidden"), [(196, 0.75, 147), (196, 0.6, 118), (16, 0.6, 10), (10, 0.75, 8)]
)
def test_the_number_kept_is_truncated(patches: int, ratio: float, hidden: int) -> None:
    assert hidden_count(patches, ratio) == hidden


def test_a_ratio_that_leaves_nothing_visible_is_refused() -> None:
    with pytest.raises(UserError, match=r"mim\.ratio=0\.95 hides all 16 patches"):
        hidden_count(16, 0.95)


def test_the_highest_scores_are_hidden() -> None:
    assert hide_top(torch.tensor([[0.1, 3.0, -2.0, 2.0]]), 2).tolist() == [[False, True, False, True]]


def test_a_mask_is_split_into_places_in_raster_order() -> None:
    mask = torch.tensor([[True, False, True, False, False], [False, False, False, True, True]])
    visible, hidden = split(mask, 2)
    assert visible.tolist() == [[1, 3, 4], [0, 1, 2]] and hidden.tolist() == [[0, 2], [3, 4]]


def test_random_masks_are_every_subset_equally_often() -> None:
    hidden = random(blank(20_000), (2, 3), 3, draws())
    counts = (hidden.int() @ (2 ** torch.arange(6, dtype=torch.int32))).bincount()
    counts = counts[counts > 0]
    assert len(counts) == math.comb(6, 3)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("grid", "side"), [((8, 8), 2), ((14, 14), 2), ((7, 4), 2), ((8, 8), 3), ((4, 4), 1)])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_whole_units_are_hidden_but_for_one_that_is_trimmed(grid: Grid, side: int, ratio: float) -> None:
    hidden = unit(blank(50), grid, hidden_count(grid[0] * grid[1], ratio), draws(), unit=side)
    for cells in hidden.view(-1, *grid):
        parts = [
            cells[row : row + side, column : column + side].float().mean().item()
            for row in range(0, grid[0], side)
            for column in range(0, grid[1], side)
        ]
        assert sum(0 < part < 1 for part in parts) <= 1


def test_at_224_px_as_many_units_are_hidden_as_in_simmim() -> None:
    """49 units of 32 px, of which ceil(0.6 * 49) = 30 are hidden; 118 of 196 patches are 29 units and a half."""
    cells = unit(blank(50), (14, 14), hidden_count(196, 0.6), draws(), unit=2).view(-1, 7, 2, 7, 2)
    assert set(cells.any(4).any(2).sum((1, 2)).tolist()) == {30}
    assert set(cells.all(4).all(2).sum((1, 2)).tolist()) == {29}


def test_units_are_every_subset_equally_often() -> None:
    hidden = unit(blank(12_000), (4, 4), 8, draws(), unit=2).view(-1, 2, 2, 2, 2).all(4).all(2).flatten(1)
    counts = (hidden.int() @ (2 ** torch.arange(4, dtype=torch.int32))).bincount()
    counts = counts[counts > 0]
    assert len(counts) == math.comb(4, 2)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("grid", "side"), [((8, 8), 2), ((14, 14), 2), ((4, 4), 1), ((7, 14), 1)])
def test_a_unit_of_zero_follows_the_grid(grid: Grid, side: int) -> None:
    found, wanted = (unit(blank(5), grid, 9, draws(), unit=own) for own in (0, side))
    assert torch.equal(found, wanted)


LATTICES = [
    ((4, 4), (2, 2)),
    ((8, 8), (4, 4)),
    ((14, 14), (7, 7)),
    ((4, 8), (2, 4)),
    ((64, 64), (4, 4)),
    ((64, 64), (8, 8)),
    ((64, 64), (10, 10)),
    ((32, 64), (4, 8)),
]


@pytest.mark.parametrize(("grid", "lattice"), LATTICES)
def test_a_window_mask_shows_exactly_one_patch_of_each_window(grid: Grid, lattice: Grid) -> None:
    kept = lattice[0] * lattice[1]
    hidden = window(blank(20), grid, grid[0] * grid[1] - kept, draws()).view(-1, *grid)
    for cells in hidden.tolist():
        shown = [
            (row * lattice[0] // grid[0], column * lattice[1] // grid[1])
            for row in range(grid[0])
            for column in range(grid[1])
            if not cells[row][column]
        ]
        assert len(shown) == kept == len(set(shown))


@pytest.mark.parametrize("kept", [5, 10, 37, 63])
def test_visible_patches_are_spread_where_their_number_makes_no_lattice(kept: int) -> None:
    """No patch of the grid is much farther from a visible one than in a lattice; random masks leave larger holes."""
    holes = []
    for mask in (window, random):
        hidden = mask(blank(10), (32, 32), 1024 - kept, draws()).view(-1, 32, 32)
        holes.append(np.mean([ndimage.distance_transform_edt(cells).mean() for cells in hidden.numpy()]))
    assert holes[0] < 0.95 * holes[1]


def test_the_visible_patch_of_a_window_is_at_every_place_equally_often() -> None:
    shown = ~window(blank(4000), (4, 4), 12, draws()).view(-1, 2, 2, 2, 2)
    first, second = shown[:, 0, :, 0].flatten(1).int().argmax(1), shown[:, 1, :, 1].flatten(1).int().argmax(1)
    table = torch.zeros(4, 4).index_put_((first, second), torch.ones(4000), accumulate=True)  # independent of another
    assert stats.chisquare(table.flatten().numpy()).pvalue > 0.01


@pytest.mark.parametrize(("grid", "least"), [((4, 4), 0.08), ((8, 8), 0.2), ((14, 14), 0.3)])
def test_neighbours_agree_more_under_block_masks_than_under_random_ones(grid: Grid, least: float) -> None:
    count = hidden_count(grid[0] * grid[1], 0.6)
    together = agreement(block(blank(200), grid, count, draws()), grid)
    assert together - agreement(random(blank(200), grid, count, draws()), grid) > least


def test_a_block_mask_has_few_pieces() -> None:
    def pieces(hidden: Tensor) -> float:
        return float(np.mean([ndimage.label(cells)[1] for cells in hidden.view(-1, 14, 14).numpy()]))

    assert pieces(block(blank(200), (14, 14), 79, draws())) < 6
    assert pieces(random(blank(200), (14, 14), 79, draws())) > 20


def beit(side: int, count: int, smallest: int, draw: Random) -> Cells:
    """BEiT's masks as its file draws them, one rectangle after the other; at most `count` patches."""
    hidden = np.zeros((side, side), bool)
    tries = 0
    while hidden.sum() < count and tries < 10:
        missing = count - int(hidden.sum())
        area = draw.uniform(smallest, missing)
        aspect = math.exp(draw.uniform(math.log(0.3), math.log(1 / 0.3)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        tries += 1
        if height < side and width < side:
            top, left = draw.randint(0, side - height), draw.randint(0, side - width)
            part = hidden[top : top + height, left : left + width]
            if 0 < (~part).sum() <= missing:
                part[:] = True
                tries = 0
    return hidden


@pytest.mark.parametrize(("side", "ratio", "smallest"), [(14, 0.385, 16), (8, 0.4, 4), (4, 0.6, 4)])
def test_block_masks_look_like_beits(side: int, ratio: float, smallest: int) -> None:
    """The same places and the same closeness, but for what an exact count costs; both prefer the middle."""
    grid, draw, count = (side, side), Random(0), hidden_count(side**2, ratio)
    slow = np.stack([beit(side, count, smallest, draw) for _ in range(500)])
    fast = block(blank(2000), grid, count, draws())
    assert (often(slow) - often(fast)).abs().max() < 0.09
    assert abs(agreement(torch.from_numpy(slow).flatten(1), grid) - agreement(fast, grid)) < 0.03


@pytest.mark.parametrize(("grid", "count"), [((14, 14), 75), ((8, 8), 26), ((3, 7), 12), ((4, 4), 10)])
def test_block_masks_are_those_of_a_loop_over_images_and_rectangles(grid: Grid, count: int) -> None:
    """The same random numbers, one image and one rectangle at a time."""
    generator = draws()
    area, stretch = torch.rand(2, 10, 4, 60, generator=generator).double().numpy()
    down, across = torch.rand(2, 10, 60, generator=generator).double().numpy()
    trim = torch.rand(60, grid[0] * grid[1], generator=generator).numpy()
    smallest = min(max(4, (min(grid) // 3) ** 2), count)
    found = block(blank(60), grid, count, draws()).numpy()
    for i in range(60):
        turns: list[Cells] = []
        hidden = np.zeros(grid, bool)
        for turn in range(10):
            missing = count - int(hidden.sum())
            if missing <= 0:
                break
            for shape in range(4):
                size = smallest + area[turn, shape, i] * max(missing - smallest, 0)
                aspect = math.exp(math.log(0.3) * (2 * stretch[turn, shape, i] - 1))
                height, width = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
                if height < grid[0] and width < grid[1]:
                    top = int(down[turn, i] * (grid[0] - height + 1))
                    left = int(across[turn, i] * (grid[1] - width + 1))
                    new = np.zeros(grid, bool)
                    new[top : top + height, left : left + width] = True
                    turns.append(new & ~hidden)
                    hidden |= new
                    break
        rest = [np.flatnonzero(new) for new in [*turns, ~hidden]]
        order = [n for places in rest for n in sorted(places, key=lambda n: -trim[i, n])]
        assert sorted(order[:count]) == np.flatnonzero(found[i]).tolist()


def test_a_grid_too_small_for_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"mim\.mask=block needs at least 3 x 3 patches, not 2 x 2"):
        block(blank(2), (2, 2), 2, draws())


def test_rectangles_are_those_of_slices() -> None:
    numbers = np.random.default_rng(0)
    height, width = (numbers.integers(0, most + 1, 300).astype(np.float32) for most in (5, 7))
    down, across = numbers.random((2, 300), dtype=np.float32)
    found = rectangles(np.stack([height, width]), np.stack([down, across]), (5, 7))
    for i in range(300):
        wanted = np.zeros((5, 7), bool)
        h, w = int(height[i]), int(width[i])
        top, left = math.floor(down[i] * (5 - h + 1)), math.floor(across[i] * (7 - w + 1))
        wanted[top : top + h, left : left + w] = True
        np.testing.assert_array_equal(found[:, i].reshape(5, 7), wanted)


def test_a_rectangle_is_at_every_place_equally_often_up_to_the_border() -> None:
    down, across = np.random.default_rng(0).random((2, 20_000), dtype=np.float32)
    side = np.full(20_000, 2, np.float32)
    corners = rectangles(np.stack([side, side]), np.stack([down, across]), (5, 6)).argmax(0)
    counts = np.bincount(corners, minlength=30).reshape(5, 6)
    assert counts[4].sum() == counts[:, 5].sum() == 0  # a square of 2 x 2 starts at 4 x 5 places
    assert stats.chisquare(counts[:4, :5].flatten()).pvalue > 0.01


@pytest.mark.parametrize("grid", [*GRIDS, (4, 16), (16, 3)])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.65, 0.8])
def test_the_visible_patches_are_one_rectangle_that_may_lie_across_the_borders(grid: Grid, ratio: float) -> None:
    """CAPI's loop: the first cells of a rectangle in raster order, then the image is rolled."""
    rows, columns = grid
    kept = rows * columns - hidden_count(rows * columns, ratio)
    hidden = inverse_block(blank(100), grid, rows * columns - kept, draws())
    _, down, across = torch.rand(3, 100, 1, generator=draws())[..., 0].tolist()
    for row, dy, dx in zip(hidden.view(-1, *grid).numpy(), down, across):
        shown = np.roll(~row, (-math.floor(dy * rows), -math.floor(dx * columns)), (0, 1))
        width = int(shown.any(0).sum())
        height = math.ceil(kept / width)
        wanted = np.zeros(grid, bool)
        for n in range(kept):
            wanted[n // width, n % width] = True
        np.testing.assert_array_equal(shown, wanted)
        # one patch is what rounding up may add to each side; where the grid is too short, so is the rectangle
        assert (height - 1) / width <= 2 or width == columns
        assert (width - 1) / height <= 2 or height == rows


def test_the_aspect_of_the_visible_rectangle_is_uniform_in_its_logarithm() -> None:
    """69 of 196 patches are visible at 65 %: sqrt(69 / a) columns, rounded up, for a between one half and two."""
    stretch = torch.rand(3, 400, 1, generator=draws())[0, :, 0].tolist()
    shown = ~inverse_block(blank(400), (14, 14), 127, draws()).view(-1, 14, 14)
    widths = shown.any(1).sum(1).tolist()
    slow = [math.ceil(math.sqrt(69 / math.exp(math.log(0.5) + s * math.log(4)))) for s in stretch]
    assert widths == slow and min(widths) == 6 and max(widths) == 12


def test_the_visible_rectangle_is_everywhere_equally_often() -> None:
    shares = often(inverse_block(blank(8000), (6, 6), 24, draws()))
    assert (shares - 24 / 36).abs().max() < 4 * math.sqrt(24 / 36 * 12 / 36 / 8000)


def ijepa(side: int, draw: Random) -> Cells:
    """Four target blocks, each with an area, an aspect and a corner of its own; corners up to the border."""
    hidden = np.zeros((side, side), bool)
    for _ in range(4):
        area, aspect = side**2 * draw.uniform(0.15, 0.2), draw.uniform(0.75, 1.5)
        height = min(round(math.sqrt(area * aspect)), side - 1)
        width = min(round(math.sqrt(area / aspect)), side - 1)
        top, left = draw.randint(0, side - height), draw.randint(0, side - width)
        hidden[top : top + height, left : left + width] = True
    return hidden


@pytest.mark.parametrize("side", [14, 8, 4])
def test_four_blocks_cover_what_a_loop_over_images_and_blocks_covers(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Random(0)
    slow = np.stack([ijepa(side, draw) for _ in range(2000)])
    monkeypatch.setattr(masks, "hide_top", lambda scores, count: scores >= 1)  # before trimming and filling
    fast = multi_block(blank(4000), (side, side), side**2 // 2, draws())
    areas = slow.reshape(2000, -1).mean(1), fast.float().mean(1).numpy()
    assert abs(areas[0].mean() - areas[1].mean()) < 0.008
    assert abs(areas[0].std() - areas[1].std()) < 0.008
    assert (often(slow) - often(fast)).abs().max() < 0.05
    assert often(fast).min() > 0  # the last row and column too, which the published code never reaches


def test_each_of_the_four_blocks_has_a_fifth_of_the_image_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "hide_top", lambda scores, count: scores >= 1)
    area = multi_block(blank(2000), (14, 14), 98, draws()).float().mean(1)
    assert area.min() > 0.15 * 0.9 and area.max() < 4 * 0.2 * 1.1  # sides are rounded to whole patches


@pytest.mark.parametrize(("count", "beyond"), [(20, False), (60, True)])
def test_blocks_are_trimmed_or_filled_up_to_the_count(
    count: int, beyond: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = multi_block(blank(100), (8, 8), count, draws())
    monkeypatch.setattr(masks, "hide_top", lambda scores, count: scores >= 1)
    blocks = multi_block(blank(100), (8, 8), count, draws())
    for row, inside in zip(hidden, blocks):
        assert (inside <= row).all() if inside.sum() <= count else (row <= inside).all()
    assert bool((hidden & ~blocks).any()) == beyond
