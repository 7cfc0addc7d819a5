"""MoCo v3: queries predict slow keys, against those of their batch (Chen et al. 2021, arXiv:2104.02057)."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher, cosine

from ..parts.heads import mlp
from ..parts.spread import spread
from ..parts.views import asymmetric


class MoCoV3(Method):
    """InfoNCE of predicted queries and a teacher's keys of the other view, both ways round, each times 2T.

    The teacher has the encoder and the projector, not the predictor, and its momentum rises to 1 by a cosine. A ViT has
    a projector of three layers and a norm behind the predictor, a conv net one of two layers and none.
    """

    class Settings(Base):
        temperature: float = setting(0.2, "divides the cosines", source="MoCo v3, CONFIG.md, ViT", ge=0.001)
        momentum: float = setting(0.99, "the teacher's at the start", source="MoCo v3, main_moco.py", ge=0, le=1)
        hidden: int = setting(
            512, "hidden width of projector and predictor", source="project: MoCo v3 4096, main_moco.py", ge=1
        )
        out: int = setting(128, "projector's output width", source="project: MoCo v3 256, main_moco.py", ge=1)
        frozen_patches: bool = setting(
            True, "a ViT's patch embedding stays as it starts", source="MoCo v3, CONFIG.md, --stop-grad-conv1"
        )
        crop_min: float = setting(0.08, "smallest crop", source="MoCo v3, main_moco.py", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(
            0.0, "blur of the first view; the second's is a tenth", source="project: MoCo v3 1", ge=0, le=1
        )

    settings: Settings
    version = 2  # a conv net's predictor has no bias in its last layer
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 3e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/mocov3.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.3, "scaling": "linear", "weight_decay": 1e-6, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"hidden": 4096, "out": 256},
        ),
        "imagenet/conv": Recipe(
            "facebookresearch/moco-v3, CONFIG.md, 100 epochs",
            {"optimiser": "lars", "lr": 0.6, "scaling": "linear", "weight_decay": 1e-6, "batch": 4096}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 4096, "out": 256, "temperature": 1.0, "crop_min": 0.2, "blur": 1.0},
        ),
        "imagenet/vit": Recipe(
            "facebookresearch/moco-v3, CONFIG.md, 300 epochs",
            {"optimiser": "adamw", "lr": 1.5e-4, "scaling": "linear", "weight_decay": 0.1, "beta2": 0.999}
            | {"batch": 4096, "warmup": 40 / 300, "clip": 0},
            {"hidden": 4096, "out": 256, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s, vit = self.settings, self.encoder.has_tokens
        widths = [s.hidden] * (2 if vit else 1)
        self.projector = mlp(self.encoder.dim, *widths, s.out, last_norm=True, affine=False)
        self.predictor = mlp(s.out, s.hidden, s.out, last_norm=vit, affine=False, last_bias=False)
        if vit and s.frozen_patches:
            self.encoder.trunk.patch_embed.requires_grad_(False)
        self.teacher = Teacher(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        first, second = batch.views  # each (B, C, H, W); batch norms see one view at a time
        pairs = [(self._predicted(first), self.teacher(second)), (self._predicted(second), self.teacher(first))]
        temperature = self.settings.temperature
        return {"moco": 2 * temperature * torch.stack([infonce(q, k, temperature) for q, k in pairs]).sum()}

    def _predicted(self, images: Tensor) -> Tensor:
        return self.predictor(self.projector(self.encoder.pooled(images)))

    def chance(self, images: int) -> dict[str, float]:
        return {"moco": 4 * self.settings.temperature * log(images)}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(cosine(self.settings.momentum, 1.0, progress))

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std` of predicted queries."""
        return {"embedding std": spread(self._predicted(images))}


def infonce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's own among all keys, both (B, D), by cosine similarity; a scalar."""
    with torch.autocast(queries.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
        q, k = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
        return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q), device=q.device))
