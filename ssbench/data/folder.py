"""`folder:PATH`: images in one folder a class, or in train/, val/ and test/ of those, or loose and unlabelled."""

import os
from functools import partial
from pathlib import Path

from ssbench.data import SPLITS, Source, fingerprint
from ssbench.errors import UserError
from ssbench.spec import DataSettings

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif")


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The folder's name and the fingerprint of its images; raises UserError when it is not there or has none."""
    root = _root(argument)
    return root.name, fingerprint(root, [file for folder in _splits(root).values() for file in _images(folder)])


def read(argument: str, settings: DataSettings) -> Source:
    """Images in the order of their paths, which are their keys; raises UserError on folders that don't fit together."""
    from PIL import Image

    from ssbench.data.decode import Opened, Sample, Samples, decode

    root = _root(argument)
    folders = _splits(root)
    classes = tuple(_subfolders(folders["train"]))

    def open_(file: Path, label: int | None) -> Opened:
        return Opened(Image.open(file), label)

    splits = {}
    for name, folder in folders.items():
        labels = _labels(folder, classes)
        keys = {file.relative_to(root).as_posix(): file for file in labels}
        each = [Sample(key, key, partial(open_, keys[key], labels[keys[key]])) for key in sorted(keys)]
        splits[name] = Samples(len(each), each)
    return decode(f"folder:{argument}", splits, classes, settings)


def _root(argument: str) -> Path:
    root = Path(argument).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"folder:{argument}: there is no such folder")
    return root


def _splits(root: Path) -> dict[str, Path]:
    """The folder of each split; the whole folder is `train` where nothing below it is called so."""
    inside = _subfolders(root)
    named = {split: root / name for split, names in SPLITS.items() for name in names if name in inside}
    folders = named if "train" in named else {"train": root}
    for folder in folders.values():
        if not _images(folder):
            raise UserError(f"{folder} has no images; looked for {', '.join(EXTENSIONS)}")
    return folders


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """The images at any depth of a folder, linked folders included and hidden ones left out."""
    found, seen = [], set()
    for place, inside, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:  # a link that leads back
            inside.clear()
            continue
        seen.add(os.path.realpath(place))
        inside[:] = [name for name in inside if not name.startswith(".")]
        found += [Path(place, name) for name in files if _is_image(name)]
    return found


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(tuple(f".{end}" for end in EXTENSIONS))


def _labels(folder: Path, classes: tuple[str, ...]) -> dict[Path, int | None]:
    """The images of a split and their classes, None where the data has no classes."""
    loose = sorted(entry for entry in folder.iterdir() if entry.is_file() and _is_image(entry.name))
    if classes and loose:
        raise UserError(f"{loose[0]} lies beside the class folders: move it into one")
    unknown = sorted(set(_subfolders(folder)) - set(classes))
    if unknown:
        raise UserError(f"{folder / unknown[0]}: there is no class {unknown[0]!r} in train")
    labels: dict[Path, int | None] = dict.fromkeys(loose)
    for label, name in enumerate(classes):
        labels |= dict.fromkeys(_images(folder / name), label)
    return labels
