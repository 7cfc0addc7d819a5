"""Colour constancy: tell an image's mean colour from a view with other colours."""

import torch.nn.functional as F
from torch import Tensor, nn

from ssbench import Batch, Method, View, setting
from ssbench import Settings as Base


class Colour(Method):
    """Regress the mean colour of a plain view from a jittered one."""

    class Settings(Base):
        hidden: int = setting(64, "width of the head", source="this page", gt=0)

    @property
    def views(self) -> list[View]:
        return [View(crop=(0.5, 1.0)), View(crop=(0.5, 1.0), jitter=(0.4, 0.4, 0.4, 0.1))]

    def build(self) -> None:
        hidden = self.settings.hidden
        self.head = nn.Sequential(nn.Linear(self.encoder.dim, hidden), nn.GELU(), nn.Linear(hidden, 3))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        plain, jittered = batch.views  # each (B, 3, H, W)
        predicted = self.head(self.encoder.pooled(jittered))  # (B, 3)
        return {"colour": F.mse_loss(predicted, plain.mean((2, 3)))}


META = {"family": "example", "summary": "predict the mean colour", "paper": "docs/add-a-method.md"}
