"""Square pieces of images, for what is told about how they lie to each other."""

import torch
from torch import Tensor


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """(B, C, S, S) and upper left corners (B, T, 2), down and across, on its device -> tiles (B, T, C, side, side)."""
    places = corners[..., None] + torch.arange(side, device=images.device)  # (B, T, 2, side)
    rows, columns = places.unbind(2)
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    return images.permute(0, 2, 3, 1)[image, rows[..., None], columns[:, :, None]].permute(0, 1, 4, 2, 3)
