"""Every mask hides exactly its share; each is what its paper says."""

import math
from random import Random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from ssbench.errors import UserError
from ssbench.methods.mim.masks import (
    FLAT,
    MASKS,
    adaptive,
    block,
    complexity,
    hidden_count,
    hide_top,
    random,
    rectangles,
)

GRIDS = [(3, 3), (4, 4), (3, 7), (8, 8), (14, 14)]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, grid: tuple[int, int], patch: int = 4) -> Tensor:
    return torch.randn(count, 3, grid[0] * patch, grid[1] * patch, generator=draws(1))


def agreement(hidden: Tensor, grid: tuple[int, int]) -> float:
    """Share of neighbouring patches that are both hidden or both visible."""
    cells = hidden.unflatten(1, grid)
    pairs = (cells[:, 1:] == cells[:, :-1]).flatten(), (cells[:, :, 1:] == cells[:, :, :-1]).flatten()
    return float(torch.cat(pairs).float().mean())


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.6, 0.75])
def test_every_image_hides_exactly_the_ratio(name: str, grid: tuple[int, int], ratio: float) -> None:
    hidden = MASKS[name](noise(20, grid), grid, ratio, draws(), tau=1.0)
    patches = grid[0] * grid[1]
    assert hidden.dtype == torch.bool and hidden.shape == (20, patches)
    assert set(hidden.sum(1).tolist()) == {patches - int(patches * (1 - ratio))}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_follows_from_its_generator_and_differs_between_images(name: str) -> None:
    images = noise(8, (8, 8))
    first, again, other = (MASKS[name](images, (8, 8), 0.5, draws(seed), tau=1.0) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(row) for row in first.tolist()}) == 8


@pytest.mark.parametrize(
    ("patches", "ratio", "hidden"), [(196, 0.75, 147), (196, 0.6, 118), (16, 0.6, 10), (10, 0.75, 8)]
)
def test_the_number_kept_is_truncated(patches: int, ratio: float, hidden: int) -> None:
    assert hidden_count(patches, ratio) == hidden


def test_a_ratio_that_leaves_nothing_visible_is_refused() -> None:
    with pytest.raises(UserError, match=r"mim\.ratio=0\.95 hides all 16 patches"):
        random(noise(2, (4, 4)), (4, 4), 0.95, draws())


def test_the_highest_scores_are_hidden() -> None:
    assert hide_top(torch.tensor([[0.1, 3.0, -2.0, 2.0]]), 2).tolist() == [[False, True, False, True]]


def test_random_masks_are_every_subset_equally_often() -> None:
    hidden = random(torch.zeros(20_000, 1, 6, 6), (2, 3), 0.5, draws())
    subsets = hidden.int() @ (2 ** torch.arange(6, dtype=torch.int32))
    counts = subsets.bincount()
    counts = counts[counts > 0]
    assert len(counts) == math.comb(6, 3)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("grid", "least"), [((4, 4), 0.08), ((8, 8), 0.2), ((14, 14), 0.3)])
def test_neighbours_agree_more_under_block_masks_than_under_random_ones(grid: tuple[int, int], least: float) -> None:
    images = noise(200, grid, patch=1)
    together = agreement(block(images, grid, 0.6, draws()), grid)
    assert together - agreement(random(images, grid, 0.6, draws()), grid) > least


def test_a_block_mask_has_few_pieces() -> None:
    images = torch.zeros(200, 1, 14, 14)
    pieces = {
        mask.__name__: np.mean(
            [ndimage.label(m)[1] for m in mask(images, (14, 14), 0.4, draws()).view(-1, 14, 14).numpy()]
        )
        for mask in (block, random)
    }
    assert pieces["block"] < 6 < 20 < pieces["random"]


def beit(side: int, count: int, smallest: int, draw: Random) -> NDArray[np.bool_]:
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
    grid, draw = (side, side), Random(0)
    slow = torch.from_numpy(np.stack([beit(side, hidden_count(side**2, ratio), smallest, draw) for _ in range(500)]))
    fast = block(torch.zeros(2000, 1, 8, 8), grid, ratio, draws())
    assert (slow.flatten(1).float().mean(0) - fast.float().mean(0)).abs().max() < 0.09
    assert abs(agreement(slow.flatten(1), grid) - agreement(fast, grid)) < 0.03


def test_a_grid_too_small_for_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="at least 3 x 3 patches, not 2 x 2"):
        block(noise(2, (2, 2)), (2, 2), 0.5, draws())


