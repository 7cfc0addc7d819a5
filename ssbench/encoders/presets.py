"""Named backbones for CPU work; any other name is timm's. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 16  # px of a preset's patch: above that the grid grows instead, as in timm's ViTs at 224 px


@dataclass(frozen=True)
class Preset:
    """A timm name with sizes. `grid` is the number of patches a side, up to LARGEST times as many pixels; 0: no ViT."""

    trunk: str
    grid: int
    sizes: Mapping[str, Any]
    summary: str
    unpooled: bool = False  # a ResNet without the pooling behind its stem

    @property
    def identity(self) -> dict[str, Any]:
        """What its name stands for, as JSON holds it."""
        known = {"trunk": self.trunk, "grid": self.grid, "unpooled": self.unpooled, **self.sizes}
        return {key: [*value] if isinstance(value, tuple) else value for key, value in known.items()}


def _vit(depth: int, width: int, heads: int, grid: int) -> Preset:
    sizes = {"depth": depth, "embed_dim": width, "num_heads": heads}
    summary = f"ViT, depth {depth}, width {width}, {grid} x {grid} patches up to {grid * LARGEST} px"
    return Preset("vit_tiny_patch16_224", grid, sizes, summary)


PRESETS = {
    "vit-nano": _vit(3, 96, 3, 4),
    "vit-micro": _vit(4, 128, 4, 8),
    "vit-mini": _vit(6, 192, 3, 8),
    # a stem of stride 1, as ResNets have it at 32 px, takes four times as long
    "resnet-nano": Preset(
        "resnet18",
        0,
        {"channels": (16, 32, 64, 128), "stem_type": "deep", "stem_width": 8},
        "ResNet-18, a quarter as wide, 3x3 convolutions as its stem, which halves the side, and no pooling behind it",
        unpooled=True,
    ),
}
