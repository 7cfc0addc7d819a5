"""W-MSE: whitened embeddings of two views agree (Ermolov et al. 2021, arXiv:2007.06346)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.rng import onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from .embeddings import measured


class WMSE(Method):
    """2 - 2 cos of two views' embeddings, each whitened by the Cholesky factor of its own sub-batch's covariance.

    Sub-batches are drawn anew at each step, the same for both views; a batch of less than `part` is one. It is not
    lightly's WMSELoss: its Cholesky makes a GPU wait, and its products are bfloat16 under autocast. A share
    `shrinkage` of the covariance is the identity times its mean variance.
    """

    class Settings(Base):
        out: int = setting(32, "projector's output width", source="project: half a batch; cfg.py 64 of 512", ge=2)
        part: int = setting(
            64, "images a sub-batch", source="project: twice `out`, as cfg.py's 128", unit="images", ge=4
        )
        draws: int = setting(1, "divisions into sub-batches a step", source="htdt/self-supervised, cfg.py", ge=1)
        shrinkage: float = setting(1e-3, "share of the identity", source="project: any batch; cfg.py 0", gt=0, lt=1)
        hidden: int = setting(512, "hidden width of the projector", source="project: cfg.py 1024", ge=1)
        crop_min: float = setting(0.2, "smallest crop", source="htdt/self-supervised, cfg.py", unit="area", gt=0, le=1)
        jitter: float = setting(0.5, "colour jitter's strength", source="htdt/self-supervised, cfg.py", ge=0, le=1)
        grey: float = setting(0.1, "probability of grey", source="htdt/self-supervised, cfg.py", ge=0, le=1)

    settings: Settings
    recipes = {
        "own/vit": Recipe("project: benchmarks/rates.py on shapes, vit-nano", {"lr": 3e-4}),
        "cifar/conv": Recipe(
            "solo-learn, scripts/pretrain/cifar/wmse.yaml, whose optimiser is Adam",
            {"lr": 2e-3, "scaling": "linear", "weight_decay": 1e-6, "batch": 256, "beta2": 0.999}
            | {"warmup": 0.01, "clip": 0},
            {"hidden": 1024, "out": 64, "part": 128, "jitter": 1.0, "grey": 0.2},
        ),
    }

    @property
    def views(self) -> list[View]:
        s, strength = self.settings, self.settings.jitter
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        return [View(count=2, crop=(s.crop_min, 1.0), jitter=jitter, grey=s.grey)]

    def build(self) -> None:
        s = self.settings
        if s.part < 2 * s.out:
            raise UserError(f"w-mse.part={s.part} images can't whiten w-mse.out={s.out} dimensions: take twice as many")
        self.projector = mlp(self.encoder.dim, s.hidden, s.out)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        pooled = self.encoder.pooled(torch.cat(batch.views))  # (2B, D): batch norm sees both views at once
        x, y = self.projector(pooled).float().chunk(2)  # each (B, out)
        orders = [torch.randperm(len(x), generator=batch.generator) for _ in range(self.settings.draws)]
        with torch.autocast(x.device.type, enabled=False):  # the factor of a covariance needs float32
            far = [self._distance(x[order], y[order]) for order in (onto(order, x.device) for order in orders)]
        return {"w_mse": torch.stack(far).mean()}

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Of embeddings (B, out), whose order says which are whitened together: `part` or a few more of them."""
        parts, share = max(len(x) // self.settings.part, 1), self.settings.shrinkage
        a, b = (torch.cat([whiten(part, share) for part in view.tensor_split(parts)]) for view in (x, y))
        return 2 - 2 * F.cosine_similarity(a, b).mean()

    def chance(self, images: int) -> dict[str, float]:
        """Whitened noise: its directions have nothing in common."""
        return {"w_mse": 2.0}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        return measured(self.projector(self.encoder.pooled(images)))


def whiten(z: Tensor, shrinkage: float) -> Tensor:
    """Embeddings (B, D) made uncorrelated, with a variance of 1, by the inverse Cholesky factor of their covariance."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)  # (D, D)
    mean = covariance.diagonal().mean() + 1e-12  # embeddings that are all alike have none
    identity = torch.eye(z.shape[1], device=z.device)
    shrunk = (1 - shrinkage) * covariance + shrinkage * mean * identity
    factor = torch.linalg.cholesky_ex(shrunk).L  # that of `cholesky` waits for the device to ask whether there is one
    return torch.linalg.solve_triangular(factor, centred.T, upper=False).T
