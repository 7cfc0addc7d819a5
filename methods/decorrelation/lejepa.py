"""LeJEPA: views agree and embeddings are an isotropic Gaussian (Balestriero & LeCun 2025, arXiv:2511.08544)."""

import torch
from lightly.loss.lejepa_loss import SIGReg
from torch import Tensor

from ssbench.errors import UserError
from ssbench.method import Batch, Method, Recipe, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from ..parts.heads import mlp
from .embeddings import measured

CENTRAL = 2  # the full-size views, whose mean all views are drawn to


class LeJEPA(Method):
    """Every view is drawn to the mean of an image's full-size views; SIGReg tests each view's batch for normality.

    SIGReg is the Epps-Pulley statistic of the batch along random directions, other ones at each step, and grows with
    the batch. Nothing is scaled to unit length, there is no teacher and no stop-gradient. The distance is a mean over
    dimensions, as in rbalestr-lab/lejepa, MINIMAL.md, which has no half-size views and draws to the mean of all.
    """

    class Settings(Base):
        sigreg: float = setting(
            0.05,
            "share of SIGReg, the rest is agreement",
            source="lightly, lejepa_loss.py; MINIMAL.md 0.02",
            ge=0,
            le=1,
        )
        slices: int = setting(256, "random directions a step", source="MINIMAL.md; the package's README 1024", ge=1)
        local_crops: int = setting(4, "half-size crops", source="project: one full crop's work; LeJEPA 6", ge=0)
        crop_min: float = setting(0.3, "smallest full-size crop", source="LeJEPA, README.md", unit="area", gt=0, le=1)
        # LeJEPA's 0.05 would be 7 of 32 px: too little to tell an object by
        local_min: float = setting(0.14, "smallest half-size crop", source="project: 0.05", unit="area", gt=0, le=1)
        local_max: float = setting(0.3, "largest half-size crop", source="LeJEPA, README.md", unit="area", gt=0, le=1)
        # a blur at 32 px leaves little to see
        blur: float = setting(0.0, "probability of a blur", source="project: LeJEPA 0.5", ge=0, le=1)
        hidden: int = setting(512, "hidden width of the projector", source="project: MINIMAL.md 2048", ge=1)
        out: int = setting(64, "projector's output width", source="lightly, LeJEPAProjectionHead", ge=2)

    settings: Settings
    recipes = {"own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3})} | {
        f"imagenet/{kind}": Recipe(
            "LeJEPA, README.md, which names no batch; AdamW as torch has it",
            {"lr": 5e-4, "weight_decay": decay, "beta2": 0.999, "clip": 0},
            {"hidden": 2048, "slices": 1024, "local_crops": 6, "local_min": 0.05, "blur": 0.5},
        )
        for kind, decay in (("vit", 5e-2), ("conv", 5e-4))
    }

    @property
    def views(self) -> list[View]:
        s, jitter = self.settings, (0.4, 0.4, 0.2, 0.1)
        return [
            View(count, crop, size, jitter=jitter, grey=0.2, blur=s.blur, solarise=0.2)
            for count, crop, size in (
                (CENTRAL, (s.crop_min, 1.0), 1.0),
                (s.local_crops, (s.local_min, s.local_max), 0.5),
            )
        ]

    def build(self) -> None:
        s = self.settings
        if s.local_min > s.local_max:
            raise UserError(f"lejepa.local_min={s.local_min} is above lejepa.local_max={s.local_max}; lower it")
        self.projector = mlp(self.encoder.dim, s.hidden, s.hidden, s.out)
        self.normality = SIGReg(num_vectors=s.slices)  # of torch's own random numbers, which follow the step

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        sizes = [batch.views[:CENTRAL], batch.views[CENTRAL:]]
        pooled = torch.cat([self.encoder.pooled(torch.cat(views)) for views in sizes if views])  # (V * B, D)
        z = self.projector(pooled).float().unflatten(0, (len(batch.views), -1))  # (V, B, out)
        share = self.settings.sigreg
        with torch.autocast(z.device.type, enabled=False):  # cosines of large angles need float32
            distance = (z - z[:CENTRAL].mean(0)).square().mean()
            return {"agreement": (1 - share) * distance, "sigreg": share * self.normality(z)}

    def chance(self, images: int) -> dict[str, float]:
        """All embeddings at the origin, where a collapse costs least."""
        known = self.normality
        return {"agreement": 0.0, "sigreg": self.settings.sigreg * images * float((1 - known.phi) ** 2 @ known.weights)}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        z = self.projector(self.encoder.pooled(images)).float()
        return {**measured(z), "sigreg": float(self.normality(z))}
