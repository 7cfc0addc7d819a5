"""Parquet files as `datasets`, pandas, Polars, DuckDB and Spark write them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet as pq

from ssbench.data.fingerprints import fingerprint
from ssbench.data.listing import Box, Listing, Sample
from ssbench.data.sources import parquet, table
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


def png(level: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((4, 6), level, np.uint8)).save(file, "png")
    return file.getvalue()


def write(file: Path, levels: Sequence[int], **more: Any) -> None:
    """Images of one grey each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [png(level) for level in levels], **more}), file)


def read(place: Path, **settings: Any) -> Listing:
    return parquet.read(str(place), DataSettings(**settings))


def samples(listing: Listing, split: str = "train") -> list[Sample]:
    found = listing.splits[split]
    each = list(found.each())
    assert len(each) == found.total and [one.key for one in each] == [str(i) for i in range(found.total)]
    return each


def levels(listing: Listing, split: str = "train") -> list[int]:
    return [int(np.asarray(one.open())[0, 0]) for one in samples(listing, split)]


def labels(listing: Listing, split: str = "train") -> list[Any]:
    return [one.label for one in samples(listing, split)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "table"
    write(root / "train.parquet", range(10), label=[i % 2 for i in range(10)])
    write(root / "validation.parquet", range(10, 14), label=[0, 1, 0, 1])
    write(root / "test.parquet", range(14, 20), label=[1] * 6)
    return root


def test_a_file_a_split(folder: Path) -> None:
    found = read(folder)
    assert list(found.splits) == ["train", "val", "test"] and found.where == f"parquet:{folder}"
    assert levels(found) == list(range(10)) and levels(found, "val") == [10, 11, 12, 13]
    assert labels(found, "test") == [1] * 6 and found.names is None
    assert found.columns == {"image": "image", "label": "label"} and found.left_out == ()
    assert samples(found)[5].name == "train.parquet row 5"
    assert levels(found) == list(range(10)), "a second time"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"], {"train": [0, 1], "test": [2]}),
        (["train-00000-of-00002-0123456789abcdef", "validation-00000-of-00001"], {"train": [0], "val": [1]}),
        (["train_0", "train_1", "val_0"], {"train": [0, 1], "val": [2]}),
        (["data/train-00000-of-00001", "data/test-00000-of-00001"], {"train": [0], "test": [1]}),
        (["train/0000", "train/0001", "test/0000"], {"train": [0, 1], "test": [2]}),
        (["default/train/0000", "default/validation/0000"], {"train": [0], "val": [1]}),
        (["Training", "Testing"], {"train": [0], "test": [1]}),
        (["TRAIN", "dev", "eval"], {"train": [0], "val": [1], "test": [2]}),
        (["split=train/part-0", "split=test/part-0"], {"train": [0], "test": [1]}),
        (["val", "test"], {"val": [0], "test": [1]}),
        (["data"], {"train": [0]}),
        (["part-0", "part-1"], {"train": [0, 1]}),
        (["2019", "2020"], {"train": [0, 1]}),
        (["part-00000-1a2b-c000.snappy", "_temporary/part-00001", ".cache/test"], {"train": [0]}),
    ],
    ids=lambda names: str(names[0]) if isinstance(names, list) else "",
)
def test_splits_and_shards_have_many_names(tmp_path: Path, names: list[str], splits: dict[str, list[int]]) -> None:
    for level, name in enumerate(names):
        write(tmp_path / "set" / f"{name}.parquet", [level])
    found = read(tmp_path / "set")
    assert {split: levels(found, split) for split in found.splits} == splits


def test_what_was_understood_of_files_is_told(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0])
    write(tmp_path / "extra.parquet", [1, 2])
    found = read(tmp_path)
    assert found.origin == "files train" and found.left_out == ("files extra (rows: 2), which is no split's name",)
    assert levels(found) == [0]
    named = read(tmp_path, splits=("train=extra", "test=train"))
    assert levels(named) == [1, 2] and levels(named, "test") == [0]
    with pytest.raises(UserError, match="there is no 'exra'; did you mean extra"):
        read(tmp_path, splits=("train=exra",))


