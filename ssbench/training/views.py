"""Declared views -> tensors: the whole batch at once, on its device, with parameters drawn per sample.

Crop and flip are one affine resampling (kornia's crop takes 4 to 7 times as long on 64 images of 32 px, a third of a
small masked model's step); colour is kornia's, whose jitter agrees with torchvision's but draws the order of its four
steps once a batch. Crops are not antialiased: stored images are about the size of a view.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.method import View
from ssbench.rng import onto

ASPECT, TRIES = (3 / 4, 4 / 3), 10  # torchvision's RandomResizedCrop and every paper that uses it


def make(view: View, images: Tensor, seed: int, patch: int = 1) -> Tensor:
    """One view of each image: (B, C, H, W) in 0..1 -> (B, C, h, w) in 0..1; the same for the same seed."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        side = side_of(view, images.shape[-1], patch)
        boxes = crop_boxes(len(images), view.crop)
        flips = torch.rand(len(images)) < view.flip
        seen = resample(images, onto(boxes, images.device), onto(flips, images.device), side)
        return _colour(view, images.shape[1])(seen).clamp(0, 1)


def side_of(view: View, size: int, patch: int = 1) -> int:
    """Pixels a side of a view of images of `size` px: whole patches, at least one."""
    return max(round(size * view.size / patch), 1) * patch


def crop_boxes(count: int, scale: tuple[float, float]) -> Tensor:
    """Random boxes (B, 4): centre x, centre y, width, height, relative to the image; torchvision's RandomResizedCrop.

    The area is uniform in `scale` and the log of the aspect ratio in ASPECT, both drawn again until they fit into the
    image; the whole image where TRIES draws do not. Unlike there, sides and places are not rounded to pixels.
    """
    area = torch.empty(TRIES, count).uniform_(*scale)
    aspect = torch.empty(TRIES, count).uniform_(*map(math.log, ASPECT)).exp()
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()])  # (2, TRIES, B): all tries at once
    fits = (sides <= 1).all(0)  # (TRIES, B)
    first = sides[:, fits.int().argmax(0), torch.arange(count)]  # (2, B)
    size = torch.where(fits.any(0), first, 1.0).T  # (B, 2)
    centre = size / 2 + torch.rand(count, 2) * (1 - size)
    return torch.cat([centre, size], 1)


def resample(images: Tensor, boxes: Tensor, flips: Tensor, side: int) -> Tensor:
    """Cut the boxes (B, 4) out bilinearly, mirror where `flips` (B,), and scale to side x side."""
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, :, 2] = boxes[:, :2] * 2 - 1
    theta[:, 0, 0] = torch.where(flips, -boxes[:, 2], boxes[:, 2])
    theta[:, 1, 1] = boxes[:, 3]
    grid = F.affine_grid(theta, [len(images), images.shape[1], side, side], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="border")


@cache
def _colour(view: View, channels: int) -> nn.Module:
    """The colour operations of a view; those that need three channels are left out on others."""
    if not (any(view.jitter) or view.grey or view.blur or view.solarise):
        return nn.Identity()
    import kornia.augmentation as K

    steps: list[nn.Module] = []
    brightness, contrast, saturation, hue = view.jitter
    if any(view.jitter) and channels == 3:
        steps.append(K.ColorJitter(brightness, contrast, saturation, hue, p=view.jitter_p))
    elif any(view.jitter):
        steps.append(K.ColorJitter(brightness, contrast, 0, 0, p=view.jitter_p))
    if view.grey and channels == 3:
        steps.append(K.RandomGrayscale(p=view.grey))
    if view.blur:
        steps.append(K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=view.blur))
    if view.solarise:
        steps.append(K.RandomSolarize(thresholds=(0.5, 0.5), additions=(0.0, 0.0), p=view.solarise))
    return nn.Sequential(*steps)
