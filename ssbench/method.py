"""The contract of a pretraining method: declare views, build parts around the encoder, return named loss terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssbench import settings as declared
from ssbench.encoder import Encoder


@dataclass(frozen=True)
class View:
    """How an image is seen. Parameters are drawn per sample; a probability of 0 leaves the operation out."""

    count: int = 1
    crop: tuple[float, float] = (0.2, 1.0)  # share of the area; the aspect ratio is in 3/4..4/3
    size: float = 1.0  # side relative to the image, rounded to whole patches
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0, 0, 0, 0)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    grey: float = 0.0
    blur: float = 0.0
    solarise: float = 0.0


@dataclass(frozen=True)
class Batch:
    """One step's input, on the device."""

    views: list[Tensor]  # each (B, C, h, w), normalised, in the order of the method's views
    index: Tensor  # (B,) positions in the training split
    labels: Tensor | None  # (B,), only for a method that declares itself supervised
    generator: torch.Generator  # named "masks", on the CPU, the same for a given seed and step
    progress: float  # share of the budget spent, 0..1


class Method(nn.Module):
    """Subclass, name the settings and the views, return the loss terms. Their sum is minimised, each is logged.

    `trains = False` marks a control that spends no budget; `supervised = True` asks for labels.
    `version` is part of a result's identity: raise it when the loss changes.
    """

    Settings: ClassVar[type[declared.Settings]] = declared.Settings
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    supervised: ClassVar[bool] = False
    encoder: Encoder

    def __init__(self, encoder: Encoder, settings: declared.Settings, classes: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings: Any = settings
        self.classes = classes
        self.build()

    @classmethod
    def make_encoder(cls, default: Callable[[], Encoder], images: Tensor) -> Encoder:
        """The encoder that is judged; a control without a network makes its own from uint8 images (N, C, H, W)."""
        return default()

    @property
    def views(self) -> list[View]:
        """What the method wants to see."""
        return [View()]

    def build(self) -> None:
        """Make the parts that training needs around `self.encoder`."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar terms."""
        raise NotImplementedError(f"{type(self).__name__} declares that it trains but has no loss")

    def after_step(self, progress: float) -> None:
        """Act after an optimiser step: move a teacher, renormalise prototypes. `progress` is in 0..1."""

    def judged(self) -> Encoder:
        """The network that tasks see: the encoder itself, or a teacher."""
        return self.encoder
