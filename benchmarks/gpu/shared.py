"""What the parts share: cells by the ordinary plan, small drawn data as Parquet, and rows that outlive a part."""

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ssbench import plan
from ssbench.plan import Cell
from ssbench.results.store import Store
from ssbench.workshop import Job, Workshop
from ssbench.workshop import device as find_device

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def cells(method: str, data: Path, **asked: Any) -> list[Cell]:
    """The cells of one method, without the controls that a plan brings along."""
    one = {"method": [method], "dataset": [f"parquet:{data}"], "seeds": [0], "set": [], **asked}
    return [cell for cell in plan.cells(plan.request(one, "benchmarks/gpu")) if cell.method.name == method]


@cache
def workshop(results: Path, device: str) -> Workshop:
    """One a process, so that data is read once; float32 is float32 on its device."""
    return Workshop(Store(results), find_device(device), lambda text: None)


def job(method: str, data: Path, results: Path, device: str = DEVICE, **asked: Any) -> Job:
    """A method's cell with its data in memory."""
    return workshop(results, device).open(cells(method, data, **asked)[0])


def drawn(folder: Path, train: int, test: int, side: int = 32) -> Path:
    """Scenes with labels and masks, one Parquet file a split, as images of other people's data come."""
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Picture

    from ssbench.data.sources.shapes import draw

    def png(pixels: Any) -> dict[str, Any]:
        content = BytesIO()
        Picture.fromarray(pixels).save(content, "PNG")
        return {"bytes": content.getvalue(), "path": None}

    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        scenes = draw(split, count, side)
        features = Features({"image": Image(), "label": ClassLabel(num_classes=8), "mask": Image()})
        columns = {
            "image": [png(image) for image in scenes.images.transpose(0, 2, 3, 1)],
            "label": scenes.label.tolist(),
            "mask": [png(mask) for mask in scenes.mask],
        }
        Dataset.from_dict(columns, features).to_parquet(folder / f"{split}.parquet")
    return folder


def cut(source: Path, folder: Path, rows: int) -> Path:
    """The first rows of each file of a Parquet folder, for rehearsals."""
    import pyarrow.parquet as parquet

    folder.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.parquet"):
        parquet.write_table(parquet.read_table(file).slice(0, rows), folder / file.name)
    return folder


def write(file: Path, row: dict[str, Any]) -> None:
    """Append a row, so that a part that is cut off loses nothing that it had found."""
    with file.open("a") as opened:
        opened.write(json.dumps(row) + "\n")
    print(row, flush=True)
