"""VICReg: variance, invariance, covariance of embeddings (Bardes, Ponce & LeCun 2022, arXiv:2105.04906)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from ..parts.views import asymmetric
from .embeddings import COLLAPSED, covariance, measured, variance


class VICReg(Method):
    """Two views agree, each dimension has a deviation of 1 over the batch, and no two dimensions covary.

    As main_vicreg.py has it, the variance terms of both views are averaged and their covariance terms added, where the
    paper adds both (facebookresearch/vicreg, issue 8). The terms are not lightly's, whose boolean index makes a GPU
    wait.
    """

    class Settings(Base):
        invariance: float = setting(25.0, "weight of the views' distance", source="VICReg, main_vicreg.py", ge=0)
        variance: float = setting(25.0, "weight of the deviations' hinge", source="VICReg, main_vicreg.py", ge=0)
        covariance: float = setting(1.0, "weight of pairs of dimensions", source="VICReg, main_vicreg.py", ge=0)
        hidden: int = setting(512, "hidden width of the projector", source="project: VICReg 8192", ge=1)
        out: int = setting(128, "projector's output width", source="project: VICReg 8192", ge=2)
        crop_min: float = setting(0.08, "smallest crop", source="VICReg, augmentations.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "blur of the first view, ten times the second's", source="project: 1", ge=0, le=1)

    settings: Settings
    version = 2  # no bias in the projector's last layer
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/vicreg.yaml; its loss adds the views' variances, so 25 is 50 here",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.3, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"hidden": 2048, "out": 2048, "variance": 50.0, "crop_min": 0.2},
        ),
        "imagenet/conv": Recipe(
            "VICReg, README.md, 100 epochs",
            {"optimiser": "lars", "lr": 0.3, "scaling": "linear", "weight_decay": 1e-6, "batch": 512}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 8192, "out": 8192, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out, last_bias=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        s = self.settings
        x, y = (self._embedded(view) for view in batch.views)  # each (B, out); batch norms see one view at a time
        with torch.autocast(x.device.type, enabled=False):  # covariances lose digits in bfloat16
            return {
                "invariance": s.invariance * F.mse_loss(x, y),
                "variance": s.variance * (variance(x) + variance(y)) / 2,
                "covariance": s.covariance * (covariance(x) + covariance(y)),
            }

    def _embedded(self, images: Tensor) -> Tensor:
        return self.projector(self.encoder.pooled(images)).float()

    def chance(self, images: int) -> dict[str, float]:
        return {"variance": self.settings.variance * COLLAPSED}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measured(self._embedded(images))
