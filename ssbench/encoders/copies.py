"""A trainable copy of a judged encoder, with stochastic depth."""

from copy import deepcopy

import torch
from timm.layers.drop import DropPath
from torch import nn

from ssbench.encoders.encoder import Encoder


def trainable(encoder: Encoder, drop_path: float = 0.0) -> Encoder:
    """A copy whose weights learn as those of a new encoder do: a teacher's are frozen, fixed positions stay fixed."""
    copy = deepcopy(encoder)
    for name, parameter in copy.named_parameters():
        parameter.requires_grad_(name not in copy.fixed)
    copy.zero_grad(set_to_none=True)  # the last step of training may have left some
    set_drop_path(copy.trunk, drop_path)
    return copy.train()


def set_drop_path(trunk: nn.Module, most: float, uniform: bool = False) -> None:
    """Set the chance to skip a block, rising evenly from 0 in the first to `most` in the last (Huang et al. 2016).

    Where `uniform`, it is `most` in all of them.

    A block is a module of timm's with a place for it. Most families get what timm's own `drop_path_rate` builds; those
    that timm gives another rule rise evenly here too, and those without such places are left as they are.
    """
    blocks = [(module, found) for module in trunk.modules() if (found := _slots(module))]
    for (block, names), rate in zip(blocks, torch.linspace(most if uniform else 0, most, len(blocks)).tolist()):
        for name in names:
            if rate or getattr(block, name) is not None:  # a ResNet's None stays where nothing is skipped
                setattr(block, name, DropPath(rate) if rate else nn.Identity())


def _slots(block: nn.Module) -> list[str]:
    """Names under which a block of timm's keeps its stochastic depth; ResNets have None there until it is asked for."""
    return [
        name
        for name in ("drop_path", "drop_path1", "drop_path2")
        if isinstance(getattr(block, name, ...), DropPath | nn.Identity)
        or (name == "drop_path" and getattr(block, name, ...) is None)
    ]
