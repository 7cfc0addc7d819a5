"""What dense tasks share: places of maps and the pixels that they stand for, counts of pixels, boundaries, pictures.

Masks are classes of pixels (N, S, S), uint8, where ignored pixels have the number after the last class.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.data import Facts
from ssbench.data.pages.pictures import colour
from ssbench.features import Part
from ssbench.results.metrics import iou_per_class, score
from ssbench.task import Bench, Work

CHUNK = 32  # images at a time
FLAT = 1e-6  # a deviation of rounding alone, by which nothing is divided
BAND = 0.02  # of the image's diagonal, at either side of a contour (Cheng et al. 2021, boundary_iou's dilation_ratio)
SHOWN = 8  # images that are pictured


def standard(maps: Tensor) -> Callable[[Tensor], Tensor]:
    """Brings maps (N, D, h, w) to the mean 0 and deviation 1 that these have, over images and places.

    A dimension that says nothing here is left as wide as it is. Raises RuntimeError where they aren't finite.
    """
    if not maps.isfinite().all():
        raise RuntimeError("the features are not finite")
    mean, std = (of((0, 2, 3))[:, None, None] for of in (maps.mean, maps.std))
    return lambda others: (others - mean) / std.where(std > FLAT, 1)


def looked(bench: Bench, window: int, maps: int = 1) -> Work:
    """Every image through the encoder for each of its `maps`; those of windows are not what other tasks read."""
    count = maps * sum(bench.sizes)
    looks = bench.fit.looks(window)
    return Work(count) if looks == 1 else Work(0, changed=round(count * looks))


def places(maps: Tensor) -> Tensor:
    """The vectors of all places of maps (N, D, h, w), (N * h * w, D)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def masks(part: Part, data: Facts) -> Tensor:
    """Classes of pixels (N, S, S), uint8; ignored ones are `data.mask_classes`."""
    found = part.target("mask")
    return found.masked_fill(found == data.ignore_index, data.mask_classes)


def pixels(truth: Tensor, grid: Sequence[int]) -> Tensor:
    """The pixels (N, S, S) of each place, (N * h * w, p * p), row by row.

    Where the map's side does not divide the masks', they are brought to the next multiple by nearest neighbours.
    """
    (h, w), (rows, columns) = grid, tile(truth, grid)
    fitted = F.interpolate(truth[:, None], (h * rows, w * columns))[:, 0]  # (N, h * rows, w * columns)
    return fitted.view(-1, h, rows, w, columns).transpose(2, 3).reshape(-1, rows * columns)


