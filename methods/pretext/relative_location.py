"""Relative location: tell where a patch lay beside another one (Doersch et al. 2015, arXiv:1505.05192)."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.rng import onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from .tiles import cut

SIDES, MIDDLE = 8, 4  # of the 3 x 3 tiles, row by row
GAP, JITTER = 48 / 96, 7 / 96  # of a tile's side (cdoersch/deepcontext, train.py)
NOISE = 0.01  # deviation of dropped channels, of the kept one's: section 3.1
FLAT = 0.02  # least size that a tile is divided by, about a grey level: plain tiles stay plain


class RelativeLocation(Method):
    """Eight-way cross-entropy of the middle tile's vector and that of each of the eight around it, side by side.

    Nine tiles lie half a tile apart, each moved by up to 7/96 of its side, at a random place of the view. They are
    whole patches, the most that fit: 8 px at 32 px, 48 px at 224 px. Of each tile one random channel is kept, centred,
    and noise put in place of the others, since lenses bend colours differently and so tell where in the image a tile
    was; then the tile is divided by its root mean square.
    """

    class Settings(Base):
        hidden: int = setting(512, "head's hidden widths", source="project: deepcontext 4096", ge=1)
        # a grid of 384 px in images of 150,000 to 450,000 pixels
        crop_min: float = setting(0.33, "smallest crop", source="deepcontext, train.py", unit="area", gt=0, le=1)

    settings: Settings
    recipes = {"own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 3e-4})}

    @property
    def views(self) -> list[View]:
        return [View(crop=(self.settings.crop_min, 1.0), flip=0.0)]

    def build(self) -> None:
        self.head = mlp(2 * self.encoder.dim, self.settings.hidden, self.settings.hidden, SIDES)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"location": F.cross_entropy(*self._told(batch.views[0], batch.generator))}

    def _told(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the head says of each pair (B * 8, 8), and the right answers (B * 8,)."""
        found = tiles(images, self.encoder.patch or 1, generator)  # (B, 9, C, t, t)
        vectors = self.encoder.pooled(found.flatten(0, 1)).unflatten(0, found.shape[:2])  # (B, 9, D)
        around = torch.cat([vectors[:, :MIDDLE], vectors[:, MIDDLE + 1 :]], 1)  # (B, 8, D)
        pairs = torch.cat([vectors[:, MIDDLE, None].expand_as(around), around], 2)
        sides = torch.arange(SIDES, device=images.device).repeat(len(images))
        return self.head(pairs.flatten(0, 1)).float(), sides

    def chance(self, images: int) -> dict[str, float]:
        return {"location": log(SIDES)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        scores, sides = self._told(images, torch.Generator().manual_seed(0))
        return {"locations_told": (scores.argmax(1) == sides).float().mean().item()}


def tiles(images: Tensor, patch: int, generator: torch.Generator) -> Tensor:
    """(B, C, S, S) -> nine tiles (B, 9, C, t, t), row by row, of one channel each.

    Raises UserError where no patch, with half of it as a gap, fits three times.
    """
    count, size = len(images), images.shape[-1]
    side = int(size / (3 + 2 * GAP) / patch) * patch
    if side < 2:
        text = f"relative-location: {size} px have no room for 3 x 3 tiles of a patch of {patch} px and gaps"
        raise UserError(f"{text}; take a smaller backbone.patch, or larger images")
    stride, jitter = side + round(side * GAP), max(round(side * JITTER), 1)
    start = torch.randint(size - 2 * stride - side + 1, (count, 1, 2), generator=generator)
    moved = torch.randint(-jitter, jitter + 1, (count, 9, 2), generator=generator)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(3)) * stride  # (9, 2)
    corners = (start + grid + moved).clamp(0, size - side)
    kept = torch.randint(images.shape[1], (count, 9, 1, 1, 1), generator=generator)
    found = cut(images, onto(corners, images.device), side)
    return one_channel(found, onto(kept, images.device))


def one_channel(tiles: Tensor, kept: Tensor) -> Tensor:
    """Tiles (B, T, C, t, t) with the channel at `kept` (B, T, 1, 1, 1) centred, noise in the others, at one size."""
    keep = torch.arange(tiles.shape[2], device=tiles.device)[:, None, None] == kept  # (B, T, C, 1, 1)
    centred = tiles - tiles.mean((3, 4), keepdim=True)
    deviation = (centred.square().mean((3, 4), keepdim=True) * keep).sum(2, keepdim=True).sqrt()
    mixed = torch.where(keep, centred, torch.randn_like(tiles) * deviation * NOISE)
    return mixed / mixed.square().mean((2, 3, 4), keepdim=True).sqrt().clamp(min=FLAT)
