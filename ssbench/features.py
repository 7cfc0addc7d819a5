"""What a frozen encoder makes of a split: one pass, cached, shared by every feature task.

`represent` is the only way from images to features, for fitting and testing alike: full images, no mask, evaluation
mode, no gradient, float32.
"""

from collections.abc import Callable
from copy import copy
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench.data import Split
from ssbench.encoders.encoder import Encoder
from ssbench.results.store import read_tensors, write_tensors
from ssbench.windows import origins, stitched

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

    def __init__(self, encoder: Encoder, split: Split, cache: Path | None, key: str) -> None:
        """`key` says which encoder, data and split the features are of; without a `cache` they are kept in memory."""
        self.poolings, self.dim, self.depth = encoder.poolings, encoder.dim, encoder.depth
        self._encoder, self._split, self._cache, self._key = encoder, split, cache, key
        self._rows: Tensor | None = None  # of the split; None: all
        self._kept: dict[str, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._split) if self._rows is None else len(self._rows)

    @property
    def images(self) -> Tensor:
        """uint8 (N, C, S, S)."""
        return self._of(self._split.images)

    @property
    def crops(self) -> Tensor:
        """What the crops of training are cut from, uint8 (N, C, L, L)."""
        return self._of(self._split.crops)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Places of a map, down and across; from one image."""
        maps = represent(self._encoder, self._split.images[:1], lambda images: {"map": self._encoder.map(images)})[
            "map"
        ]
        return maps.shape[-2], maps.shape[-1]

    def target(self, name: str) -> Tensor:
        """`label` (N,) int64, `mask` (N, S, S) uint8, `factors` (N, F) and so on, as in `Split`; on the device."""
        return self._of(self._split.targets[name]).to(self._encoder.mean.device)

    @property
    def units(self) -> NDArray[np.int64]:
        """The number of each sample's group, (N,), as they come; its own where none are known."""
        keys, groups = self._named()
        number = {name: at for at, name in enumerate(dict.fromkeys(groups))}
        return np.array([number[name] for name in groups]) if groups else np.arange(len(keys))

    def take(self, rows: Tensor) -> "Part":
        """Some of its samples, by position; their features are those that all of them have."""
        taken = copy(self)
        taken._rows = rows.cpu() if self._rows is None else self._rows[rows.cpu()]
        return taken

    def changed(self, images: Tensor) -> "Part":
        """The same samples seen as other images, uint8 (N, C, S, S); their features are kept in memory alone."""
        targets = {name: self._of(values) for name, values in self._split.targets.items()}
        keys, groups = self._named()
        return Part(self._encoder, Split(images, keys, targets, groups=groups), None, "")

    @property
    def readings(self) -> tuple[str, ...]:
        """What `pooled` gives: poolings, then those of earlier blocks, such as `cls@11`, the deepest first."""
        found = self._vectors(self._last)
        return tuple(sorted(found, key=lambda name: (-_block(name), self.poolings.index(name.partition("@")[0]))))

    def pooled(self, reading: str | None = None) -> Tensor:
        """One vector an image, (N, D), of the encoder's first pooling unless said."""
        return self._of(self._vectors(self._last)[reading or self.poolings[0]])

    def vectors(self, last: int) -> dict[str, Tensor]:
        """Every pooling of the `last` blocks, each (N, D), named as `readings` are."""
        return {name: self._of(values) for name, values in self._vectors(last).items()}

    def map(self, window: int = 0) -> Tensor:
        """Feature maps, (N, D, h, w); of images that are larger than a `window` in px, put together from windows."""
        return self._maps("map", self._encoder.map, window)

    def maps(self, last: int, window: int = 0) -> Tensor:
        """The maps of up to `last` blocks or stages side by side, (N, D', h, w), the deepest last."""
        return self._maps(f"maps-{last}", lambda images: self._encoder.maps(images, last), window)

    def looks(self, window: int) -> float:
        """How often the pixels of an image go through the encoder for a map; 1 of the whole image."""
        at = self._origins(window)
        return (len(at) * window / self._split.images.shape[-1]) ** 2 if at else 1

    @property
    def _last(self) -> int:
        """A block that was chosen is read alone."""
        return 1 if self._encoder.block else min(LAST, self.depth)

    def _origins(self, window: int) -> list[int]:
        """Where windows start along a side; nowhere if the image is read as a whole."""
        side = self._split.images.shape[-1]
        if self._encoder.local or not 0 < window < side:
            return []
        return origins(side, window, side // self.grid[1])

    def _maps(self, kind: str, read: Callable[[Tensor], Tensor], window: int) -> Tensor:
        if at := self._origins(window):
            kind, read = f"{kind}-window-{window}", partial(stitched, window=window, at=at, read=read)
        return self._of(self._features(kind, lambda images: {"map": read(images)})["map"])

    def _vectors(self, last: int) -> dict[str, Tensor]:
        last = min(last, self.depth)
        kind = "readings" if last == self._last else f"readings-{last}"
        return self._features(kind, lambda images: self._encoder.readings(images, last))

    def _named(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the samples are called, and the group of each, where groups are known."""
        keys, groups = self._split.keys, self._split.groups
        if self._rows is None:
            return keys, groups
        rows = self._rows.tolist()
        return tuple(keys[row] for row in rows), tuple(groups[row] for row in rows) if groups else ()

    def _of(self, whole: Tensor) -> Tensor:
        return whole if self._rows is None else whole[self._rows.to(whole.device)]

    def _features(self, kind: str, network: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        if self._cache is None:
            if kind not in self._kept:
                self._kept[kind] = represent(self._encoder, self._split.images, network)
            return self._kept[kind]
        file = self._cache / f"{self._key}-{kind}.safetensors"
        found = read_tensors(file, str(self._encoder.mean.device))
        if found is None:
            found = represent(self._encoder, self._split.images, network)
            write_tensors(file, found)
        return found


def _block(reading: str) -> float:
    """The block that a reading is of; the one that the encoder reads is the deepest."""
    return float(reading.partition("@")[2] or "inf")
