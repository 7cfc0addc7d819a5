"""Networks that were not made for ssbench, seen as an `Encoder`: what they give, and how they pool it themselves."""

from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import OWN, Encoder
from ssbench.errors import UserError


class OwnPooling(Encoder):
    """An encoder whose headline's vector is what its trunk itself gives: its own pooling and what stands behind it."""

    def __init__(self, trunk: nn.Module, mean: Tensor, std: Tensor, size: int) -> None:
        super().__init__(trunk, mean, std, size)
        self._width = int(_own(self, size).shape[1])

    @property
    def dim(self) -> int:
        """Width of the headline's vector."""
        return self._width if self.poolings[0] == OWN else super().dim

    def read(self, pooling: str = "", block: int = 0) -> Encoder:
        """As an encoder does; also raises UserError for an earlier block with the network's own vector."""
        super().read(pooling, block)
        if self.poolings[0] == OWN and self.block not in (0, self.depth):
            rest = " or ".join(self.poolings[1:])
            raise UserError(
                f"encoder.block={block}: the encoder's own vector is of all blocks; set encoder.pooling={rest}"
            )
        return self

    def pooled(self, images: Tensor) -> Tensor:
        vector: Tensor = self.trunk(images) if self.poolings[0] == OWN else super().pooled(images)
        return vector


class Adapted(nn.Module):
    """Any network in timm's manner: its vectors (B, D), tokens (B, T, D) or map (B, D, h, w), and one vector an image.

    Tokens are those of a square of patches, behind a class token and registers where there are more.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """One vector an image: what it gives, its class token, or the mean over places."""
        found = _tensor(self.module(images))
        if found.ndim == 4:
            return found.mean((2, 3))
        if found.ndim == 3:
            return found[:, 0] if found.shape[1] > _square(found) else found.mean(1)
        return found

    def forward_intermediates(
        self, images: Tensor, indices: int, norm: bool, intermediates_only: bool = False
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Tokens or map, and the map in a list; raises ValueError where it gives vectors."""
        found = _tensor(self.module(images))
        if found.ndim == 2:
            raise ValueError("it gives one vector an image")
        whole, maps = found, found
        if found.ndim == 3:
            places = _square(found)
            maps = found[:, -places:].transpose(1, 2).unflatten(2, (isqrt(places), isqrt(places)))  # (B, D, h, w)
        return [maps] if intermediates_only else (whole, [maps])


def adopt(trunk: nn.Module, mean: Tensor, std: Tensor, size: int) -> Encoder:
    """A network as an encoder for images of `size` px, which reads the vector that the network itself gives.

    Raises whatever the network does on images of that size.
    """
    if isinstance(trunk, Encoder):
        return trunk
    trunk = trunk if hasattr(trunk, "forward_intermediates") else Adapted(trunk)
    encoder = Encoder(trunk, mean, std, size)
    own = _own(encoder, size)
    with torch.no_grad():
        for name, vector in encoder.eval().vectors(_noise(encoder, size)).items():
            if vector.shape == own.shape and torch.allclose(vector, own, rtol=1e-4, atol=1e-5):
                return encoder.lead(name)
    return OwnPooling(trunk, mean, std, size)


@torch.no_grad()
def _own(encoder: Encoder, size: int) -> Tensor:
    found: Tensor = encoder.eval().trunk(_noise(encoder, size))
    return found


def _noise(encoder: Encoder, size: int) -> Tensor:
    channels = encoder.mean.shape[1]
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0)).to(encoder.mean.device)


def _square(tokens: Tensor) -> int:
    """How many of tokens (B, T, D) are patches of a square image."""
    return isqrt(tokens.shape[1]) ** 2


def _tensor(found: Any) -> Tensor:
    """The tensor in what a network gives; raises UserError where it is not to be seen."""
    hidden = found.get("last_hidden_state") if isinstance(found, dict) else getattr(found, "last_hidden_state", None)
    found = found if hidden is None else hidden
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.ndim in (2, 3, 4):
        return found
    what = f"a tensor of {found.ndim} dimensions" if isinstance(found, Tensor) else type(found).__name__
    raise UserError(
        f"the encoder gives {what}; expected vectors (B, D), tokens (B, T, D) or a map (B, D, h, w), "
        "or an output with last_hidden_state"
    )
