"""Encoders that people already have: `timm:NAME`, `file:PATH`, `python:package.module:function`, or a module in hand.

One is opened once a command. What it is called here, with a digest of what is in its file, is part of an identity.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor, nn

from ssbench.encoders import checkpoints, names
from ssbench.encoders.architecture import Architecture
from ssbench.encoders.encoder import OWN, Encoder
from ssbench.encoders.export import FOLDER_WEIGHTS, described
from ssbench.encoders.foreign import adopt
from ssbench.encoders.layouts import IMAGENET, recognise
from ssbench.encoders.start import start_as_mae
from ssbench.encoders.weights import weights_digest
from ssbench.errors import NotApplicable, UserError, one_line
from ssbench.settings import identified

KINDS = ("timm:NAME", "file:PATH", "python:package.module:function")
EXPORTED = "ssbench"  # the layout of `ssbench export`
LEAST = 0.95  # share that must fit: a file cut or renamed in part is that of a smaller network, and has more
SHOWN = 3  # names of each kind in an error
SIZE = 224  # px, of a module that does not say its own


@dataclass(frozen=True)
class Matched:
    """How weights and a network fit together; names are timm's."""

    share: float  # that fits, of the network's parameters and of what else the file has
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # known not to be the network's, such as heads and decoders

    def __str__(self) -> str:
        lists = {kind: getattr(self, kind) for kind in ("missing", "unexpected", "misshaped")}
        more = {kind: ", ".join(found[:SHOWN]) + ", …" * (len(found) > SHOWN) for kind, found in lists.items()}
        said = [f"{len(found)} {kind} ({more[kind]})" for kind, found in lists.items() if found]
        return "; ".join([f"{self.share:.1%} of the parameters fit", *said])


@dataclass(frozen=True)
class Given:
    """An encoder with weights, and the world that it was trained in."""

    name: str  # such as `file:vit.pth@0123456789abcdef`
    layout: str  # whose names its weights had
    size: int  # px
    mean: Sequence[float]  # of pixels in 0..1
    std: Sequence[float]
    pooling: str = ""  # the headline's vector; empty: what the network itself gives
    block: int = 0  # that is read; 0: the last
    architecture: Architecture | None = None  # None: `module` is all that there is
    weights: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    left_out: tuple[str, ...] = ()
    module: nn.Module | None = field(default=None, repr=False)

    def encoder(self, size: int, patch: int = 0, *, trained: bool = True) -> tuple[Encoder, Matched]:
        """The encoder for images of `size` px, or the same network with random weights; raises UserError.

        Positions are brought to the size, and a patch embedding to `patch` px, by timm's own functions. A module in
        hand is copied, and has no random twin: raises NotApplicable.
        """
        if self.architecture is None:
            assert self.module is not None
            if not trained:
                raise NotApplicable(f"{self.name} is a module, of which nothing says how it starts")
            if patch:
                raise UserError(f"backbone.patch={patch}: {self.name} is a module, whose patch size can't be set")
            return self._adopted(deepcopy(self.module), size), Matched(1.0)
        trunk, architecture = _fitted(self, self.architecture, size, patch)
        matched = _load(trunk, self) if trained else Matched(0.0)
        if not trained and names.is_vit(architecture.name):
            start_as_mae(trunk)
        encoder = self._adopted(trunk, size, as_judged=self.layout == EXPORTED and self.pooling != OWN)
        encoder.architecture = architecture
        encoder.block = self.block
        return encoder.lead(self.pooling), matched

    def _adopted(self, trunk: nn.Module, size: int, *, as_judged: bool = False) -> Encoder:
        """`as_judged`: by a pooling of ours, whatever the network itself would give."""
        try:
            return (Encoder if as_judged else adopt)(trunk, torch.tensor(self.mean), torch.tensor(self.std), size)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        except Exception as error:  # networks refuse sizes in ways of their own
            raise _unfit(self, size, error) from None


def open_encoder(source: str, backbone: str = "") -> Given:
    """What `--encoder` names; `backbone` is the timm network of a file, else its keys tell it. Raises UserError."""
    kind, _, name = source.partition(":")
    if kind not in ("timm", "file", "python") or not name:
        raise UserError(f"encoder {source!r}: expected {' or '.join(KINDS)}")
    if kind == "file":
        return _of_file(_known(name), backbone)
    if backbone:
        raise UserError(f"--backbone {backbone}: {source} says its network itself; leave it out")
    return _of_timm(name) if kind == "timm" else _of_python(name)


