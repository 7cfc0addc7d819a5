"""Tables beside images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssbench.data.listing import Box, Listing
from ssbench.data.sources import folder
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


def draw(root: Path, files: str, **tables: str) -> Path:
    """Images, and tables by their names: metadata_csv is metadata.csv, `/` is __."""
    for file in files.split():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / file)
    for name, text in tables.items():
        stem, _, end = name.replace("__", "/").rpartition("_")
        (root / f"{stem}.{end}").write_text(text)
    return root


def listed(root: Path, **settings: Any) -> Listing:
    return folder.read(str(root), DataSettings(**settings))


def labels(root: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    splits = listed(root, **settings).splits
    return {name: {sample.key: sample.label for sample in split.each()} for name, split in splits.items()}


@pytest.mark.parametrize(
    "table",
    [
        "file_name,label\n1.png,cat\n2.png,dog\n",
        "filename,class\n1.png,cat\n2.png,dog\n",
        "Image;Category\n1.png;cat\n2.png;dog\n",
        "path,species\n/kaggle/input/x/1.png,cat\n./2.png,dog\n",
        "path,target\nC:\\data\\1.png,cat\nC:\\data\\2.png,dog\n",
        "image_id,label\n1,cat\n2,dog\n",
        ",Image Name,Label\n0,1.png,cat\n1,2.png,dog\n",
        "whatever,label\n1.png,cat\n2.png,dog\n",
        "1.png,cat\n2.png,dog\n",
        "\ufefffile_name,label\r\n1.png,cat\r\n2.png,dog\r\n",
        'file_name, label\n"1.png", cat\n"2.png", dog\n',
    ],
)
def test_a_table_names_images_and_their_labels(tmp_path: Path, table: str) -> None:
    draw(tmp_path, "1.png 2.png", labels_csv=table)
    assert labels(tmp_path) == {"train": {"1.png": "cat", "2.png": "dog"}}
    assert labels(draw(tmp_path / "deeper", "images/1.png images/2.png", labels_csv=table)) == {
        "train": {"images/1.png": "cat", "images/2.png": "dog"}
    }


@pytest.mark.parametrize("end", ["tsv", "jsonl"])
def test_tables_come_as_tabs_and_as_lines_of_json_too(tmp_path: Path, end: str) -> None:
    lines = "\n".join(json.dumps({"file_name": f"{i}.png", "label": i}) for i in (1, 2))
    text = {"tsv": "file_name\tlabel\n1.png\t1\n2.png\t2\n", "jsonl": lines}[end]
    draw(tmp_path, "1.png 2.png", **{f"metadata_{end}": text})
    found = listed(tmp_path)
    assert labels(tmp_path) == {"train": {"1.png": 1, "2.png": 2}}
    assert found.columns == {"image": "file_name", "label": "label"} and found.left_out == ()


def test_missing_files_images_without_a_row_and_unread_columns_are_said(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png 3.png", metadata_csv="file_name,label,age\n1.png,a,4\n2.png,b,5\n9.png,a,6\n")
    assert labels(tmp_path) == {"train": {"1.png": "a", "2.png": "b"}}
    assert listed(tmp_path).left_out == (
        "columns of metadata.csv that are not read: age",
        "1 rows whose image is not there",
        "1 images without a row in metadata.csv",
    )


def test_columns_are_named_by_settings(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", m_csv="id,file,dx,age,patient,label\n7,1.png,mel,4.5,p1,x\n8,2.png,nv,5,p2,y\n")
    found = listed(tmp_path, label="dx", numbers=("age",), group="patient")
    assert [(s.label, s.numbers, s.group) for s in found.splits["train"].each()] == [
        ("mel", (4.5,), "p1"),
        ("nv", (5.0,), "p2"),
    ]
    assert found.numbers == ("age",) and found.columns["label"] == "dx" and found.columns["group"] == "patient"
    with pytest.raises(UserError, match=r"has no column 'dy' \(data.label\); did you mean id or dx"):
        listed(tmp_path, label="dy")
    with pytest.raises(UserError, match=r"row 1: could not convert .* 'mel'; data\.numbers wants numbers"):
        listed(tmp_path, numbers=("dx",))


def test_only_a_column_called_group_is_taken_for_groups(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", m_csv="file,label,group,patient\n1.png,a,g1,p\n2.png,b,g2,p\n")
    assert [sample.group for sample in listed(tmp_path).splits["train"].each()] == ["g1", "g2"]


def test_a_column_says_the_splits(tmp_path: Path) -> None:
    text = "file,label,split\n1.png,a,Train\n2.png,b,train\n3.png,a,valid\n4.png,b,TEST\n"
    draw(tmp_path, "1.png 2.png 3.png 4.png", m_csv=text)
    assert labels(tmp_path) == {"train": {"1.png": "a", "2.png": "b"}, "val": {"3.png": "a"}, "test": {"4.png": "b"}}
    assert listed(tmp_path).origin == "column split of m.csv"
    draw(tmp_path / "folds", "1.png 2.png", m_csv="file,label,fold\n1.png,a,0\n2.png,b,1\n")
    assert list(labels(tmp_path / "folds")) == ["train"]
    assert list(labels(tmp_path / "folds", splits=("train=0", "test=1"))) == ["train", "test"]
    draw(tmp_path / "more", "1.png 2.png", m_csv="file,label,split\n1.png,a,train\n2.png,b,extra\n")
    with pytest.raises(UserError, match="column split has extra, train, of which extra is no split"):
        labels(tmp_path / "more")


def test_tables_and_folders_of_splits_go_together(tmp_path: Path) -> None:
    files = "train/1.png train/2.png test/1.png test/3.png"
    draw(
        tmp_path / "a",
        files,
        train_csv="id,label\n1,a\n2,b\n",
        test_csv="id\n1\n3\n",
        sample_submission_csv="id,label\n1,a\n3,a\n",
    )
    expected = {"train": {"train/1.png": "a", "train/2.png": "b"}, "test": {"test/1.png": None, "test/3.png": None}}
    assert labels(tmp_path / "a") == expected
    assert listed(tmp_path / "a").origin == "tables test.csv, train.csv"
    draw(tmp_path / "c", files, train_labels_csv="id,label\n1,a\n2,b\n", test_labels_csv="id,label\n1,\n3,\n")
    assert labels(tmp_path / "c") == expected
    tables = {"train__metadata_csv": "file_name,label\n1.png,a\n2.png,b\n"}
    draw(tmp_path / "b", files, **tables, test__metadata_csv="file_name,label\n1.png,b\n3.png,a\n")
    assert labels(tmp_path / "b") == expected | {"test": {"test/1.png": "b", "test/3.png": "a"}}
    assert listed(tmp_path / "b").origin == "folders train and test"


@pytest.mark.parametrize(
    ("head", "cells", "expected"),
    [
        ("labels", ["a b", "b", "a"], [("a", "b"), ("b",), ("a",)]),
        ("tags", ["a|b c", "a", "b c"], [("a", "b c"), ("a",), ("b c",)]),
        ("labels", ["golden retriever", "poodle", "great dane"], ["golden retriever", "poodle", "great dane"]),
        ("labels", ["red car", "blue car", "red bus"], ["red car", "blue car", "red bus"]),
        ("label", ["a b", "b", "a"], ["a b", "b", "a"]),
        ("label", ["0", "10", "2"], [0, 10, 2]),
        ("label", ["0.0", "1.0", ""], [0, 1, None]),
        ("label", ["007", "08", "1"], ["007", "08", "1"]),
        ("labels", ["\"['a', 'b']\"", "['a']", "[]"], [("a", "b"), ("a",), ()]),
    ],
)
def test_cells_hold_one_label_or_several(tmp_path: Path, head: str, cells: list[str], expected: list[Any]) -> None:
    rows = "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells))
    draw(tmp_path, "0.png 1.png 2.png", m_csv=f"file,{head}\n{rows}")
    assert [*labels(tmp_path)["train"].values()] == expected


def test_a_column_that_the_user_names_may_hold_several_labels(tmp_path: Path) -> None:
    draw(tmp_path, "0.png 1.png 2.png", m_csv="file,finding\n0.png,a;b\n1.png,a\n2.png,b\n")
    assert [*labels(tmp_path, label="finding")["train"].values()] == [("a", "b"), ("a",), ("b",)]


@pytest.mark.parametrize(
    "table",
    [
        "image,label,x_min,y_min,x_max,y_max\n1.png,a,0,0,2,3\n1.png,b,1,1,3,3\n2.png,,,,,\n",
        "image,label,xmin,ymin,xmax,ymax\n1.png,a,0,0,2,3\n1.png,b,1,1,3,3\n2.png,,,,,\n",
        "image,label,x,y,width,height\n1.png,a,0,0,2,3\n1.png,b,1,1,2,2\n2.png,,,,,\n",
        'image,label,bbox\n1.png,a,"[0, 0, 2, 3]"\n1.png,b,"[1.0, 1.0, 2.0, 2.0]"\n2.png,,\n',
    ],
)
def test_boxes_come_one_a_row(tmp_path: Path, table: str) -> None:
    draw(tmp_path, "1.png 2.png", m_csv=table)
    one, two = listed(tmp_path).splits["train"].each()
    assert one.boxes == (Box(0, 0, 2, 3, "a"), Box(1, 1, 3, 3, "b")) and one.label == ("a", "b")
    assert two.boxes == () and two.label == ()


def test_boxes_come_as_objects_of_a_line(tmp_path: Path) -> None:
    line = {"file_name": "1.png", "objects": {"bbox": [[0, 0, 2, 3], [1, 1, 2, 2]], "categories": [4, 5]}}
    draw(tmp_path, "1.png", metadata_jsonl=json.dumps(line))
    (sample,) = listed(tmp_path).splits["train"].each()
    assert sample.boxes == (Box(0, 0, 2, 3, 4), Box(1, 1, 3, 3, 5)) and sample.label == (4, 5)


def test_one_box_an_image_leaves_one_label(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", m_csv="file,label,x1,y1,x2,y2\n1.png,a,0,0,1,1\n2.png,b,0,0,1,1\n")
    assert labels(tmp_path) == {"train": {"1.png": "a", "2.png": "b"}}
    draw(tmp_path, "", m_csv="file,label,x1,y1,x2,y2\n1.png,a,0,zero,1,1\n2.png,b,0,0,1,1\n")
    with pytest.raises(UserError, match=r"m\.csv, row 1: 0, zero, 1, 1 in x1, y1, x2, y2 is no box"):
        labels(tmp_path)


def test_a_column_names_masks(tmp_path: Path) -> None:
    draw(tmp_path, "photo/1.png photo/2.png fine/m1.png fine/m2.png")
    draw(tmp_path, "", m_csv="image,mask\nphoto/1.png,fine/m1.png\nphoto/2.png,fine/m2.png\n")
    found = listed(tmp_path)
    assert [s.key for s in found.splits["train"].each()] == ["photo/1.png", "photo/2.png"]
    assert all(s.mask for s in found.splits["train"].each()) and found.columns == {"image": "image", "mask": "mask"}


def test_two_tables_of_the_same_images_are_refused_unless_one_alone_has_labels(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", a_csv="file,label\n1.png,a\n2.png,b\n", b_csv="file,label\n1.png,b\n2.png,a\n")
    with pytest.raises(UserError, match=r"a\.csv and b\.csv both label 1\.png; move one away"):
        labels(tmp_path)
    draw(tmp_path, "", b_csv="file,width\n1.png,4\n2.png,4\n")
    assert labels(tmp_path) == {"train": {"1.png": "a", "2.png": "b"}}
    assert "b.csv, which names the same images as a.csv" in listed(tmp_path).left_out


def test_two_rows_that_differ_on_an_image_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", m_csv="file,label\n1.png,a\n1.png,b\n2.png,b\n2.png,b\n")
    with pytest.raises(UserError, match=r"gives 1\.png the labels a, b in several rows"):
        labels(tmp_path)
    assert labels(tmp_path, allow=("several-rows",)) == {"train": {"1.png": ("a", "b"), "2.png": ("b",)}}


def test_folders_are_no_classes_where_a_table_has_columns_that_may_be(tmp_path: Path) -> None:
    draw(tmp_path, "part_1/1.jpg part_2/2.jpg", HAM_csv="image_id,dx\n1,mel\n2,nv\n")
    with pytest.raises(UserError, match=r"no column called label.*--set data\.label=dx; if it is meant.*folder-labels"):
        labels(tmp_path)
    assert labels(tmp_path, label="dx") == {"train": {"part_1/1.jpg": "mel", "part_2/2.jpg": "nv"}}


def test_class_folders_stay_where_a_table_adds_to_them(tmp_path: Path) -> None:
    draw(tmp_path, "a/1.png b/2.png", m_csv="file,group\na/1.png,p1\nb/2.png,p2\n")
    found = listed(tmp_path)
    assert [(s.label, s.group) for s in found.splits["train"].each()] == [("a", "p1"), ("b", "p2")]


def test_a_table_that_names_no_image_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "a/1.png b/2.png", prices_csv="item,price\nx,1\n", empty_csv="")
    assert labels(tmp_path) == {"train": {"a/1.png": "a", "b/2.png": "b"}}
    assert listed(tmp_path).left_out == ("2 files of other kinds: .csv 2",)
    assert listed(tmp_path, numbers=("age",)).left_out[0] == "data.numbers=age: no table beside the images has it"


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", m_jsonl='{"file_name": "1.png"\n')
    with pytest.raises(UserError, match=r"m\.jsonl can't be read as a table: line 1: .*; mend it"):
        labels(tmp_path)


def test_the_fingerprint_follows_the_table(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", m_csv="file,label\n1.png,a\n")
    before = folder.identify(str(tmp_path), PLAIN)
    draw(tmp_path, "", m_csv="file,label\n1.png,b\n")
    assert folder.identify(str(tmp_path), PLAIN) != before


def test_an_image_without_a_number_is_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "1.png 2.png", m_csv="file,age\n1.png,4\n2.png,\n")
    found = listed(tmp_path, numbers=("age",))
    assert [s.numbers for s in found.splits["train"].each()] == [(4.0,)]
    assert found.left_out == ("1 images without a number in age",)
