"""MMCR: the mean embeddings of images fill their space (Yerxa et al. 2023, arXiv:2303.03307)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from .embeddings import measured


class MMCR(Method):
    """The nuclear norm of a batch's centroids, each the mean of one image's unit embeddings, below its largest value.

    It is large where views of an image agree, so that centroids are long, and images differ. The code's sign and this
    constant apart; its local term, of weight 0 there, is left out. A GPU is waited for: torch finds singular values so.
    """

    class Settings(Base):
        count: int = setting(4, "views an image", source="project: mmcr, pretrain_imagenet.py 8", ge=2)
        hidden: int = setting(512, "projector's hidden width", source="mmcr, cifar_stl/train.py", ge=1)
        out: int = setting(128, "projector's output width", source="mmcr, cifar_stl/train.py", ge=2)
        crop_min: float = setting(0.08, "smallest crop", source="mmcr, cifar_stl/data.py", unit="area", gt=0, le=1)

    settings: Settings
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-3}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 3e-3}),
        "cifar/conv": Recipe(
            "ThomasYerxa/mmcr, pretrain_cifar_stl.py and cifar_stl/train.py, whose optimiser is Adam",
            {"lr": 1e-3, "scaling": "none", "weight_decay": 1e-6, "batch": 32, "beta2": 0.999, "warmup": 0, "clip": 0},
            {"count": 40},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        return [View(count=s.count, crop=(s.crop_min, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2)]

    def build(self) -> None:
        self.projector = mlp(self.encoder.dim, self.settings.hidden, self.settings.out, last_bias=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self.projector(self.encoder.pooled(torch.cat(batch.views))).float()  # (count B, out), all views at once
        with torch.autocast(z.device.type, enabled=False):  # singular values need float32
            centroids = F.normalize(z, dim=1).unflatten(0, (len(batch.views), -1)).mean(0)  # (B, out)
            return {"mmcr": self._most(len(centroids)) - torch.linalg.svdvals(centroids).sum()}

    def _most(self, images: int) -> float:
        """The nuclear norm of so many unit vectors in all directions alike."""
        return float((images * min(images, self.settings.out)) ** 0.5)

    def chance(self, images: int) -> dict[str, float]:
        """All centroids one unit vector: a single singular value."""
        return {"mmcr": self._most(images) - images**0.5}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measured(self.projector(self.encoder.pooled(images)))