def of_module(module: nn.Module, name: str) -> Given:
    """A module in hand: images (B, C, H, W) -> vectors (B, D), tokens (B, T, D) or a map (B, D, h, w).

    `mean`, `std` (of pixels in 0..1) and `size` (px) are its own where it says them, else those that timm knows of it,
    else ImageNet's and 224. A network that timm builds by name is taken as its weights, without its classes.
    """
    if hasattr(module, "reset_classifier"):  # a timm network with its classes, which are no features
        module = deepcopy(module)
        getattr(module, "reset_classifier")(0)  # noqa: B009
    known = getattr(module, "pretrained_cfg", None) or {}
    stated = [getattr(module, key, None) for key in ("mean", "std")]
    mean, std = (_numbers(own, known.get(key, other)) for own, key, other in zip(stated, ("mean", "std"), IMAGENET))
    own = getattr(module, "size", None)
    size = own if isinstance(own, int) and own > 0 else int(known.get("input_size", [SIZE])[-1])
    label = f"{name}@{weights_digest(module)}"
    built = Architecture(str(known["architecture"])) if known.get("architecture") else None
    if built and _shapes(built.build()) == _shapes(module):
        return Given(label, "timm", size, mean, std, architecture=built, weights=module.state_dict())
    return Given(label, "Encoder" if isinstance(module, Encoder) else "module", size, mean, std, module=module)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def _numbers(found: Any, otherwise: Sequence[float]) -> Sequence[float]:
    if isinstance(found, Tensor):
        found = found.flatten().tolist()
    listed = isinstance(found, tuple | list) and found and all(isinstance(one, float | int) for one in found)
    return tuple(map(float, found)) if listed else otherwise


@lru_cache(maxsize=8)
def _of_timm(name: str) -> Given:
    _reach(name)
    try:
        trunk: Any = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # no network, no such name, no weights of that name: in ways of timm's own
        raise _no_timm(name, error) from None
    config = trunk.pretrained_cfg
    built = Architecture(str(config["architecture"]), _saved_options(name))
    size, mean, std = int(config["input_size"][-1]), tuple(config["mean"]), tuple(config["std"])
    kind, _, where = name.partition(":")
    known = f"{kind}:{Path(where).name}@{weights_digest(trunk)}" if kind == "local-dir" else name
    return Given(f"timm:{known}", "timm", size, mean, std, architecture=built, weights=trunk.state_dict())


def _saved_options(name: str) -> dict[str, Any]:
    """The options that a hub or a folder keeps beside the weights."""
    from timm.models import load_model_config_from_hf
    from timm.models._hub import load_model_config_from_path

    kind, _, where = name.partition(":")
    if not where:
        return {}
    load = load_model_config_from_path if kind == "local-dir" else load_model_config_from_hf
    return {key: value for key, value in (load(where)[2] or {}).items() if key != "num_classes"}  # there are none here


def _reach(name: str) -> None:
    """Raises UserError at once where weights are to be fetched and there is no network: trying takes a minute."""
    kind, _, where = name.partition(":")
    try:
        config = timm.get_pretrained_cfg(name) if not where and timm.is_model(name.partition(".")[0]) else None
    except RuntimeError as error:  # no such tag
        raise _no_timm(name, error) from None
    repository = where if kind in ("hf-hub", "hf_hub") else config.hf_hub_id if config else None
    if not repository or os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return
    files = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "config.json")
    if any(isinstance(try_to_load_from_cache(repository.partition("@")[0], file), str) for file in files):
        return
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError as error:
        raise _no_timm(name, error) from None


def _no_timm(name: str, error: Exception) -> UserError:
    base = name.partition(".")[0]
    if ":" not in name and not timm.is_model(base):
        return UserError(f"encoder timm:{name}: timm has no network {base!r}{names.close(base)}")
    tags = [] if ":" in name else [f"timm:{tag}" for tag in timm.list_pretrained(base + ".*")]
    known = f"; known: {', '.join(tags[:SHOWN])}" if tags and f"timm:{name}" not in [*tags, f"timm:{base}"] else ""
    return UserError(
        f"encoder timm:{name}: its weights can't be had ({one_line(error)}){known}; "
        "without a network, take them as file:PATH"
    )


def _known(name: str) -> str:
    """A file's path with the digest of its content, in a folder of the hub's that of its weights; raises UserError."""
    inside = Path(name, FOLDER_WEIGHTS)
    try:
        known = identified(inside.as_posix() if inside.is_file() else name)
    except ValueError as error:
        raise UserError(f"encoder file:{name}: {error}") from None
    if known == name:
        what = f"it is a folder without {FOLDER_WEIGHTS}" if Path(name).is_dir() else "there is no such file"
        raise UserError(f"encoder file:{name}: {what}")
    return known


