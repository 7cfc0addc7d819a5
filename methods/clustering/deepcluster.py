"""DeepCluster-v2: tell the cluster that an image fell into before the epoch (Caron et al. 2020, arXiv:2006.09882)."""

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from lightly.models.modules import SwaVProjectionHead
from torch import Tensor

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.kmeans import assigned, kmeans
from ..parts.usage import usage

CODED = 2  # the full-size crops, whose embeddings are remembered
CHUNK = 256  # images at once in the first pass


class DeepClusterV2(Method):
    """Cross-entropy of every crop's cosines with an epoch's centroids, averaged over several sets of clusters.

    Before an epoch, k-means groups a memory of all images' embeddings: those of the full-size crop h in set h (in turn,
    where there are more sets), as they were when the image was last seen. Centroids are never trained.
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the cosines", source="SwAV, main_deepclusterv2.py", ge=0.001)
        prototypes: tuple[int, ...] = setting(
            (32, 64, 96), "clusters of each set", source="project: SwAV 3000,3000,3000", min_length=1
        )
        iterations: int = setting(10, "of k-means", source="SwAV, main_deepclusterv2.py", ge=1)
        local_crops: int = setting(4, "half-size crops", source="SwAV, scripts/deepclusterv2_400ep_pretrain.sh", ge=0)
        crop_min: float = setting(0.14, "smallest crop", source="SwAV, main_deepclusterv2.py", unit="area", gt=0, le=1)
        # as SwAV's here: 0.05 to 0.14 would be 7 to 12 of 32 px
        local_min: float = setting(
            0.14, "smallest half-size crop", source="project: SwAV 0.05", unit="area", gt=0, le=1
        )
        local_max: float = setting(0.4, "largest half-size crop", source="DINO, main_dino.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="project: softer; SwAV 1", ge=0, le=1)
        blur: float = setting(0.0, "blur, which leaves little at 32 px", source="project: SwAV 0.5", ge=0, le=1)
        hidden: int = setting(512, "projector's hidden width", source="project: SwAV 2048", ge=1)
        out: int = setting(128, "projector's output width", source="SwAV, main_deepclusterv2.py", ge=1)

    settings: Settings
    memory: Tensor
    clusters: Tensor
    prototypes: Tensor
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/deepclusterv2.yaml",
            {"optimiser": "lars", "trust": 0.02, "lr": 0.6, "scaling": "linear", "weight_decay": 1e-6, "batch": 256}
            | {"trust_clip": True, "warmup": 0.011, "clip": 0},
            {"hidden": 2048, "prototypes": (3000, 3000, 3000), "local_crops": 0, "jitter": 1.0, "crop_min": 0.08}
            | {"blur": 0.5},
        ),
        "imagenet/conv": Recipe(
            "SwAV, scripts/deepclusterv2_400ep_pretrain.sh, but its sizes of 160 and 96 px",
            {"optimiser": "lars", "lr": 4.8, "weight_decay": 1e-6, "batch": 4096, "warmup": 0.025, "clip": 0},
            {"hidden": 2048, "prototypes": (3000, 3000, 3000), "local_crops": 4, "jitter": 1.0, "crop_min": 0.08}
            | {"local_min": 0.05, "local_max": 0.14, "blur": 0.5},
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
        if min(s.prototypes) < 2:
            raise UserError(f"deepcluster-v2.prototypes={min(s.prototypes)}: a set needs two clusters at least")
        if s.local_min > s.local_max:
            raise UserError(f"deepcluster-v2.local_min={s.local_min} is above local_max={s.local_max}; lower it")
        self.projector = SwaVProjectionHead(self.encoder.dim, s.hidden, s.out)
        self.register_buffer("prototypes", F.normalize(torch.randn(sum(s.prototypes), s.out), dim=1))
        self.register_buffer("memory", torch.zeros(CODED, 0, s.out))  # of N images, once their number is known
        self.register_buffer("clusters", torch.zeros(len(s.prototypes), 0, dtype=torch.long))  # of each, in each set

    def before_epoch(self, epoch: int, images: Tensor) -> None:
        s = self.settings
        if len(images) < max(s.prototypes):
            text = f"deepcluster-v2.prototypes={max(s.prototypes)} is more than the {len(images)} training images"
            raise UserError(f"{text}; lower it")
        if not self.memory.shape[1]:
            where = self.memory.device
            parts = [self._embedded([self.encoder.normalise(some.to(where))]) for some in images.split(CHUNK)]
            self.memory = torch.cat(parts).expand(CODED, -1, -1).clone()
        sets = [(self.memory[h % CODED], clusters) for h, clusters in enumerate(s.prototypes)]
        found = [kmeans(vectors, clusters, s.iterations) for vectors, clusters in sets]
        self.prototypes.copy_(torch.cat(found))
        self.clusters = torch.stack([assigned(vectors, centroids) for (vectors, _), centroids in zip(sets, found)])

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        sizes = [batch.views[:CODED], batch.views[CODED:]]
        z = torch.cat([self._embedded(crops) for crops in sizes if crops])  # (V * B, out)
        with torch.autocast(z.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            scores = (z @ self.prototypes.T / self.settings.temperature).split(self.settings.prototypes, 1)
            losses = [
                F.cross_entropy(told, wanted.repeat(len(batch.views)))
                for told, wanted in zip(scores, self._clusters(batch.index))
            ]
        if self.memory.shape[1]:
            newest = torch.stack(z.detach().chunk(len(batch.views))[:CODED])  # (2, B, out)
            self.memory.index_copy_(1, batch.index, newest)
        return {"deepcluster": torch.stack(losses).mean()}

    def _embedded(self, crops: list[Tensor]) -> Tensor:
        return F.normalize(self.projector(self.encoder.pooled(torch.cat(crops))).float(), dim=1)

    def _clusters(self, index: Tensor) -> list[Tensor]:
        """Of images (B,) in each set; any, where none were made yet."""
        if self.clusters.shape[1]:
            return list(self.clusters[:, index])
        return [index % clusters for clusters in self.settings.prototypes]

    def chance(self, images: int) -> dict[str, float]:
        sets = self.settings.prototypes
        return {"deepcluster": sum(map(log, sets)) / len(sets)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """Of the last set."""
        last = self.prototypes[-self.settings.prototypes[-1] :]
        return usage(self._embedded([images]) @ last.T, self.settings.temperature)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """As always, into a memory of as many images as there were."""
        for name in ("memory", "clusters"):
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
