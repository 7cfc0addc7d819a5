"""A network without weights: what `timm.create_model` is told to build it. A value that JSON can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm


@dataclass(frozen=True)
class Architecture:
    """`timm.create_model(name, num_classes=0, **options)`."""

    name: str  # of timm's, without a tag
    options: Mapping[str, Any] = field(default_factory=dict)  # plain values only

    def build(self, **more: Any) -> Any:
        """The trunk with random weights; `more` are options that go before its own, such as `img_size`."""
        return timm.create_model(self.name, num_classes=0, **{**self.options, **more})
