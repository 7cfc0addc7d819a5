"""What a backbone's name stands for, and the side of its patches at an image size."""

import re
from difflib import get_close_matches

import timm

from ssbench.encoders.presets import LARGEST, PRESETS, Preset
from ssbench.errors import UserError


def trunk_of(name: str) -> str:
    """The timm network behind a backbone's name; raises UserError for a name that is unknown or of trained weights."""
    if name in PRESETS:
        return PRESETS[name].trunk
    network, _, weights = name.partition(".")
    if weights and timm.is_model(network):
        raise UserError(
            f"{name} names trained weights: judge them with --encoder or start from them with --init, timm:{name}"
        )
    if not timm.is_model(name):
        raise UserError(f"unknown backbone {name!r}{close(name) or '; see ssbench list backbones'}")
    return name


def close(name: str) -> str:
    """`; did you mean this or that?`, where there are names like it."""
    found = get_close_matches(name, [*PRESETS, *timm.list_models()], n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def is_vit(trunk: str) -> bool:
    """Whether timm's name stands for a VisionTransformer or Eva class: the two that can drop tokens."""
    return timm.model_entrypoint(trunk).__module__.rpartition(".")[2] in ("vision_transformer", "eva", "deit")


def own_patch(name: str) -> int:
    """The side of patches that a timm ViT's name says, in pixels; 0 for presets, other networks and no word of it."""
    said = re.search(r"patch(\d+)", name)
    return int(said[1]) if said and name not in PRESETS and is_vit(trunk_of(name)) else 0


def preset_patch(name: str, size: int) -> int:
    """The patch that gives a preset its grid at this image size, or the next smaller divisor, down to half of it.

    It is 16 px at most. Raises UserError where there is none, with the nearest sizes that have one.
    """
    preset = PRESETS[name]
    if patch := _divisor(preset, size):
        return patch
    lower = next((s for s in range(size - 1, 0, -1) if _divisor(preset, s)), None)
    upper = next(s for s in range(size + 1, 2 * size) if _divisor(preset, s))
    sizes = f"{lower} or {upper}" if lower else str(upper)
    raise UserError(f"{name} has no patch that divides images of {size} px; set data.image_size={sizes}")


def _divisor(preset: Preset, size: int) -> int | None:
    wanted = max(min(size // preset.grid, LARGEST), 1)
    patch = largest_divisor(size, wanted)
    return patch if 2 * patch >= wanted else None


def check_patch(name: str, patch: int, size: int, *, asked: bool) -> None:
    """Raises UserError where a patch, `asked` for or the network's own, does not divide the image size."""
    if size % patch == 0:
        return
    lower = size // patch * patch
    sizes = f"data.image_size={lower} or {lower + patch}" if lower else f"data.image_size={patch}"
    smaller = largest_divisor(size, min(patch, size // 2))
    fits = f", or backbone.patch={smaller}" if smaller > 1 else ""
    what = f"backbone.patch={patch} does" if asked else f"{name} has patches of {patch} px, which do"
    raise UserError(f"{what} not divide the image size {size}; set {sizes}{fits}")


def largest_divisor(size: int, most: int) -> int:
    """The largest divisor of `size` up to `most`, at least 1."""
    return next(p for p in range(max(most, 1), 0, -1) if size % p == 0)
