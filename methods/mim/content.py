"""Which patches are hidden, by what is in the image: edges, regions, a teacher's attention, what is hard to predict.

Strategies as in `masks.py`; the table of all of them is here. None of them sees a label.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.rng import onto

from . import masks
from .masks import Grid, hide_top
from .patches import pixels

Mask = Callable[..., Tensor]

FLAT = 1e-4  # gradient below which a patch is flat: less than one grey level out of 256 gives
BINS, SPAN = 32, 2.0  # histogram of a patch's grey values, up to two deviations of the data each way
ROUNDS = 3  # of k-means, which on so few patches is all but settled by then
SHOWN = 0.1  # AttMask, main_attmask.py: hints come from the tenth of the patches that are most attended


def adaptive(
    images: Tensor, grid: Grid, count: int, generator: torch.Generator, *, tau: float, complexity: str
) -> Tensor:
    """Patches are drawn without replacement with weights complexity^tau: 0 is `random`, below 0 hides the flat ones.

    The top of tau * log(weight) plus Gumbel noise is such a draw (Kool et al. 2019, arXiv:1903.06059).
    """
    noise = torch.rand(len(images), grid[0] * grid[1], generator=generator).log_().neg_().log_()  # (B, N), - Gumbel
    weight = COMPLEXITIES[complexity](images, grid).clamp_(min=FLAT).log_()  # (B, N)
    return hide_top(weight.mul_(tau).sub_(onto(noise, images.device)), count)


def object_(images: Tensor, grid: Grid, count: int, generator: torch.Generator, *, regions: int, hides: str) -> Tensor:
    """Whole regions of like colour are hidden one after the other, or first what lies along their borders.

    A region is a cluster of an image's patches by colour and place (`segments`), found without labels or any network:
    SemMAE's and ADIOS's idea (Li et al. 2022, arXiv:2206.10207) by superpixels. The last region is trimmed at random.
    """
    noise = onto(torch.rand(len(images), grid[0] * grid[1], generator=generator), images.device)  # (B, N)
    order = onto(torch.rand(len(images), regions, generator=generator).argsort(1), images.device)  # (B, K)
    region = segments(images, grid, regions)  # (B, N)
    scores = border(region, grid).float() if hides == "borders" else order.gather(1, region).float()
    return hide_top(scores + noise, count)


def attention(
    images: Tensor, grid: Grid, count: int, generator: torch.Generator, *, attention: Tensor, attend: str
) -> Tensor:
    """What the teacher attends to most is hidden, or least (AttMask, Kakogeorgiou et al. 2022, attmask.py).

    `attention` is (B, N). With hints, a tenth of the hidden patches, drawn from the tenth of all that are most
    attended, are shown (none where that is less than one), and as many less attended ones are hidden instead, so that
    the count is exact.
    """
    if attend == "low":
        return hide_top(-attention, count)
    if attend == "high":
        return hide_top(attention, count)
    patches = grid[0] * grid[1]
    top = max(round(SHOWN * patches), 1)
    shown = int(SHOWN * count)
    rank = attention.argsort(1, descending=True).argsort(1)  # (B, N), 0 = most attended
    noise = onto(torch.rand(attention.shape, generator=generator), images.device)
    hints = hide_top(torch.where(rank < top, noise, -1.0), min(shown, top))
    return hide_top(torch.where(hints, -1.0, attention), count)


def hard(
    images: Tensor,
    grid: Grid,
    count: int,
    generator: torch.Generator,
    *,
    difficulty: Tensor,
    hard_share: float,
    progress: float,
) -> Tensor:
    """The patches whose loss a teacher expects to be highest, more and more of them; the rest at random.

    HPM (Wang et al. 2023, arXiv:2304.05919, engine_pretrain.py): their share of what is hidden rises from 0 to
    `hard_share` over training. `difficulty` is the expected loss, (B, N), in any unit.
    """
    chosen = hide_top(difficulty, int(count * hard_share * progress))
    noise = onto(torch.rand(len(images), grid[0] * grid[1], generator=generator), images.device)
    return hide_top(noise + chosen, count)


MASKS: dict[str, Mask] = {
    "random": masks.random,
    "unit": masks.unit,
    "window": masks.window,
    "block": masks.block,
    "inverse-block": masks.inverse_block,
    "multi-block": masks.multi_block,
    "object": object_,
    "adaptive": adaptive,
    "attention": attention,
    "hard": hard,
}


def gradient(images: Tensor, grid: Grid) -> Tensor:
    """Mean Sobel gradient of the grey image in each patch, (B, N); borders are repeated, so they are no edges.

    By sums of shifted images, which stay float32 under autocast where a convolution would not.
    """
    grey = F.pad(images.float().mean(1), (1, 1, 1, 1), mode="replicate")  # (B, H + 2, W + 2)
    down = torch.add(grey[:, :-2], grey[:, 1:-1], alpha=2).add_(grey[:, 2:])  # (B, H, W + 2)
    across = torch.add(grey[:, :, :-2], grey[:, :, 1:-1], alpha=2).add_(grey[:, :, 2:])  # (B, H + 2, W)
    x, y = down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2]  # (B, H, W)
    edges = x.square_().addcmul_(y, y).sqrt_()
    return _means(edges[:, None], grid)[..., 0]


def entropy(images: Tensor, grid: Grid) -> Tensor:
    """Shannon entropy in nats of the histogram of grey values in each patch, (B, N), between 0 and log 32."""
    grey = images.float().mean(1)  # (B, H, W)
    level = ((grey + SPAN) / (2 * SPAN) * BINS).long().clamp(0, BINS - 1)
    values = pixels(level[:, None], images.shape[-1] // grid[1])  # (B, N, pixels)
    counts = torch.zeros(*values.shape[:2], BINS, device=images.device)
    share = counts.scatter_add_(2, values, torch.ones_like(values, dtype=counts.dtype)) / values.shape[2]
    return torch.special.entr(share).sum(2)


COMPLEXITIES = {"gradient": gradient, "entropy": entropy}


@torch.no_grad()
def segments(images: Tensor, grid: Grid, regions: int) -> Tensor:
    """Which of `regions` clusters each patch is in, (B, N): k-means within an image on patches' mean colour and place.

    As superpixels do (SLIC, Achanta et al. 2012), place counts as much as colour: both are scaled to deviation 1. It
    starts from patches that are evenly spread over the order of brightness, so it draws no random numbers.
    """
    rows, columns = grid
    colour = _means(images.float(), grid)  # (B, N, C)
    down, across = (torch.linspace(-1, 1, side, device=images.device) for side in grid)
    place = torch.cartesian_prod(down, across)
    spread = colour.std(1, keepdim=True).mean(2, keepdim=True).clamp(min=FLAT)  # (B, 1, 1)
    features = torch.cat([(colour - colour.mean(1, keepdim=True)) / spread, place.expand(len(images), -1, -1)], 2)
    patches = rows * columns
    start = features[..., : colour.shape[2]].sum(2).argsort(1)  # (B, N), dark to bright
    first = start[:, torch.linspace(0, patches - 1, regions, device=images.device).long()]  # (B, K)
    centres = features.gather(1, first[..., None].expand(-1, -1, features.shape[2]))  # (B, K, F)
    for turn in range(ROUNDS):
        distance = centres.square().sum(2)[:, None] - 2 * features @ centres.transpose(
            1, 2
        )  # (B, N, K), but a constant
        region = distance.argmin(2)
        if turn < ROUNDS - 1:
            member = F.one_hot(region, regions).float()  # (B, N, K)
            size = member.sum(1)[..., None]  # (B, K, 1)
            centres = torch.where(size > 0, member.transpose(1, 2) @ features / size.clamp(min=1), centres)
    return region


def border(region: Tensor, grid: Grid) -> Tensor:
    """Patches (B, N) next to, above or below one of another region."""
    cells = region.unflatten(1, grid)
    edge = torch.zeros_like(cells, dtype=torch.bool)
    down, across = cells[:, 1:] != cells[:, :-1], cells[:, :, 1:] != cells[:, :, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    return edge.flatten(1)


def _means(values: Tensor, grid: Grid) -> Tensor:
    """Mean over each patch of (B, C, H, W), as (B, N, C)."""
    patch = values.shape[2] // grid[0], values.shape[3] // grid[1]
    return F.avg_pool2d(values, patch).flatten(2).transpose(1, 2)
