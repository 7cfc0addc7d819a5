"""ReSSL: a view is as like earlier images as a weaker view of it is (Zheng et al. 2021, arXiv:2107.09282)."""

from math import log

import torch
import torch.nn.functional as F
from lightly.models.modules import MoCoProjectionHead
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher

from ..parts.spread import spread
from .moco_v2 import random_queue


class ReSSL(Method):
    """Cross-entropy of two softmaxes over a queue: a slow teacher's of a weak view, a student's of a strong one.

    The teacher's is the sharper one. The queue takes the teacher's vectors after the loss, so that an image is never
    compared with itself.
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the student's cosines", source="ReSSL, ressl.py", ge=0.001)
        temperature_teacher: float = setting(0.04, "divides the teacher's", source="ReSSL, ressl.py", ge=0.001)
        momentum: float = setting(
            0.99, "the teacher's", source="solo-learn, cifar/ressl.yaml, at the start", ge=0, le=1
        )
        queue: int = setting(512, "earlier images", source="project: 8 batches; ReSSL 131072", ge=1)
        hidden: int = setting(512, "projector's hidden width", source="project: ReSSL 4096", ge=1)
        out: int = setting(128, "projector's output width", source="project: ReSSL 512", ge=1)
        crop_min: float = setting(0.2, "smallest crop", source="ReSSL, data/augmentation.py", unit="area", gt=0, le=1)
        blur: float = setting(0.0, "blur of the strong view", source="project: ReSSL 0.5", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/ressl.yaml; its saturation is 0.2, its momentum rises to 1",
            {"optimiser": "sgd", "lr": 0.05, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 4096, "out": 256, "queue": 65536, "crop_min": 0.08, "blur": 0.5},
        ),
        "imagenet/conv": Recipe(
            "KyleZheng1997/ReSSL, ressl.py and README.md",
            {"optimiser": "sgd", "lr": 0.05, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"warmup": 5 / 200, "clip": 0},
            {"hidden": 4096, "out": 512, "queue": 131072, "momentum": 0.999, "blur": 0.5},
        ),
    }

    @property
    def views(self) -> list[View]:
        crop = (self.settings.crop_min, 1.0)
        return [View(crop=crop, jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=self.settings.blur), View(crop=crop)]

    def build(self) -> None:
        s = self.settings
        self.projector = MoCoProjectionHead(self.encoder.dim, s.hidden, s.out)  # without batch norm, as ReSSL's
        self.teacher = Teacher(self.encoder, self.projector)
        self.queue = random_queue(s.queue, s.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        strong, weak = batch.views  # each (B, C, H, W)
        q = F.normalize(self.projector(self.encoder.pooled(strong)).float(), dim=1)  # (B, out)
        k = F.normalize(self.teacher(weak).float(), dim=1)
        with torch.autocast(q.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            target = (k @ self.queue.vectors.T / self.settings.temperature_teacher).softmax(1)  # (B, queue)
            loss = F.cross_entropy(q @ self.queue.vectors.T / self.settings.temperature, target)
        self.queue.push(k)
        return {"ressl": loss}

    def chance(self, images: int) -> dict[str, float]:
        return {"ressl": log(self.settings.queue)}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.settings.momentum)

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std`, and the entropy of the teacher's softmax over log(queue): 0 is one image alone."""
        k = F.normalize(self.teacher(images).float(), dim=1)
        target = (k @ self.queue.vectors.T / self.settings.temperature_teacher).softmax(1)
        entropy = torch.special.entr(target).sum(1).mean() / log(max(self.settings.queue, 2))
        return {"embedding std": spread(self.projector(self.encoder.pooled(images))), "teacher entropy": float(entropy)}
