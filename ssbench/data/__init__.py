"""Data by name: `shapes`, `digits`, `folder:PATH`, `parquet:PATH`, `hf:NAME`, `torchvision:NAME`.

A source is one file with two functions: `identify(argument, settings)` names the data and fingerprints its content
without torch; `read(argument, settings)` decodes its splits into uint8 tensors of one size. Here the splits get their
roles: `fit` and `select` (a fixed tenth of train, or the source's val), and `test`.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from ssbench.errors import UserError, near
from ssbench.spec import DataRef, DataSettings

if TYPE_CHECKING:  # listing and planning import no torch
    import torch
    from torch import Tensor

SOURCES = {
    "shapes": "drawn scenes, embedded: shapes, shapes:medium, shapes:hard",
    "digits": "scikit-learn's handwritten digits, embedded",
    "folder": "folder:PATH, one folder a class (or train/val/test of those), or loose unlabelled images",
    "parquet": "parquet:PATH, files of Hugging Face's layout, one a split (needs the hf extra)",
    "hf": "hf:NAME, a data set of the Hugging Face hub or a local folder it can load (needs the hf extra)",
    "torchvision": "torchvision:NAME, such as torchvision:CIFAR10, downloaded by torchvision",
}
EMBEDDED = ("shapes", "digits")
_MODULES = {"shapes": "drawn", "hf": "huggingface", "torchvision": "vision"}  # the others' files have their names
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # and how they are called
IN_MEMORY = 2 * 2**30  # bytes; a larger array of images is a file


@dataclass(frozen=True)
class Split:
    """Some images of one size and their targets, in the source's order."""

    images: "Tensor"  # uint8 (N, C, S, S)
    keys: tuple[str, ...]  # what a sample is called: its relative path, or its position
    targets: Mapping[str, "Tensor"] = field(default_factory=dict)
    # label (N,) int64; mask (N, S, S) uint8; factors (N, F); boxes (N, K, 5): x0, y0, x1, y1 in px and class, or -1

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, index: list[int]) -> "Split":
        """The samples at these positions."""
        import torch

        rows = torch.tensor(index, dtype=torch.int64)

        def of(values: "Tensor") -> "Tensor":
            room = allocate((len(index), *values.shape[1:]), values.dtype)
            return torch.index_select(values, 0, rows, out=room)

        targets = {name: of(values) for name, values in self.targets.items()}
        return Split(of(self.images), tuple(self.keys[i] for i in index), targets)


@dataclass(frozen=True)
class Source:
    """What `read` gives: splits under the source's own names (train, val, test)."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...] = ()
    mask_classes: int = 0  # classes in the masks, `ignore_index` not among them
    factors: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()  # unreadable images left out on the user's wish


@dataclass(frozen=True)
class Facts:
    """What a task may know of the data besides its parts."""

    classes: tuple[str, ...]  # of the labels
    mask_classes: int
    ignore_index: int  # the mask value that is no class


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
    skipped: tuple[str, ...]
    roles: str  # how the roles came about

    @property
    def size(self) -> int:
        return int(self.fit.images.shape[-1])

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(self.fit.targets)

    @property
    def facts(self) -> Facts:
        return Facts(self.classes, self.mask_classes, self.ignore_index)


def _module(source: str) -> tuple[str, str]:
    kind, _, argument = source.partition(":")
    if kind not in SOURCES:
        raise UserError(f"unknown dataset {source!r}{near(kind, SOURCES)}; see ssbench list datasets")
    if not argument and kind not in EMBEDDED:
        raise UserError(f"dataset {source!r} needs an argument: {SOURCES[kind]}")
    return f"ssbench.data.{_MODULES.get(kind, kind)}", argument


def identify(source: str, settings: DataSettings) -> DataRef:
    """The name and the fingerprint of some data; raises UserError when it is not there. Imports no torch."""
    module, argument = _module(source)
    name, fingerprint = import_module(module).identify(argument, settings)
    kept = {key: value for key, value in settings.model_dump(mode="json").items() if key != "on_bad_image"}
    return DataRef(name=name, fingerprint=fingerprint, settings=kept)


def load(source: str, settings: DataSettings, ref: DataRef) -> Dataset:
    """Decode the splits and give them their roles; raises UserError on data that can't be used."""
    module, argument = _module(source)
    found: Source = import_module(module).read(argument, settings)
    for name, split in found.splits.items():
        if len(split) == 0:
            raise UserError(f"{source}: the split {name} has no images")
        _refuse_empty_classes(source, name, split, found.classes)
    fit, select, test, roles = _roles(ref.name, dict(found.splits))
    return Dataset(
        ref, fit, select, test, found.classes, found.mask_classes, settings.ignore_index, found.skipped, roles
    )


