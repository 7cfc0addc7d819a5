"""VICRegL: VICReg of images and of matched places (Bardes, Ponce & LeCun 2022, arXiv:2210.01571)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from ..parts.views import asymmetric
from .embeddings import COLLAPSED, covariance, measured, variance


class VICRegL(Method):
    """VICReg of two views' embeddings, and of the embeddings of their places, each with its match in the other view.

    One match is the place that lies nearest in the image, for the `matches` places of an image where that is nearest;
    the other is the place most like it, for all places (main_vicregl.py's defaults). Both count in full, each as the
    mean of both directions, and the n-th pairs of all images are a batch of their own. As there, an image is the mean
    of its map, and covariance terms are averaged over views, which VICReg adds. lightly's VICRegLLoss has a
    boolean index, for which a GPU waits.
    """

    class Settings(Base):
        alpha: float = setting(
            0.75, "share of whole images, the rest is of places", source="main_vicregl.py", ge=0, le=1
        )
        matches: int = setting(8, "places an image matched by where they lie", source="project: of 16; 20 of 49", ge=1)
        invariance: float = setting(25.0, "weight of the views' distance", source="VICRegL, main_vicregl.py", ge=0)
        variance: float = setting(25.0, "weight of the deviations' hinge", source="VICRegL, main_vicregl.py", ge=0)
        covariance: float = setting(1.0, "weight of pairs of dimensions", source="VICRegL, main_vicregl.py", ge=0)
        hidden: int = setting(512, "hidden width of the projector", source="project: VICRegL 8192", ge=1)
        out: int = setting(128, "projector's output width", source="project: VICRegL 8192", ge=2)
        places: int = setting(128, "widths of the places' projector", source="project: VICRegL 512", ge=2)
        crop_min: float = setting(0.08, "smallest crop", source="VICRegL, README.md", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "blur of the first view, ten times the second's", source="project: 1", ge=0, le=1)

    settings: Settings
    version = 2  # no bias in the projectors' last layers
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "imagenet/conv": Recipe(
            "VICRegL, README.md, ResNet-50, 100 epochs",
            {"optimiser": "lars", "lr": 0.3, "scaling": "linear", "weight_decay": 1e-6, "batch": 512}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 8192, "out": 8192, "places": 512, "matches": 20, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out, last_bias=False)
        self.places = mlp(self.encoder.dim, s.places, s.places, s.places, last_bias=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        s = self.settings
        (x, a), (y, b) = (self._embedded(view) for view in batch.views)  # (B, out), (B, h, w, places)
        at, there = (where(box, *map.shape[1:3]) for box, map in zip(batch.boxes, (a, b)))  # each (B, N, 2)
        with torch.autocast(x.device.type, enabled=False):  # distances and covariances lose digits in bfloat16
            a, b = a.flatten(1, 2), b.flatten(1, 2)  # each (B, N, places)
            near = matches(a, b, at, there, s.matches), matches(b, a, there, at, s.matches)
            alike = matches(a, b, a, b, a.shape[1]), matches(b, a, b, a, b.shape[1])
            places = torch.stack([vicreg(*pair) for pair in (*near, *alike)]).sum(0) / 2  # (3,)
            found = {"image": (s.alpha, vicreg(x, y)), "place": (1 - s.alpha, places)}
        weights = {"invariance": s.invariance, "variance": s.variance, "covariance": s.covariance}
        return {
            f"{what}_{name}": share * weight * term
            for what, (share, terms) in found.items()
            for (name, weight), term in zip(weights.items(), terms)
        }

    def _embedded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of normalised images (B, C, H, W): (B, out) and, at each place of the map, (B, h, w, places)."""
        map = self.encoder.map(images)  # (B, D, h, w)
        rows = map.permute(0, 2, 3, 1)
        places = self.places(rows.flatten(0, 2)).unflatten(0, rows.shape[:3])
        return self.projector(map.mean((2, 3))).float(), places.float()

    def chance(self, images: int) -> dict[str, float]:
        one = self.settings.variance * COLLAPSED
        return {"image_variance": self.settings.alpha * one, "place_variance": 2 * (1 - self.settings.alpha) * one}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        whole, places = self._embedded(images)
        return {**measured(whole), "place std": measured(places.flatten(0, 2))["embedding std"]}


def vicreg(x: Tensor, y: Tensor) -> Tensor:
    """Invariance, variance and covariance (3,) of embeddings (B, D) or (B, N, D), the last two halved over both."""
    both = (variance(x) + variance(y)) / 2, (covariance(x) + covariance(y)) / 2
    return torch.stack([F.mse_loss(x, y), *both])


def where(boxes: Tensor, h: int, w: int) -> Tensor:
    """Where in the image the places of a map of h x w lie, (B, h * w, 2), x and y in 0..1, by `Batch.boxes` (B, 5)."""
    x, y, width, height, mirrored = boxes.unsqueeze(2).unbind(1)  # each (B, 1)
    across = (torch.arange(w, device=boxes.device) + 0.5) / w - 0.5
    down = (torch.arange(h, device=boxes.device) + 0.5) / h - 0.5
    columns = x + width * across * (1 - 2 * mirrored)  # (B, w)
    rows = y + height * down  # (B, h)
    return torch.stack([columns[:, None].expand(-1, h, -1), rows[:, :, None].expand(-1, -1, w)], 3).flatten(1, 2)


def matches(a: Tensor, b: Tensor, at: Tensor, there: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pairs (B, n, D) of places: of `a` (B, N, D), and of `b` (B, M, D) those nearest to them, by `at` and `there`.

    The n are the `count` places with the nearest matches, or all there are, in the order in which they lie in `a`.
    """
    nearest, match = torch.cdist(at.detach(), there.detach()).min(2)  # each (B, N)
    kept = nearest.topk(min(count, a.shape[1]), dim=1, largest=False).indices.sort(1).values  # (B, n)
    image = torch.arange(len(a), device=a.device)[:, None]
    return a[image, kept], b[image, match.gather(1, kept)]
