"""SimCLR: two views of one image agree, against all other images of the batch (Chen et al. 2020, arXiv:2002.05709)."""

from math import inf, log

import torch
import torch.nn.functional as F
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting


class SimCLR(Method):
    """NT-Xent: cross-entropy of finding an image's other view among the 2B - 1 other views, by cosine similarity."""

    class Settings(Base):
        temperature: float = setting(0.5, "divides the cosines", source="SimCLR, README.md, CIFAR-10", ge=0.001)
        hidden: int = setting(512, "projector's hidden width", source="lightly, cifar10_benchmark.py", ge=1)
        out: int = setting(128, "projector's output width", source="lightly, cifar10_benchmark.py", ge=1)
        crop_min: float = setting(0.08, "smallest crop", source="SimCLR, data_util.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="SimCLR, README.md, CIFAR-10", ge=0, le=1)

    settings: Settings
    version = 2  # crops are torchvision's
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 7e-4}),
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3}),
        "cifar/conv": Recipe(
            "SimCLR, README.md and run.py, CIFAR-10",
            {"optimiser": "lars", "lr": 1.0, "scaling": "linear", "weight_decay": 1e-4, "batch": 512}
            | {"warmup": 0.01, "clip": 0},
        ),
        "imagenet/conv": Recipe(  # a rate of 0.075 sqrt(batch) is 1.2 for 256 images
            "SimCLR, README.md and run.py, ResNet-50, 100 epochs, but its blur",
            {"optimiser": "lars", "lr": 1.2, "scaling": "sqrt", "weight_decay": 1e-4, "batch": 4096}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 2048, "temperature": 0.1, "jitter": 1.0},
        ),
    }

    @property
    def views(self) -> list[View]:
        strength = self.settings.jitter
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        return [View(count=2, crop=(self.settings.crop_min, 1.0), jitter=jitter, grey=0.2)]  # no blur: README, CIFAR-10

    def build(self) -> None:
        self.projector = SimCLRProjectionHead(self.encoder.dim, self.settings.hidden, self.settings.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        pooled = self.encoder.pooled(torch.cat(batch.views))  # (2B, D): batch norm sees both views at once
        z = self.projector(pooled).float()  # (2B, out)
        with torch.autocast(z.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            return {"ntxent": ntxent(z, self.settings.temperature)}

    def chance(self, images: int) -> dict[str, float]:
        return {"ntxent": log(2 * images - 1)}


def ntxent(z: Tensor, temperature: float) -> Tensor:
    """The loss of embeddings (2B, D), all first views before all second ones; a scalar.

    Not lightly's, which picks the other views by a boolean index: a GPU must be waited for to know how many there are.
    """
    return F.cross_entropy(others(z, temperature), torch.arange(len(z), device=z.device).roll(len(z) // 2))


def others(z: Tensor, temperature: float) -> Tensor:
    """Cosines (N, N) of embeddings (N, D) with all others, over a temperature; -inf with themselves."""
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return (z @ z.T / temperature).masked_fill(itself, -inf)
