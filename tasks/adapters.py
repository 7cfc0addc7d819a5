"""Ways of adapting a trained encoder: which of its weights learn, and what is put in beside them.

A way changes a copy of an encoder in place, so that the weights it trains, and no others, require gradients, and says
in words what it became. Those with a size take the largest that comes nearest to `budget` parameters, so that they can
be compared. Raises NotApplicable for networks without a place for it.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable

from .training import Network, stage_layers

SCALE = 0.1  # of an adapter's output: AdaptFormer (Chen et al. 2022), main_image.py
QUERIES = r"(.*\.)?blocks\.\d+\.attn\.(qkv|q_proj|v_proj)"  # LoRA's places: query and value; timm joins the key to them


def head(encoder: Encoder, budget: int) -> str:
    """Nothing of the encoder learns."""
    encoder.requires_grad_(False)
    return "nothing"


def bitfit(encoder: Encoder, budget: int) -> str:
    """Every bias learns, those of norms included (Ben Zaken et al. 2021, arXiv:2106.10199)."""
    found = [weight for name, weight in encoder.trunk.named_parameters() if name.endswith("bias")]
    if not found:
        raise NotApplicable("this backbone has no biases")
    encoder.requires_grad_(False)
    for weight in found:
        weight.requires_grad_(True)
    return f"{len(found)} biases"


def lora(encoder: Encoder, budget: int) -> str:
    """W + 2 B A beside the query and value projections of every block, B from zero (Hu et al. 2021, arXiv:2106.09685).

    By the peft library, with alpha twice the rank. timm's `qkv` is one layer, so that the key learns too.
    """
    from peft import LoraConfig, inject_adapter_in_model  # an extra, and 2 seconds

    places = [module for name, module in encoder.trunk.named_modules() if re.fullmatch(QUERIES, name)]
    if not places:
        raise NotApplicable("this backbone has no attention with projections by timm's names")
    rank = fitting(budget, sum(place.in_features + place.out_features for place in places))
    encoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=QUERIES), encoder.trunk)
    return f"rank {rank}"


class Parallel(nn.Module):
    """An MLP and a bottleneck beside it, whose output starts at zero; tokens (B, T, D)."""

    def __init__(self, mlp: nn.Module, dim: int, width: int) -> None:
        super().__init__()
        self.mlp, self.down, self.up = mlp, nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + SCALE * self.up(self.down(x).relu())


def adapter(encoder: Encoder, budget: int) -> str:
    """A bottleneck parallel to the MLP of every block (AdaptFormer, Chen et al. 2022, arXiv:2205.13535).

    The peft library has no adapter of this kind for a plain module. This one reads what the MLP reads, the normalised
    tokens, where AdaptFormer's reads them before the norm (ShoufaChen/AdaptFormer, models/custom_modules.py).
    """
    blocks = _blocks(encoder)
    if not all(hasattr(block, "mlp") for block in blocks):
        raise NotApplicable("the blocks of this backbone have no MLP by timm's name")
    dim = encoder.trunk.num_features
    width = fitting(budget - dim * len(blocks), (2 * dim + 1) * len(blocks))
    encoder.requires_grad_(False)
    for block in blocks:
        block.mlp = Parallel(block.mlp, dim, width).to(encoder.mean.device)
    return f"width {width}"


class Prompted(nn.Module):
    """A block that sees learnt tokens (p, D) behind those of the image, (B, T, D), and gives the latter alone."""

    def __init__(self, block: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.block, self.tokens = block, nn.Parameter(tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(torch.cat([x, self.tokens.expand(len(x), -1, -1)], 1))[:, : x.shape[1]]


def prompt(encoder: Encoder, budget: int) -> str:
    """Learnt tokens of its own for every block (VPT-deep, Jia et al. 2022, arXiv:2203.12119), with VPT's start.

    They are behind the patches, not before them, which is the same to attention without positions. Tokens that start
    anywhere change what the frozen network gives.
    """
    blocks, dim = _blocks(encoder), encoder.trunk.num_features
    if getattr(encoder.trunk, "rope", None) is not None:
        raise NotApplicable("this backbone rotates positions, which tokens without a place have not")
    count = fitting(budget, dim * len(blocks))
    most = math.sqrt(6 / (3 * (encoder.patch or 1) ** 2 + dim))  # KMnP/vpt, src/models/vit_prompt/vit.py
    encoder.requires_grad_(False)
    for i, block in enumerate(blocks):
        tokens = torch.empty(count, dim).uniform_(-most, most).to(encoder.mean.device)
        encoder.trunk.blocks[i] = Prompted(block, tokens)
    return f"{count} tokens a block"


def last(encoder: Encoder, budget: int) -> str:
    """The last block that is read and the norm behind it; of a net in stages the blocks of the last layer of rates."""
    encoder.requires_grad_(False)
    trunk = encoder.trunk
    if encoder.has_tokens:
        for part in (trunk.blocks[(encoder.block or encoder.depth) - 1], trunk.norm, trunk.fc_norm):
            part.requires_grad_(True)
        return "last block"
    layer = stage_layers(trunk)
    for name in (name for name in layer if layer[name] == max(layer.values())):
        trunk.get_parameter(name).requires_grad_(True)
    return "last layer"


def full(encoder: Encoder, budget: int) -> str:
    """All weights learn, as in `finetune`."""
    return "all weights"


WAYS: dict[str, Callable[[Encoder, int], str]] = {
    way.__name__: way for way in (head, bitfit, lora, adapter, prompt, last, full)
}
MATCHED = ("lora", "adapter", "prompt")  # have a size


class Adapted(Network):
    """An adapted encoder and its head; what is frozen stays in evaluation mode, batch norms with it."""

    def __init__(self, encoder: Encoder, classes: int, way: str, share: float) -> None:
        super().__init__(encoder, classes)
        self.whole = way == "full"
        self.became = WAYS[way](encoder, round(share * sum(weight.numel() for weight in encoder.trunk.parameters())))

    def train(self, mode: bool = True) -> "Adapted":
        super().train(mode)
        self.encoder.train(mode and self.whole)
        return self

    def groups(self, lr: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
        """Layers have rates of their own where all of them learn; else all that learns has one and no decay."""
        if self.whole:
            return super().groups(lr, layer_decay, weight_decay)
        return [{"params": [w for w in self.parameters() if w.requires_grad], "weight_decay": 0.0, "peak": lr}]


def fitting(budget: float, unit: int) -> int:
    """How many times `unit` parameters come nearest to a budget, at least once."""
    return max(1, round(budget / unit))


def reached(module: nn.Module) -> int:
    """How many parameters have a gradient."""
    return sum(weight.numel() for weight in module.parameters() if weight.grad is not None)


def _blocks(encoder: Encoder) -> list[Any]:
    if not encoder.has_tokens:
        raise NotApplicable("this backbone gives no patch tokens")
    return list(encoder.trunk.blocks)


def step(network: nn.Module, images: Tensor) -> int:
    """A forward and a backward pass, and the bytes that the one keeps for the other, weights left out."""
    own = {weight.untyped_storage().data_ptr() for weight in (*network.parameters(), *network.buffers())}
    kept = dict[int, int]()

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = network(images).sum()
    loss.backward()
    return sum(size for place, size in kept.items() if place not in own)
