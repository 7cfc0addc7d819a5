"""What a frozen encoder makes of a split: one pass, cached, shared by every feature task.

`represent` is the only way from images to features, for fitting and testing alike: full images, no mask, evaluation
mode, no gradient, float32.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssbench.data import Split
from ssbench.encoders.encoder import Encoder
from ssbench.results.store import read_tensors, write_tensors

CHUNK = 512  # images a forward pass


@torch.no_grad()
def represent(encoder: Encoder, images: Tensor, network: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
    """uint8 images (N, C, S, S) -> named features, on the encoder's device."""
    encoder.eval()
    device = encoder.mean.device
    chunks = [network(encoder.normalise(chunk.to(device))) for chunk in images.split(CHUNK)]
    return {name: torch.cat([chunk[name].float() for chunk in chunks]).contiguous() for name in chunks[0]}


class Part:
    """One split as a task sees it: images, targets, and the frozen encoder's features."""

    def __init__(self, encoder: Encoder, split: Split, cache: Path, key: str) -> None:
        """`key` says which encoder, data and split the cached features are of."""
        self.poolings = encoder.poolings
        self.images = split.images
        self._encoder, self._split, self._cache, self._key = encoder, split, cache, key

    def __len__(self) -> int:
        return len(self._split)

    def target(self, name: str) -> Tensor:
        """`label` (N,) int64, `mask` (N, S, S) uint8, `factors` (N, F); on the encoder's device."""
        return self._split.targets[name].to(self._encoder.mean.device)

    def pooled(self, pooling: str | None = None) -> Tensor:
        """One vector an image, (N, D), of the encoder's first pooling unless said."""
        return self._features("vectors", self._encoder.vectors)[pooling or self.poolings[0]]

    def map(self) -> Tensor:
        """Feature maps, (N, D, h, w)."""
        return self._features("map", lambda images: {"map": self._encoder.map(images)})["map"]

    def _features(self, kind: str, network: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        file = self._cache / f"{self._key}-{kind}.safetensors"
        found = read_tensors(file, str(self._encoder.mean.device))
        if found is None:
            found = represent(self._encoder, self.images, network)
            write_tensors(file, found)
        return found
