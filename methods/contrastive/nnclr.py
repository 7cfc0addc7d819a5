"""NNCLR: a view predicts the nearest neighbour of the other view (Dwibedi et al. 2021, arXiv:2104.14548)."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from ..parts.spread import spread
from ..parts.views import asymmetric
from .moco_v2 import random_queue
from .moco_v3 import infonce


class NNCLR(Method):
    """InfoNCE of a view's nearest neighbour among earlier embeddings and the predictions of the other view, both ways.

    Neighbours are of a queue, the support set, which takes the first view's embeddings after the loss; they carry no
    gradient, so that projections learn through the predictor alone.
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the cosines", source="solo-learn, losses/nnclr.py", ge=0.001)
        queue: int = setting(512, "embeddings of earlier images", source="project: 8 batches; NNCLR 98304", ge=1)
        hidden: int = setting(512, "projector's hidden width", source="project: NNCLR 2048", ge=1)
        predictor: int = setting(512, "predictor's hidden width", source="project: NNCLR 4096", ge=1)
        out: int = setting(128, "projector's output width", source="project: NNCLR 256", ge=1)
        crop_min: float = setting(0.08, "smallest crop", source="solo-learn, asymmetric.yaml", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(
            0.0, "blur of the first view; the second's is a tenth", source="project: BYOL 1", ge=0, le=1
        )

    settings: Settings
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/nnclr.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.4, "scaling": "linear", "weight_decay": 1e-5, "batch": 256}
            | {"trust_clip": True, "warmup": 0.01, "clip": 0},
            {"hidden": 2048, "predictor": 4096, "out": 256, "temperature": 0.2, "queue": 65536},
        ),
        "imagenet/conv": Recipe(
            "PROTOCOLS S6.1, where it is from memory; views as solo-learn's, blurred as BYOL's",
            {"optimiser": "lars", "lr": 0.3, "scaling": "linear", "weight_decay": 1e-6, "batch": 4096}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 2048, "predictor": 4096, "out": 256, "queue": 98304, "blur": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        return asymmetric(self.settings.crop_min, self.settings.blur)

    def build(self) -> None:
        s = self.settings
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out, last_norm=True)
        self.predictor = mlp(s.out, s.predictor, s.out)
        self.queue = random_queue(s.queue, s.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = [self.projector(self.encoder.pooled(view)) for view in batch.views]  # batch norms see one view at a time
        said = [self.predictor(one) for one in z]  # each (B, out)
        near = [self._neighbours(one) for one in z]
        terms = [infonce(n, p, self.settings.temperature) for n, p in zip(near, reversed(said))]
        self.queue.push(F.normalize(z[0].float(), dim=1))
        return {"nnclr": torch.stack(terms).mean()}

    @torch.no_grad()
    def _nearest(self, z: Tensor) -> Tensor:
        """Places (B,) in the queue of the nearest neighbours of embeddings (B, out)."""
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 can't tell near ones apart
            return (z.float() @ self.queue.vectors.T).argmax(1)  # the queue's are unit vectors

    def _neighbours(self, z: Tensor) -> Tensor:
        return self.queue.vectors[self._nearest(z)]

    def chance(self, images: int) -> dict[str, float]:
        return {"nnclr": log(images)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std`, and the share of neighbours that are not another image's too: low where a few are all's."""
        z = self.projector(self.encoder.pooled(images))
        used = self._nearest(z).unique().numel() / min(len(z), self.settings.queue)
        return {"embedding std": spread(z), "distinct neighbours": used}
