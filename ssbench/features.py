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

CHUNK = 512  # images a forward pass, of 64 px; of larger ones as many pixels
LAST = 4  # blocks whose vectors are kept, as many as DINO's eval_linear.py reads


@torch.no_grad()
def represent(encoder: Encoder, images: Tensor, network: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
    """uint8 images (N, C, S, S) -> named features, on the encoder's device."""
    encoder.eval()
    device = encoder.mean.device
    count = max(min(CHUNK, CHUNK * 64**2 // images[0, 0].numel()), 1) if len(images) else CHUNK
    chunks = [network(encoder.normalise(chunk.to(device))) for chunk in images.split(count)]
    return {name: torch.cat([chunk[name].float() for chunk in chunks]).contiguous() for name in chunks[0]}


class Part:
    """One split as a task sees it: images, targets, and the frozen encoder's features."""

    def __init__(self, encoder: Encoder, split: Split, cache: Path, key: str) -> None:
        """`key` says which encoder, data and split the cached features are of."""
        self.poolings, self.dim, self.depth = encoder.poolings, encoder.dim, encoder.depth
        self.images, self.crops = split.images, split.crops
        self._encoder, self._split, self._cache, self._key = encoder, split, cache, key

    def __len__(self) -> int:
        return len(self._split)

    @property
    def grid(self) -> tuple[int, int]:
        """Places of a map, down and across; from one image."""
        maps = represent(self._encoder, self.images[:1], lambda images: {"map": self._encoder.map(images)})["map"]
        return maps.shape[-2], maps.shape[-1]

    def target(self, name: str) -> Tensor:
        """`label` (N,) int64, `mask` (N, S, S) uint8, `factors` (N, F); on the encoder's device."""
        return self._split.targets[name].to(self._encoder.mean.device)

    @property
    def readings(self) -> tuple[str, ...]:
        """What `pooled` gives: poolings, then those of earlier blocks, such as `cls@11`, the deepest first."""
        found = self._vectors()
        return tuple(sorted(found, key=lambda name: (-_block(name), self.poolings.index(name.partition("@")[0]))))

    def pooled(self, reading: str | None = None) -> Tensor:
        """One vector an image, (N, D), of the encoder's first pooling unless said."""
        return self._vectors()[reading or self.poolings[0]]

    def _vectors(self) -> dict[str, Tensor]:
        last = 1 if self._encoder.block else LAST  # a block that was chosen is read alone
        return self._features("readings", lambda images: self._encoder.readings(images, last))

    def map(self) -> Tensor:
        """Feature maps, (N, D, h, w)."""
        return self._features("map", lambda images: {"map": self._encoder.map(images)})["map"]

    def maps(self, last: int) -> Tensor:
        """The maps of up to `last` blocks or stages side by side, (N, D', h, w), the deepest last."""
        return self._features(f"maps{last}", lambda images: {"maps": self._encoder.maps(images, last)})["maps"]

    def _features(self, kind: str, network: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        file = self._cache / f"{self._key}-{kind}.safetensors"
        found = read_tensors(file, str(self._encoder.mean.device))
        if found is None:
            found = represent(self._encoder, self.images, network)
            write_tensors(file, found)
        return found


def _block(reading: str) -> float:
    """The block that a reading is of; the one that the encoder reads is the deepest."""
    return float(reading.partition("@")[2] or "inf")