def test_one_rectangle_has_the_area_the_aspect_and_the_places_of_beit() -> None:
    area = torch.empty(4000).uniform_(16, 75, generator=draws(1))
    cells = rectangles(area, (14, 14), draws()).view(-1, 14, 14)
    height, width = cells.any(2).sum(1), cells.any(1).sum(1)
    assert torch.equal(height * width, cells.sum((1, 2)))  # it is a full rectangle
    there = height > 0
    assert 0.9 < there.float().mean() < 1  # the few that would be as long as the grid are left out
    height, width, area = height[there].float(), width[there].float(), area[there]
    assert max(height.max(), width.max()) == 13
    # round(sqrt(area * aspect)) x round(sqrt(area / aspect)): each side is within half a patch of the drawn one
    assert ((height - 0.5) * (width - 0.5) <= area).all() and ((height + 0.5) * (width + 0.5) >= area).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all() and ((width + 0.5) / (height - 0.5) >= 0.3).all()
    assert ((height - 0.5) / (width + 0.5) <= 1 / 0.3).all() and ((width - 0.5) / (height + 0.5) <= 1 / 0.3).all()
    log_aspect = (height / width).log()
    assert abs(float(log_aspect.mean())) < 0.03
    assert abs(float(log_aspect.std()) - math.log(1 / 0.3) / math.sqrt(3)) < 0.05
    assert cells[:, 0].any() and cells[:, 13].any() and cells[:, :, 0].any() and cells[:, :, 13].any()


def test_a_rectangle_is_at_every_place_equally_often() -> None:
    cells = rectangles(torch.ones(20_000), (5, 5), draws()).view(-1, 5, 5)
    single = cells[cells.sum((1, 2)) == 1].flatten(1).sum(0)
    assert stats.chisquare(single.numpy()).pvalue > 0.01


def test_complexity_is_the_mean_sobel_gradient_of_scipy() -> None:
    images = torch.randn(3, 3, 12, 20, generator=draws(), dtype=torch.float64)
    found = complexity(images, (3, 5))
    for image, row in zip(images.numpy(), found):
        grey = image.mean(0)
        edges = np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest"))
        wanted = [edges[r : r + 4, c : c + 4].mean() for r in range(0, 12, 4) for c in range(0, 20, 4)]
        np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_an_adaptive_mask_without_temperature_is_random() -> None:
    images = noise(1, (4, 4)).expand(6000, -1, -1, -1) * torch.linspace(0, 5, 16)
    often = adaptive(images, (4, 4), 0.5, draws(), tau=0.0).float().mean(0)
    assert (often - 0.5).abs().max() < 4 * math.sqrt(0.25 / 6000)


@pytest.mark.parametrize(("tau", "low", "high"), [(1.0, 0.95, 1.0), (-1.0, 0.0, 0.3)])
def test_an_adaptive_mask_hides_complex_patches_first_and_flat_ones_below_zero(
    tau: float, low: float, high: float
) -> None:
    images = torch.randn(500, 3, 32, 32, generator=draws()) * 0.1
    images[:, :, :16, :16] *= 30  # the first quadrant is textured
    hidden = adaptive(images, (8, 8), 0.5, draws(), tau=tau).view(-1, 8, 8)
    assert low <= hidden[:, :4, :4].float().mean() <= high


def test_an_adaptive_mask_draws_in_proportion_to_complexity() -> None:
    """One patch hidden: the probability is its share of the weights, complexity^tau."""
    images = torch.randn(1, 1, 6, 6, generator=draws(5)) * torch.linspace(0.2, 2, 6)
    weight = complexity(images, (3, 3))[0].double() ** 2
    hidden = adaptive(images.expand(20_000, -1, -1, -1), (3, 3), 0.01, draws(), tau=2.0)
    assert stats.chisquare(hidden.sum(0).numpy(), (weight / weight.sum() * 20_000).numpy()).pvalue > 0.01


def test_an_image_without_edges_is_masked_at_random() -> None:
    often = adaptive(torch.ones(6000, 3, 8, 8), (4, 4), 0.5, draws(), tau=1.0).float().mean(0)
    assert (often - 0.5).abs().max() < 4 * math.sqrt(0.25 / 6000)
    assert FLAT < 1 / 255  # one grey level's step is not flat, whatever the deviation of the data below 1
