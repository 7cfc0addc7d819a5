"""Data by name: `shapes`, `digits`, `folder:PATH`, `parquet:PATH`, `hf:NAME`, `coco:PATH`, `torchvision:NAME`, ...

A source is one file with two functions: `identify(argument, settings)` names the data and fingerprints its content
without torch; `read(argument, settings)` lists its samples (`listing.py`), or gives decoded ones where they are drawn.
From there all sources go one way: labels become classes, samples get their roles (`splits.py`), pixels are surveyed,
decoded and kept (`survey.py`, `decode.py`, `stored.py`).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssbench.data.splits import VERSION, Row, roles, tenth
from ssbench.data.suspicion import refuse_unknown
from ssbench.errors import UserError, near
from ssbench.spec import DataRef, DataSettings

if TYPE_CHECKING:  # listing and planning import no torch
    from torch import Tensor

    from ssbench.data.listing import Listing
    from ssbench.data.stored import Arrays

SOURCES = {
    "shapes": "drawn scenes, embedded: shapes, shapes:medium, shapes:hard, shapes:conflict, shapes:v1",
    "digits": "scikit-learn's handwritten digits, embedded",
    "folder": "folder:PATH, a folder a class, train/val/test of those, images and masks, or a table of labels",
    "parquet": "parquet:PATH, a file or a folder of them, as Hugging Face, pandas, polars or DuckDB write it",
    "hf": "hf:NAME or hf:NAME@CONFIG, a data set of the Hugging Face hub or a local folder (needs the hf extra)",
    "coco": "coco:PATH, images with COCO annotations: boxes and masks",
    "voc": "voc:PATH, images with Pascal VOC annotations: boxes and masks",
    "torchvision": "torchvision:NAME, such as torchvision:CIFAR10, downloaded by torchvision",
}
EMBEDDED = ("shapes", "digits")
_MODULES = {"shapes": "drawn", "hf": "huggingface", "torchvision": "vision"}  # the others' files have their names
AS_DRAWN = {"image": "", "label": "", "mask": "", "ignore_index": 255}  # in identities that are older than settings
DECODER = 3  # changes with what is stored, so that caches of an older ssbench are not read
STORY = ("larger", "scale", "mask_values", "mask_void", "depth_range", "depth_known")  # what decoding tells of data
VOID = 255  # what is no class, in masks as they are handed to tasks
NO_IDENTITY = ("on_bad_image", "allow")  # settings that change no image that is read


@dataclass(frozen=True)
class Split:
    """Some images of one size and their targets, in the source's order."""

    images: "Tensor"  # uint8 (N, C, S, S)
    keys: tuple[str, ...]  # what a sample is called: its relative path, or its position
    targets: Mapping[str, "Tensor"] = field(default_factory=dict)
    # label (N,) int64, or labels (N, classes) uint8 where there are several; mask (N, S, S) uint8; factors (N, F);
    # boxes (N, K, 5): x0, y0, x1, y1 in px and class, or -1; depth (N, S, S) float; surface (N,) int64, a class
    larger: "Tensor | None" = None  # uint8 (N, C, L, L), where originals have more pixels: what crops are cut from
    groups: tuple[str, ...] = ()  # a patient, video or site of each; empty: none are known

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def crops(self) -> "Tensor":
        """What the crops of training are cut from, (N, C, L, L)."""
        return self.images if self.larger is None else self.larger

    def take(self, index: list[int]) -> "Split":
        """The samples at these positions."""
        import torch

        rows = torch.tensor(index, dtype=torch.int64)
        targets = {name: values[rows] for name, values in self.targets.items()}
        larger = None if self.larger is None else self.larger[rows]
        keys, groups = (tuple(of[i] for i in index) if of else () for of in (self.keys, self.groups))
        return Split(self.images[rows], keys, targets, larger, groups)


