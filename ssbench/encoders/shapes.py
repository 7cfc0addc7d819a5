"""Weights under timm's names -> the timm network that they are of, by their shapes.

Attention heads leave no trace in shapes: `heads` says those of some widths, convention the others'.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from ssbench.encoders.architecture import Architecture
from ssbench.errors import UserError

Weights = dict[str, Tensor]
Heads = Mapping[int, int]  # of a width
SMALL_STEM = "a ResNet for small images (3 x 3 first convolution, no pooling behind it), which timm has not"
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1408: "giant", 1664: "gigantic"}
_BASIC: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
_BOTTLENECKS: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "resnet50",
    (3, 4, 23, 3): "resnet101",
    (3, 8, 36, 3): "resnet152",
}
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # timm's so400m, huge, giant, gigantic; MAE's and I-JEPA's too


def architecture(weights: Weights, heads: Heads) -> Architecture:
    """The smallest set of options that builds the network; raises UserError where shapes can't say it.

    Names that timm's filters wait for are left in `weights`, those that they don't know are changed there.
    """
    if "layer1.0.conv1.weight" in weights:
        return _resnet(weights, heads)
    if "layers.0.blocks.0.norm1.weight" in weights:
        return _swin(weights, heads)
    if "rope_embed.periods" in weights or "storage_tokens" in weights:
        return _dinov3(weights, heads)
    return (_beit if "blocks.0.attn.q_bias" in weights else _vit)(weights, heads)


def unknown(keys: Iterable[str], why: str) -> UserError:
    shown = list(keys)
    first = ", ".join(shown[:4]) + (f" ({len(shown)} in all)" if len(shown) > 4 else "")
    return UserError(f"{why}: {first or 'no tensors'}; name its timm network with --backbone, or save the trunk alone")


def _count(weights: Weights, parts: str) -> int:
    """How many numbered parts there are; raises UserError where one is missing between them."""
    found = {int(match[1]) for key in weights if (match := re.match(rf"{parts}\.(\d+)\.", key))}
    if not found:
        raise unknown(weights, f"a network without {parts}")
    if found != set(range(len(found))):
        there = ", ".join(map(str, sorted(found)))
        raise UserError(f"the weights are not whole: of {parts} there are {there}; take a file with all of them")
    return len(found)


def positions(weights: Weights) -> tuple[int, int]:
    """How many positions are not of patches, and how many patches a side the others are for."""
    length = weights["pos_embed"].shape[1] if weights["pos_embed"].ndim == 3 else 0
    for before in (0, 1, 1 + weights["reg_token"].shape[1] if "reg_token" in weights else 1):
        if length > before and (side := math.isqrt(length - before)) ** 2 == length - before:
            return before, side
    raise unknown([f"pos_embed {tuple(weights['pos_embed'].shape)}"], "positions that are of no square image")


def _ratio(hidden: int, width: int) -> float:
    """Such that timm's `int(width * ratio)` is the hidden width."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _patches(weights: Weights) -> tuple[int, int]:
    """Width and patch; raises UserError where patches are no colour squares."""
    shape = tuple(weights["patch_embed.proj.weight"].shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise unknown([f"patch_embed.proj.weight {shape}"], "patches that are no squares of three colours")
    return shape[0], shape[2]


def _heads(width: int, heads: Heads) -> int:
    if number := heads.get(width) or _HEADS.get(width) or (0 if width % 64 else width // 64):
        return number
    raise UserError(f"a width of {width} is no multiple of 64, so it can't say how many heads; name --backbone")


def _known(name: str, otherwise: str) -> str:
    """The name where timm has it; options say every size, so a name only helps a reader."""
    return name if timm.is_model(name) else otherwise


def _first(weights: Weights, key: str) -> Tensor:
    if key not in weights:
        raise unknown([key], "a network that looks known but is without")
    return weights[key]


def _vit(weights: Weights, heads: Heads) -> Architecture:
    (width, patch), depth = _patches(weights), _count(weights, "blocks")
    for key in list(weights):  # DINOv2's, DINO's and iBOT's names; registers wait for timm's filter
        new = re.sub(r"\.gamma_(\d)$", r".ls\1.gamma", key).replace(".mlp.w12.", ".mlp.fc1.").replace(".w3.", ".fc2.")
        weights[new] = weights.pop(key)
    if "pos_embed" not in weights:
        raise unknown(weights, "a ViT without positions")
    before, grid = positions(weights)
    classed, own = "cls_token" in weights, "register_tokens" in weights  # DINOv2's own registers have no position
    registers = next((weights[key].shape[1] for key in ("reg_token", "register_tokens") if key in weights), 0)
    hidden = len(_first(weights, "blocks.0.mlp.fc1.weight"))
    gated = hidden == 2 * _first(weights, "blocks.0.mlp.fc2.weight").shape[1]  # SwiGLU
    norm = weights.get("blocks.0.attn.q_norm.weight")
    averaged = "fc_norm.weight" in weights or not classed
    options = {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // len(norm) if norm is not None else _heads(width, heads),
        "mlp_ratio": _ratio(hidden, width),
        "qkv_bias": "blocks.0.attn.qkv.bias" in weights,
        "qk_norm": norm is not None,
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in weights else None,
        "class_token": classed,
        "reg_tokens": registers,
        "no_embed_class": own or (before == 0 and (classed or registers > 0)),
        "global_pool": "avg" if averaged else "token",
        "fc_norm": "fc_norm.weight" in weights,
        "dynamic_img_size": True,
    }
    if gated:  # options can't name the class of SwiGLU, this network brings it
        return Architecture("vit_giant_patch14_dinov2", options)
    size, end = _SIZES.get(width, "base"), "dinov2" if "blocks.0.ls1.gamma" in weights and patch == 14 else "224"
    return Architecture(_known(f"vit_{size}_patch{patch}_{end}", "vit_base_patch16_224"), options)


def _beit(weights: Weights, heads: Heads) -> Architecture:
    """BEiT's and SimMIM's ViT; their relative positions say the heads."""
    (width, patch), depth = _patches(weights), _count(weights, "blocks")
    own, shared = (f"{place}.relative_position_bias_table" for place in ("blocks.0.attn", "rel_pos_bias"))
    table = weights.get(own, weights.get(shared))
    if table is None and "pos_embed" not in weights:
        raise unknown(weights, "a BEiT without positions")
    grid = positions(weights)[1] if table is None else (math.isqrt(len(table) - 3) + 1) // 2
    options = {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": _heads(width, heads) if table is None else table.shape[1],
        "mlp_ratio": _ratio(len(_first(weights, "blocks.0.mlp.fc1.weight")), width),
        "init_values": 0.1 if "blocks.0.gamma_1" in weights else None,
        "use_abs_pos_emb": "pos_embed" in weights,
        "use_rel_pos_bias": own in weights,
        "use_shared_rel_pos_bias": shared in weights,
        "global_pool": "avg" if "fc_norm.weight" in weights else "token",
    }
    base = "beit_base_patch16_224"
    return Architecture(_known(base.replace("base", _SIZES.get(width, "base")), base), options)


def _dinov3(weights: Weights, heads: Heads) -> Architecture:
    """Meta's own; layer norms have eps 1e-5 there ("layernormbf16" in models/vision_transformer.py) and in timm."""
    (width, patch), depth = _patches(weights), _count(weights, "blocks")
    periods = weights.get("rope_embed.periods")  # a quarter of a head's width, 100 ** (2 i / (head / 2))
    if periods is not None:
        wanted = 100 ** (torch.arange(len(periods)) / len(periods))
        if not torch.allclose(periods, wanted, rtol=1e-2):  # some files have them in bfloat16
            raise unknown(["rope_embed.periods"], "a DINOv3 whose rotations are not those of timm's")
    weights.setdefault("storage_tokens", torch.zeros(1, 0, width))  # by which timm's filter knows DINOv3
    gated = "blocks.0.mlp.w1.weight" in weights
    hidden = len(_first(weights, f"blocks.0.mlp.{'w1' if gated else 'fc1'}.weight"))
    options = {
        "img_size": 224 // patch * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": _heads(width, heads) if periods is None else width // (4 * len(periods)),
        "mlp_ratio": _ratio(hidden, width),
        "swiglu_mlp": gated,
        "swiglu_align_to": 1 if gated else 0,  # apart from 0 it makes timm keep the two halves apart
        "qkv_bias": "blocks.0.attn.qkv.bias" in weights,
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in weights else None,
        "num_reg_tokens": weights["storage_tokens"].shape[1],
        "global_pool": "token",
        "dynamic_img_size": True,
    }
    for key, bias in weights.items():
        if key.endswith("qkv.bias") and f"{key}_mask" not in weights and bias.chunk(3)[1].any():
            raise UserError(f"{key} has a part for keys that timm's DINOv3 has not; the network can't be built exactly")
    base = "vit_base_patch16_dinov3"
    return Architecture(_known(base.replace("base", _SIZES.get(width, "base")), base), options)


def _swin(weights: Weights, heads: Heads) -> Architecture:
    """Swin V1, which SimMIM's is too; stages say their heads and windows in their relative positions."""
    width, patch = _patches(weights)
    stages = _count(weights, "layers")
    tables = [_first(weights, f"layers.{i}.blocks.0.attn.relative_position_bias_table") for i in range(stages)]
    window = (math.isqrt(len(tables[0])) + 1) // 2
    mask = weights.get("layers.0.blocks.1.attn_mask")  # (windows, w * w, w * w)
    grid = window * (2 ** (stages - 1) if mask is None else math.isqrt(len(mask)))  # by custom, one window at the end
    options = {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depths": [_count(weights, rf"layers\.{i}\.blocks") for i in range(stages)],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": window,
        "mlp_ratio": _ratio(len(_first(weights, "layers.0.blocks.0.mlp.fc1.weight")), width),
    }
    return Architecture("swin_tiny_patch4_window7_224", options)


def _resnet(weights: Weights, heads: Heads) -> Architecture:
    """ResNets, ResNeXts and the wide ones of torchvision, whose names are timm's own."""
    stem, middle = _first(weights, "conv1.weight"), _first(weights, "layer1.0.conv2.weight")
    if tuple(stem.shape[2:]) == (3, 3):
        raise UserError(f"the weights are those of {SMALL_STEM}; take a ResNet with the 7 x 7 convolution")
    if tuple(stem.shape) != (64, 3, 7, 7):
        raise unknown([f"conv1.weight {tuple(stem.shape)}"], "a ResNet whose first convolution timm has not")
    layers = tuple(_count(weights, f"layer{stage}") for stage in range(1, 5))
    known = _BOTTLENECKS if "layer1.0.conv3.weight" in weights else _BASIC
    options: dict[str, Any] = {} if layers in known else {"layers": list(layers)}
    if known is _BOTTLENECKS and tuple(middle.shape[:2]) != (64, 64):
        options |= {"cardinality": len(middle) // middle.shape[1], "base_width": middle.shape[1]}
    return Architecture(known.get(layers, next(iter(known.values()))), options)
