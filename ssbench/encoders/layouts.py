"""Anybody's weights -> the timm network that they are of, and the same weights under timm's names.

A file is told by its keys and shapes alone. What those can't say is taken by convention, and `recognise` names it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ssbench.encoders import names, shapes
from ssbench.encoders.architecture import Architecture
from ssbench.encoders.shapes import Weights, unknown
from ssbench.errors import UserError, near, one_line

Colour = tuple[float, float, float]
IMAGENET: tuple[Colour, Colour] = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
HALF: tuple[Colour, Colour] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Recognised:
    """A trunk out of a file. Whether `weights` are all that `architecture.build()` has is not looked at here."""

    layout: str  # as shown to a user
    architecture: Architecture
    weights: Mapping[str, Tensor]  # under timm's names, through timm's own checkpoint filter
    pooling: str  # the vector that its authors judge: "cls" or "mean"
    size: int  # px, of the images that it is judged at, or was trained at where its authors say no other
    mean: Colour
    std: Colour
    left_out: tuple[str, ...]  # keys of the file that are not the trunk's; `student.*` stands for a whole network


@dataclass(frozen=True)
class Layout:
    """How a family of files names the parts of a network, as changes that give timm's names."""

    anchor: str  # a key that every such file has, behind any prefix
    renames: tuple[tuple[str, str], ...] = ()  # patterns and replacements, one after the other
    beside: str = ""  # another key that they have
    refused: str = ""  # why timm can't build it


# Names read in huggingface/transformers models/vit, vit_mae, dinov2, dinov2_with_registers: modeling_* and convert_*.py
TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),  # query, key, value: fused below
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)
# torchvision/models/vision_transformer.py
TORCHVISION_VIT = (
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_", "blocks."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
)
# lightly's examples wrap `nn.Sequential(*list(resnet.children())[:-1])`, so torchvision's parts are numbered
SEQUENTIAL_RESNET = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    *((rf"^{i + 3}\.", f"layer{i}.") for i in range(1, 5)),
)
LAYOUTS = (
    Layout(r"embeddings\.patch_embeddings\.projection\.weight", TRANSFORMERS),
    Layout(r"conv_proj\.weight", TORCHVISION_VIT),
    # facebookresearch/capi model.py: Rope turns registers too, norms are RMS, the last has no weights
    Layout(r"encoder\.blocks\.0\.residual1\.norm\.weight", refused="CAPI's, whose rotated registers timm has not"),
    Layout(r"patch_embed\.proj\.weight", ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)),  # DINOv2's chunks for FSDP
    Layout(r"layer1\.0\.conv1\.weight"),
    Layout(r"4\.0\.conv1\.weight", SEQUENTIAL_RESNET, "1.running_mean"),
    Layout(
        r"2\.0\.conv1\.weight", (), "1.running_mean", refused=shapes.SMALL_STEM
    ),  # lightly/models/resnet.py, numbered
)


@dataclass(frozen=True)
class Origin:
    """Whose file it is, told by keys that all must be there, and what its authors do that keys don't say."""

    name: str
    signs: tuple[str, ...]  # patterns, each found in some key of the whole file
    pooling: str = "cls"
    size: int = 0  # 0: that of the positions
    colours: tuple[Colour, Colour] = IMAGENET
    heads: Mapping[int, int] = field(default_factory=dict)  # of a width, where it is not the common number


