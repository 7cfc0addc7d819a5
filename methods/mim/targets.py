"""What a hidden patch must predict. A target is a module with

    out                                            width of a prediction; None: as the encoder's, for a head of its own
    forward(images, teacher) -> target, terms      (B, N, d) or codes (B, N) without gradient; loss terms of its own
    loss(prediction (B, h, out), target) -> (B, h) how far each prediction is off
    choices                                        that a cross-entropy is over; 0 for numbers

built with the encoder, for its sizes, and with what it names as keyword-only arguments: settings, or `heads`, which are
shared. Images are normalised by the data's mean and deviation, patches in row-major order. `teacher` is the moving
average of the encoder, where the target's `taught` says that it needs one. Optional: `prepare(images, cached)`, learn
before training; `paint(prediction, images)`, all patches as pixels again.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.method import Cached

from .codebooks import DVAE, FeatureKMeans, KMeans, RandomCodebook
from .networks import Features
from .objective import Regression
from .online import CAPI, IBOT
from .patches import EPSILON, hog, pixels, pixels_normed

Patches = Callable[[Tensor, int], Tensor]
Terms = dict[str, Tensor]


class Target(Protocol):
    """As above."""

    taught: bool
    choices: int

    @property
    def out(self) -> int | None: ...

    def __call__(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, Terms]: ...

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor: ...


@runtime_checkable
class Prepares(Protocol):
    """A target that learns before training."""

    def prepare(self, images: Tensor, cached: Cached) -> None: ...


@runtime_checkable
class Paints(Protocol):
    """A target whose predictions can be shown as pixels."""

    def paint(self, prediction: Tensor, images: Tensor) -> Tensor | None: ...


class Given(Regression):
    """What a function of the image gives for each patch."""

    taught = False

    def __init__(self, patches: Patches, encoder: Encoder, *, p: float, beta: float) -> None:
        super().__init__(p, beta)
        assert encoder.patch is not None
        self.patches, self.patch = patches, encoder.patch
        blank = encoder.mean.new_zeros(1, encoder.mean.shape[1], 2 * self.patch, 2 * self.patch)
        self.out = patches(blank, self.patch).shape[-1]

    @torch.no_grad()
    def forward(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, Terms]:
        return self.patches(images, self.patch), {}

    def paint(self, prediction: Tensor, images: Tensor) -> Tensor | None:
        """Predictions for all patches as normalised pixels (B, N, patch * patch * C), or None.

        Normalised patches get their true mean and deviation back, without which they can't be told by eye.
        """
        if self.patches is pixels:
            return prediction
        if self.patches is not pixels_normed:
            return None
        true = pixels(images, self.patch)
        return prediction * (true.var(-1, keepdim=True) + EPSILON).sqrt() + true.mean(-1, keepdim=True)


class EMA(Regression):
    """What the moving average of the encoder makes of the whole image (data2vec, I-JEPA).

    The mean of the patch tokens out of its last `top_layers` blocks (data2vec, Baevski et al. 2022, arXiv:2202.03555:
    6 of 12), each channel of each normalised over an image's tokens, as in data2vec 2.0 (RankMe on CIFAR-10: 41, and 21
    without); with 0, its output after the final norm (I-JEPA, src/train.py). Then each token is normalised.
    """

    taught = True

    def __init__(self, encoder: Encoder, *, p: float, beta: float, top_layers: int) -> None:
        super().__init__(p, beta)
        if top_layers > (depth := len(encoder.trunk.blocks)):
            raise UserError(f"mim.top_layers={top_layers} is more than the {depth} blocks of the backbone: set fewer")
        self.out, self.top_layers = encoder.dim, top_layers

    @torch.no_grad()
    def forward(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, Terms]:
        assert teacher is not None
        if self.top_layers:
            layers = (F.instance_norm(layer.float().mT).mT for layer in teacher.layers(images, self.top_layers))
            tokens = torch.stack([*layers]).mean(0)  # (B, N, D)
        else:
            tokens = teacher.tokens(images).float()
        return F.layer_norm(tokens, tokens.shape[-1:]), {}


TARGETS: dict[str, Callable[..., Target]] = {
    "pixels": partial(Given, pixels),
    "pixels-normed": partial(Given, pixels_normed),
    "hog": partial(Given, hog),
    "features": Features,
    "ema": EMA,
    "kmeans": KMeans,
    "kmeans-features": FeatureKMeans,
    "dvae": DVAE,
    "random-codebook": RandomCodebook,
    "ibot": IBOT,
    "capi": CAPI,
}
