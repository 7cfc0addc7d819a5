"""MoCo v2: a query is told its key from those of earlier batches (Chen et al. 2020, arXiv:2003.04297)."""

from math import log

import torch
import torch.nn.functional as F
from lightly.models.modules import MoCoProjectionHead
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher

from ..parts.queue import Queue
from ..parts.spread import spread


class MoCoV2(Method):
    """Cross-entropy of finding a query's key among it and a queue of keys, by cosine similarity.

    The first view is the query; a slow teacher makes the key of the second, and the queue takes it after the loss.
    """

    class Settings(Base):
        temperature: float = setting(0.2, "divides the cosines", source="MoCo, README.md, v2", ge=0.001)
        momentum: float = setting(0.99, "the teacher's", source="MoCo, colab/moco_cifar10_demo.ipynb", ge=0, le=1)
        queue: int = setting(512, "keys of earlier images", source="project: 8 batches; MoCo 65536", ge=1)
        hidden: int = setting(512, "projector's hidden width", source="lightly, cifar10_benchmark.py", ge=1)
        out: int = setting(128, "projector's output width", source="MoCo, main_moco.py", ge=1)
        crop_min: float = setting(0.2, "smallest crop", source="MoCo, main_moco.py", unit="area", gt=0, le=1)
        blur: float = setting(0.0, "blur, which leaves little at 32 px", source="project: MoCo 0.5", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-4}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/mocov2plus.yaml; its loss is symmetric, its momentum rises to 0.999",
            {"optimiser": "sgd", "lr": 0.3, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 2048, "out": 256, "queue": 32768, "crop_min": 0.08, "blur": 0.5},
        ),
        "imagenet/conv": Recipe(
            "facebookresearch/moco, README.md and main_moco.py, v2",
            {"optimiser": "sgd", "lr": 0.03, "scaling": "linear", "weight_decay": 1e-4, "batch": 256}
            | {"warmup": 0, "clip": 0},
            {"hidden": 2048, "queue": 65536, "momentum": 0.999, "blur": 0.5},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        return [View(count=2, crop=(s.crop_min, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=s.blur)]

    def build(self) -> None:
        s = self.settings
        self.projector = MoCoProjectionHead(self.encoder.dim, s.hidden, s.out)  # without batch norm, as MoCo's
        self.teacher = Teacher(self.encoder, self.projector)
        self.queue = random_queue(s.queue, s.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        query, key = batch.views  # each (B, C, H, W)
        q = F.normalize(self.projector(self.encoder.pooled(query)).float(), dim=1)  # (B, out)
        k = F.normalize(self.teacher(key).float(), dim=1)
        with torch.autocast(q.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            scores = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.vectors.T], 1)  # (B, 1 + queue)
            first = torch.zeros(len(q), dtype=torch.long, device=q.device)
            loss = F.cross_entropy(scores / self.settings.temperature, first)
        self.queue.push(k)
        return {"moco": loss}

    def chance(self, images: int) -> dict[str, float]:
        return {"moco": log(1 + self.settings.queue)}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.settings.momentum)

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std` of queries."""
        return {"embedding std": spread(self.projector(self.encoder.pooled(images)))}


def random_queue(size: int, dim: int) -> Queue:
    """A queue full of random unit vectors, which batches push out (facebookresearch/moco, moco/builder.py)."""
    queue = Queue(size, dim)
    queue.push(F.normalize(torch.randn(size, dim), dim=1))
    return queue