def test_years_can_be_splits(tmp_path: Path) -> None:
    for year in (2019, 2020, 2021):
        write(tmp_path / f"{year}.parquet", [year - 2000])
    found = read(tmp_path, splits=("train=2019", "train=2021", "test=2020"))
    assert levels(found) == [19, 21] and levels(found, "test") == [20]


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", [0])
    write(tmp_path / "eval.parquet", [0])
    with pytest.raises(UserError, match=r"files eval and test are all test: say which, --set data.splits"):
        read(tmp_path)


def test_several_sets_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for size in ("small", "large"):
        write(tmp_path / size / "train.parquet", [0])
    with pytest.raises(UserError, match=r"several sets, each with its own train: large and small; name one, such as"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["split", "Split", "subset", "set"])
def test_a_column_called_split_makes_splits_in_one_file(tmp_path: Path, name: str) -> None:
    parts = ["train", "test", "train", "valid", "other", None]
    write(tmp_path / "data.parquet", range(6), label=range(6), **{name: pa.array(parts).dictionary_encode()})
    for place in (tmp_path, tmp_path / "data.parquet"):
        found = read(place)
        assert {split: labels(found, split) for split in found.splits} == {"train": [0, 2], "val": [3], "test": [1]}
        assert samples(found)[1].name == "data.parquet row 2" and levels(found, "test") == [1]
        assert found.origin == f"column {name}: train, test, valid"
        assert found.left_out[0] == f"column {name}: other (rows: 1), which is no split's name"
    named = read(tmp_path, splits=("train=other", "test=train"))
    assert labels(named) == [4] and labels(named, "test") == [0, 2]


def test_values_that_name_no_split_are_refused_until_the_user_says(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", range(4), split=[2019, 2020, 2019, 2020])
    with pytest.raises(
        UserError, match=r"has column split: 2019, 2020: say which is what, --set data.splits=train=2019"
    ):
        read(tmp_path)
    assert levels(read(tmp_path, splits=("train=2020", "test=2019"))) == [1, 3]


def test_one_file_is_the_training_split(folder: Path) -> None:
    file = folder / "test.parquet"
    assert list(read(file).splits) == ["train"] and parquet.identify(str(file), PLAIN)[0] == "test"
    assert read(file).origin == "files test.parquet, taken for train"


def test_folders_of_partitions_are_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"image": [png(i) for i in range(4)], "label": ["cat", "dog"] * 2, "split": ["train"] * 3 + ["test"]}
    )
    frame.to_parquet(tmp_path / "set", partition_cols=["split", "label"])
    found = read(tmp_path / "set")
    assert sorted(zip(levels(found), labels(found))) == [(0, "cat"), (1, "dog"), (2, "cat")]
    assert labels(found, "test") == ["dog"]


@pytest.mark.parametrize(
    ("column", "given"),
    [
        ([0, 1, 2], [0, 1, 2]),
        (["cat", "", "dog"], ["cat", None, "dog"]),
        ([0.0, 1.0, None], [0, 1, None]),
        ([True, False, None], [True, False, None]),
        ([0, 1, -1], [0, 1, None]),
        ([-1, 1, 1], [-1, 1, 1]),
        (pd.array([1, None, 0], dtype="Int64"), [1, None, 0]),
        (pd.Categorical(["b", "a", None]), ["b", "a", None]),
        ([["a", "b"], [], None], [("a", "b"), (), None]),
        ([[0, 1, 1], [0, 0, 0], [1, 0, 0]], [(1, 2), (), (0,)]),
    ],
    ids=str,
)
def test_labels_that_pandas_writes(tmp_path: Path, column: Any, given: list[Any]) -> None:
    frame = pd.DataFrame({"image": [{"bytes": png(i), "path": None} for i in range(3)], "label": column})
    frame.to_parquet(tmp_path / "train.parquet")
    found = read(tmp_path)
    assert labels(found) == given and [type(one) for one in labels(found)] == [type(one) for one in given]
    assert levels(found) == [0, 1, 2]


