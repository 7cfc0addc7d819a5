"""What every method is measured against: no training, no network, and training with labels."""

from collections.abc import Callable
from functools import lru_cache
from math import log

import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.encoders.names import largest_divisor
from ssbench.errors import NotApplicable, UserError
from ssbench.method import Batch, Method, Recipe
from ssbench.settings import Settings

COMPONENTS = 256  # as many as published raw-pixel baselines keep at 32 px
SEEN = 64  # px of a side, to which larger images are averaged: 150,528 pixels of 224 px have no components in minutes
FITTED = 5_000  # images the components are fitted on
PIECE = 256  # of them averaged at once


class RandomInit(Method):
    """The encoder as it starts, untrained."""

    trains = False


class PixelEncoder(Encoder):
    """No network, no parameters: principal components of the pixels as the vector, raw patches as the map."""

    local = True
    components: Tensor
    centre: Tensor

    def __init__(self, images: Tensor) -> None:
        """`images` are uint8 (N, C, S, S); the components are fitted on at most FITTED of them, evenly spaced."""
        _, channels, self.size, _ = images.shape
        super().__init__(nn.Identity(), torch.zeros(channels), torch.ones(channels))
        centre, components = principal_components(images)
        self.register_buffer("centre", centre)
        self.register_buffer("components", components.clone())

    @property
    def dim(self) -> int:
        return len(self.components)

    def read(self, pooling: str = "", block: int = 0) -> Encoder:
        """Whatever is read of networks, pixels stay as they are."""
        return self

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """Up to 256 principal components of at most 64 px, (B, dim); raises NotApplicable at another image size."""
        if images.shape[-1] != self.size:
            raise NotApplicable(f"raw pixels of {self.size} px say nothing about images of {images.shape[-1]} px")
        return {"mean": (averaged(images).flatten(1) - self.centre) @ self.components.T}

    def map(self, images: Tensor) -> Tensor:
        """Raw patches, (B, C * p * p, S / p, S / p), with p the largest divisor of the size S that is at most S / 8."""
        size = images.shape[-1]
        return F.pixel_unshuffle(images, largest_divisor(size, size // 8))


def averaged(images: Tensor) -> Tensor:
    """Images (N, C, S, S) of at most SEEN px, each pixel the mean of those that it stands for."""
    return F.adaptive_avg_pool2d(images, SEEN) if images.shape[-1] > SEEN else images


@lru_cache(maxsize=1)  # every seed and task asks for those of the same images
def principal_components(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (P,) and components (rank, P) of at most FITTED uint8 images (N, C, S, S), evenly spaced.

    P is C * S * S, of images of at most SEEN px.
    """
    chosen = torch.linspace(0, len(images) - 1, min(len(images), FITTED)).long()
    sample = torch.cat([averaged(images[part].float() / 255) for part in chosen.split(PIECE)]).flatten(1)
    rank = min(COMPONENTS, sample.shape[1], len(sample) - 1)
    centre = sample.mean(0)  # taken off first: scikit-learn's own way loses digits
    pca = PCA(rank, random_state=0).fit((sample - centre).numpy())  # signs are fixed there
    return centre, torch.from_numpy(pca.components_)


class RawPixels(Method):
    """No network: the pixels themselves."""

    trains = False
    network = False

    @classmethod
    def make_encoder(cls, default: Callable[[], Encoder], images: Tensor, settings: Settings) -> Encoder:
        return PixelEncoder(images)


class Supervised(Method):
    """Cross-entropy with the labels, for the same budget and with the same crop and flip as masked image modelling."""

    supervised = True
    version = 2  # crops are torchvision's
    recipes = {"own/conv": Recipe("project: benchmarks/rates.py on shapes, resnet-nano", {"lr": 6e-3})}

    def build(self) -> None:
        if self.classes == 0:
            raise UserError(
                "supervised needs labels, and the pretraining data has none; leave it out or set data.label"
            )
        self.head = nn.Linear(self.encoder.dim, self.classes)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {"cross_entropy": F.cross_entropy(self.head(self.encoder.pooled(batch.views[0])).float(), batch.labels)}

    def chance(self, images: int) -> dict[str, float]:
        return {"cross_entropy": log(self.classes)}
