"""How hidden patches are predicted from visible ones. An architecture is a module with

    forward(encoder, images (B, C, H, W), visible (B, v), hidden (B, h)) -> (B, h, out)

where `visible` and `hidden` are the positions of patches, in row-major order. It is built with the encoder, for its
sizes, the target's width and the settings it names; the encoder is handed in at each call, for it is the method's.
"""

from collections.abc import Callable

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ssbench.encoder import Encoder, sincos

HEAD = 32  # width of an attention head: MAE's decoder has 512 / 16


class MAEDecoder(nn.Module):
    """The encoder sees visible patches only; a narrow decoder also sees a mask token in each hidden place (MAE).

    He et al. 2021, models_mae.py: fixed sine-cosine positions, Xavier weights. Unlike there, the class token stays in
    the encoder.
    """

    def __init__(self, encoder: Encoder, out: int, *, decoder_depth: int, decoder_width: int, **_: object) -> None:
        super().__init__()
        self.width = decoder_width
        self.enter = nn.Linear(encoder.dim, self.width)
        self.mask_token = nn.Parameter(torch.empty(self.width).normal_(std=0.02))
        blocks = (Block(self.width, self.width // HEAD, qkv_bias=True) for _ in range(decoder_depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.head = nn.Linear(self.width, out)
        self.apply(_xavier)

    def forward(self, encoder: Encoder, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Predictions at the hidden patches, (B, h, out)."""
        seen = self.enter(encoder.tokens(images, visible))  # (B, v, width)
        tokens = torch.cat([seen, self.mask_token.expand(*hidden.shape, -1)], 1)  # (B, v + h, width)
        positions = sincos(*encoder.grid(images), self.width).to(images.device)  # (N, width)
        places = positions[torch.cat([visible, hidden], 1)]
        decoded = self.blocks(tokens + places)  # not sorted back: places are all that blocks know of order
        return self.head(self.norm(decoded[:, visible.shape[1] :]))


class MaskTokens(nn.Module):
    """The encoder sees every place, a mask token in the hidden ones, and one linear layer predicts (SimMIM).

    Xie et al. 2021, arXiv:2111.09886, models/simmim.py. It costs the encoder all patches where `mae` costs the visible.
    """

    def __init__(self, encoder: Encoder, out: int, **_: object) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(encoder.dim).normal_(std=0.02))
        self.head = nn.Linear(encoder.dim, out)

    def forward(self, encoder: Encoder, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Predictions at the hidden patches, (B, h, out)."""
        tokens = encoder.tokens_with_masks(images, hidden, self.mask_token)  # (B, N, D)
        return self.head(tokens.gather(1, hidden[..., None].expand(-1, -1, tokens.shape[-1])))


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"mae": MAEDecoder, "simmim": MaskTokens}
