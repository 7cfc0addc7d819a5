"""Tables of Hugging Face's layout: Parquet files as they lie, and what `datasets` itself can load."""

import os
import shutil
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ssbench import data
from ssbench.data import huggingface, parquet
from ssbench.errors import UserError
from ssbench.spec import DataRef, DataSettings

PLAIN = DataSettings()
SHARED = Path(os.environ.get("SSBENCH_TEST_DATA", Path(__file__).parent.parent.parent.parent / "shared" / "data"))


def encoded(pixels: Any, form: str = "png") -> dict[str, Any]:
    file = BytesIO()
    Image.fromarray(pixels).save(file, form)
    return {"bytes": file.getvalue(), "path": None}


def scene(i: int) -> Any:
    return np.full((16, 24, 3), i, np.uint8)


def classes(i: int) -> Any:
    mask = np.full((16, 24), i % 4, np.uint8)
    mask[:, :12] = 255
    return mask


FEATURES = {
    "id": datasets.Value("string"),
    "mask": datasets.Image(),
    "photo": datasets.Image(),
    "look": datasets.ClassLabel(names=["dull", "bright"]),
    "kind": datasets.ClassLabel(names=["a", "b", "c"]),
}


def rows(numbers: Sequence[int]) -> dict[str, list[Any]]:
    return {
        "id": [f"name{i}" for i in numbers],
        "mask": [encoded(classes(i)) for i in numbers],
        "photo": [encoded(scene(i)) for i in numbers],
        "look": [i % 2 for i in numbers],
        "kind": [i % 3 for i in numbers],
    }


def write(file: Path, numbers: Sequence[int], columns: Sequence[str] = tuple(FEATURES), **cells: list[Any]) -> None:
    content = {name: cell for name, cell in {**rows(numbers), **cells}.items() if name in columns}
    features = datasets.Features({name: FEATURES[name] for name in columns})
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(content, features=features).to_parquet(file)


@pytest.fixture(autouse=True)
def _no_cache_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    root = tmp_path / "table"
    write(root / "train.parquet", range(10))
    write(root / "validation.parquet", range(10, 14))
    write(root / "test.parquet", range(14, 20))
    return root


def test_columns_are_found_by_type(table: Path) -> None:
    source = parquet.read(str(table), PLAIN)
    assert list(source.splits) == ["train", "val", "test"] and source.classes == ("dull", "bright")
    train = source.splits["train"]
    assert train.keys == tuple(map(str, range(10)))
    assert train.images.shape == (10, 3, 16, 16) and train.images[:, 0, 0, 0].tolist() == list(range(10))
    assert train.targets["label"].tolist() == [i % 2 for i in range(10)] and train.targets["label"].dtype == torch.int64


def test_masks_keep_their_values_and_images_are_not_cropped(table: Path) -> None:
    source = parquet.read(str(table), PLAIN)
    mask = source.splits["test"].targets["mask"]  # (N, S, S)
    assert mask.shape == (6, 16, 16) and mask.dtype == torch.uint8
    assert mask[3].unique().tolist() == [1, 255] and (mask[3] == 255).sum() == 16 * 8, "the left half, of the whole"
    assert source.mask_classes == 4
    assert parquet.read(str(table), DataSettings(ignore_index=3)).mask_classes == 256


