"""RandAugment and random erasing as MAE's fine-tuning has them, by timm's own code."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from ssbench.errors import NotApplicable

POLICY = "rand-m9-mstd0.5-inc1"  # MAE, main_finetune.py
MOST = 9.99  # magnitude: at timm's 10 posterise keeps 0 bits of a pixel, which Pillow 13 refuses


def rand_augment(size: int, mean: Tensor) -> Callable[[Tensor], Tensor]:
    """RandAugment (Cubuk et al. 2019) of images (B, C, S, S) in 0..1 of `size` px, through uint8.

    timm works on one PIL image after another, on a CPU core 0.25 ms for 32 px and 4 ms for 224 px. kornia's, which
    takes a whole batch, draws the same operations for all of its images, at one magnitude without deviation, so it is
    another augmentation (kornia 0.9.0, augmentation/auto/rand_augment). Grey images are seen as RGB. Raises
    NotApplicable for other channels than 1 or 3.
    """
    channels = mean.numel()
    if channels not in (1, 3):
        raise NotApplicable(f"finetune.recipe=published: RandAugment takes images of 1 or 3 channels, not {channels}")
    fill = tuple(min(255, round(255 * value)) for value in mean.flatten().expand(3).tolist())
    # as timm's transforms_factory.py has them
    hints = {"translate_const": int(size * 0.45), "img_mean": fill, "magnitude_max": MOST}
    transform = rand_augment_transform(POLICY, hints)

    def augment(images: Tensor) -> Tensor:
        pixels = (images.expand(-1, 3, -1, -1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, S, S, 3)
        seen = torch.from_numpy(np.stack([np.asarray(transform(Image.fromarray(one))) for one in pixels]))
        return seen.permute(0, 3, 1, 2)[:, :channels].to(images.device).float() / 255

    return augment


def erasing(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Random erasing (Zhong et al. 2017) of a quarter of the normalised images, by a noise of its own at each pixel."""
    erase: Callable[[Tensor], Tensor] = RandomErasing(0.25, mode="pixel", device=str(device))
    return erase
