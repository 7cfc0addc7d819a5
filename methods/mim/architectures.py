"""How hidden patches are predicted from visible ones. An architecture is a module with

    see(encoder, images (B, C, H, W), visible (B, v)) -> Seen         what the encoder makes of the visible patches
    forward(seen, asked (B, h), (rows, columns)) -> (B, h, out)       what stands at other places, from that

where `visible` and `asked` are positions of patches, in row-major order; asked are the hidden ones, or some of them. It
is built with the encoder, for its sizes, the target's width and, as keyword-only arguments, the settings that it needs;
the encoder is handed in at each call, for it is the method's. A width of None is for targets that have a head of their
own: out is then a token as wide as the encoder's.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.encoders.start import sincos

from .masks import Grid, split

HEAD = 32  # width of an attention head: MAE's decoder has 512 / 16


class Seen(NamedTuple):
    """The encoder's tokens of one masked image."""

    prefix: Tensor  # (B, P, D): the class token, if there is one, and registers
    patches: Tensor  # (B, n, D)
    places: Tensor  # (B, n): where they are


class Architecture(Protocol):
    """As above."""

    def see(self, encoder: Encoder, images: Tensor, visible: Tensor) -> Seen: ...

    def __call__(self, seen: Seen, asked: Tensor, grid: Grid) -> Tensor: ...


def see_visible(encoder: Encoder, images: Tensor, visible: Tensor) -> Seen:
    """Only the visible patches are ever computed."""
    return Seen(*encoder.sequence(images, visible), visible)


class MAEDecoder(nn.Module):
    """The encoder sees visible patches only; a narrow decoder also sees a mask token in each asked place (MAE).

    He et al. 2021, models_mae.py: fixed sine-cosine positions, Xavier weights. Unlike there, the class token stays in
    the encoder, and places that are hidden but not asked are left out.
    """

    def __init__(self, encoder: Encoder, out: int | None, *, decoder_depth: int, decoder_width: int) -> None:
        super().__init__()
        self.width = decoder_width
        self.enter = nn.Linear(encoder.dim, self.width)
        self.mask_token = nn.Parameter(torch.empty(self.width).normal_(std=0.02))
        blocks = (Block(self.width, self.width // HEAD, qkv_bias=True) for _ in range(decoder_depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.head = nn.Linear(self.width, out or encoder.dim)
        self.apply(_xavier)

    see = staticmethod(see_visible)

    def forward(self, seen: Seen, asked: Tensor, grid: Grid) -> Tensor:
        """Predictions at the asked patches, (B, h, out)."""
        return self.decode(seen, asked, grid)[:, seen.places.shape[1] :]

    def decode(self, seen: Seen, asked: Tensor, grid: Grid) -> Tensor:
        """What it says of the seen places and then of the asked ones, (B, v + h, out)."""
        known = self.enter(seen.patches)  # (B, v, width)
        tokens = torch.cat([known, self.mask_token.expand(*asked.shape, -1)], 1)  # (B, v + h, width)
        places = _positions(grid, known)[torch.cat([seen.places, asked], 1)]
        decoded = self.blocks(tokens + places)  # not sorted back: places are all that blocks know of order
        return self.head(self.norm(decoded))


class CrossDecoder(nn.Module):
    """The encoder sees visible patches only; asked places look at them, and not at one another (CrossMAE, CAPI).

    Fu et al. 2024, arXiv:2401.14391, models_cross.py; Darcet et al. 2025, model.py. A query is a mask token and its
    fixed sine-cosine position, so it costs what is asked, whatever the number of patches, and I-JEPA's blocks can be
    asked in one pass. Unlike CrossMAE, each block sees the encoder's last layer, not a learned sum of all; unlike both,
    no prefix tokens.
    """

    def __init__(self, encoder: Encoder, out: int | None, *, decoder_depth: int, decoder_width: int) -> None:
        super().__init__()
        self.width = decoder_width
        self.enter = nn.Linear(encoder.dim, self.width)
        self.mask_token = nn.Parameter(torch.empty(self.width).normal_(std=0.02))
        self.blocks = nn.ModuleList(CrossBlock(self.width) for _ in range(decoder_depth))
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.head = nn.Linear(self.width, out or encoder.dim)
        self.apply(_xavier)

    see = staticmethod(see_visible)

    def forward(self, seen: Seen, asked: Tensor, grid: Grid) -> Tensor:
        """Predictions at the asked patches, (B, h, out)."""
        known = self.enter(seen.patches)  # (B, v, width)
        positions = _positions(grid, known)  # (N, width)
        known = known + positions[seen.places]  # (B, v, width)
        query = self.mask_token + positions[asked]  # (B, h, width)
        for block in self.blocks:
            query = block(query, known)
        return self.head(self.norm(query))


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.norm, self.norm_seen, self.norm_mlp = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.query, self.key_value, self.proj = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (B, h, width) looks at seen (B, v, width)."""
        query = self.query(self.norm(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, h, d)
        key, value = self.key_value(self.norm_seen(seen)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


class MaskTokens(nn.Module):
    """The encoder sees every place, a mask token in the hidden ones, and one linear layer predicts (SimMIM, BEiT).

    Xie et al. 2021, arXiv:2111.09886, models/simmim.py. It costs the encoder all patches where `mae` costs the visible.
    """

    def __init__(self, encoder: Encoder, out: int | None) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(encoder.dim).normal_(std=0.02))
        self.head = nn.Linear(encoder.dim, out) if out else nn.Identity()

    def see(self, encoder: Encoder, images: Tensor, visible: Tensor) -> Seen:
        """Every place is computed."""
        rows, columns = encoder.grid(images)
        places = torch.arange(rows * columns, device=images.device).expand(len(images), -1)
        _, hidden = split(torch.ones_like(places).scatter_(1, visible, 0), rows * columns - visible.shape[1])
        return Seen(*encoder.sequence_with_masks(images, hidden, self.mask_token), places)

    def forward(self, seen: Seen, asked: Tensor, grid: Grid) -> Tensor:
        """Predictions at the asked patches, (B, h, out)."""
        return self.head(take(seen.patches, asked))


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """What stands at `places` (B, n) of (B, N) or (B, N, d)."""
    return tokens.gather(1, places if tokens.ndim == 2 else places[..., None].expand(-1, -1, tokens.shape[-1]))


def _positions(grid: Grid, like: Tensor) -> Tensor:
    """Fixed sine-cosine positions of the width and on the device of `like`, (N, width)."""
    return _table(grid, like.shape[-1], like.device)


@lru_cache(maxsize=8)  # one copy to the device, not one a step
def _table(grid: Grid, width: int, device: torch.device) -> Tensor:
    return sincos(*grid, width).to(device)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


ARCHITECTURES: dict[str, Callable[..., Architecture]] = {"mae": MAEDecoder, "simmim": MaskTokens, "cross": CrossDecoder}