def test_columns_can_be_named(table: Path) -> None:
    source = parquet.read(str(table), DataSettings(image="mask", label="kind", mask="mask"))
    assert source.classes == ("a", "b", "c")
    assert source.splits["train"].targets["label"].tolist() == [i % 3 for i in range(10)]
    assert source.splits["train"].images[5, :, 0, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataSettings(label="kimd"), r"no column 'kimd' \(data.label\); did you mean kind"),
        (DataSettings(image="foto"), r"no column 'foto' \(data.image\); did you mean photo"),
        (DataSettings(mask="msk"), r"no column 'msk' \(data.mask\); did you mean mask"),
        (DataSettings(label="id"), r"column 'id' \(data.label\) is not of type ClassLabel"),
        (DataSettings(image="kind"), r"column 'kind' \(data.image\) is not of type Image"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_near_misses(
    table: Path, settings: DataSettings, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        parquet.read(str(table), settings)


def test_a_table_without_images_says_what_it_has(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(3), ["id", "look"])
    with pytest.raises(UserError, match="no column of type Image; its columns: id, look"):
        parquet.read(str(tmp_path), PLAIN)


def test_images_alone_have_no_targets(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", range(3), ["photo"])
    source = parquet.read(str(tmp_path), PLAIN)
    assert not source.splits["train"].targets and source.classes == () and source.mask_classes == 0


def test_shards_are_one_split_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "train-00001-of-00002.parquet", range(5), ["look", "photo"], photo=[encoded(scene(9))] * 5)
    write(tmp_path / "train-00000-of-00002.parquet", range(4), ["look", "photo"], photo=[encoded(scene(7))] * 4)
    train = parquet.read(str(tmp_path), PLAIN).splits["train"]
    assert train.keys == tuple(map(str, range(9))) and train.images[:, 0, 0, 0].tolist() == [7] * 4 + [9] * 5


def test_one_file_is_the_training_split(table: Path) -> None:
    file = str(table / "test.parquet")
    assert list(parquet.read(file, PLAIN).splits) == ["train"]
    assert parquet.identify(file, PLAIN)[0] == "test"


def test_rows_are_read_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.parquet", range(10))
    monkeypatch.setattr(huggingface, "BATCH", 3)
    train = parquet.read(str(tmp_path), PLAIN).splits["train"]
    assert train.images[:, 0, 0, 0].tolist() == list(range(10))


@pytest.mark.parametrize("column", ["photo", "mask"])
def test_a_broken_cell_is_named_by_file_row_and_column(tmp_path: Path, column: str) -> None:
    cells = rows(range(5))[column]
    cells[3] = {"bytes": b"text", "path": None}
    write(tmp_path / "train.parquet", range(5), **{column: cells})
    with pytest.raises(
        UserError, match=rf"train.parquet row 3 can't be read: column {column}: it is not an image; .*skip"
    ):
        parquet.read(str(tmp_path), PLAIN)
    source = parquet.read(str(tmp_path), DataSettings(on_bad_image="skip"))
    assert source.skipped == ("train.parquet row 3",) and source.splits["train"].keys == ("0", "1", "2", "4")
    assert source.splits["train"].targets["mask"].shape == (4, 16, 16)


def test_a_truncated_jpeg_and_an_empty_cell_are_unreadable(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    torn = encoded(noise, "jpeg")["bytes"][:-900]
    write(tmp_path / "train.parquet", range(3), ["photo"], photo=[encoded(noise), {"bytes": torn, "path": None}, None])
    with pytest.raises(UserError, match="row 1 can't be read: column photo: image file is truncated"):
        parquet.read(str(tmp_path), PLAIN)
    source = parquet.read(str(tmp_path), DataSettings(on_bad_image="skip"))
    assert source.skipped == ("train.parquet row 1", "train.parquet row 2")
    write(tmp_path / "train.parquet", range(2), ["photo"], photo=[encoded(noise), None])
    with pytest.raises(UserError, match="row 1 can't be read: column photo: there is no image"):
        parquet.read(str(tmp_path), PLAIN)


@pytest.mark.parametrize("label", [-1, None])
def test_a_row_without_a_label_is_named(tmp_path: Path, label: int | None) -> None:
    write(tmp_path / "train.parquet", range(3), ["look", "photo"], look=[0, 1, label])
    with pytest.raises(UserError, match=f"train.parquet row 2 has the label {label}, which is none of 2 classes"):
        parquet.read(str(tmp_path), PLAIN)


def test_splits_must_have_the_same_columns_and_classes(table: Path) -> None:
    shutil.copy(table / "test.parquet", table / "train.parquet")
    write(table / "test.parquet", range(3), ["photo", "kind"])
    with pytest.raises(UserError, match=r"test.parquet has other columns or classes than train.parquet"):
        parquet.read(str(table), PLAIN)


def test_a_file_that_is_not_parquet_is_named(table: Path) -> None:
    (table / "test.parquet").write_bytes(b"text")
    with pytest.raises(UserError, match=r"test.parquet can't be read as Parquet"):
        parquet.read(str(table), PLAIN)


def test_a_damaged_parquet_file_is_named(table: Path) -> None:
    content = bytearray((table / "train.parquet").read_bytes())
    content[4:400] = bytes(396)
    (table / "train.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"train.parquet can't be read as Parquet"):
        parquet.read(str(table), PLAIN)


def test_a_place_without_tables_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="parquet:nowhere: there is no such file or folder"):
        parquet.identify("nowhere", PLAIN)
    with pytest.raises(UserError, match=r"there is no train.parquet"):
        parquet.identify(str(tmp_path), PLAIN)


def test_the_fingerprint_of_files_is_their_content_wherever_they_lie(table: Path, tmp_path: Path) -> None:
    name, fingerprint = parquet.identify(str(table), PLAIN)
    assert name == "table" and len(fingerprint) == 16
    shutil.copytree(table, tmp_path / "else" / "table")
    assert parquet.identify(str(tmp_path / "else" / "table"), PLAIN) == (name, fingerprint)
    write(tmp_path / "else" / "table" / "test.parquet", range(15, 20))
    assert parquet.identify(str(tmp_path / "else" / "table"), PLAIN)[1] != fingerprint


def test_without_the_extra_one_line_says_how_to_get_it(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for source in (f"parquet:{table}", "hf:some/thing"):
        with pytest.raises(UserError, match=r"needs the extra: pip install 'ssbench\[hf\]'"):
            data.load(source, PLAIN, DataRef(name="x", fingerprint="0", settings={}))


def test_what_datasets_loads_equals_the_files_read_directly(table: Path) -> None:
    direct, loaded = parquet.read(str(table), PLAIN), huggingface.read(str(table), PLAIN)
    assert list(loaded.splits) == list(direct.splits) and loaded.classes == direct.classes
    for name, split in direct.splits.items():
        assert loaded.splits[name].keys == split.keys and torch.equal(loaded.splits[name].images, split.images)
        assert all(torch.equal(loaded.splits[name].targets[target], split.targets[target]) for target in split.targets)


@pytest.mark.parametrize("layout", ["parquet", "images"])
def test_the_fingerprint_of_a_loaded_set_is_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    def make(root: Path, last: int) -> None:
        if layout == "parquet":
            write(root / "train.parquet", [1, 2, last], ["look", "photo"])
        for i in [1, 2, last] if layout == "images" else []:
            (root / "train" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(i)).save(root / "train" / f"{i % 2}" / f"{i}.png")

    found = []
    for k, (place, last) in enumerate([("one", 3), ("two", 3), ("two/more", 5)]):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / f"cache{k}")
        make(tmp_path / place / "mine", last)
        found.append(huggingface.identify(str(tmp_path / place / "mine"), PLAIN))
    assert found[0] == found[1] and found[0][0] == "mine"
    assert found[2][1] != found[0][1]


def test_a_folder_of_images_is_loaded_by_datasets_too(photos: Path) -> None:
    source = huggingface.read(str(photos), PLAIN)
    assert source.classes == ("bright", "dark") and source.splits["train"].images.shape == (120, 3, 16, 16)
    bright = source.splits["train"].images.float().mean((1, 2, 3)) > 120
    assert torch.equal(source.splits["train"].targets["label"], (~bright).long())


def test_a_set_that_cant_be_loaded_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="hf:nobody/nothing can't be loaded") as caught:
        huggingface.identify("nobody/nothing", PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of test data; name one with SSBENCH_TEST_DATA")
def test_real_scenes_and_their_masks() -> None:
    source, settings = f"parquet:{SHARED / 'camvid'}", DataSettings(ignore_index=11, image_size=32)
    found = data.load(source, settings, data.identify(source, settings))
    assert (len(found.fit), len(found.select), len(found.test)) == (367, 101, 233)
    assert found.mask_classes == 11 and found.size == 32 and found.ref.name == "camvid"
    mask = found.fit.targets["mask"]
    assert ((mask <= 11).all()) and (mask[:, :6] == 0).float().mean() > 0.3 > (mask[:, -6:] == 0).float().mean()
    assert found.roles == "the source's own splits"
