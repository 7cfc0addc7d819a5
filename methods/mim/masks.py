"""Which patches are hidden. A strategy is a function of the images, the grid, the ratio and a generator.

    strategy(images (B, C, H, W), (rows, columns), ratio, generator, **settings) -> bool (B, N), True = hidden

It hides the same number of patches in every image, `hidden_count`, so that the visible ones stack into one tensor; it
ends in `hide_top`. It names the settings it needs and leaves the rest in `**_`. Random numbers are drawn on the CPU, so
that masks are the same on every device.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.errors import UserError

Mask = Callable[..., Tensor]

ROUNDS = 100  # rectangles an image may take; what is still missing then is hidden at random
ASPECT = 0.3  # a block is at most 1 / 0.3 times as long as wide (BEiT, masking_generator.py)
FLAT = 1e-4  # gradient below which a patch is flat: less than one grey level out of 256 gives


def random(images: Tensor, grid: tuple[int, int], ratio: float, generator: torch.Generator, **_: object) -> Tensor:
    """Every set of `hidden_count` patches is as likely as every other (MAE, He et al. 2021)."""
    patches = grid[0] * grid[1]
    scores = torch.rand(len(images), patches, generator=generator)
    return hide_top(scores, hidden_count(patches, ratio)).to(images.device)


def block(images: Tensor, grid: tuple[int, int], ratio: float, generator: torch.Generator, **_: object) -> Tensor:
    """Rectangles at random places until enough is hidden (BEiT, Bao et al. 2021, masking_generator.py).

    As there, a block's area is uniform between the smallest and what is still to be hidden. Unlike there, the count is
    exact: a last block that hides too much is trimmed at random, where BEiT rejects it and stops after ten tries; the
    smallest area follows the grid (16 at 14 x 14, BEiT's own) and never exceeds what is missing. In both, patches in
    the middle are hidden more often than those at the border. Raises UserError on fewer than 3 x 3 patches, where no
    block fits.
    """
    if min(grid) < 3:
        raise UserError(f"mim.mask=block needs at least 3 x 3 patches, not {grid[0]} x {grid[1]}: set backbone.patch")
    patches = grid[0] * grid[1]
    count, smallest = hidden_count(patches, ratio), max(4, (min(grid) // 3) ** 2)
    scores = torch.rand(len(images), patches, generator=generator)  # (B, N), below 1: in no block yet
    for priority in range(ROUNDS, 0, -1):  # a patch of an earlier block stays hidden when the last one is trimmed
        missing = count - (scores >= 1).sum(1)  # (B,)
        if (missing <= 0).all():
            break
        most = missing.clamp(min=1)
        least = most.clamp(max=smallest)
        area = least + torch.rand(len(images), generator=generator) * (most - least)
        scores += priority * (rectangles(area, grid, generator) & (scores < 1))
    return hide_top(scores, count).to(images.device)


def adaptive(
    images: Tensor, grid: tuple[int, int], ratio: float, generator: torch.Generator, *, tau: float, **_: object
) -> Tensor:
    """Patches are drawn without replacement with weights complexity^tau: 0 is `random`, below 0 hides the flat ones.

    The top of tau * log(weight) plus Gumbel noise is such a draw (Kool et al. 2019, arXiv:1903.06059).
    """
    patches = grid[0] * grid[1]
    noise = -torch.empty(len(images), patches).exponential_(generator=generator).log()  # (B, N), Gumbel
    scores = tau * complexity(images, grid).clamp(min=FLAT).log() + noise.to(images.device)
    return hide_top(scores, hidden_count(patches, ratio))


MASKS: dict[str, Mask] = {"random": random, "block": block, "adaptive": adaptive}


def hidden_count(patches: int, ratio: float) -> int:
    """Patches hidden in each image; the number kept is truncated, as MAE does. Raises UserError if none is kept."""
    kept = int(patches * (1 - ratio))
    if kept == 0:
        raise UserError(f"mim.ratio={ratio} hides all {patches} patches: set a smaller ratio or backbone.patch")
    return patches - kept


def split(mask: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Positions of the visible (B, v) and hidden (B, h) patches of a mask (B, N), without waiting for the device."""
    order = mask.int().argsort(dim=1, stable=True)
    kept = mask.shape[1] - hidden_count(mask.shape[1], ratio)
    return order[:, :kept], order[:, kept:]


def hide_top(scores: Tensor, count: int) -> Tensor:
    """True at the `count` highest scores of each row, (B, N)."""
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    return hidden.scatter_(1, scores.topk(count, sorted=False).indices, True)


def rectangles(area: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A rectangle of about `area` (B,) patches at a random place of each grid, (B, N); empty where it does not fit."""
    rows, columns = grid
    stretch, down, across = torch.rand(3, len(area), 1, generator=generator)  # (B, 1) each
    aspect = ((1 - 2 * stretch) * math.log(ASPECT)).exp()
    height, width = (area[:, None] * aspect).sqrt().round(), (area[:, None] / aspect).sqrt().round()
    top, left = (down * (rows - height + 1)).floor(), (across * (columns - width + 1)).floor()
    row, column = torch.arange(rows), torch.arange(columns)
    in_rows = (row >= top) & (row < top + height) & (height < rows)  # (B, rows)
    in_columns = (column >= left) & (column < left + width) & (width < columns)  # (B, columns)
    return (in_rows[:, :, None] & in_columns[:, None, :]).flatten(1)


def complexity(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean Sobel gradient of the grey image in each patch, (B, N); borders are repeated, so they are no edges.

    By sums of shifted images, which stay float32 under autocast where a convolution would not.
    """
    grey = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate").squeeze(1)  # (B, H + 2, W + 2)
    down = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]  # (B, H, W + 2)
    across = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]  # (B, H + 2, W)
    edges = torch.hypot(down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2])  # (B, H, W)
    patch = edges.shape[1] // grid[0], edges.shape[2] // grid[1]
    return F.avg_pool2d(edges[:, None], patch).flatten(1)
