"""Projection heads that several families take."""

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from lightly.models.modules import DINOProjectionHead
from torch import Tensor, nn


class Prototypes(DINOProjectionHead):
    """DINO's head: three layers, a unit vector, its products with `out` prototypes, which are float32 under autocast.

    Prototypes are unit vectors, or start so where their `lengths` are learned.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, out: int, lengths: bool = False) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # lightly still calls torch's older weight norm
            super().__init__(width, hidden, bottleneck, out, norm_last_layer=not lengths)
        del self.last_layer.weight  # it is made anew on each call, and a teacher could not copy it

    def forward(self, x: Tensor) -> Tensor:
        unit = F.normalize(self.layers(x).float(), dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # cosines over a temperature lose digits in bfloat16
            return self.last_layer(unit)


def mlp(*widths: int, last_norm: bool = False, affine: bool = True, last_bias: bool = True) -> nn.Sequential:
    """Linear layers of these widths with batch norm and ReLU between them, without bias where a norm follows.

    `last_norm` puts a batch norm behind the last one, without weight and bias where not `affine`; `last_bias` says
    whether the last has a bias where none does.
    """
    layers: list[nn.Module] = []
    for k, (width, out) in enumerate(pairwise(widths)):
        last = k == len(widths) - 2
        normed = last_norm or not last
        layers.append(nn.Linear(width, out, bias=last_bias and not normed))
        if normed:
            layers.append(nn.BatchNorm1d(out, affine=affine or not last))
        if not last:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
