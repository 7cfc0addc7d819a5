"""TiCo: transformation invariance and covariance contrast (Zhu et al. 2022, arXiv:2206.10698)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher, cosine

from ..parts.heads import mlp
from ..parts.views import asymmetric
from .embeddings import measured


class TiCo(Method):
    """A view's unit vector is near the teacher's of the other view, and far from where earlier embeddings lay.

    That is z C z, with C the moving average of batches' z z, which stands in for a queue of any length. It is lightly's
    TiCoLoss with C in the checkpoint: C gets no gradient and holds this batch already. Code of the authors is not
    known; in sayannag/TiCo-pytorch, TiCo/main.py, this batch's share of C has a gradient.
    """

    class Settings(Base):
        rho: float = setting(8.0, "weight of the covariance contrast", source="lightly, tico_loss.py", ge=0)
        beta: float = setting(0.9, "how much of C stays at a step", source="lightly, tico_loss.py", ge=0, lt=1)
        momentum: float = setting(0.99, "the teacher's at the start", source="TiCo-pytorch, TiCo/main.py", ge=0, le=1)
        hidden: int = setting(512, "hidden width of the projector", source="project: lightly, heads.py 4096", ge=1)
        out: int = setting(128, "projector's output width", source="project: lightly, heads.py 256", ge=2)
        crop_min: float = setting(0.08, "smallest crop", source="BYOL, augmentations.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "blur of the first view, ten times the second's", source="project: 1", ge=0, le=1)

    settings: Settings
    covariance: Tensor
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 1.5e-4}),
        "imagenet/conv": Recipe(
            "lightly, benchmarks/imagenet/resnet50/tico.py and main.py, 100 epochs, on two devices",
            {"optimiser": "lars", "lr": 0.2, "scaling": "linear", "weight_decay": 1.5e-6, "batch": 256}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 4096, "out": 256, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.out)
        self.teacher = Teacher(self.encoder, self.projector)
        self.register_buffer("covariance", torch.zeros(s.out, s.out))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        first, second = batch.views  # each (B, C, H, W)
        z = F.normalize(self._embedded(first), dim=1)  # (B, out)
        taught = F.normalize(self.teacher(second).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):  # small covariances are lost in bfloat16
            self.covariance = self.covariance.lerp(z.detach().T @ z.detach() / len(z), 1 - self.settings.beta)
            contrast = ((z @ self.covariance) * z).sum(1).mean()
            return {"invariance": 1 - (z * taught).sum(1).mean(), "contrast": self.settings.rho * contrast}

    def _embedded(self, images: Tensor) -> Tensor:
        return self.projector(self.encoder.pooled(images)).float()

    def after_step(self, progress: float) -> None:
        self.teacher.follow(cosine(self.settings.momentum, 1.0, progress))

    def chance(self, images: int) -> dict[str, float]:
        """After as many steps as C remembers."""
        return {"invariance": 0.0, "contrast": self.settings.rho}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measured(self._embedded(images))
