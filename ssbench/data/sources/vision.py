"""`torchvision:NAME`: what torchvision downloads and checks, in `$SSBENCH_DATA` or `~/.cache/ssbench/torchvision`."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ssbench.data.listing import Label, Listing, Sample, Samples
from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

Splits = dict[str, dict[str, object]]  # of each split, the arguments that torchvision asks for
BY_FLAG: Splits = {"train": {"train": True}, "test": {"train": False}}
TWO: Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE: Splits = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}

NAMES: dict[str, Splits] = {
    "CIFAR10": BY_FLAG,
    "CIFAR100": BY_FLAG,
    "Country211": {**THREE, "val": {"split": "valid"}},
    "DTD": THREE,
    "EuroSAT": {"train": {}},
    "FGVCAircraft": THREE,
    "FashionMNIST": BY_FLAG,
    "Flowers102": THREE,
    "Food101": TWO,
    "GTSRB": TWO,
    "Imagenette": {"train": {"split": "train"}, "val": {"split": "val"}},
    "KMNIST": BY_FLAG,
    "MNIST": BY_FLAG,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "RenderedSST2": THREE,
    "STL10": TWO,
    "SVHN": TWO,
    "USPS": BY_FLAG,
}


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The name, and its hash for a fingerprint: the name stands for the content, which torchvision checks by MD5."""
    if argument not in NAMES:
        raise UserError(f"unknown dataset torchvision:{argument}{near(argument, NAMES)}")
    return argument, hashlib.sha256(f"torchvision:{argument}".encode()).hexdigest()[:16]


def read(argument: str, settings: DataSettings) -> Listing:
    """Downloaded when absent; keys are positions. Raises UserError when the download fails."""
    found = {name: _split(argument, words) for name, words in NAMES[argument].items()}
    splits = {name: Samples(len(split), partial(_samples, name, split)) for name, split in found.items()}
    names: dict[Label, str] = dict(enumerate(getattr(found["train"], "classes", None) or ()))
    return Listing(f"torchvision:{argument}", splits, names, origin=f"torchvision's {', '.join(found)}")


def _samples(name: str, split: Any) -> Iterator[Sample]:
    """Labels come with their images alone, so each image is opened for it; the file is not decoded here."""
    for at in range(len(split)):
        image, label = split[at]
        yield Sample(str(at), f"{name} image {at}", partial(_same, image), int(label))


def _same(image: Any) -> Any:
    return image


def _split(name: str, words: dict[str, object]) -> Any:
    import torchvision

    root = Path(os.environ.get("SSBENCH_DATA") or "~/.cache/ssbench/torchvision").expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        return getattr(torchvision.datasets, name)(root, download=True, **words)
    except (OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise UserError(
            f"torchvision:{name} can't be had: {reason}; set SSBENCH_DATA to a folder that has it"
        ) from None
