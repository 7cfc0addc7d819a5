"""What is in each patch: (images (B, C, H, W), side of a patch in px) -> (B, N, d), patches in row-major order."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.errors import UserError

EPSILON = 1e-6  # added to a patch's variance (MAE, models_mae.py)
ORIENTATIONS = 9  # MaskFeat, operators.py


def pixels(images: Tensor, patch: int) -> Tensor:
    """The pixels of each patch, (B, N, patch * patch * C), in the order row, column, channel."""
    cut = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, C, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def pixels_normed(images: Tensor, patch: int) -> Tensor:
    """Pixels with each patch's own mean 0 and variance 1, over all its channels together (MAE, He et al. 2021).

    The variance is the unbiased one, as in MAE's code. Raises UserError on patches of a single value.
    """
    values = pixels(images.float(), patch)
    if values.shape[-1] == 1:
        raise UserError("mim.target=pixels-normed needs more than one value a patch: take mim.target=pixels")
    return (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + EPSILON).sqrt()


def hog(images: Tensor, patch: int) -> Tensor:
    """Histograms of oriented gradients, (B, N, C * 9 * cells), as MaskFeat's (Wei et al. 2021, operators.py).

    9 unsigned orientations, each gradient's whole magnitude in one of them, each channel for itself; cells are half a
    patch wide (MaskFeat: 8 of 16 px), and a cell's histogram has length 1. Neither windows nor blocks. In the order
    channel, orientation, row and column of the cell.
    """
    cell = patch // 2 if patch % 2 == 0 else patch
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")  # (B, C, H + 2, W + 2)
    down = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]  # smoothed, (B, C, H, W + 2)
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]  # (B, C, H + 2, W)
    x, y = down[..., :-2] - down[..., 2:], across[:, :, :-2] - across[:, :, 2:]  # (B, C, H, W)
    which = (torch.atan2(x, y) / torch.pi * ORIENTATIONS).floor().long() % ORIENTATIONS
    split = x.new_zeros(*x.shape[:2], ORIENTATIONS, *x.shape[2:])  # (B, C, 9, H, W)
    split.scatter_(2, which[:, :, None], torch.hypot(x, y)[:, :, None])
    cells = F.normalize(F.avg_pool2d(split.flatten(1, 2), cell).unflatten(1, (-1, ORIENTATIONS)), dim=2)
    side = patch // cell
    cut = cells.unflatten(4, (-1, side)).unflatten(3, (-1, side))  # (B, C, 9, rows, side, columns, side)
    return cut.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)
