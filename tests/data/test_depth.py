"""Maps of depth beside people's own images: read as they lie, and refused in one line where they don't fit."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet as pq

from ssbench.data import Dataset, identify, load, understood
from ssbench.data.depth import read
from ssbench.data.listing import Sample
from ssbench.data.pages.page import page
from ssbench.errors import UserError
from ssbench.spec import DataSettings

SIDE, COUNT = 16, 20


def image(number: int, width: int = SIDE) -> Image.Image:
    noise = np.random.default_rng(number).integers(256, size=(SIDE, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def metres(number: int) -> NDArray[np.float32]:
    """A slope of its own, with a corner that nobody measured."""
    found = np.linspace(1, 2 + number, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    found[:2, :2] = np.nan
    return found


def millimetres(number: int) -> NDArray[np.uint16]:
    return np.nan_to_num(1000 * metres(number)).astype(np.uint16)


def save(file: Path, values: NDArray[Any]) -> None:
    """By its ending."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, values) if file.suffix == ".npy" else Image.fromarray(values).save(file)


def draw(root: Path, to: str = "images/{}.png", maps: str = "depth/{}.png", count: int = COUNT) -> Path:
    """Images, and a map of each in millimetres where it is PNG, else in metres."""
    for number in range(COUNT):
        file = root / to.format(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        image(number).save(file)
        if number < count:
            save(root / maps.format(number), millimetres(number) if maps.endswith("png") else metres(number))
    return root


def loaded(source: str, **more: Any) -> Dataset:
    settings = DataSettings(**{"depth": "depth"} | more)
    return load(source, settings, identify(source, settings))


def maps(data: Dataset) -> Mapping[str, torch.Tensor]:
    return {
        key: one for part in (data.fit, data.select, data.test) for key, one in zip(part.keys, part.targets["depth"])
    }


@pytest.mark.parametrize(
    ("to", "put"),
    [
        ("images/{}.png", "depth/{}.png"),
        ("rgb/{}.jpg", "depth/{}.tif"),
        ("{}.png", "depth/{}.npy"),
        ("train/rgb/{}.png", "train/depth/{}.png"),
        ("rgb/train/{}.png", "depth/train/{}.npy"),
        ("cat/{}.png", "depth/cat/{}.png"),
    ],
)
def test_a_folder_gives_each_image_the_map_of_its_name(tmp_path: Path, to: str, put: str) -> None:
    data = loaded(f"folder:{draw(tmp_path, to, put)}")
    found = maps(data)
    assert len(found) == COUNT and "mask" not in data.targets
    for key, depth in found.items():
        number = int(Path(key).stem)
        wanted = (
            np.where(millimetres(number) > 0, millimetres(number), np.nan) if put.endswith("png") else metres(number)
        )
        np.testing.assert_array_equal(depth.numpy(), wanted)


@pytest.mark.parametrize("end", ["png", "npy"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_column_of_a_table_names_maps(tmp_path: Path, form: str, end: str) -> None:
    root = draw(tmp_path, maps=f"scans/d_{{}}.{end}")
    rows = [(f"images/{i}.png", f"scans/d_{(i + 1) % COUNT}.{end}") for i in range(COUNT)]
    lines = ["file_name,depth", *(f"{a},{b}" for a, b in rows)]
    if form == "jsonl":
        lines = [f'{{"file_name": "{a}", "depth": "{b}"}}' for a, b in rows]
    (root / f"table.{form}").write_text("\n".join(lines))
    data = loaded(f"folder:{root}")
    assert len(maps(data)) == COUNT and data.understood["columns"]["depth"] == "depth"
    for key, depth in maps(data).items():
        number = (int(Path(key).stem) + 1) % COUNT
        assert depth[-1, -1] == (millimetres(number) if end == "png" else metres(number))[-1, -1]


def held(values: NDArray[Any], end: str) -> bytes:
    file = BytesIO()
    np.save(file, values) if end == "npy" else Image.fromarray(values).save(file, end)
    return file.getvalue()


@pytest.mark.parametrize("end", ["png", "npy", "paths"])
def test_a_column_of_a_parquet_table_holds_or_names_maps(tmp_path: Path, end: str) -> None:
    cells: list[Any] = [held(millimetres(i), end) for i in range(COUNT)] if end != "paths" else []
    for i in range(COUNT) if end == "paths" else ():
        save(tmp_path / f"maps/{i}.npy", millimetres(i))
        cells.append(f"maps/{i}.npy")
    table = {"image": [held(np.asarray(image(i)), "png") for i in range(COUNT)], "range": cells}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    found = maps(loaded(f"parquet:{tmp_path}", depth="range"))
    assert len(found) == COUNT
    for key, depth in found.items():
        assert depth.isnan().sum() == 4 and depth[-1, -1] == millimetres(int(key))[-1, -1]


def test_files_of_depth_are_part_of_what_the_data_is(tmp_path: Path) -> None:
    source, settings = f"folder:{draw(tmp_path)}", DataSettings(depth="depth")
    before = identify(source, settings)
    save(tmp_path / "depth/3.png", millimetres(4))
    assert identify(source, settings).fingerprint != before.fingerprint


def test_the_line_says_the_range_and_what_is_unknown(tmp_path: Path) -> None:
    (line, *_) = page(f"folder:{draw(tmp_path)}", DataSettings(depth="depth")).said
    assert f"maps of depth from {millimetres(0)[0, 2]} to 2.1e+04, 1.6% of pixels unknown" in line
    assert "folder depth as depth" in line


def test_the_line_says_the_range_of_drawn_maps_too(tiny: Dataset) -> None:
    every = torch.cat([part.targets["depth"] for part in (tiny.fit, tiny.select, tiny.test)])
    assert understood.depth(tiny) == f"maps of depth from {every.min():.4g} to {every.max():.4g}"


@pytest.mark.parametrize(
    ("values", "index", "unknown"),
    [
        (np.array([[0, 1], [2, 65535]], np.uint16), -1, [[True, False], [False, False]]),
        (np.array([[0, 1], [2, 65535]], np.uint16), 65535, [[False, False], [False, True]]),
        (np.array([[0, 1], [2, 255]], np.uint8), -1, [[False, False], [False, False]]),
        (np.array([[0, np.inf], [-9999, np.nan]], np.float64), -1, [[False, True], [True, True]]),
    ],
)
def test_what_was_not_measured_is_not_a_number(values: NDArray[Any], index: int, unknown: list[list[bool]]) -> None:
    sample = Sample("0", "0.png", lambda: image(0), depth=lambda: values)
    found = read("folder:x", sample, image(0), 4, DataSettings(ignore_index=index))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found)[::2, ::2], unknown)  # each pixel is four, the nearest one's
    np.testing.assert_array_equal(found[1::2, 1::2][~np.array(unknown)], values[~np.array(unknown)])


def mapless(root: Path) -> None:
    (root / "depth/7.png").unlink()


def wide(root: Path) -> None:
    save(root / "depth/3.png", np.ones((8, 16), np.uint16))


def unmeasured(root: Path) -> None:
    save(root / "depth/3.png", np.zeros((SIDE, SIDE), np.uint16))


def constant(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"depth/{number}.png", np.full((SIDE, SIDE), 7, np.uint16))


def coloured(root: Path) -> None:
    image(3).save(root / "depth/3.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (mapless, r"1 of 20 images have no depth map, such as images/7\.png \(data\.depth=depth\)"),
        (wide, r"images/3\.png is 16 x 16 px, and its depth map 16 x 8: .* of the same aspect ratio"),
        (unmeasured, r"images/3\.png can't be read: its depth map has no value at 16 px"),
        (constant, r"depth is 7 wherever it is known"),
        (coloured, r"images/3\.png can't be read: its depth map is of uint8, \(16, 16, 3\), not one number"),
    ],
)
def test_what_is_no_depth_is_refused(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(draw(tmp_path))
    with pytest.raises(UserError, match=said) as raised:
        loaded(f"folder:{tmp_path}")
    assert "\n" not in str(raised.value)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    draw(tmp_path)
    with pytest.raises(UserError, match=r"no folder or column 'dept' \(data\.depth\) has a map"):
        loaded(f"folder:{tmp_path}", depth="dept")
    pq.write_table(pa.table({"image": [held(np.asarray(image(0)), "png")], "z": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column 'dept' \(data\.depth\)"):
        loaded(f"parquet:{tmp_path}", depth="dept")
    with pytest.raises(UserError, match=r"column 'z' holds no images but int64 \(data\.depth\)"):
        loaded(f"parquet:{tmp_path}", depth="z")


def test_a_source_that_has_no_maps_says_so(tmp_path: Path) -> None:
    table = {"image": [held(np.asarray(image(0)), "png")] * 3, "depth": pa.nulls(3, pa.binary())}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"no image has a map of depth \(data\.depth=depth\); folder:, parquet: and hf:"
    ):
        loaded(f"parquet:{tmp_path}")


def test_one_map_is_never_that_of_two_images(tmp_path: Path) -> None:
    for place in ("cat", "dog"):
        draw(tmp_path, to=f"{place}/{{}}.png")
    with pytest.raises(UserError, match="no folder or column 'depth'"):
        loaded(f"folder:{tmp_path}")
