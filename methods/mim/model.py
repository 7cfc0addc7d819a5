"""Masked image modelling: hide patches, predict them from the rest (MAE, He et al. 2021, arXiv:2111.06377)."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from ssbench.errors import UserError, near
from ssbench.method import Batch, Method, View
from ssbench.settings import Settings as Base
from ssbench.settings import setting

from .architectures import ARCHITECTURES
from .masks import MASKS, split
from .objective import lp
from .targets import TARGETS

T = TypeVar("T")


class MIM(Method):
    """A mask says which patches are hidden, a target what they must predict, an architecture how, an L_p loss how well.

    Any mask goes with any target and any architecture; what one of them can't do, it says in one line.
    """

    class Settings(Base):
        mask: str = setting("random", f"what hides patches: {', '.join(MASKS)}", source="MAE, section 3")
        ratio: float = setting(0.75, "share of patches hidden", source="MAE, figure 5", unit="patches", gt=0, lt=1)
        target: str = setting("pixels-normed", f"what they must predict: {', '.join(TARGETS)}", source="MAE, table 1d")
        arch: str = setting("mae", f"how it is predicted: {', '.join(ARCHITECTURES)}", source="MAE, section 3")
        p: float = setting(2.0, "power of the differences in the loss", source="MAE, section 3", ge=1)
        tau: float = setting(1.0, "mask=adaptive: power of a patch's complexity", source="project: in proportion")
        decoder_depth: int = setting(
            1, "arch=mae: decoder's blocks", source="project: small encoders; MAE has 8", unit="blocks", ge=1
        )
        decoder_width: int = setting(
            64,
            "arch=mae: decoder's width",
            source="project: small encoders; MAE has 512",
            unit="units",
            multiple_of=32,
            ge=32,
        )

    settings: Settings

    @property
    def views(self) -> list[View]:
        return [View(crop=(0.2, 1.0), flip=0.5)]  # MAE, main_pretrain.py

    def build(self) -> None:
        s, encoder = self.settings, self.encoder
        self.mask, self.target = _pick(MASKS, "mask", s.mask), _pick(TARGETS, "target", s.target)
        make = _pick(ARCHITECTURES, "arch", s.arch)
        if encoder.patch is None:
            raise UserError(
                "masked image modelling needs patch tokens that can be dropped: take a ViT such as vit-nano"
            )
        blank = encoder.mean.new_zeros(1, encoder.mean.shape[1], *encoder.trunk.patch_embed.img_size)  # (1, C, H, W)
        self.mask(blank, encoder.grid(blank), s.ratio, torch.Generator(), tau=s.tau)  # refuses now what it can't do
        out = self.target(blank, encoder.patch).shape[-1]
        self.predict = make(encoder, out, decoder_depth=s.decoder_depth, decoder_width=s.decoder_width)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images, s = batch.views[0], self.settings  # (B, C, H, W)
        assert self.encoder.patch is not None
        mask = self.mask(images, self.encoder.grid(images), s.ratio, batch.generator, tau=s.tau)  # (B, N)
        visible, hidden = split(mask, s.ratio)  # (B, v), (B, h)
        target = self.target(images, self.encoder.patch)  # (B, N, d)
        target = target.gather(1, hidden[..., None].expand(-1, -1, target.shape[-1]))  # (B, h, d)
        prediction = self.predict(self.encoder, images, visible, hidden)  # (B, h, d)
        return {"reconstruction": lp(prediction, target, s.p)}


def _pick(table: Mapping[str, T], key: str, name: str) -> T:
    if name not in table:
        raise UserError(f"mim.{key}={name}: there is no such {key}{near(name, table)}")
    return table[name]