def test_labels_as_polars_and_duckdb_write_them(tmp_path: Path) -> None:
    enum = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.uint32()), pa.array(["a", "b"], pa.large_string()))
    image = pa.array([{"bytes": png(0), "path": ""}, {"bytes": png(1), "path": "x.png"}])
    pq.write_table(pa.table({"label": enum, "image": image}), tmp_path / "train.parquet", store_schema=False)
    assert labels(read(tmp_path)) == ["b", "a"] and levels(read(tmp_path)) == [0, 1]
    views = {"label": pa.array(["x", "y"], pa.string_view()), "image": pa.array([png(2), png(3)], pa.binary_view())}
    pq.write_table(pa.table(views), tmp_path / "train.parquet")
    assert labels(read(tmp_path)) == ["x", "y"] and levels(read(tmp_path)) == [2, 3]


def hugging(file: Path, columns: dict[str, list[Any]], **features: Any) -> None:
    images = [{"bytes": png(i), "path": None} for i in range(len(next(iter(columns.values()))))]
    kinds = datasets.Features({"image": datasets.Image(), **features})
    datasets.Dataset.from_dict({"image": images, **columns}, features=kinds).to_parquet(file)


def test_a_class_label_gives_numbers_and_their_names(tmp_path: Path) -> None:
    hugging(tmp_path / "train.parquet", {"label": [1, 0, -1, None]}, label=datasets.ClassLabel(names=["cat", "dog"]))
    hugging(tmp_path / "test.parquet", {"label": [-1, -1]}, label=datasets.ClassLabel(names=["cat", "dog"]))
    found = read(tmp_path)
    assert found.names == {0: "cat", 1: "dog"}
    assert labels(found) == [1, 0, None, None] and labels(found, "test") == [None, None]
    pq.write_table(pq.read_table(tmp_path / "test.parquet").replace_schema_metadata(), tmp_path / "test.parquet")
    assert labels(read(tmp_path), "test") == [None, None], "written again without the names"


def test_a_label_out_of_range_is_named_by_file_and_row(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["a", "b"])
    images = [{"bytes": png(0), "path": None}] * 3
    plain = pa.table({"image": images, "label": [0, 1, 2]})
    schema = datasets.Features({"image": datasets.Image(), "label": kind}).arrow_schema
    pq.write_table(plain.cast(schema), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train.parquet row 2 has the label 2, which is none of 2 classes"):
        samples(read(tmp_path))


def test_several_labels_masks_boxes_numbers_and_groups(tmp_path: Path) -> None:
    kinds = datasets.ClassLabel(names=["cat", "dog", "night"])
    corners = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
    hugging(
        tmp_path / "train.parquet",
        {
            "labels": [[0, 2], []],
            "mask": [{"bytes": png(7), "path": None}, None],
            "objects": [{"bbox": [[1, 2, 3, 4]], "category": [1]}, {"bbox": [], "category": []}],
            "group": [12, None],
            "age": [30, 41],
            "weight": [1.5, 2.5],
        },
        labels=datasets.Sequence(kinds),
        mask=datasets.Image(),
        objects={"bbox": corners, "category": datasets.Sequence(kinds)},
        group=datasets.Value("int64"),
        age=datasets.Value("int32"),
        weight=datasets.Value("float32"),
    )
    found = read(tmp_path, numbers=("weight", "age"))
    assert found.columns == {n: n for n in ("image", "mask", "group")} | {"label": "labels", "boxes": "objects"}
    first, second = samples(found)
    assert first.label == (0, 2) and second.label == () and found.names == {0: "cat", 1: "dog", 2: "night"}
    assert first.mask is not None and np.asarray(first.mask()).max() == 7 and second.mask is None
    assert first.boxes == [Box(1, 2, 4, 6, "dog")] and second.boxes == []
    assert found.numbers == ("weight", "age") and first.numbers == (1.5, 30.0) and second.numbers == (2.5, 41.0)
    assert (first.group, second.group) == ("12", "")


def test_boxes_alone_give_no_labels_and_broken_ones_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0], objects=[[{"bbox": [0.0, 1, 2, 3], "category": "owl"}]])
    only = samples(read(tmp_path))[0]
    assert only.boxes == [Box(0, 1, 2, 4, "owl")] and only.label is None
    write(tmp_path / "train.parquet", [0], objects=[{"bbox": [[0.0, 1, 2, 3]], "category": ["owl", "cat"]}])
    with pytest.raises(UserError, match=r"train.parquet row 0 has 1 boxes and 2 categories in column 'objects'"):
        samples(read(tmp_path))
    write(tmp_path / "train.parquet", [0], objects=[{"bbox": [[0.0, 1, 2]], "category": ["owl"]}])
    with pytest.raises(UserError, match=r"row 0 has the box \[0.0, 1.0, 2.0\] of category owl"):
        samples(read(tmp_path))


