"""MSN: what is left of an image is told as a slow teacher tells all of it (Assran et al. 2022, arXiv:2204.07141)."""

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import MSNProjectionHead
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.rng import onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher

from ..parts.assign import sinkhorn
from .prototypes import usage, vector

LENGTH = 1.25  # budgets that the teacher's momentum takes to come to 1 (msn_train.py)


class MSN(Method):
    """Cross-entropy of each anchor's prototypes with the target view's, and their mean over anchors spread (me-max).

    Anchors are another full-size crop, of which patches are dropped, and half-size crops; the target is the teacher's
    of a whole one, sharpened and balanced by Sinkhorn. Prototypes are shared. The teacher is what is judged.
    """

    class Settings(Base):
        # Sinkhorn leaves none of them without images: not more than there are images to balance
        prototypes: int = setting(64, "what is chosen from", source="project: one batch; MSN 1024", ge=2)
        hidden: int = setting(512, "projector's hidden width", source="project: MSN 2048", ge=1)
        out: int = setting(128, "projector's output width", source="project: MSN 256", ge=1)
        drop: float = setting(0.15, "patches dropped of the anchor", source="MSN, msn_vits16.yaml", ge=0, lt=1)
        momentum: float = setting(0.99, "the teacher's at the start", source="project: MSN 0.996", ge=0, le=1)
        temperature: float = setting(0.1, "divides the cosines", source="MSN, msn_vits16.yaml", ge=0.01)
        sharpen: float = setting(0.25, "divides the target's once more", source="MSN, msn_vits16.yaml", gt=0, le=1)
        iterations: int = setting(3, "Sinkhorn iterations; 0: none", source="MSN, losses.py", ge=0)
        memax: float = setting(1.0, "weight of the spread", source="MSN, msn_vits16.yaml", ge=0)
        crop_min: float = setting(
            0.3, "smallest full-size crop", source="MSN, data_manager.py", unit="area", gt=0, le=1
        )
        focal_crops: int = setting(4, "half-size crops", source="project: the work of one full crop; MSN 10", ge=0)
        # MSN's smallest of 0.05 would be 7 of 32 px: too little to tell an object by
        focal_min: float = setting(0.14, "smallest half-size crop", source="as swav: 0.05", unit="area", gt=0, le=1)
        focal_max: float = setting(
            0.3, "largest half-size crop", source="MSN, data_manager.py", unit="area", gt=0, le=1
        )
        jitter: float = setting(0.5, "colour jitter's strength", source="MSN, msn_vits16.yaml", ge=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "probability of a blur", source="project: MSN 0.5", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "imagenet/vit": Recipe(
            "MSN, configs/pretrain/msn_vits16.yaml on 16 GPUs (README.md)",
            {"lr": 1e-3, "weight_decay": 0.04, "weight_decay_end": 0.4, "beta2": 0.999, "batch": 1024, "warmup": 0.019},
            {"prototypes": 1024, "hidden": 2048, "out": 256, "momentum": 0.996, "focal_crops": 10, "focal_min": 0.05}
            | {"blur": 0.5},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        colour: dict[str, Any] = {
            "jitter": tuple(s.jitter * x for x in (0.8, 0.8, 0.8, 0.2)),
            "grey": 0.2,
            "blur": s.blur,
        }
        focal = View(count=s.focal_crops, crop=(s.focal_min, s.focal_max), size=0.5, **colour)
        return [View(count=2, crop=(s.crop_min, 1.0), **colour), focal]

    def build(self) -> None:
        s = self.settings
        if not self.encoder.has_tokens:
            raise UserError("msn needs patch tokens that can be dropped: take a ViT such as vit-nano")
        if s.focal_min > s.focal_max:
            raise UserError(f"msn.focal_min={s.focal_min} is above msn.focal_max={s.focal_max}; lower it")
        self.projector = MSNProjectionHead(self.encoder.dim, s.hidden, s.out)
        self.prototypes = nn.Parameter(torch.empty(s.prototypes, s.out).uniform_(-(s.out**-0.5), s.out**-0.5))
        self.teacher = Teacher(self.encoder, self.projector)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Prototypes do not decay (MSN, msn_train.py)."""
        return list(param_groups_weight_decay(self, weight_decay, no_weight_decay_list=("prototypes",)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        s, (target, anchor, *focal) = self.settings, batch.views
        vectors = [self._dropped(anchor, batch.generator)]
        vectors += [self.encoder.pooled(torch.cat(focal))] if focal else []
        z = torch.cat([self.projector(one) for one in vectors])  # batch norms see one size at a time
        said = self._scores(z).log_softmax(1)  # (A * B, K), float32
        codes = self._codes(self.teacher(target))  # (B, K)
        with torch.autocast(said.device.type, enabled=False):
            surprise = -(codes * said.unflatten(0, (-1, len(codes)))).sum(2).mean()
            mean = said.logsumexp(0) - log(len(said))  # (K,), the log of the mean anchor's
            return {"msn": surprise, "me-max": s.memax * (log(s.prototypes) + (mean.exp() * mean).sum())}

    def _dropped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors (B, D) of images of which a share of the patches is never computed."""
        rows, columns = self.encoder.grid(images)
        kept = max(int(rows * columns * (1 - self.settings.drop)), 1)
        keep = torch.rand(len(images), rows * columns, generator=generator).argsort(1)[:, :kept]
        return vector(self.encoder, self.encoder.sequence(images, onto(keep, images.device)))

    def _scores(self, z: Tensor) -> Tensor:
        """Cosines of embeddings (B, out) with prototypes, over the temperature."""
        with torch.autocast(z.device.type, enabled=False):
            return F.normalize(z.float(), dim=1) @ F.normalize(self.prototypes, dim=1).T / self.settings.temperature

    @torch.no_grad()
    def _codes(self, z: Tensor) -> Tensor:
        """Sharpened and balanced, (B, K); a power of probabilities is a temperature of what they came from."""
        log_shares = (self._scores(z) / self.settings.sharpen).log_softmax(1)
        return sinkhorn(log_shares, 1.0, self.settings.iterations) if self.settings.iterations else log_shares.exp()

    def chance(self, images: int) -> dict[str, float]:
        """The two together: what the one loses as all fall to one prototype, the other gains."""
        return {"msn": log(self.settings.prototypes), "me-max": 0.0}

    def after_step(self, progress: float) -> None:
        momentum = self.settings.momentum
        self.teacher.follow(momentum + (1 - momentum) * progress / LENGTH)

    def judged(self) -> Encoder:
        return self.teacher.encoder

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return usage(self._scores(self.teacher(images)).softmax(1))
