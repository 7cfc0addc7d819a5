"""A detector on one map: ViTDet's simple pyramid (Li et al. 2022, arXiv:2203.16527) with torchvision's FCOS head.

torchvision's whole detectors want images, resize them, and take strides for whole numbers of pixels with anchors at a
place's corner. Here maps come in, and the anchor of a place lies around its centre, whatever the patch. No layer looks
beyond its own place: 3x3 convolutions see most of a small map and detect whatever the encoder is (docs/protocol.md).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import batched_nms

from .boxes import OVERLAP

WIDTH = 64  # of the pyramid; ViTDet's is 256
REACH = 4  # strides from a place to the furthest side of its box, at most, but on the coarsest level; FCOS: 8
NEAR = 1.5  # strides from a place to the centre of its box, at most; FCOS
CANDIDATES = 3  # boxes that go into the suppression, for each that may come out
FIELDS = 6  # of a found box: x0, y0, x1, y1, class, score


class Anchors(NamedTuple):
    """A square of one stride around each place of each level, (A, 4), and how far its boxes reach, (A,), in px."""

    squares: Tensor
    least: Tensor
    most: Tensor


class Detector(nn.Module):
    """Maps (B, D, h, w) -> what torchvision's FCOSHead says of each place of levels at 2, 1 and 1/2 of their size.

    Maps are standardised by `mean` and `std`, (D, 1, 1). A map of one row or column has no level at 1/2.
    """

    def __init__(self, mean: Tensor, std: Tensor, classes: int) -> None:
        super().__init__()
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        dim = len(mean)
        self.up = nn.Sequential(nn.ConvTranspose2d(dim, WIDTH, 2, 2), LayerNorm2d(WIDTH), nn.GELU())
        self.same, self.down = nn.Conv2d(dim, WIDTH, 1), nn.Conv2d(dim, WIDTH, 1)
        self.norms = nn.ModuleList(LayerNorm2d(WIDTH) for _ in range(3))
        self.head = local(FCOSHead(WIDTH, 1, classes, 0))

    def levels(self, maps: Tensor) -> list[Tensor]:
        """(B, WIDTH, 2h, 2w), (B, WIDTH, h, w), (B, WIDTH, h/2, w/2)."""
        x = (maps - self.mean) / self.std
        raised = [self.up(x), self.same(x)]
        if min(x.shape[-2:]) > 1:
            raised.append(self.down(F.max_pool2d(x, 2)))
        return [norm(level) for norm, level in zip(self.norms, raised)]

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """cls_logits (B, A, C), bbox_regression (B, A, 4) in strides, bbox_ctrness (B, A, 1)."""
        return self.head(self.levels(maps))

    def loss(self, maps: Tensor, boxes: Tensor, matched: Tensor, anchors: Anchors) -> Tensor:
        """Focal, generalised IoU and centredness losses for boxes (B, K, 5) and what `match` gives of them, (B, A)."""
        kept = [each[each[:, 4] >= 0] for each in boxes]
        targets = [{"boxes": each[:, :4], "labels": each[:, 4].long()} for each in kept]
        squares = [anchors.squares] * len(maps)
        losses = self.head.compute_loss(targets, self(maps), squares, list(matched))
        return torch.stack([*losses.values()]).sum()

    @torch.no_grad()
    def detect(self, maps: Tensor, anchors: Anchors, size: int, limit: int) -> Tensor:
        """The surest boxes of each image, (B, limit, 6): corners in px of `size`, class, score; -1 where there is none.

        No score hides a box: AP judges the order alone.
        """
        said = self(maps)
        scores = (said["cls_logits"].sigmoid() * said["bbox_ctrness"].sigmoid()).sqrt()  # (B, A, C)
        corners = self.head.box_coder.decode(said["bbox_regression"], anchors.squares).clamp(0, size)  # (B, A, 4)
        classes = scores.shape[2]
        best, at = scores.flatten(1).topk(min(CANDIDATES * limit, scores[0].numel()))  # (B, T)
        found = maps.new_full((len(maps), limit, FIELDS), -1)
        for image, (score, place) in enumerate(zip(best, at)):
            boxes, kind = corners[image, place // classes], place % classes
            solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, kind, score = boxes[solid], kind[solid], score[solid]
            kept = batched_nms(boxes, score, kind, OVERLAP)[:limit]
            found[image, : len(kept)] = torch.cat([boxes[kept], kind[kept, None], score[kept, None]], 1)
        return found


def local(head: FCOSHead) -> FCOSHead:
    """A head without towers, given one layer for each, whose 3x3 convolutions keep their middle alone."""
    classes, sides = head.classification_head, head.regression_head
    for part in (classes, sides):
        part.conv = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), LayerNorm2d(WIDTH), nn.ReLU())
    for layer in (classes.cls_logits, sides.bbox_reg, sides.bbox_ctrness):
        layer.weight = nn.Parameter(layer.weight[:, :, 1:2, 1:2].detach().clone())
        layer.kernel_size, layer.padding = (1, 1), (0, 0)
    return head


def anchors_of(grid: tuple[int, int], size: int, device: torch.device) -> Anchors:
    """Of the levels of a map of h x w places over images of `size` px."""
    h, w = grid
    grids = [(2 * h, 2 * w), (h, w), *([(h // 2, w // 2)] if min(grid) > 1 else [])]
    found = []
    for level, (rows, columns) in enumerate(grids):
        # a pooled map of an odd side leaves out its last row: strides are the map's own
        down, across = (size / side * 2.0 ** (level - 1) for side in grid)
        y = (torch.arange(rows, device=device) + 0.5) * down
        x = (torch.arange(columns, device=device) + 0.5) * across
        centre = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).view(-1, 2)  # (rows * columns, 2)
        half = centre.new_tensor([across, down]) / 2
        stride = max(down, across)
        reach = (0.0 if level == 0 else REACH * stride / 2, torch.inf if level == len(grids) - 1 else REACH * stride)
        squares = torch.cat([centre - half, centre + half], 1)
        found.append((squares, *(centre.new_full((len(centre),), value) for value in reach)))
    return Anchors(*(torch.cat(parts) for parts in zip(*found)))


def match(boxes: Tensor, anchors: Anchors) -> Tensor:
    """The position among the boxes (N, K, 5) that are there of each anchor's one, (N, A), or -1: FCOS's rule.

    A place's centre is inside the box and near its middle, and the box's furthest side within the level's reach; of
    several the smallest box. Boxes that are there stand first.
    """
    squares = anchors.squares
    centre, stride = (squares[:, :2] + squares[:, 2:]) / 2, squares[:, 2:] - squares[:, :2]
    found = []
    for each in boxes.split(max(2**22 // max(len(squares) * boxes.shape[1], 1), 1)):
        low, high = each[:, None, :, :2], each[:, None, :, 2:4]  # (n, 1, K, 2)
        here = centre[:, None]  # (A, 1, 2)
        sides = torch.cat([here - low, high - here], -1)  # (n, A, K, 4)
        furthest = sides.amax(-1)
        near = ((here - (low + high) / 2).abs() < NEAR * stride[:, None]).all(-1)
        inside = sides.amin(-1) > 0
        reached = (furthest > anchors.least[:, None]) & (furthest <= anchors.most[:, None])
        area = (high - low).prod(-1).expand_as(furthest)
        area = area.masked_fill(~(near & inside & reached) | (each[:, None, :, 4] < 0), torch.inf)
        if not each.shape[1]:
            found.append(torch.full(area.shape[:2], -1, device=each.device))
            continue
        least, at = area.min(-1)
        found.append(at.masked_fill(least.isinf(), -1))
    return torch.cat(found)
