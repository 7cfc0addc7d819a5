"""SwAV: predict one view's cluster from another, with equally used clusters (Caron et al. 2020, arXiv:2006.09882)."""

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead
from torch import Tensor, nn

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.queue import Queue
from ..parts.usage import usage

CODED = 2  # the full-size crops, whose codes the other crops predict


class SwAV(Method):
    """Swapped prediction: Sinkhorn codes of each full-size crop against the softmax of every other crop's scores.

    Scores are cosines of embeddings with prototypes. Codes are balanced over the batch and, once it is full and in use,
    a queue of earlier embeddings, scored by the present prototypes.
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the scores that predict", source="SwAV, main_swav.py", ge=0.001)
        # 0.05 and jitter 1.0, the published values, collapse on shapes in short runs; README.md suggests both changes
        epsilon: float = setting(0.03, "divides the scores that give codes", source="SwAV, README.md", ge=0.02)
        iterations: int = setting(3, "Sinkhorn iterations", source="SwAV, main_swav.py", ge=1)
        prototypes: int = setting(128, "clusters", source="project: two batches; SwAV 3000", ge=2)
        freeze: float = setting(0.05, "prototypes rest so long", source="project: SwAV 1 epoch", unit="budget", ge=0)
        # nets that learn within hundreds of steps leave earlier embeddings behind: with 512 of them SwAV collapses
        queue: int = setting(0, "earlier embeddings kept", source="SwAV, swav_100ep_pretrain.sh", unit="images", ge=0)
        queue_from: float = setting(0.15, "queue is used from", source="project: SwAV 0.075", unit="budget", ge=0)
        local_crops: int = setting(4, "half-size crops", source="project: the work of one full crop; SwAV 6", ge=0)
        crop_min: float = setting(0.14, "smallest full-size crop", source="SwAV, main_swav.py", unit="area", gt=0, le=1)
        # SwAV's half-size crops of 0.05 to 0.14 would be 7 to 12 of 32 px: too little to tell an object by
        local_min: float = setting(
            0.14, "smallest half-size crop", source="project: SwAV 0.05", unit="area", gt=0, le=1
        )
        local_max: float = setting(0.4, "largest half-size crop", source="DINO, main_dino.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="project: softer, as README.md", ge=0, le=1)
        blur: float = setting(0.0, "blur, which leaves little at 32 px", source="project: SwAV 0.5", ge=0, le=1)
        hidden: int = setting(512, "projector's hidden width", source="lightly, cifar10_benchmark.py", ge=1)
        out: int = setting(128, "projector's output width", source="SwAV, main_swav.py", ge=1)

    settings: Settings
    version = 3  # no queue
    queues: Any  # a ModuleList of Queue
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/swav.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.6, "scaling": "linear", "weight_decay": 1e-6, "batch": 256}
            | {"trust_clip": True, "warmup": 0.011, "clip": 0},
            {"hidden": 2048, "prototypes": 3000, "queue": 3840, "queue_from": 0.05, "freeze": 0.002, "local_crops": 0}
            | {"jitter": 1.0, "crop_min": 0.08, "blur": 0.5, "epsilon": 0.05},
        ),
        "imagenet/conv": Recipe(
            "SwAV, scripts/swav_200ep_bs256_pretrain.sh",
            {"optimiser": "lars", "lr": 0.6, "weight_decay": 1e-6, "batch": 256, "warmup": 0, "clip": 0},
            {"hidden": 2048, "prototypes": 3000, "queue": 3840, "queue_from": 0.075, "freeze": 0.005}
            | {"local_crops": 6, "local_min": 0.05, "local_max": 0.14, "jitter": 1.0, "blur": 0.5, "epsilon": 0.05},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        jitter = (0.8 * s.jitter, 0.8 * s.jitter, 0.8 * s.jitter, 0.2 * s.jitter)
        return [
            View(count=CODED, crop=(s.crop_min, 1.0), jitter=jitter, grey=0.2, blur=s.blur),
            View(s.local_crops, crop=(s.local_min, s.local_max), size=0.5, jitter=jitter, grey=0.2, blur=s.blur),
        ]

    def build(self) -> None:
        s = self.settings
        if s.local_min > s.local_max:
            raise UserError(f"swav.local_min={s.local_min} is above swav.local_max={s.local_max}; lower it")
        self.projector = SwaVProjectionHead(self.encoder.dim, s.hidden, s.out)
        self.prototypes = nn.Linear(s.out, s.prototypes, bias=False)  # lightly's have a bias, SwAV's don't
        self.criterion = SwaVLoss(s.temperature, s.iterations, s.epsilon)
        self.queues = nn.ModuleList(Queue(s.queue, s.out) for _ in range(CODED))  # one for each full-size crop
        self.after_step(0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        sizes = [batch.views[:CODED], batch.views[CODED:]]
        pooled = torch.cat([self.encoder.pooled(torch.cat(crops)) for crops in sizes if crops])  # (V * B, D)
        z = F.normalize(self.projector(pooled).float(), dim=1)  # (V * B, out)
        weight = self.prototypes.weight  # (K, out), unit rows
        resting = batch.progress < self.settings.freeze
        with torch.autocast(z.device.type, enabled=False):  # Sinkhorn's exp(1 / epsilon) needs float32
            scores = (z @ (weight.detach() if resting else weight).T).chunk(len(batch.views))  # V of (B, K)
            queued = [queue.vectors @ weight.detach().T for queue in self._queues_in_use(batch.progress)]  # of (Q, K)
            loss = self.criterion(scores[:CODED], scores[CODED:], queued or None)  # (1,)
        for queue, newest in zip(self.queues, z.chunk(len(batch.views))):
            queue.push(newest)
        return {"swav": loss.squeeze()}

    def chance(self, images: int) -> dict[str, float]:
        return {"swav": log(self.settings.prototypes)}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Prototypes are unit vectors."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def _queues_in_use(self, progress: float) -> list[Any]:
        used = progress >= self.settings.queue_from and all(queue.full for queue in self.queues)
        return list(self.queues) if used else []

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        z = F.normalize(self.projector(self.encoder.pooled(images)), dim=1)
        return usage(self.prototypes(z), self.settings.epsilon)  # codes as they are before they are balanced
