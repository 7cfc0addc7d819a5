"""Small inputs of the kinds that other people's data has: noisy discs, bars, checks in folders, tables, Parquet."""

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from ssbench import data
from ssbench.data.understood import sentence
from ssbench.spec import DataSettings

SIDE = 16
Pixels = NDArray[np.uint8]
PNG: Mapping[str, Any] = {"form": "PNG"}  # how an image is saved
IMAGE = {"_type": "Image"}


def figures(kind: int, count: int, seed: int = 0, width: int = SIDE, height: int = SIDE) -> tuple[list[Pixels], Any]:
    """Pictures (H, W, 3) of discs, bars or checks, and where the figure is: bool (count, H, W)."""
    rng = np.random.default_rng([seed, kind])
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    images, masks = [], []
    for _ in range(count):
        cx, cy, radius, phase = rng.uniform((0.35, 0.35, 0.2, 0), (0.65, 0.65, 0.35, 6))
        across, down = np.sin(x * 25 + phase) > 0, np.sin(y * 25 + phase) > 0
        figure = ((x - cx) ** 2 + (y - cy) ** 2 < radius**2, across, across ^ down)[kind % 3]
        dark, light = rng.uniform(20, 90, 3), rng.uniform(150, 240, 3)
        image = np.where(figure[..., None], light, dark) + rng.normal(0, 12, (height, width, 3))
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(figure)
    return images, np.array(masks)


def write(file: Path, image: Image.Image | NDArray[Any], **save: Any) -> None:
    """An image file, and the folders to it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, **save)


def folders(root: Path, names: Sequence[str], count: int = 20, seed: int = 0, ending: str = "png", **save: Any) -> Path:
    """A folder a class."""
    for kind, name in enumerate(names):
        for at, image in enumerate(figures(kind, count, seed)[0]):
            write(root / name / f"{at:03d}.{ending}", image, **save)
    return root


def pairs(root: Path, mask: Callable[[NDArray[np.bool_]], Any], name: str = "masks/{}.png", count: int = 20) -> Path:
    """images/ with what `mask` makes of each figure, in files called `name`."""
    for at, (image, figure) in enumerate(zip(*figures(0, count))):
        write(root / "images" / f"{at:03d}.png", image)
        write(root / name.format(f"{at:03d}"), mask(figure))
    return root


def cell(image: Image.Image | NDArray[Any], form: str = "PNG", **save: Any) -> dict[str, Any]:
    """What Hugging Face keeps of an image."""
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **save)
    return {"bytes": file.getvalue(), "path": None}


def rows(count: int = 40, seed: int = 0) -> tuple[list[dict[str, Any]], list[int]]:
    """Images of two kinds in turn, and which kind each is."""
    kinds = [figures(kind, count // 2, seed)[0] for kind in (0, 1)]
    return [cell(image) for both in zip(*kinds) for image in both], [0, 1] * (count // 2)


def parquet(file: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> Path:
    """A table, with Hugging Face's metadata where there are `features`; gives the folder it is in."""
    table = pa.table(dict(columns))
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file.parent


def scenes(
    root: Path,
    mask: Callable[[Any, str], Any],
    save: Mapping[str, Any] = PNG,
    image: Mapping[str, Any] = PNG,
    width: int = SIDE,
) -> Path:
    """train, val and test in Parquet files, of images and of what `mask` makes of (figure, split)."""
    for seed, (split, count) in enumerate({"train": 20, "val": 8, "test": 8}.items()):
        images, figure = figures(0, count, seed, width)
        columns = {
            "image": [cell(one, **image) for one in images],
            "mask": [cell(mask(one, split), **save) for one in figure],
        }
        parquet(root / f"{split}.parquet", columns, {"image": IMAGE, "mask": IMAGE})
    return root


def read(source: str, **settings: Any) -> data.Dataset:
    """A source as a cell reads it."""
    asked = DataSettings(**settings)
    return data.load(source, asked, data.identify(source, asked))


def said(source: str, **settings: Any) -> str:
    """How it was understood, in the line that is printed."""
    return sentence(read(source, **settings))


def labels(found: data.Dataset) -> dict[str, str]:
    """The class of each key."""
    parts = (found.fit, found.select, found.test)
    return {
        key: found.classes[label] for part in parts for key, label in zip(part.keys, part.targets["label"].tolist())
    }
