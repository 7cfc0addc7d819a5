"""Boxes as tensors: those that can be found, those that are right most often, and pictures of them."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou
from torchvision.utils import draw_bounding_boxes

COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "orange", "white")  # of classes, over and over
TRIED = 256  # boxes of a class, evenly spaced among its own
OVERLAP = 0.6  # from which the less sure of two boxes of a class goes; torchvision's FCOS


def cleaned(boxes: Tensor, size: int) -> tuple[Tensor, int]:
    """Boxes (N, K, 5) inside the image, those that are there first; and how many had nothing inside, left out."""
    boxes = boxes.float().clone()
    there = boxes[..., 4] >= 0
    boxes[..., :4] = boxes[..., :4].clamp(0, size)
    solid = there & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    boxes[~solid] = -1
    order = (~solid).to(torch.uint8).argsort(dim=1, stable=True)
    return boxes.gather(1, order[..., None].expand_as(boxes)), int((there & ~solid).sum())


def constant(boxes: Tensor, classes: int, limit: int) -> Tensor:
    """The boxes to answer for every image that know the boxes (N, K, 5) of others alone, (R, 6), R up to `limit`.

    A class's mean box and some of its own are scored by the share of images in which they are right, a mean over COCO's
    ten overlaps, and go through the same suppression as a detector's.
    """
    rows = [boxes.new_zeros(0, 6)]
    for kind in range(classes):
        image, slot = (boxes[..., 4] == kind).nonzero(as_tuple=True)
        if not len(image):
            continue
        own = boxes[image, slot, :4]
        tried = torch.cat([own.mean(0, keepdim=True), own[:: -(-len(own) // TRIED)]])
        overlap = box_iou(tried, own)  # (T, boxes)
        best = overlap.new_zeros(len(tried), len(boxes))
        best.scatter_reduce_(1, image.expand_as(overlap), overlap, "amax")  # (T, N)
        right = torch.stack([(best >= least).float().mean(1) for least in torch.arange(0.5, 0.99, 0.05)]).mean(0)
        rows.append(torch.cat([tried, torch.full_like(tried[:, :1], kind), right[:, None]], 1))
    found = torch.cat(rows)
    return found[batched_nms(found[:, :4], found[:, 5], found[:, 4], OVERLAP)[:limit]]


def drawn(images: Tensor, truth: Tensor, found: Tensor) -> Tensor:
    """Images with true boxes, and with as many of the surest ones, (B, 2, 3, S, S) in 0..1."""
    rows = []
    for image, true, guessed in zip(images.cpu(), truth.cpu(), found.cpu()):
        true = true[true[:, 4] >= 0]
        guessed = guessed[: len(true)]
        guessed = guessed[guessed[:, 4] >= 0]
        seen = (image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)).contiguous()
        rows.append(torch.stack([_over(seen, boxes) for boxes in (true, guessed)]))
    return torch.stack(rows).float() / 255


def _over(image: Tensor, boxes: Tensor) -> Tensor:
    colours = [COLOURS[int(kind) % len(COLOURS)] for kind in boxes[:, 4]]
    return draw_bounding_boxes(image, boxes[:, :4], colors=colours) if len(boxes) else image