_HF = r"embeddings\.patch_embeddings\."
ORIGINS = (
    # dinov3/data/transforms.py: CROP_DEFAULT_SIZE is 224
    Origin("DINOv3", (r"(^|\.)(storage_tokens|rope_embed\.periods)$",), size=224),
    # dinov2/data/transforms.py, make_classification_eval_transform: 224, though positions are for 518
    Origin("transformers Dinov2 with registers", (r"embeddings\.register_tokens$",), size=224),
    Origin("transformers Dinov2", (r"\.layer_scale1\.lambda1$",), size=224),
    Origin("DINOv2", (r"\.ls1\.gamma$", r"(^|\.)(mask_token|register_tokens)$|\.w12\.weight$"), size=224),
    Origin("transformers ViTMAE", (_HF, r"decoder_embed\.")),
    # ViTImageProcessor's own; DINO's files have neither head nor pooler (convert_dino_to_pytorch.py)
    Origin("transformers ViT", (_HF, r"(^|\.)(pooler\.dense|classifier)\.weight$"), colours=HALF),
    Origin("transformers ViT", (_HF,)),
    Origin("torchvision ViT", (r"(^|\.)conv_proj\.weight$",)),
    Origin("MAE", (r"decoder_blocks\.",)),  # main_linprobe.py: the class token
    Origin("I-JEPA", (r"(^|\.)(target_encoder|predictor_blocks)\.", r"patch_embed\."), "mean"),
    Origin("iBOT", (r"(^|\.)(masked_embed$|head\.last_layer2\.)",)),
    Origin("SimMIM", (r"(^|\.)encoder\.patch_embed\.", r"(^|\.)decoder\.0\.weight$"), "mean"),  # data_simmim.py
    # unilm/beit/modeling_finetune.py: 0.5 and the mean of patches; beit2's README: ImageNet's
    Origin("BEiT v2", (r"\.attn\.q_bias$", r"(^|\.)cls_pt_layers\."), "mean"),
    Origin("BEiT", (r"\.attn\.q_bias$",), "mean", colours=HALF),
    Origin("MoCo v3", (r"(^|\.)base_encoder\.", r"(^|\.)momentum_encoder\."), heads={384: 12}),  # vits.py
    Origin("MoCo", (r"(^|\.)encoder_q\.",)),
    Origin("DINO", (r"(^|\.)head\.last_layer\.",)),
    Origin("SwAV", (r"(^|\.)prototypes", r"layer1\.0\.conv1")),
    Origin("VISSL ResNet", (r"_feature_blocks\.layer1\.",)),
    Origin("lightly ResNet", (r"(^|\.)4\.0\.conv1\.weight$", r"(^|\.)1\.running_mean$")),
    Origin("ResNet", (r"(^|\.)layer1\.0\.conv1\.weight$",)),
    Origin("Swin", (r"(^|\.)layers\.0\.blocks\.0\.",)),
    Origin("timm ViT", ()),
)
# What may lie beside a trunk under the same prefix.
_BESIDE = re.compile(
    r"^(\w*head|heads|fc|classifier|linear|pooler|mask_token|masked_embed|decoder\w*|lm_head|proj(ect)\w+|predict\w+"
    r"|prototypes\w*|queue\w*|cls_pt_layers|local_cls_norm|rope_embed|momentum\w*|student\w*|\w+_momentum)(\.|$)"
    r"|(relative_position_index|attn_mask|bias_mask)$"
)
# Which network of a file is judged: a query encoder before a teacher, that before others, these before helpers.
_PREFERENCE = (
    (r"encoder_q|base_encoder|online", 0),
    (r"teacher|target|(^|[._])ema([._]|$)", 1),
    (r"student|momentum|encoder_k", 3),
    ("", 2),
)
_WRAPPER = re.compile(r"^((state_dict|model|module|backbone|encoder|network|trunk|net)\.)+")


def recognise(found: Mapping[str, Any], backbone: str = "") -> Recognised:
    """The network that a checkpoint is of, wrapped as it may be; `backbone`, a timm name, says what keys can't.

    What leaves no trace in keys and shapes is taken by convention. Attention heads are 64 wide (tiny 3, small 6, base
    12, large 16), but there are 16 in so400m, huge and giant, and 12 in MoCo v3's small. Activations are GELU, or SiLU
    in a SwiGLU; a ResNet's strides and pooling are torchvision's. Layer norms have timm's eps of 1e-6; transformers'
    ViT has 1e-12, which shows only where a token's variance is near 1e-6. A fine-tuned SimMIM is taken for a BEiT, and
    a bare encoder of MAE, DINO or iBOT for a "timm ViT", which it equals. Networks that differ from these (SigLIP's,
    those with rotations beside positions) need `backbone`.

    Positions keep their grid and are resized by timm when other images come: antialiased, as DINOv2's models with
    registers do and those without don't. A file that was cut at a block's border is a shallower network with the same
    final norm: compare `depth` in `architecture.options` with what was expected. Raises UserError, in one line, for
    files of no known layout, of two networks, with parts missing, more than a trunk has, or that timm can't build.
    """
    tensors = _flat(found)
    origin = _said_by_timm(backbone) if backbone else _origin(tensors)
    network = backbone.partition(".")[0]
    layout, prefix, inside, outside = _locate(tensors, network)
    if layout.refused:
        raise UserError(f"the weights are those of {layout.refused}; take another file")
    weights = _renamed(layout, inside)
    architecture = _named(network, weights) if network else shapes.architecture(weights, origin.heads)
    model = _blank(architecture)
    beside = {key for key in weights if _BESIDE.search(key) and key not in model.state_dict()}
    trunk = {key: value for key, value in weights.items() if key not in beside}
    return Recognised(
        origin.name,
        architecture,
        _filtered(trunk, model),
        origin.pooling if getattr(model, "global_pool", "") == "token" else "mean",
        origin.size or architecture.options.get("img_size", 224),
        *origin.colours,
        (*(prefix + key for key in inside if _rename(layout, key) in beside), *outside),
    )


def _flat(found: Mapping[str, Any], prefix: str = "") -> Weights:
    """Every tensor in nested dicts by its dotted name; an optimiser's have numbers for names."""
    flat: Weights = {}
    for key, value in found.items():
        if isinstance(value, Tensor):
            flat[f"{prefix}{key}"] = value
        elif isinstance(value, dict) and all(isinstance(inner, str) for inner in value):
            flat |= _flat(value, f"{prefix}{key}.")
    return flat