@lru_cache(maxsize=8)
def _of_file(known: str, backbone: str) -> Given:
    path, _, digest = known.rpartition("@")
    file = Path(path)
    found = checkpoints.read(file)
    label = f"file:{(file.name == FOLDER_WEIGHTS and file.parent.name) or file.name}@{digest}"
    if told := described(file):
        world = told.size, told.mean, told.std, told.pooling, told.block, told.architecture
        label = _with(label, told.canonical())  # how it was judged is in it
        if backbone:
            raise UserError(f"--backbone {backbone}: file:{path} says its network itself; leave it out")
        return Given(label, EXPORTED, *world, weights=found)
    try:
        seen = recognise(found, backbone)
    except UserError as error:
        raise UserError(f"encoder file:{path}: {error}") from None
    label += f" as {backbone}" if backbone else ""
    world = seen.size, seen.mean, seen.std, seen.pooling, 0, seen.architecture
    return Given(label, seen.layout, *world, weights=seen.weights, left_out=seen.left_out)


@lru_cache(maxsize=8)
def _of_python(name: str) -> Given:
    module, _, function = name.partition(":")
    if not function:
        raise UserError(f"encoder python:{name}: expected python:package.module:function")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # as `python -m` does
    try:
        make: Callable[[], object] = getattr(import_module(module), function)
        torch.manual_seed(0)
        made = make()
    except Exception as error:  # the user's code may fail in any way
        raise UserError(f"encoder python:{name}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, nn.Module):
        raise UserError(f"encoder python:{name}: it gives {type(made).__name__}, not a torch.nn.Module")
    found = of_module(made, f"python:{name}")
    code = getattr(sys.modules[module], "__file__", None)
    return replace(found, name=_with(found.name, Path(code).read_text() if code else ""))


def _with(label: str, more: str) -> str:
    """A label whose digest is also of something else that features follow from."""
    name, _, digest = label.rpartition("@")
    return f"{name}@{sha256(f'{digest}|{more}'.encode()).hexdigest()[:16]}"


def _fitted(given: Given, architecture: Architecture, size: int, patch: int) -> tuple[Any, Architecture]:
    """The network for images of a size, with random weights, and what built it."""
    vit, config = names.is_vit(architecture.name), timm.get_pretrained_cfg(architecture.name)
    if patch and not vit:
        raise UserError(f"backbone.patch={patch}: {given.name} is not a ViT whose patch size can be set")
    more: dict[str, Any] = {"img_size": size} if vit or (config and config.fixed_input_size) else {}
    more |= {"dynamic_img_size": True} if vit else {}
    more |= {"patch_size": patch} if patch else {}
    built = replace(architecture, options={**architecture.options, **more})
    try:
        trunk = built.build()
    except Exception as error:  # timm's networks refuse sizes in ways of their own
        raise _unfit(given, size, error) from None
    if vit:
        names.check_patch(given.name, int(trunk.patch_embed.patch_size[0]), size, asked=bool(patch))
    return trunk, built


def _unfit(given: Given, size: int, error: Exception) -> UserError:
    own = f"={given.size}, its own" if size != given.size else ""
    return UserError(f"{given.name} can't take images of {size} px ({one_line(error)}); set data.image_size{own}")


def _load(trunk: nn.Module, given: Given) -> Matched:
    """Put the weights into the network; raises UserError where they are not its own."""
    wanted, weights = trunk.state_dict(), dict(given.weights)
    shapes = {name: value.shape for name, value in wanted.items()}
    bring = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if bring and any(name in shapes and value.shape != shapes[name] for name, value in weights.items()):
        try:
            weights = bring(weights, trunk)  # positions and patches to the network's size
        except Exception as error:  # what does not fit fails in ways of timm's own
            raise UserError(f"{given.name} does not fit {type(trunk).__name__}: {one_line(error)}") from None
    fits = {name: value for name, value in weights.items() if name in shapes and value.shape == shapes[name]}
    sizes = {name: weight.numel() for name, weight in trunk.named_parameters()}
    more = {name: value.numel() for name, value in weights.items() if name not in shapes}
    matched = Matched(
        sum(count for name, count in sizes.items() if name in fits) / (sum(sizes.values()) + sum(more.values()) or 1),
        tuple(name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")),
        tuple(more),
        tuple(name for name in weights if name in shapes and name not in fits),
        given.left_out,
    )
    if matched.share < LEAST:
        assert given.architecture is not None
        raise UserError(
            f"{given.name} is not the weights of {given.architecture.name}, read as {given.layout}: {matched}; "
            "name its network with --backbone, or load it in a function of your own (python:package.module:function)"
        )
    trunk.load_state_dict(fits, strict=False)
    return matched
