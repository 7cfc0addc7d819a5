"""Declared views -> tensors: the whole batch at once, on its device, with parameters drawn per sample.

Crop and flip are one affine resampling (kornia's crop takes 4 to 7 times as long on 64 images of 32 px, a third of a
small masked model's step); colour is kornia's, whose jitter agrees with torchvision's but draws the order of its four
steps once a batch. Where a crop has more pixels than its view, it is antialiased by a mean of samples.
"""

import math
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.method import View
from ssbench.rng import onto

ASPECT, TRIES = (3 / 4, 4 / 3), 10  # torchvision's RandomResizedCrop and every paper that uses it


def make(view: View, images: Tensor, seed: int, patch: int = 1, size: int = 0) -> Tensor:
    """One view of each image: (B, C, H, W) in 0..1 -> (B, C, h, w) in 0..1; the same for the same seed.

    A view's size is relative to `size` px, which is less than the images' own where they are kept larger; 0: theirs.
    """
    return cut(view, images, seed, patch, size)[0]


def cut(view: View, images: Tensor, seed: int, patch: int = 1, size: int = 0) -> tuple[Tensor, Tensor]:
    """One view of each image, and where each was cut (B, 5), on the CPU.

    That is its centre x, centre y, width and height, relative to the image, and 1 where it is mirrored.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        side = side_of(view, size or images.shape[-1], patch)
        boxes = crop_boxes(len(images), view.crop)
        flips = torch.rand(len(images)) < view.flip
        most = min(math.sqrt(view.crop[1] * ASPECT[1]), 1.0) * images.shape[-1] / side
        seen = resample(images, onto(boxes, images.device), onto(flips, images.device), side, math.ceil(most - 1e-6))
        where = torch.cat([boxes, flips[:, None].to(boxes)], 1)
        return _colour(view, images.shape[1], side)(seen).clamp(0, 1), where


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


def resample(images: Tensor, boxes: Tensor, flips: Tensor, side: int, samples: int = 1) -> Tensor:
    """Cut the boxes (B, 4) out bilinearly, mirror where `flips` (B,), and scale to side x side.

    A pixel is the mean of `samples` x `samples` places, which lie the further apart the more pixels of the image it
    stands for, and on one where that is one pixel or less.
    """
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, :, 2] = boxes[:, :2] * 2 - 1
    theta[:, 0, 0] = torch.where(flips, -boxes[:, 2], boxes[:, 2])
    theta[:, 1, 1] = boxes[:, 3]
    grid = F.affine_grid(theta, [len(images), images.shape[1], side, side], align_corners=False)
    if samples <= 1:
        return F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    ratio = boxes[:, 2:] * images.shape[-1] / side  # (B, 2) pixels of the image to one of the view
    spread = (ratio.square() - 1).clamp(min=0).sqrt() * 2 / images.shape[-1]  # bilinear reading covers one already
    seen = torch.zeros(len(images), images.shape[1], side, side, device=images.device)
    for i, j in product(range(samples), repeat=2):
        at = torch.tensor([i, j], device=images.device).add(0.5).div(samples).sub(0.5)
        moved = grid + (at * spread)[:, None, None]
        seen += F.grid_sample(images, moved, align_corners=False, padding_mode="border")
    return seen / samples**2


@cache
def _colour(view: View, channels: int, side: int) -> nn.Module:
    """The colour operations of a view; those that need three channels are left out on others.

    The blur's kernel is a tenth of the side, as SimCLR's (Chen et al. 2020, appendix A), at least 3 px.
    """
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
        kernel = max(2 * (side // 20) + 1, 3)
        steps.append(K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=view.blur))
    if view.solarise:
        steps.append(K.RandomSolarize(thresholds=(0.5, 0.5), additions=(0.0, 0.0), p=view.solarise))
    return nn.Sequential(*steps)
