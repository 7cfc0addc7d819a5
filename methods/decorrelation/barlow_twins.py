"""Barlow Twins: dimensions agree between two views and not with each other (Zbontar et al. 2021, arXiv:2103.03230)."""

from typing import Any

import torch
from lightly.loss import BarlowTwinsLoss
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from ..parts.views import asymmetric
from .embeddings import measured


class BarlowTwins(Method):
    """The cross-correlation of two views' embeddings, each standardised over the batch, is to be the identity."""

    class Settings(Base):
        redundancy: float = setting(0.0051, "weight of pairs of dimensions", source="Barlow Twins, main.py", ge=0)
        scale: float = setting(1.0, "multiplies the loss", source="Barlow Twins, main.py; solo-learn 0.1", gt=0)
        hidden: int = setting(512, "hidden width of the projector", source="project: Barlow Twins 8192", ge=1)
        out: int = setting(128, "projector's output width", source="project: Barlow Twins 8192", ge=2)
        vectors: float = setting(
            1.0, "rate of biases and norms, to that of weights", source="project: as all methods; main.py 0.024", gt=0
        )
        crop_min: float = setting(0.08, "smallest crop", source="Barlow Twins, main.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "blur of the first view, ten times the second's", source="project: 1", ge=0, le=1)

    settings: Settings
    version = 2  # no bias in the projector's last layer
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/barlow.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.3, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"hidden": 2048, "out": 2048, "scale": 0.1},
        ),
        "imagenet/conv": Recipe(
            "Barlow Twins, main.py",
            {"optimiser": "lars", "lr": 0.2, "scaling": "linear", "weight_decay": 1e-6, "batch": 2048}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 8192, "out": 8192, "vectors": 0.024, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out, last_bias=False)
        self.criterion = BarlowTwinsLoss(s.redundancy)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        vectors, weights = super().groups(weight_decay or 1.0)  # without any decay they would be one group
        return [{**vectors, "lr_scale": self.settings.vectors}, {**weights, "weight_decay": weight_decay}]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = [self._embedded(view) for view in batch.views]  # 2 of (B, out); batch norms see one view at a time
        with torch.autocast(z[0].device.type, enabled=False):  # correlations lose digits in bfloat16
            return {"barlow": self.settings.scale * self.criterion(*z)}

    def _embedded(self, images: Tensor) -> Tensor:
        return self.projector(self.encoder.pooled(images)).float()

    def chance(self, images: int) -> dict[str, float]:
        return {"barlow": self.settings.scale * self.settings.out}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measured(self._embedded(images))
