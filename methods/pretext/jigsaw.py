"""Jigsaw: tell from shuffled tiles how they were shuffled (Noroozi & Favaro 2016, arXiv:1603.09246)."""

from functools import lru_cache
from itertools import permutations
from math import factorial, log

import numpy as np
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

FLAT = 0.02  # least deviation that a tile is divided by, about a grey level: plain tiles stay plain
TILE = 64 / 75  # of a cell's side, section 4.1


class Jigsaw(Method):
    """Cross-entropy over a set of permutations that differ in as many places as possible.

    A view is a grid of cells; in each a tile is cut at a random place, so that edges don't continue, and normalised by
    its own mean and deviation per channel. The encoder sees tiles one by one, the head all their vectors in order.
    Tiles are whole patches, the number nearest to the paper's share that leaves a gap: 8 px, one patch, of vit-nano's
    cells of 10 px at 32 px, and 64 of 74 at 224 px.
    """

    class Settings(Base):
        grid: int = setting(3, "tiles a side", source="Jigsaw, section 3", ge=2, le=3)
        permutations: int = setting(100, "permutations told apart", source="Jigsaw, table 1: 100 to 1000", ge=2)
        hidden: int = setting(512, "head's hidden width", source="project: Jigsaw 4096", ge=1)
        crop_min: float = setting(0.77, "smallest crop", source="Jigsaw: 225 of 256 px", unit="area", gt=0, le=1)
        grey: float = setting(0.7, "share of grey images", source="Jigsaw, section 4.2", ge=0, le=1)

    settings: Settings
    orders: Tensor
    version = 2  # no mirror images (train_val_cfn_jps.prototxt)
    recipes = {
        "imagenet/conv": Recipe(
            "JigsawPuzzleSolver, solver_cfn_jps.prototxt; Jigsaw, section 4",
            {"optimiser": "sgd", "lr": 0.01, "weight_decay": 5e-4, "batch": 256, "warmup": 0, "clip": 0},
            {"permutations": 1000, "hidden": 4096},
        ),
    }

    @property
    def views(self) -> list[View]:
        return [View(crop=(self.settings.crop_min, 1.0), flip=0.0, grey=self.settings.grey)]

    def build(self) -> None:
        s, tiles = self.settings, self.settings.grid**2
        if s.permutations > factorial(tiles):
            raise UserError(f"jigsaw.permutations={s.permutations}: {tiles} tiles have {factorial(tiles)}; lower it")
        self.register_buffer("orders", torch.from_numpy(far_apart(tiles, s.permutations)))  # (P, tiles)
        self.head = mlp(tiles * self.encoder.dim, s.hidden, s.permutations)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        scores, chosen = self._told(batch.views[0], batch.generator)
        return {"jigsaw": F.cross_entropy(scores.float(), chosen)}

    def _told(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the head says (B, P) of shuffled tiles, and which permutation it was (B,)."""
        chosen = torch.randint(len(self.orders), (len(images),), generator=generator)
        chosen = onto(chosen, images.device)
        whole = tiles(images, self.settings.grid, self.encoder.patch or 1, generator)  # (B, T, C, t, t)
        order = self.orders[chosen]  # (B, T): which tile lies in each place
        shuffled = whole[torch.arange(len(order), device=order.device)[:, None], order]
        vectors = self.encoder.pooled(shuffled.flatten(0, 1)).unflatten(0, order.shape)  # (B, T, D)
        return self.head(vectors.flatten(1)), chosen

    def chance(self, images: int) -> dict[str, float]:
        return {"jigsaw": log(self.settings.permutations)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        scores, chosen = self._told(images, torch.Generator().manual_seed(0))
        return {"permutations_told": (scores.argmax(1) == chosen).float().mean().item()}


def tiles(images: Tensor, grid: int, patch: int, generator: torch.Generator) -> Tensor:
    """(B, C, S, S) -> tiles (B, grid * grid, C, t, t), row by row, each at a random place of its cell, normalised.

    Raises UserError where no whole patch and a gap fit into a cell.
    """
    count, cell = len(images), images.shape[-1] // grid
    side = min(round(cell * TILE / patch), (cell - 1) // patch) * patch
    if side < 1:
        text = f"jigsaw.grid={grid}: a cell of {cell} px has no room for a patch of {patch} px and a gap"
        raise UserError(f"{text}; take a smaller grid or backbone.patch, or larger images")
    moved = torch.randint(cell - side + 1, (count, grid**2, 2), generator=generator)
    corner = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)) * cell  # (T, 2)
    found = cut(images, onto(corner + moved, images.device), side)
    deviation, mean = torch.std_mean(found, (3, 4), correction=0, keepdim=True)
    return (found - mean) / deviation.clamp(min=FLAT)


@lru_cache
def far_apart(length: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Permutations (count, length): the identity, then one after the other that with the largest Hamming distances.

    Their sum to all before it, the first in lexicographic order of those alike: the paper's algorithm 1, which starts
    at random.
    """
    known = np.array(list(permutations(range(length))), dtype=np.int8)  # (length!, length)
    alike, chosen = np.zeros(len(known), dtype=np.int32), [0]  # places in which each is like those chosen
    alike[0] = length * count  # never chosen again
    while len(chosen) < count:
        alike += (known == known[chosen[-1]]).sum(1, dtype=np.int32)
        chosen.append(int(alike.argmin()))
        alike[chosen[-1]] = length * count
    return known[chosen].astype(np.int64)
