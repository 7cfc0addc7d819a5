"""SupCon: views of one class agree, against all other images of the batch (Khosla et al. 2020, arXiv:2004.11362)."""

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.spread import spread
from .simclr import others


class SupCon(Method):
    """L_out, of the paper's equation 2: NT-Xent with all views of an anchor's class as its positives. It sees labels.

    It names no loss of guessing, log(2B - 1): it starts far above that, at 6.8 for 4.8 in batches of 64 on shapes, and
    passes it while it learns, after 300 steps, on its way to the logarithm of the number of positives.
    """

    class Settings(Base):
        temperature: float = setting(0.1, "divides the cosines", source="SupContrast, README.md, CIFAR", ge=0.001)
        hidden: int = setting(512, "projector's hidden width", source="project: SupCon the encoder's", ge=1)
        out: int = setting(128, "projector's output width", source="SupContrast, networks/resnet_big.py", ge=1)
        crop_min: float = setting(0.2, "smallest crop", source="SupContrast, main_supcon.py", unit="area", gt=0, le=1)

    settings: Settings
    supervised = True
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 2.4e-2}),
        "cifar/conv": Recipe(  # a rate of 0.5 and a decay of 1e-4 for a loss 0.1 / 0.07 times this one: the same to SGD
            "HobbitLong/SupContrast, README.md and main_supcon.py, ResNet-50",
            {"optimiser": "sgd", "lr": 0.5 / 0.7, "weight_decay": 0.7e-4, "batch": 1024, "warmup": 0.01, "clip": 0},
            {"hidden": 2048},
        ),
    }

    @property
    def views(self) -> list[View]:
        return [View(count=2, crop=(self.settings.crop_min, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2)]

    def build(self) -> None:
        self.projector = SimCLRProjectionHead(self.encoder.dim, self.settings.hidden, self.settings.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        z = self.projector(self.encoder.pooled(torch.cat(batch.views))).float()  # (2B, out), both views at once
        with torch.autocast(z.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            return {"supcon": supervised_ntxent(z, batch.labels.repeat(len(batch.views)), self.settings.temperature)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std`; of as many separate classes it is sqrt(1 - 1 / classes), or less."""
        return {"embedding std": spread(self.projector(self.encoder.pooled(images)))}


def supervised_ntxent(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """L_out, mean over anchors, of embeddings (N, D) and labels (N,), each of which is another's too; a scalar."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~itself  # (N, N)
    found = others(z, temperature).log_softmax(1).masked_fill(~positive, 0.0)
    return -(found.sum(1) / positive.sum(1)).mean()
