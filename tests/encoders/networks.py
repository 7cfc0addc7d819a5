"""Networks of timm with random weights, and images for them, normalised as ImageNet's are."""

from typing import Any

import timm
import torch
from torch import Tensor

from ssbench.encoders.architecture import Architecture
from ssbench.encoders.given import Given
from ssbench.encoders.layouts import IMAGENET

NAME = "vit_tiny_patch16_224"
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}


def network(name: str, **options: Any) -> Any:
    """Random weights and batch statistics, so that nothing is zero or one."""
    torch.manual_seed(0)
    trunk: Any = timm.create_model(name, num_classes=0, **options)
    with torch.no_grad():
        for value in trunk.state_dict().values():
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    return trunk.eval()


def images(size: int, count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8)


def normalised(found: Tensor) -> Tensor:
    mean, std = (torch.tensor(one)[:, None, None] for one in IMAGENET)
    return (found / 255 - mean) / std


def built(trunk: Any, architecture: Architecture, size: int) -> Given:
    return Given("file:net.pth@0123456789abcdef", "timm", size, *IMAGENET, "", 0, architecture, trunk.state_dict())