@dataclass(frozen=True)
class Source:
    """Decoded splits under the source's own names (train, val, test), of data that is drawn."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...] = ()
    mask_classes: int = 0
    factors: tuple[str, ...] = ()
    box_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a task may know of the data besides its parts."""

    classes: tuple[str, ...]  # of the labels
    mask_classes: int
    ignore_index: int  # the mask value that is no class
    factors: tuple[str, ...] = ()  # names of the numbers
    box_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """The data of a cell, with its splits in their roles: `fit` trains, `select` chooses, `test` judges."""

    ref: DataRef
    fit: Split
    select: Split
    test: Split
    classes: tuple[str, ...]
    mask_classes: int
    ignore_index: int
    skipped: tuple[str, ...]  # unreadable images left out on the user's wish
    roles: str  # how the roles came about
    factors: tuple[str, ...] = ()
    box_classes: tuple[str, ...] = ()
    understood: Mapping[str, Any] = field(default_factory=dict)  # how the source was read: `understood.py`

    @property
    def size(self) -> int:
        return int(self.fit.images.shape[-1])

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(self.fit.targets)

    @property
    def facts(self) -> Facts:
        return Facts(self.classes, self.mask_classes, self.ignore_index, self.factors, self.box_classes)


def held_out(name: str, splits: Mapping[str, Split]) -> dict[str, Split]:
    """Drawn splits with a val, and a test where there is none, by rule 1: their records are older than the others."""
    parts = [tenth(name, key) for key in splits["train"].keys]
    taken = {"val": (0,), **({} if "test" in splits else {"test": (1, 2)})}
    held = {role: [at for at, part in enumerate(parts) if part in those] for role, those in taken.items()}
    rest = sorted({*range(len(parts))} - {at for positions in held.values() for at in positions})
    train = splits["train"]
    return {**splits, "train": train.take(rest), **{role: train.take(positions) for role, positions in held.items()}}


def _module(source: str) -> tuple[str, str]:
    kind, _, argument = source.partition(":")
    if kind not in SOURCES:
        hint = f"; a folder is folder:{source}" if Path(source).expanduser().is_dir() else ""
        raise UserError(f"unknown dataset {source!r}{near(kind, SOURCES)}{hint}; see ssbench list datasets")
    if not argument and kind not in EMBEDDED:
        raise UserError(f"dataset {source!r} needs an argument: {SOURCES[kind]}")
    return f"ssbench.data.sources.{_MODULES.get(kind, kind)}", argument


def identify(source: str, settings: DataSettings) -> DataRef:
    """The name and the fingerprint of some data; raises UserError when it is not there. Imports no torch."""
    refuse_unknown(settings)
    module, argument = _module(source)
    name, fingerprint = import_module(module).identify(argument, settings)
    if source.partition(":")[0] in EMBEDDED:
        return DataRef(name=name, fingerprint=fingerprint, settings={**AS_DRAWN, "image_size": settings.image_size})
    kept = settings.model_dump(mode="json", exclude_defaults=True, exclude={*NO_IDENTITY})
    size = {"image_size": settings.image_size}
    return DataRef(name=name, fingerprint=fingerprint, settings=kept | size, version=VERSION)


def load(source: str, settings: DataSettings, ref: DataRef, tell: Callable[[str], None] = lambda text: None) -> Dataset:
    """The samples of a source in their roles; raises UserError on data that can't be used.

    What was decoded before, of the same content and settings, is not decoded again.
    """
    from ssbench.data import stored

    module, argument = _module(source)
    allowed = ",".join((settings.on_bad_image, *settings.allow))
    key = hashlib.sha256(f"{ref.digest()}|{allowed}|{DECODER}".encode()).hexdigest()[:16]
    if folder := stored.find(key):
        return _assembled(ref, *stored.read(folder))
    found: Source | Listing = import_module(module).read(argument, settings)
    if isinstance(found, Source):
        return _in_memory(source, ref, found, settings)
    room = stored.begin(key)
    try:
        story = _decoded(found, settings, room, tell)
        folder = stored.finish(room, key, {"name": ref.name, **story})
    except BaseException:
        stored.abandon(room)
        raise
    return _assembled(ref, *stored.read(folder))


