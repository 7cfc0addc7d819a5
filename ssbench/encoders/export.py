"""An encoder as files that plain timm loads: what is in them, and how they are read again. Nothing is written here."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors.torch import save

from ssbench.encoders.architecture import Architecture
from ssbench.encoders.card import Description, card, folder_lines, lines
from ssbench.encoders.encoder import OWN, Encoder
from ssbench.errors import NotApplicable, UserError, one_line

Format = Literal["safetensors", "hf-folder"]
FOLDER_WEIGHTS = "model.safetensors"  # the names that timm looks for in a folder (timm/models/_hub.py)
FOLDER_CONFIG = "config.json"
KEY = "ssbench"  # of the description in a folder's config, where timm reads over it


def contents(encoder: Encoder, found: Description, out: Path, format: Format) -> dict[Path, bytes]:
    """Every file of an export, the weights last: the trunk's under timm's own names, a description, a model card.

    Raises UserError for a network that no name of timm's stands for where the format has no other way to say it.
    """
    trunk = {name: value.detach().cpu().contiguous().clone() for name, value in encoder.trunk.state_dict().items()}
    weights = save(trunk, {"format": "pt"})
    if format == "safetensors":
        told = found.model_dump_json(indent=1) + "\n"
        page = card(found, out.stem, lines(found, out.name))
        return {out.with_suffix(".md"): page.encode(), out.with_suffix(".json"): told.encode(), out: weights}
    if found.architecture.small_stem or found.architecture.unpooled:
        raise UserError(
            f"--format hf-folder: {found.architecture.name} has a stem for small images, which timm "
            "builds under no name; take --format safetensors"
        )
    config = json.dumps(_hub(encoder.trunk, found), indent=1) + "\n"
    page = card(found, out.name, folder_lines(out.name))
    files = {"README.md": page.encode(), FOLDER_CONFIG: config.encode(), FOLDER_WEIGHTS: weights}
    return {out / name: content for name, content in files.items()}


def weights_file(out: Path, format: Format) -> Path:
    """Where an export has its weights."""
    return out if format == "safetensors" else out / FOLDER_WEIGHTS


def code(found: Description, out: Path, format: Format) -> list[str]:
    """The lines that load an export from here."""
    return lines(found, str(out)) if format == "safetensors" else folder_lines(str(out))


def _hub(trunk: Any, found: Description) -> dict[str, Any]:
    """A folder's config, with the keys that timm's loader reads (`_parse_model_cfg` in timm/models/_hub.py).

    `first_conv` is what that loader adapts to other channels. Timm 1.0.20 takes that to be needed for all but 3, and
    leaves random weights for all but 1 and 3 (`load_pretrained` in timm/models/_builder.py).
    """
    options, known = dict(found.architecture.options), trunk.pretrained_cfg
    fixed = bool(known.get("fixed_input_size")) and not options.get("dynamic_img_size")
    return {
        "architecture": found.architecture.name,
        "num_classes": 0,
        "num_features": found.dim,
        "model_args": options,
        "pretrained_cfg": {
            "input_size": [len(found.mean), found.size, found.size],
            "fixed_input_size": fixed,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": found.mean,
            "std": found.std,
            "num_classes": 0,
            "first_conv": known.get("first_conv") if len(found.mean) in (1, 3) else None,
            "classifier": known.get("classifier"),
        },
        KEY: found.model_dump(mode="json"),
    }


def described(file: Path) -> Description | None:
    """What ssbench wrote beside a safetensors file: NAME.json, or the config of a folder that timm opens.

    None where it wrote nothing. Raises UserError on what can't be read.
    """
    folder = [file.with_name(FOLDER_CONFIG)] if file.name == FOLDER_WEIGHTS else []
    return next((found for beside in (file.with_suffix(".json"), *folder) if (found := _described(beside))), None)


def _described(file: Path) -> Description | None:
    try:
        told = json.loads(file.read_bytes()) if file.is_file() else None
        told = told.get(KEY, told) if isinstance(told, dict) else None
        if not isinstance(told, dict) or not str(told.get("written_by")).startswith("ssbench export"):
            return None
        return Description.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file} is not a description of this version: {where}: {first['msg']}") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{file}, beside the weights, can't be read ({one_line(error)})") from None


def plain(encoder: Encoder) -> Architecture:
    """What timm builds an encoder's trunk from; raises NotApplicable where there is more to the encoder, or nothing."""
    if encoder.architecture is None:
        raise NotApplicable("timm builds no such network")
    check_parts(encoder.state_dict())
    known = encoder.architecture
    replaced = known.small_stem and "conv1.weight" in encoder.trunk.state_dict()  # a deep stem stays
    return Architecture(known.name, dict(known.options), replaced, known.unpooled)


def check_parts(names: Iterable[str]) -> None:
    """Raises NotApplicable where an encoder's state holds more than a trunk and its pixel statistics."""
    if more := [name for name in names if not name.startswith("trunk.") and name not in ("mean", "std")]:
        raise NotApplicable(f"it has parts of its own beside timm's network ({more[0]})")


def vector(encoder: Encoder) -> str:
    """Plain timm code for an encoder's headline vector, (B, D): its trunk is `model`, normalised images are `x`."""
    pooling, depth, norm = encoder.poolings[0], encoder.depth, encoder._form.norm
    if pooling == OWN:
        return ""
    if encoder.has_tokens:
        wrap = "{}" if type(encoder.trunk.fc_norm).__name__ == "Identity" else "model.fc_norm({})"
        if encoder.block in (0, depth):
            whole = wrap.format("model.forward_features(x)")
            return whole + ("[:, 0]" if pooling == "cls" else "[:, model.num_prefix_tokens:].mean(1)")
        more = "norm=True, output_fmt='NLC', return_prefix_tokens=True, intermediates_only=True"
        patches, prefix = (
            f"model.forward_intermediates(x, indices=[{encoder.block - 1}], {more})[0][{at}]" for at in (0, 1)
        )
        return wrap.format(prefix) + "[:, 0]" if pooling == "cls" else wrap.format(patches) + ".mean(1)"
    if norm is None:
        return "model(x)"
    both = f"model.forward_intermediates(x, indices=1, norm={norm})"
    return f"{both}[0][:, 0]" if pooling == "cls" else f"{both}[1][-1].mean((2, 3))"
