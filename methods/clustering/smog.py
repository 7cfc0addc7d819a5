"""SMoG: groups move along with what they group (Pang et al. 2022, arXiv:2207.06167)."""

from dataclasses import replace
from math import log

import torch
import torch.nn.functional as F
from lightly.models.modules import SMoGPredictionHead, SMoGProjectionHead
from torch import Tensor

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.teacher import Teacher

from ..parts.kmeans import kmeans
from ..parts.queue import Queue
from ..parts.usage import usage

ITERATIONS = 10  # of k-means: main_deepclusterv2.py; the paper's number is not known here
CHUNK = 256  # images at once in the first pass


class SMoG(Method):
    """Cross-entropy of a view's prediction over groups, against the group nearest to the teacher's other view.

    Each step first moves the groups towards the mean of the embeddings nearest to them; what is predicted is compared
    with the moved groups, so that the gradient goes through them too. The views change roles every step. Before an
    epoch k-means of recent embeddings makes the groups anew, and the teacher becomes what it follows.

    The authors' code is not public: this follows lightly's example (examples/pytorch/smog.py).
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the cosines", source="lightly, examples/pytorch/smog.py", ge=0.001)
        groups: int = setting(100, "groups", source="project: two to a class or more; lightly 300, SMoG 3000", ge=2)
        beta: float = setting(0.99, "the groups' momentum", source="lightly, examples/pytorch/smog.py", ge=0, lt=1)
        momentum: float = setting(0.99, "the teacher's", source="lightly, examples/pytorch/smog.py", ge=0, le=1)
        queue: int = setting(
            2048, "embeddings that k-means groups", source="project: 32 batches; lightly 300", unit="images", ge=2
        )
        crop_min: float = setting(0.2, "smallest crop", source="lightly, smog_transform.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="lightly, smog_transform.py", ge=0, le=1)
        hidden: int = setting(512, "hidden width of both heads", source="project: SMoG 2048", ge=1)
        out: int = setting(128, "embedding's width", source="lightly, examples/pytorch/smog.py", ge=1)

    settings: Settings
    recipes = {"own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3})}
    centroids: Tensor

    @property
    def views(self) -> list[View]:
        s = self.settings
        jitter = (0.8 * s.jitter, 0.8 * s.jitter, 0.4 * s.jitter, 0.2 * s.jitter)
        plain = View(crop=(s.crop_min, 1.0), jitter=jitter, jitter_p=1.0, grey=0.2)
        return [plain, replace(plain, solarise=0.2)]

    def build(self) -> None:
        s = self.settings
        if s.groups > s.queue:
            raise UserError(f"smog.groups={s.groups} is more than smog.queue={s.queue} embeddings; lower it")
        self.projector = SMoGProjectionHead(self.encoder.dim, s.hidden, s.out)
        self.predictor = SMoGPredictionHead(s.out, s.hidden, s.out)
        self.teacher = Teacher(self.encoder, self.projector)
        self.register_buffer("centroids", F.normalize(torch.randn(s.groups, s.out), dim=1))
        self.recent = Queue(s.queue, s.out)

    def before_epoch(self, epoch: int, images: Tensor) -> None:
        s = self.settings
        if len(images) < s.groups:
            raise UserError(f"smog.groups={s.groups} is more than the {len(images)} training images; lower it")
        vectors = self.recent.vectors[: self.recent.count]
        if len(vectors) < s.groups:
            some = images[torch.randperm(len(images))[: s.queue].to(images.device)].split(CHUNK)
            vectors = torch.cat([self._embedded(self.encoder.normalise(one.to(self.centroids.device))) for one in some])
        self.centroids.copy_(kmeans(vectors, s.groups, ITERATIONS))
        self.teacher.follow(0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        seen, other = batch.views if batch.step % 2 == 0 else batch.views[::-1]
        embedded = self.projector(self.encoder.pooled(seen))
        predicted = F.normalize(self.predictor(embedded).float(), dim=1)
        z, taught = F.normalize(embedded.float(), dim=1), F.normalize(self.teacher(other).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            wanted = (taught @ self.centroids.T).argmax(1)  # (B,)
            moved = move(self.centroids, z, self.settings.beta)  # (K, out)
            loss = F.cross_entropy(predicted @ moved.T / self.settings.temperature, wanted)
        self.centroids = moved.detach()
        self.recent.push(z)
        return {"smog": loss}

    def _embedded(self, images: Tensor) -> Tensor:
        return F.normalize(self.projector(self.encoder.pooled(images)).float(), dim=1)

    def chance(self, images: int) -> dict[str, float]:
        return {"smog": log(self.settings.groups)}

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.settings.momentum)

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return usage(self._embedded(images) @ self.centroids.T, self.settings.temperature)


def move(groups: Tensor, z: Tensor, beta: float) -> Tensor:
    """Unit groups (K, D), each beta of itself and the rest the mean of the unit vectors z (B, D) nearest to it.

    Groups without any stay; the gradient goes through z.
    """
    own = F.one_hot((z.detach() @ groups.T).argmax(1), len(groups)).to(z.dtype)  # (B, K)
    counts = own.sum(0)[:, None]  # (K, 1)
    mixed = beta * groups + (1 - beta) * (own.T @ z) / counts.clamp(min=1)
    return F.normalize(torch.where(counts > 0, mixed, groups), dim=1)