def _in_memory(source: str, ref: DataRef, found: Source, settings: DataSettings) -> Dataset:
    """Of data that is drawn."""
    rows: dict[str, list[Row]] = {}
    for name, split in found.splits.items():
        labels = split.targets["label"].tolist() if "label" in split.targets else None
        rows[name] = [Row(key, () if labels is None else (labels[at],)) for at, key in enumerate(split.keys)]
    given = roles(source, rows, found.classes, settings)
    parts = {role: found.splits[split].take([*at]) for role, (split, at) in given.parts.items()}
    images = parts["fit"].images
    understood = {
        "splits": {name: len(split) for name, split in found.splits.items()},
        "origin": "drawn",
        "channels": int(images.shape[1]),
        "size": int(images.shape[-1]),
        "said": [*given.said],
    }
    return Dataset(
        ref,
        **parts,
        classes=found.classes,
        mask_classes=found.mask_classes,
        ignore_index=VOID,
        skipped=(),
        roles=given.how,
        factors=found.factors,
        box_classes=found.box_classes,
        understood=understood,
    )


def _decoded(found: "Listing", settings: DataSettings, room: "Arrays", tell: Callable[[str], None]) -> dict[str, Any]:
    """Survey, label, split, decode, and doubt."""
    from ssbench.data.decode import decode
    from ssbench.data.labels import classes, doubt
    from ssbench.data.survey import survey

    if not any(samples.total for samples in found.splits.values()):
        raise UserError(f"{found.where} has no images")
    tell(f"looking at {found.where}")
    seen = survey(found, settings)
    if settings.depth and not any(one.depth for rows in seen.seen.values() for one in rows):
        text = f"{found.where}: no image has a map of depth (data.depth={settings.depth})"
        raise UserError(f"{text}; folder:, parquet: and hf: are read for them")
    known = classes((one.label for rows in seen.seen.values() for one in rows), found.names)
    doubt(found.where, known, settings)
    rows = {
        name: [Row(one.key, known.of(one.label), one.group, one.content) for one in each]
        for name, each in seen.seen.items()
        if each
    }
    given = roles(found.where, rows, known.names, settings)
    story = decode(found, seen, given, known, settings, room, tell)
    understood: dict[str, Any] = {
        "splits": {name: len(each) for name, each in seen.seen.items()},
        "origin": found.origin,
        "columns": dict(found.columns),
        "left_out": [*found.left_out],
        "said": [*given.said],
        "size": seen.pixels.size,
        **seen.facts,
        **{key: story[key] for key in STORY if key in story},
    }
    return {
        **story,
        "classes": [*known.names],
        "factors": [*found.numbers],
        "roles": given.how,
        "understood": understood,
    }


def _assembled(ref: DataRef, arrays: "Mapping[str, Tensor]", story: Mapping[str, Any]) -> Dataset:
    """From the cache: arrays are named `fit.images`, `fit.label`, and may have room for images that were left out."""
    parts = {}
    for role, known in story["parts"].items():
        own = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith(f"{role}.")}
        cut = {name: value[: len(known["keys"])] for name, value in own.items()}
        images, larger = cut.pop("images"), cut.pop("larger", None)
        parts[role] = Split(images, tuple(known["keys"]), cut, larger, tuple(known["groups"]))
    return Dataset(
        ref,
        **parts,
        classes=tuple(story["classes"]),
        mask_classes=story.get("mask_classes", 0),
        ignore_index=VOID,
        skipped=tuple(story["skipped"]),
        roles=story["roles"],
        factors=tuple(story["factors"]),
        box_classes=tuple(story["box_classes"]),
        understood=story["understood"],
    )
