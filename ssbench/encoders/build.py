"""How a trunk is built by name, with random weights."""

from typing import Any

import timm
import torch
from torch import Tensor

from ssbench.encoders import names
from ssbench.encoders.architecture import Architecture
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.presets import PRESETS
from ssbench.encoders.start import start_as_mae
from ssbench.errors import UserError, one_line

COLOURS = 3


def build(name: str, *, size: int, channels: int, mean: Tensor, std: Tensor, patch: int = 0) -> Encoder:
    """A new encoder: any timm model or preset, fitted to the image size, channels and patch; raises UserError.

    A timm ViT keeps its own patch unless `patch` is another. ViTs start as MAE's do (Xavier weights, fixed sine-cosine
    positions: models_mae.py), which matters more than any other choice at small scale. ResNets get the 3x3 stem without
    pooling at 64 px and below, as in SimCLR's CIFAR code.
    """
    architecture = _architecture(name, size, channels, patch)
    try:
        trunk: Any = architecture.build()
    except Exception as error:  # timm's networks refuse sizes in ways of their own
        raise unfit(name, size, error) from None
    if names.is_vit(architecture.name):
        names.check_patch(name, trunk.patch_embed.patch_size[0], size, asked=False)
        start_as_mae(trunk)
    try:
        encoder = Encoder(trunk, mean, std, size)
    except Exception as error:
        if channels != COLOURS and _takes_colours(architecture, size):
            raise UserError(
                f"{name} takes images of {COLOURS} channels alone, not of {channels} ({one_line(error)}); "
                "take another backbone, such as vit-nano"
            ) from None
        raise unfit(name, size, error) from None
    encoder.architecture = architecture
    return encoder


def _takes_colours(architecture: Architecture, size: int) -> bool:
    """Whether a network takes images of the size in colours; some are made for no other channels (CSATv2's DCT)."""
    try:
        trunk = architecture.build(in_chans=COLOURS)
        Encoder(trunk, torch.zeros(COLOURS), torch.ones(COLOURS), size)
    except Exception:  # as above
        return False
    return True


def _architecture(name: str, size: int, channels: int, patch: int) -> Architecture:
    trunk, preset = names.trunk_of(name), PRESETS.get(name)
    vit, config = names.is_vit(trunk), timm.get_pretrained_cfg(trunk)
    options: dict[str, Any] = {"in_chans": channels, **(preset.sizes if preset else {})}
    if patch and not vit:
        raise UserError(f"backbone.patch={patch}: {name} is not a ViT whose patch size can be set")
    if patch:
        names.check_patch(name, patch, size, asked=patch != names.own_patch(name))
    if vit or (config is not None and config.fixed_input_size):
        options["img_size"] = size
    if vit:
        options["dynamic_img_size"] = True
    if patch or (preset and preset.grid):
        options["patch_size"] = patch or names.preset_patch(name, size)
    if preset and preset.unpooled:
        return Architecture(trunk, options, unpooled=True)
    return Architecture(trunk, options, small_stem=trunk.startswith("resnet") and size <= 64)


def unfit(name: str, size: int, error: Exception) -> UserError:
    """That a backbone can't take images of a size, with the size that timm names."""
    config = timm.get_pretrained_cfg(names.trunk_of(name))
    hint = f"; set data.image_size={config.input_size[-1]}, timm's own" if config else "; set data.image_size"
    return UserError(f"{name} can't take images of {size} px ({one_line(error)}){hint}")
