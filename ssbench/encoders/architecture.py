"""A network without weights: what `timm.create_model` is told to build it. A value that JSON can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import nn


@dataclass(frozen=True)
class Architecture:
    """`timm.create_model(name, num_classes=0, **options)`, with a stem for small images where it is a ResNet's."""

    name: str  # of timm's, without a tag
    options: Mapping[str, Any] = field(default_factory=dict)  # plain values only
    small_stem: bool = False  # a 3x3 convolution of stride 1 and no pooling, as in SimCLR's CIFAR code
    unpooled: bool = False  # nothing is pooled behind the stem

    def build(self, **more: Any) -> Any:
        """The trunk with random weights; `more` are options that go before its own, such as `img_size`."""
        trunk = timm.create_model(self.name, num_classes=0, **{**self.options, **more})
        stem = getattr(trunk, "conv1", None)
        if self.small_stem and isinstance(stem, nn.Conv2d):  # a deep stem stays
            trunk.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, 1, 1, bias=False)
            nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
            trunk.maxpool = nn.Identity()
        if self.unpooled:
            trunk.maxpool = nn.Identity()
        return trunk