def allocate(shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
    """Room for an array: memory, or above 2 GiB a map of an unnamed temporary file, so that large sets stream."""
    import numpy as np
    import torch

    count = math.prod(shape) * dtype.itemsize
    if count <= IN_MEMORY:
        return torch.empty(shape, dtype=dtype)
    with TemporaryFile() as file:  # the map keeps the file open
        return torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=(count,))).view(dtype).view(shape)


def fingerprint(root: Path, files: Iterable[Path]) -> str:
    """16 hexadecimal digits of the SHA-256 over the files' paths below `root` and their bytes, in sorted order.

    Raises UserError naming a file that can't be read.
    """
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files):
        try:
            digest.update(f"{name}|{file.stat().st_size}|".encode())
            with file.open("rb") as content:
                while chunk := content.read(2**20):
                    digest.update(chunk)
        except OSError as error:  # such as a link that leads nowhere
            raise UserError(f"{file} can't be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


def repeated(seen: "Iterable[Tensor]", judged: "Tensor") -> int | None:
    """How many images of `judged` (M, C, S, S) are, pixel for pixel, among those of `seen`, each (N, C, S, S).

    None where shapes differ: then the same picture has other pixels.
    """
    parts = [*seen]
    if any(part.shape[1:] != judged.shape[1:] for part in parts):
        return None
    known = {hashlib.md5(image.numpy().tobytes()).digest() for part in parts for image in part}
    return sum(hashlib.md5(image.numpy().tobytes()).digest() in known for image in judged)


def _refuse_empty_classes(source: str, name: str, split: Split, classes: tuple[str, ...]) -> None:
    if "label" not in split.targets:
        return
    counts = split.targets["label"].bincount(minlength=len(classes)).tolist()
    empty = [classes[i] for i, count in enumerate(counts) if count == 0]
    if empty:
        raise UserError(f"{source}: class {empty[0]!r} has no images in the split {name}; add some or remove the class")


def tenth(name: str, key: str) -> int:
    """Which of ten fixed parts a sample is in: a hash of its key, so the same on every machine and for every method."""
    return int(hashlib.sha256(f"{name}|{key}".encode()).hexdigest()[:8], 16) % 10


def _roles(name: str, splits: dict[str, Split]) -> tuple[Split, Split, Split, str]:
    """PROTOCOLS S1.2: `select` is the samples of train whose hash falls in part 0. A missing test is parts 1 and 2."""
    train, val, test = (splits.get(role) for role in ("train", "val", "test"))
    if train is None:
        raise UserError(f"{name} has no split called train; it has {', '.join(splits) or 'none'}")
    how = []
    if test is None and val is not None:
        test, val = val, None
        how.append("test is the source's val")
    parts = [tenth(name, key) for key in train.keys]
    if test is None:
        test = train.take([i for i, part in enumerate(parts) if part in (1, 2)])
        kept = [i for i, part in enumerate(parts) if part not in (1, 2)]
        train, parts = train.take(kept), [parts[i] for i in kept]
        how.append("test is a fixed fifth of train")
    if val is None:
        val = train.take([i for i, part in enumerate(parts) if part == 0])
        train = train.take([i for i, part in enumerate(parts) if part != 0])
        how.append("select is a fixed tenth of train")
    if min(len(train), len(val), len(test)) == 0:
        raise UserError(
            f"{name} is too small to be split into fit, select and test: {len(splits['train'])} training images"
        )
    return train, val, test, "; ".join(how) or "the source's own splits"