def tile(truth: Tensor, grid: Sequence[int]) -> tuple[int, int]:
    """Pixels down and across that a place stands for, at least."""
    return -(-truth.shape[1] // grid[0]), -(-truth.shape[2] // grid[1])


def count(found: Tensor, classes: int) -> Tensor:
    """How many pixels (M, L) of each place are of each class, (M, C), float; ignored ones are not counted."""
    counts = []
    for some in found.split(CHUNK * 256):
        tally = torch.zeros(len(some), classes + 1, device=found.device)
        counts.append(tally.scatter_add_(1, some.long(), torch.ones_like(some, dtype=tally.dtype))[:, :classes])
    return torch.cat(counts)


def per_image(which: Tensor, where: Tensor, count: int) -> Tensor:
    """How many pixels (N, S, S) of each image have each number below `count`, (N, count), of those at `where`."""
    image = torch.arange(len(which), device=which.device)[:, None, None]
    return (image * count + which)[where].bincount(minlength=len(which) * count).view(-1, count).int()


def confusion(found: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Counts (N, C, C) of (truth, predicted) pixels in each image of classes (N, S, S), ignored pixels left out."""
    counts = [
        per_image(wanted.long() * classes + said, wanted < classes, classes**2)
        for said, wanted in zip(found.split(CHUNK), truth.split(CHUNK))
    ]
    return torch.cat(counts).view(-1, classes, classes)


def confusions(tables: Sequence[Tensor]) -> Any:
    """What each point of a sweep predicted, out of its counts (N, C, C), as `choose` asks for it."""
    return lambda point: {"confusion": tables[point].cpu().numpy()}


def miou(table: Tensor) -> float:
    """Mean intersection over union, in %, of counts (N, C, C)."""
    return score("iou", {"confusion": table.cpu().numpy()})


def band(found: Tensor) -> Tensor:
    """Pixels of classes (N, S, S) within 2 % of the diagonal of where their class ends, the image's border too.

    That is what erosion by squares takes off each class's mask (boundary_iou, utils/boundary_utils.py).
    """
    width = max(1, round(BAND * math.hypot(*found.shape[1:])))
    around = F.pad(found.float() + 1, (width,) * 4)  # outside is 0, no class
    largest, smallest = (sign * F.max_pool2d(sign * around, 2 * width + 1, 1) for sign in (1, -1))
    return largest != smallest  # somewhere near is another class


def boundaries(found: Tensor, truth: Tensor, classes: int) -> dict[str, Tensor]:
    """Pixels of each class's band, each (N, C): in both, in the truth's, in the prediction's; ignored ones in none."""
    counts = []
    for said, wanted in zip(found.split(CHUNK), truth.split(CHUNK)):
        kept = wanted < classes
        said = said.where(kept, classes)
        ends, starts = band(said) & kept, band(wanted) & kept
        pairs = (wanted, ends & starts & (said == wanted)), (wanted, starts), (said, ends)
        counts.append(torch.stack([per_image(which, where, classes) for which, where in pairs]))
    return dict(zip(("hit", "truth", "predicted"), torch.cat(counts, 1)))


def patch_modes(truth: Tensor, grid: Sequence[int], classes: int) -> Tensor:
    """The most frequent class of each patch at each of its pixels, (N, S, S): the best that a patch can say."""
    modes = []
    for some in truth.split(CHUNK // 4):  # 8 bytes a pixel and class
        kept = F.one_hot(some.long(), classes + 1)[..., :classes]  # (n, S, S, C)
        shares = F.adaptive_avg_pool2d(kept.permute(0, 3, 1, 2).float(), (grid[0], grid[1]))  # (n, C, h, w)
        modes.append(F.interpolate(shares.argmax(1, keepdim=True).float(), truth.shape[-2:])[:, 0].to(torch.uint8))
    return torch.cat(modes)


def details(table: Tensor) -> dict[str, Any]:
    """What stands beside the mIoU, from counts (N, C, C), in %; the profile has the classes in the truth."""
    total = table.sum(0).cpu().double()  # (C, C)
    hit, truth, said = total.diagonal(), total.sum(1), total.sum(0)
    ious = 100 * iou_per_class(torch.cat([hit, truth, said]).numpy())
    recall = (hit / truth)[truth > 0]
    return {
        "profile": {"class": {str(c): float(iou) for c, iou in enumerate(ious) if iou == iou}},
        "classes_averaged": len(recall),
        "pixel_accuracy": 100 * (hit.sum() / total.sum()).item(),
        "mean_class_accuracy": 100 * recall.mean().item(),
    }


def shown(images: Tensor, truth: Tensor) -> Tensor:
    """The first few images as RGB on the grid of their masks (N, S, S), (B, 3, S, S) in 0..1."""
    seen = images[:SHOWN, :3].cpu().float() / 255
    return F.interpolate(seen if seen.shape[1] == 3 else seen[:, :1].expand(-1, 3, -1, -1), truth.shape[1:])


def pictures(images: Tensor, truth: Tensor, found: Tensor, classes: int) -> Tensor:
    """Image, truth and prediction of the first few, (B, 3, 3, S, S) in 0..1; ignored pixels are grey in both masks."""
    inks = torch.tensor([*map(colour, range(classes)), (128, 128, 128)]).float() / 255  # (C + 1, 3)
    truth, found = truth[:SHOWN].cpu(), found[:SHOWN].cpu()
    drawn = (inks[one.long()].permute(0, 3, 1, 2) for one in (truth, found.where(truth < classes, classes)))
    return torch.stack([shown(images, truth), *drawn], 1)
