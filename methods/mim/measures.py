"""What a mask does to an image, to the encoder's work and to its gradient, measured after training on held-out images.

All but `mask us` follow from the weights and the images. Gradients are those of the reconstruction alone. `codes used`
is the perplexity of a learned codebook on the images that it was learned from.
"""

import time
from collections.abc import Iterator
from statistics import median
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ssbench.encoders.encoder import Encoder

from .architectures import Architecture
from .content import border
from .patches import pixels
from .targets import Target

REPEATS = 21  # of a mask, for the median time


class Masked(Protocol):
    """What is measured: of a masked image model, what is used here."""

    encoder: Encoder
    target: Target
    predict: Architecture

    def hide(self, images: Tensor, generator: torch.Generator, progress: float) -> tuple[Tensor, Tensor]: ...

    def reconstruction(self, images: Tensor, generator: torch.Generator, progress: float) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def buffers(self) -> Iterator[Tensor]: ...


def measures(mim: Masked, images: Tensor, objects: Tensor | None) -> dict[str, float]:
    """Numbers by name, for images (B, C, H, W) and, where the data has them, masks (B, H, W) with 0 for background."""
    found = {**work(mim, images), **gradients(mim, images)}
    visible, _ = mim.hide(images, torch.Generator().manual_seed(0), 1.0)
    grid = mim.encoder.grid(images)
    hidden = torch.ones(len(images), grid[0] * grid[1], device=images.device).scatter_(1, visible, 0)  # (B, N)
    found |= statistics(hidden, grid)
    if float(used := getattr(mim.target, "perplexity", torch.zeros(()))):
        found["codes used"] = float(used)
    return found if objects is None else found | overlap(hidden, grid, objects)


def work(mim: Masked, images: Tensor) -> dict[str, float]:
    """Microseconds a mask takes an image; FLOPs of the encoder's forward pass; bytes it keeps for the backward pass."""
    generator, times = torch.Generator(), []
    for _ in range(REPEATS):
        started = time.perf_counter()
        visible, _ = mim.hide(images, generator, 1.0)
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    given = {tensor.untyped_storage().data_ptr() for tensor in (images, *mim.parameters(), *mim.buffers())}
    kept: dict[int, int] = {}  # bytes by address

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.enable_grad(), FlopCounterMode(display=False) as counter, hooks:
        seen = mim.predict.see(mim.encoder, images, visible)
    del seen  # until here, so that no address is used twice
    return {
        "mask us": 1e6 * median(times) / len(images),
        "encoder MFLOPs": counter.get_total_flops() / len(images) / 1e6,
        "encoder KB kept": sum(kept.values()) / len(images) / 1e3,
    }


def gradients(mim: Masked, images: Tensor) -> dict[str, float]:
    """How the loss's gradient is spread over an image's patches and over the encoder's blocks.

    The norm of the gradient with respect to each patch's pixels, as shares g of an image: entropy of g over log N, so
    that 1 is all alike, and Gini coefficient, 0 when all are alike (hidden patches, where the encoder can't see them,
    have none). Then the share of the squared gradient norm of all blocks' weights that each block has.
    """
    pictures, encoder = images.detach().clone().requires_grad_(), mim.encoder
    weights = [[p for p in block.parameters() if p.requires_grad] for block in encoder.trunk.blocks]
    with torch.enable_grad():
        cost = mim.reconstruction(pictures, torch.Generator().manual_seed(0), 1.0)
        flat = torch.autograd.grad(cost, [pictures, *(p for block in weights for p in block)], allow_unused=True)
    assert encoder.patch is not None
    norm = pixels(flat[0], encoder.patch).norm(dim=-1).cpu().double()  # (B, N); not every accelerator has float64
    share = norm / norm.sum(1, keepdim=True).clamp(min=1e-30)
    count = share.shape[1]
    ranked = share.sort(1).values @ torch.arange(1, count + 1, dtype=share.dtype)  # (B,)
    found = {
        "gradient entropy": float(torch.special.entr(share).sum(1).mean() / torch.tensor(count).log()),
        "gradient Gini": float((2 * ranked / count - (count + 1) / count).mean()),
    }
    rest = iter(flat[1:])
    squares = [sum(float(g.square().sum()) for g in (next(rest) for _ in block) if g is not None) for block in weights]
    total = sum(squares) or 1.0
    return found | {f"block {i} %": 100 * square / total for i, square in enumerate(squares, 1)}


def statistics(hidden: Tensor, grid: tuple[int, int]) -> dict[str, float]:
    """Of masks (B, N): share hidden; how unevenly places are hidden, the deviation over them of how often each is.

    `mask border` is the share of neighbouring patches of which one is hidden and one is not: low for blocks.
    """
    cells = hidden.unflatten(1, grid)
    across = (cells[:, 1:] != cells[:, :-1]).flatten(), (cells[:, :, 1:] != cells[:, :, :-1]).flatten()
    often = hidden.mean(0)  # (N,)
    return {
        "hidden %": 100 * float(hidden.mean()),
        "coverage sd %": 100 * float(often.std()),
        "mask border %": 100 * float(torch.cat(across).float().mean()),
    }


def overlap(hidden: Tensor, grid: tuple[int, int], objects: Tensor) -> dict[str, float]:
    """Against true masks (B, H, W), 0 for background.

    Share of the objects' pixels that stay visible; share of the patches on an object's border that are hidden.
    """
    side = objects.shape[1] // grid[0], objects.shape[2] // grid[1]
    shown = 1 - hidden.unflatten(1, grid).repeat_interleave(side[0], 1).repeat_interleave(side[1], 2)  # (B, H, W)
    thing = (objects > 0).float()
    whole = objects.shape[1], objects.shape[2]
    edge = border(objects.long().flatten(1), whole).unflatten(1, whole).float()  # (B, H, W)
    crossed = pixels(edge[:, None], side[0]).amax(2)  # (B, N)
    return {
        "object visible %": 100 * float((thing * shown).sum() / thing.sum().clamp(min=1)),
        "border hit %": 100 * float((crossed * hidden).sum() / crossed.sum().clamp(min=1)),
    }
