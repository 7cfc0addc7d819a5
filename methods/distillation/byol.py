"""BYOL: a view predicts what a slow teacher makes of another view (Grill et al. 2020, arXiv:2006.07733)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher, cosine

from ..parts.heads import mlp
from ..parts.views import asymmetric


class BYOL(Method):
    """2 - 2 cos of the online network's prediction and the teacher's projection, both ways round.

    The teacher has the encoder and the projector, not the predictor, and its momentum rises to 1 by a cosine.
    """

    class Settings(Base):
        momentum: float = setting(0.99, "the teacher's at the start", source="byol.py, 100 epochs", ge=0, le=1)
        hidden: int = setting(512, "hidden width of projector and predictor", source="project: BYOL 4096", ge=1)
        out: int = setting(128, "projector's output width", source="project: BYOL 256", ge=1)
        crop_min: float = setting(0.08, "smallest crop", source="BYOL, augmentations.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(
            0.0, "blur of the first view; the second's is a tenth", source="project: BYOL 1", ge=0, le=1
        )

    settings: Settings
    version = 2  # no bias in the heads' last layers
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/byol.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 1.0, "scaling": "linear", "weight_decay": 1e-5, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"hidden": 4096, "out": 256},
        ),
        "imagenet/conv": Recipe(
            "deepmind-research, byol/configs/byol.py, 100 epochs",
            {"optimiser": "lars", "lr": 0.45, "scaling": "linear", "weight_decay": 1e-6, "batch": 4096}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 4096, "out": 256, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.out, last_bias=False)
        self.predictor = mlp(s.out, s.hidden, s.out, last_bias=False)
        self.teacher = Teacher(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        first, second = batch.views  # each (B, C, H, W); batch norms see one view at a time
        pairs = [(self._predicted(first), self.teacher(second)), (self._predicted(second), self.teacher(first))]
        return {"byol": torch.stack([2 - 2 * F.cosine_similarity(p.float(), z.float()).mean() for p, z in pairs]).sum()}

    def _predicted(self, images: Tensor) -> Tensor:
        return self.predictor(self.projector(self.encoder.pooled(images)))

    def after_step(self, progress: float) -> None:
        self.teacher.follow(cosine(self.settings.momentum, 1.0, progress))
