"""Masks that look at the image: at its edges, its regions, a teacher's attention, what a teacher finds hard."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor

from ssbench.methods.mim.content import adaptive, attention, border, entropy, gradient, hard, object_, segments

Floats = NDArray[np.float64]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, grid: tuple[int, int], patch: int = 4) -> Tensor:
    return torch.randn(count, 3, grid[0] * patch, grid[1] * patch, generator=draws(1))


def top(scores: Tensor, count: int) -> list[set[int]]:
    """Places of the highest scores of each row, found by sorting."""
    return [set(sorted(range(len(row)), key=lambda n: -row[n])[:count]) for row in scores.tolist()]


def hidden_places(mask: Tensor) -> list[set[int]]:
    return [set(row.nonzero()[:, 0].tolist()) for row in mask]


def test_complexity_is_the_mean_sobel_gradient_of_scipy() -> None:
    images = noise(3, (3, 5))
    for image, row in zip(images.double().numpy(), gradient(images, (3, 5))):
        grey = image.mean(0)
        edges = np.hypot(ndimage.sobel(grey, 0, mode="nearest"), ndimage.sobel(grey, 1, mode="nearest"))
        wanted = [edges[r : r + 4, c : c + 4].mean() for r in range(0, 12, 4) for c in range(0, 20, 4)]
        np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_complexity_is_the_entropy_of_numpys_histogram_of_grey_values() -> None:
    images = noise(3, (3, 5), patch=6) * torch.tensor([0.1, 1.0, 3.0])[:, None, None, None]
    for image, row in zip(images.numpy(), entropy(images, (3, 5))):
        grey = image.mean(0).clip(-2, 2)
        wanted = []
        for r in range(0, 18, 6):
            for c in range(0, 30, 6):
                counts, _ = np.histogram(grey[r : r + 6, c : c + 6], bins=32, range=(-2, 2))
                wanted.append(stats.entropy(counts))
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_a_flat_patch_has_no_entropy_and_one_of_32_levels_has_the_most() -> None:
    flat, steps = torch.zeros(1, 1, 8, 8), torch.linspace(-1.95, 1.95, 32).repeat(2).view(1, 1, 8, 8)
    torch.testing.assert_close(entropy(torch.cat([flat, steps], 3), (1, 2)), torch.tensor([[0.0, math.log(32)]]))


def test_an_adaptive_mask_without_temperature_is_random() -> None:
    images = noise(1, (4, 4)).expand(6000, -1, -1, -1) * torch.linspace(0, 5, 16)
    often = adaptive(images, (4, 4), 8, draws(), tau=0.0, complexity="gradient").float().mean(0)
    assert (often - 0.5).abs().max() < 4 * math.sqrt(0.25 / 6000)


@pytest.mark.parametrize("complexity", ["gradient", "entropy"])
@pytest.mark.parametrize(("tau", "low", "high"), [(1.0, 0.75, 1.0), (-1.0, 0.0, 0.3)])
def test_an_adaptive_mask_hides_complex_patches_first_and_flat_ones_below_zero(
    complexity: str, tau: float, low: float, high: float
) -> None:
    images = torch.randn(500, 3, 32, 32, generator=draws()) * 0.02
    images[:, :, :16, :16] *= 60  # the first quadrant is textured
    hidden = adaptive(images, (8, 8), 32, draws(), tau=tau, complexity=complexity).view(-1, 8, 8)
    assert low <= hidden[:, :4, :4].float().mean() <= high


def test_an_adaptive_mask_draws_in_proportion_to_complexity() -> None:
    """One patch hidden: the probability is its share of the weights, complexity^tau."""
    images = torch.randn(1, 1, 6, 6, generator=draws(5)) * torch.linspace(0.2, 2, 6)
    weight = gradient(images, (3, 3))[0].double() ** 2
    hidden = adaptive(images.expand(20_000, -1, -1, -1), (3, 3), 1, draws(), tau=2.0, complexity="gradient")
    assert stats.chisquare(hidden.sum(0).numpy(), (weight / weight.sum() * 20_000).numpy()).pvalue > 0.01


def test_an_image_without_edges_is_masked_at_random() -> None:
    often = adaptive(torch.ones(6000, 3, 8, 8), (4, 4), 8, draws(), tau=1.0, complexity="gradient").float().mean(0)
    assert (often - 0.5).abs().max() < 4 * math.sqrt(0.25 / 6000)


def test_one_grey_levels_step_is_an_edge() -> None:
    """Whatever the deviation of the data below 1."""
    images = torch.zeros(2000, 3, 8, 8)
    images[:, :, :2, 1:2] = 1 / 255  # in the first of 4 x 4 patches
    often = adaptive(images, (4, 4), 4, draws(), tau=1.0, complexity="gradient").float().mean(0)
    assert often[0] > 0.9


def slow_segments(image: Floats, grid: tuple[int, int], regions: int, patch: int = 4) -> list[int]:
    """k-means of one image, one patch and one centre at a time."""
    rows, columns = grid
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    colour = np.array(
        [image[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].mean((1, 2)) for r, c in cells]
    )
    colour = (colour - colour.mean(0)) / max(colour.std(0, ddof=1).mean(), 1e-4)
    points = [
        np.array([*colour[n], 2 * r / (rows - 1) - 1, 2 * c / (columns - 1) - 1]) for n, (r, c) in enumerate(cells)
    ]
    dark_to_bright = sorted(range(len(points)), key=lambda n: colour[n].sum())
    centres = [points[dark_to_bright[int(k * (len(points) - 1) / (regions - 1))]] for k in range(regions)]
    for _ in range(3):
        region = [int(np.argmin([((point - centre) ** 2).sum() for centre in centres])) for point in points]
        for k in range(regions):
            members = [point for point, own in zip(points, region) if own == k]
            centres[k] = np.mean(members, 0) if members else centres[k]
    return region


@pytest.mark.parametrize(("grid", "regions"), [((4, 4), 6), ((8, 8), 6), ((3, 7), 3), ((8, 8), 2)])
def test_regions_are_those_of_a_loop_over_images_and_patches(grid: tuple[int, int], regions: int) -> None:
    images = noise(10, grid)
    wanted = [slow_segments(image, grid, regions) for image in images.double().numpy()]
    assert segments(images, grid, regions).tolist() == wanted


def test_regions_are_the_squares_that_an_image_is_made_of() -> None:
    """Four squares of four brightnesses come out as they are."""
    image = torch.zeros(1, 3, 32, 32)
    for n, (row, column) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        image[:, :, row : row + 16, column : column + 16] = float(n)
    squares = segments(image, (8, 8), 4).view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16)
    assert all(len(set(square.tolist())) == 1 for square in squares) and len(set(squares[:, 0].tolist())) == 4


def test_the_border_of_regions_is_that_of_a_loop_over_neighbours() -> None:
    region = torch.randint(0, 3, (10, 5 * 6), generator=draws())
    found = border(region, (5, 6)).view(-1, 5, 6)
    for cells, edge in zip(region.view(-1, 5, 6).tolist(), found.tolist()):
        for r in range(5):
            for c in range(6):
                around = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
                others = [cells[y][x] for y, x in around if 0 <= y < 5 and 0 <= x < 6]
                assert edge[r][c] == any(other != cells[r][c] for other in others)


@pytest.mark.parametrize("count", [8, 32, 48])
def test_whole_regions_are_hidden_but_for_one(count: int) -> None:
    images = noise(50, (8, 8))
    hidden = object_(images, (8, 8), count, draws(), regions=6, hides="regions")
    for row, region in zip(hidden, segments(images, (8, 8), 6)):
        shares = [float(row[region == k].float().mean()) for k in set(region.tolist())]
        assert sum(0 < share < 1 for share in shares) <= 1


def test_the_border_of_regions_is_hidden_first() -> None:
    images = torch.nn.functional.interpolate(noise(50, (1, 1), patch=3), 32, mode="bilinear")  # regions hang together
    edge = border(segments(images, (8, 8), 3), (8, 8))
    hidden = object_(images, (8, 8), 30, draws(), regions=3, hides="borders")
    assert len({int(row.sum()) > 30 for row in edge}) == 2  # more than fits in some images, less in others
    for row, along in zip(hidden, edge):
        assert (row <= along).all() if along.sum() >= 30 else (along <= row).all()


def attended(count: int = 50, patches: int = 64) -> Tensor:
    return torch.rand(count, patches, generator=draws(4)).softmax(1)


@pytest.mark.parametrize("count", [1, 20, 63])
def test_the_most_or_the_least_attended_patches_are_hidden(count: int) -> None:
    scores, images = attended(), torch.zeros(50, 1, 1, 1)
    high = attention(images, (8, 8), count, draws(), attention=scores, attend="high")
    low = attention(images, (8, 8), count, draws(), attention=scores, attend="low")
    assert hidden_places(high) == top(scores, count) and hidden_places(low) == top(-scores, count)


@pytest.mark.parametrize(("count", "shown"), [(20, 2), (48, 4), (14, 1)])
def test_hints_of_the_most_attended_tenth_are_shown_and_less_attended_patches_hidden_instead(
    count: int, shown: int
) -> None:
    """AttMask: a tenth of the hidden patches is shown, drawn from the most attended tenth of all."""
    scores = attended()
    hidden = attention(torch.zeros(50, 1, 1, 1), (8, 8), count, draws(), attention=scores, attend="hint")
    hints = []
    for row, most, tenth in zip(hidden_places(hidden), top(scores, count + shown), top(scores, 6)):
        hints.append(most - row)
        assert row <= most and len(hints[-1]) == shown and hints[-1] <= tenth
    assert len({tuple(sorted(hint)) for hint in hints}) > 1


def test_hints_are_each_of_the_most_attended_tenth_equally_often() -> None:
    scores = attended(1).expand(6000, -1)
    hidden = attention(torch.zeros(6000, 1, 1, 1), (8, 8), 20, draws(), attention=scores, attend="hint")
    shown = (~hidden)[:, sorted(top(scores[:1], 6)[0])].sum(0)
    assert shown.sum() == 12_000 and stats.chisquare(shown.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("share", "progress"), [(0.5, 0.0), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0), (0.3, 0.77)])
def test_the_hardest_patches_are_hidden_more_and_more(share: float, progress: float) -> None:
    """HPM: int(hidden * share * progress) of them; the rest of what is hidden is drawn from the others."""
    difficulty, images = torch.randn(300, 64, generator=draws(2)), torch.zeros(300, 1, 1, 1)
    hidden = hard(images, (8, 8), 40, draws(), difficulty=difficulty, hard_share=share, progress=progress)
    chosen = int(40 * share * progress)
    rest = torch.zeros(64)
    for row, hardest, order in zip(hidden_places(hidden), top(difficulty, chosen), difficulty.argsort(1)):
        assert hardest <= row
        rest += torch.tensor([float(n in row) for n in order.tolist()])  # by rank, easiest first
    others = rest[: 64 - chosen]
    if chosen < 40:
        assert (others / 300 - (40 - chosen) / (64 - chosen)).abs().max() < 4.5 * math.sqrt(0.25 / 300)
    else:
        assert not others.any()


def test_how_hard_patches_are_matters_by_rank_alone() -> None:
    difficulty, images = torch.randn(20, 64, generator=draws(2)), torch.zeros(20, 1, 1, 1)
    one, other = (
        hard(images, (8, 8), 40, draws(), difficulty=scores, hard_share=0.5, progress=0.6)
        for scores in (difficulty, difficulty * 100 - 7)
    )
    assert torch.equal(one, other)
