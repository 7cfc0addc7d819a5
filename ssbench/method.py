"""The contract of a pretraining method: declare views, build parts around the encoder, return named loss terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn

from ssbench import settings as declared
from ssbench.encoders.encoder import Encoder

# `cached(name, make)` gives the tensors of `make()`, on the CPU, from an earlier run where there was one
Cached = Callable[[str, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]


@dataclass(frozen=True)
class View:
    """How an image is seen. Parameters are drawn per sample; a probability of 0 leaves the operation out."""

    count: int = 1
    crop: tuple[float, float] = (0.2, 1.0)  # share of the area; aspect 3/4..4/3, as torchvision draws them
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
    step: int = 0
    epoch: int = 0  # passes over the training split before this one
    batches: int = 1  # of such a pass
    boxes: list[Tensor] = field(default_factory=list)  # of each view (B, 5): where it was cut, as `training.views` says


@dataclass(frozen=True)
class Recipe:
    """Values in which a method is trained otherwise than all are: of `Train`, and of its own settings."""

    source: str  # of the values, its place in PROTOCOLS or in the authors' code
    train: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


class Method(nn.Module):
    """Subclass, name the settings and the views, return the loss terms. Their sum is minimised, each is logged.

    `trains = False` marks a control that spends no budget, `network = False` one that builds no backbone; `supervised =
    True` asks for labels.
    `version` is part of a result's identity: raise it when the loss or what it sees changes.
    `recipes` are the method's own, by the name that `--recipe` takes (`own` for minutes on a CPU, `cifar`, `imagenet`),
    with `/vit` or `/conv` behind it where the two kinds of backbone differ.
    """

    Settings: ClassVar[type[declared.Settings]] = declared.Settings
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    network: ClassVar[bool] = True
    supervised: ClassVar[bool] = False
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    encoder: Encoder

    def __init__(self, encoder: Encoder, settings: declared.Settings, classes: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings: Any = settings
        self.classes = classes
        self.build()

    @classmethod
    def make_encoder(cls, default: Callable[[], Encoder], images: Tensor, settings: Any) -> Encoder:
        """The encoder that is trained: `default()`, or one's own from uint8 images (N, C, H, W) and its settings."""
        return default()

    @property
    def views(self) -> list[View]:
        """What the method wants to see."""
        return [View()]

    def build(self) -> None:
        """Make the parts that training needs around `self.encoder`."""

    def prepare(self, images: Tensor, cached: Cached) -> None:
        """Learn, before training, what training needs first, such as a codebook, from uint8 images (N, C, S, S).

        An artifact of `cached` is known by the method's owner, the data and its name: put everything else that matters
        into the name. `make` may call no `cached` itself; a 0-d "seconds", what making took, is added to its tensors.
        Without it the loss must still be finite: the steps that --dry-run times are those of an unprepared method.
        """

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The optimiser's groups of parameters, each with its `weight_decay`: none on vectors and scalars.

        `lr_scale` multiplies a group's learning rate, and `constant=True` takes it out of the schedule.
        """
        return list(param_groups_weight_decay(self, weight_decay))

    def before_epoch(self, epoch: int, images: Tensor) -> None:
        """Act before an epoch, such as on all images, uint8 (N, C, S, S), on the CPU or the device: cluster them.

        It is in evaluation mode and without gradient, its seconds count and its FLOPs do not. Without it the loss must
        still be finite, as without `prepare`.
        """

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar terms."""
        raise NotImplementedError(f"{type(self).__name__} declares that it trains but has no loss")

    def chance(self, images: int) -> dict[str, float]:
        """What terms would be if every image of a batch of so many were told alike; terms of which that is known.

        A cross-entropy over K choices is then log K. By these, a training that came to nothing is named.
        """
        return {}

    def before_step(self, progress: float) -> None:
        """Act between the backward pass and the optimiser's step: drop or clip gradients. `progress` is in 0..1."""

    def after_step(self, progress: float) -> None:
        """Act after an optimiser step: move a teacher, renormalise prototypes. `progress` is in 0..1."""

    def judged(self) -> Encoder:
        """The network that tasks see: the encoder itself, or a teacher."""
        return self.encoder

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        """Named numbers about the trained method, for its record: in evaluation mode, what is not finite left out.

        `images` are normalised (B, C, H, W) and held out; `objects` their masks, uint8 (B, H, W) with 0 for background,
        or None where the data has none.
        """
        return {}

    def picture(self, images: Tensor) -> Tensor | None:
        """Normalised images (B, C, H, W) -> panels (B, K, C, H, W) in 0..1, such as image, mask, reconstruction.

        Called along training, in evaluation mode; it must change nothing. None: this method has nothing to show.
        """
        return None


def same(one: object, other: object) -> bool:
    """Whether two values of a method's state are equal: tensors, plain values, or dicts and lists of them."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other.to(one.device))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


class Given(Method):
    """An encoder that came with its weights, as it is."""

    trains = False
