"""How a ViT starts: MAE's weights and positions."""

from typing import Any

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

from ssbench.errors import UserError


@torch.no_grad()
def start_as_mae(trunk: Any) -> None:
    """Xavier weights and fixed sine-cosine positions (models_mae.py), in place."""
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    weight = trunk.patch_embed.proj.weight
    nn.init.xavier_uniform_(weight.view(len(weight), -1))
    if getattr(trunk, "cls_token", None) is not None:
        nn.init.normal_(trunk.cls_token, std=0.02)
    if getattr(trunk, "pos_embed", None) is not None:
        trunk.pos_embed.requires_grad_(False)
        trunk.pos_embed.zero_()
        rows, columns = trunk.patch_embed.grid_size
        trunk.pos_embed[0, -rows * columns :] = sincos(rows, columns, trunk.embed_dim)


def sincos(rows: int, columns: int, width: int) -> Tensor:
    """Fixed sine-cosine positions (rows * columns, width), MAE's but for the order of channels; 4 divides the width."""
    if width % 4:
        raise UserError(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    return build_sincos2d_pos_embed([rows, columns], dim=width)