def test_a_missing_number_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1], age=[3, None])
    with pytest.raises(UserError, match=r"train.parquet row 1 has no number in column 'age'"):
        samples(read(tmp_path, numbers=("age",)))


def test_images_are_files_that_the_table_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "photos").mkdir(parents=True)
    for i in range(2):
        (root / "photos" / f"{i}.png").write_bytes(png(i))
    names = ["photos/1.png", "photos/0.png", "photos/7.png", None]
    pd.DataFrame({"file_name": names, "label": list("abab")}).to_parquet(root / "train.parquet")
    each = samples(read(root))
    assert np.asarray(each[0].open()).max() == 1 and np.asarray(each[1].open()).max() == 0
    with pytest.raises(ValueError, match=r"column file_name: there is no file photos/7.png"):
        each[2].open()
    with pytest.raises(ValueError, match="column file_name: there is no image"):
        each[3].open()
    before = parquet.identify(str(root), PLAIN)
    shutil.copytree(root, tmp_path / "else" / "set")
    assert parquet.identify(str(tmp_path / "else" / "set"), PLAIN) == before
    (root / "photos" / "1.png").write_bytes(png(9))
    assert parquet.identify(str(root), PLAIN)[1] != before[1], "the images are content too"


def test_an_empty_cell_and_broken_bytes_are_for_the_reader_to_tell(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(0), None, b"text"]}), tmp_path / "train.parquet")
    each = samples(read(tmp_path))
    with pytest.raises(ValueError, match="column image: there is no image"):
        each[1].open()
    with pytest.raises(OSError, match="cannot identify"):
        each[2].open()


def test_rows_are_read_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BATCH", 3)
    write(tmp_path / "train.parquet", range(10), split=["train", "test"] * 5)
    found = read(tmp_path)
    assert levels(found) == [0, 2, 4, 6, 8] and samples(found, "test")[4].name == "train.parquet row 9"


@pytest.mark.parametrize("content", [b"text", b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_not_parquet_is_named(folder: Path, content: bytes) -> None:
    (folder / "test.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"test.parquet can't be read as Parquet") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_parquet_file_is_named(folder: Path) -> None:
    content = bytearray((folder / "train.parquet").read_bytes())
    content[4:400] = bytes(396)
    (folder / "train.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"train.parquet can't be read as Parquet"):
        samples(read(folder))


def test_a_place_without_tables_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="parquet:nowhere: there is no such file or folder"):
        parquet.identify("nowhere", PLAIN)
    with pytest.raises(UserError, match=r"there is no .parquet file in this folder"):
        parquet.identify(str(tmp_path), PLAIN)


def test_the_fingerprint_of_files_is_their_content_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    name, found = parquet.identify(str(folder), PLAIN)
    assert name == "table" and found == fingerprint(folder, folder.iterdir())
    shutil.copytree(folder, tmp_path / "else" / "table")
    assert parquet.identify(str(tmp_path / "else" / "table"), PLAIN) == (name, found)
    write(tmp_path / "else" / "table" / "test.parquet", [3])
    assert parquet.identify(str(tmp_path / "else" / "table"), PLAIN)[1] != found


def test_neither_datasets_nor_torch_is_needed(folder: Path) -> None:
    code = (
        "import sys; sys.modules.update(datasets=None, torch=None)\n"
        "from ssbench.data.sources import parquet; from ssbench.spec import DataSettings\n"
        f"print(parquet.identify({str(folder)!r}, DataSettings())[0])\n"
        f"print(next(parquet.read({str(folder)!r}, DataSettings()).splits['train'].each()).open().size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["table", "(6, 4)"], done.stderr
