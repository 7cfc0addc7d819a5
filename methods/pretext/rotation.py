"""RotNet: tell by how many quarter turns an image was rotated (Gidaris et al. 2018, arXiv:1803.07728)."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

TURNS = 4


class Rotation(Method):
    """Cross-entropy over the four exact quarter turns; a batch of B images is seen as 4B, each image in all four."""

    class Settings(Base):
        # as 224 of 256 px; published are shifts by up to 4 of 32 px on CIFAR-10, and 0.08 on ImageNet
        crop_min: float = setting(
            0.77, "smallest crop", source="project: RotNet 0.08 on ImageNet", unit="area", gt=0, le=1
        )

    settings: Settings
    version = 2  # crops are torchvision's
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
    }

    @property
    def views(self) -> list[View]:
        return [View(crop=(self.settings.crop_min, 1.0))]

    def build(self) -> None:
        self.head = nn.Linear(self.encoder.dim, TURNS)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.views[0]  # (B, C, S, S); turned after crop and flip, so no border tells the angle
        turned = torch.cat([images.rot90(turns, (2, 3)) for turns in range(TURNS)])  # (4B, C, S, S)
        turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))  # (4B,)
        return {"rotation": F.cross_entropy(self.head(self.encoder.pooled(turned)).float(), turns)}

    def chance(self, images: int) -> dict[str, float]:
        return {"rotation": log(TURNS)}