def _locate(tensors: Weights, network: str) -> tuple[Layout, str, Weights, list[str]]:
    """The layout, the prefix of the trunk's keys, its weights without that, and what else the file has."""
    for layout in (*LAYOUTS, *_own(network)):
        matches = (re.match(rf"((?:.*\.)?){layout.anchor}$", key) for key in tensors)
        if prefixes := [m[1] for m in matches if m and (not layout.beside or m[1] + layout.beside in tensors)]:
            break
    else:
        if not network:
            raise unknown(tensors, "weights in no known layout")
        return Layout(""), "", {_WRAPPER.sub("", key): value for key, value in tensors.items()}, []
    rank = {prefix: next(n for words, n in _PREFERENCE if re.search(words, prefix)) for prefix in prefixes}
    chosen, *others = sorted(prefixes, key=lambda prefix: rank[prefix])
    if others and rank[chosen] == rank[others[0]]:
        raise UserError(f"the file has two networks, {chosen}* and {others[0]}*; save the weights of one alone")
    inside: Weights = {}
    outside = [f"{other}*" for other in others]
    for key, value in tensors.items():
        owners = [prefix for prefix in prefixes if key.startswith(prefix)]
        if not owners:
            outside.append(key)
        elif max(owners, key=len) == chosen:
            inside[key.removeprefix(chosen)] = value
    return layout, chosen, inside, outside


def _own(network: str) -> tuple[Layout, ...]:
    """The names that timm has for a network itself, told by its first key."""
    return (Layout(re.escape(next(iter(_blank(Architecture(network)).state_dict())))),) if network else ()


def _origin(tensors: Weights) -> Origin:
    return next(o for o in ORIGINS if all(any(re.search(sign, key) for key in tensors) for sign in o.signs))


def _said_by_timm(backbone: str) -> Origin:
    """The size and colours of the tag, else those that all tags of the network share, else ImageNet's."""
    network, _, tag = backbone.partition(".")
    if not timm.is_model(network):
        raise UserError(f"unknown backbone {backbone!r}{near(network, timm.list_models())}")
    known = timm.list_pretrained(f"{network}.*")
    if tag and backbone not in known:
        raise UserError(f"unknown backbone {backbone!r}{near(backbone, known)}")
    tags = [backbone] if tag else known
    configs = [config for name in tags if (config := timm.get_pretrained_cfg(name))]
    colours: set[tuple[Any, Any]] = {(config.mean, config.std) for config in configs}
    sizes = {config.input_size[-1] for config in configs}
    positions = names.is_vit(network)  # which then say the size
    size = sizes.pop() if len(sizes) == 1 and not positions else 0
    return Origin(f"timm {backbone}", (), size=size, colours=colours.pop() if len(colours) == 1 else IMAGENET)


def _rename(layout: Layout, key: str) -> str:
    for pattern, replacement in layout.renames:
        key = re.sub(pattern, replacement, key)
    return key


def _renamed(layout: Layout, inside: Weights) -> Weights:
    """Under the names that timm's filters know, in float32, with separate queries, keys and values made one."""
    renamed = {
        _rename(layout, key): value.detach().float() if value.is_floating_point() else value
        for key, value in inside.items()
    }
    for key in [key for key in renamed if ".attn.query." in key]:
        parts = [key.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if missing := [part for part in parts if part not in renamed]:
            raise unknown(missing, "a query weight without its key or value")
        renamed[key.replace(".query.", ".qkv.")] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


def _named(name: str, weights: Weights) -> Architecture:
    """The network of a timm name, for the images that its positions are for."""
    if not names.is_vit(name):
        return Architecture(name)
    options: dict[str, Any] = {"dynamic_img_size": True}
    if "pos_embed" in weights and "patch_embed.proj.weight" in weights:
        options["img_size"] = shapes.positions(weights)[1] * weights["patch_embed.proj.weight"].shape[-1]
    return Architecture(name, options)


def _blank(architecture: Architecture) -> Any:
    """The network without memory for weights."""
    try:
        with torch.device("meta"):
            return architecture.build()
    except Exception as error:  # timm's networks refuse sizes in ways of their own
        raise UserError(f"timm can't build {architecture.name} as the weights are ({one_line(error)})") from None


def _filtered(weights: Weights, model: Any) -> Weights:
    """Through the filter that timm has for the network's family, where it has one."""
    own_names = any(key == "register_tokens" or ".mlp.w12." in key for key in weights)
    if own_names and isinstance(model, VisionTransformer):
        weights = weights | {"mask_token": torch.zeros(0)}  # by which timm's filter knows DINOv2; it drops it
    own = getattr(import_module(type(model).__module__), "checkpoint_filter_fn", None)
    try:
        filtered = own(dict(weights), model) if own else weights
    except Exception as error:  # of a file that is of another network
        raise unknown(weights, f"weights that timm's filter can't take ({one_line(error)})") from None
    return {key: value for key, value in filtered.items() if value.numel() or key != "reg_token"}
