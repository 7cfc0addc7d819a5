"""Boxes as tensors: those that can be found, and pictures of them."""

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "orange", "white")  # of classes, over and over


def cleaned(boxes: Tensor, size: int) -> tuple[Tensor, int]:
    """Boxes (N, K, 5) inside the image, those that are there first; and how many had nothing inside, left out."""
    boxes = boxes.float().clone()
    there = boxes[..., 4] >= 0
    boxes[..., :4] = boxes[..., :4].clamp(0, size)
    solid = there & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    boxes[~solid] = -1
    order = (~solid).to(torch.uint8).argsort(dim=1, stable=True)
    return boxes.gather(1, order[..., None].expand_as(boxes)), int((there & ~solid).sum())


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
