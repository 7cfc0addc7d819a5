"""DCL: SimCLR whose positives are not among what they are told from (Yeh et al. 2021, arXiv:2110.06848)."""

from math import inf, log

import torch
import torch.nn.functional as F
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.spread import spread
from .simclr import others


class DCL(Method):
    """NT-Xent without the positive in its denominator: 2 (B - 1) views of other images are. DCLW weights positives."""

    class Settings(Base):
        temperature: float = setting(0.1, "divides the cosines", source="lightly, dcl_loss.py", ge=0.001)
        sigma: float = setting(
            0.0, "divides the cosines by which positives weigh less; 0: they weigh alike", source="DCL", ge=0
        )
        hidden: int = setting(512, "projector's hidden width", source="lightly, cifar10_benchmark.py", ge=1)
        out: int = setting(128, "projector's output width", source="lightly, cifar10_benchmark.py", ge=1)
        crop_min: float = setting(0.08, "smallest crop", source="SimCLR, data_util.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="lightly, cifar10_benchmark.py", ge=0, le=1)
        blur: float = setting(0.0, "probability of a blur", source="lightly, cifar10_benchmark.py", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 2.4e-2}),
        "cifar/conv": Recipe(
            "lightly, cifar10_benchmark.py, whose batch is 128",
            {"optimiser": "sgd", "lr": 0.06, "weight_decay": 5e-4, "batch": 128, "warmup": 0, "clip": 0},
        ),
        "imagenet/conv": Recipe(  # a rate of 0.075 sqrt(batch) is 1.2 for 256 images
            "lightly, benchmarks/imagenet/resnet50/dcl.py and dclw.py, 100 epochs",
            {"optimiser": "lars", "lr": 1.2, "scaling": "sqrt", "weight_decay": 1e-6, "batch": 256}
            | {"warmup": 0.1, "clip": 0},
            {"hidden": 2048, "jitter": 1.0, "blur": 0.5},
        ),
    }

    @property
    def views(self) -> list[View]:
        s = self.settings
        jitter = (0.8 * s.jitter, 0.8 * s.jitter, 0.8 * s.jitter, 0.2 * s.jitter)
        return [View(count=2, crop=(s.crop_min, 1.0), jitter=jitter, grey=0.2, blur=s.blur)]

    def build(self) -> None:
        self.projector = SimCLRProjectionHead(self.encoder.dim, self.settings.hidden, self.settings.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self.projector(self.encoder.pooled(torch.cat(batch.views))).float()  # (2B, out), both views at once
        with torch.autocast(z.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            return {"dcl": decoupled(z, self.settings.temperature, self.settings.sigma)}

    def chance(self, images: int) -> dict[str, float]:
        return {"dcl": log(2 * (images - 1))}  # pairs that are all as near weigh alike

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """`embedding std`."""
        return {"embedding std": spread(self.projector(self.encoder.pooled(images)))}


def decoupled(z: Tensor, temperature: float, sigma: float = 0.0) -> Tensor:
    """The paper's equation 6, mean over views, of embeddings (2B, D), all first views before all second ones; a scalar.

    With a `sigma` positives are weighted by 2 - exp(cos / sigma) / its mean over images, which is 1 on average.
    Not lightly's, which picks views by a boolean index: a GPU must be waited for to know how many there are.
    """
    partner = torch.eye(len(z), dtype=torch.bool, device=z.device).roll(len(z) // 2, 0)
    negative = others(z, temperature).masked_fill(partner, -inf).logsumexp(1)  # (2B,)
    first, second = F.normalize(z, dim=1).chunk(2)
    positive = (first * second).sum(1)  # (B,), of both views the same
    weight = 2 - len(positive) * (positive.detach() / sigma).softmax(0) if sigma else 1.0
    return negative.mean() - (weight * positive).mean() / temperature
