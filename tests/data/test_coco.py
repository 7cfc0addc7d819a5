"""COCO's annotations, as they lie on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssbench.data.listing import Box, Listing, Sample
from ssbench.data.sources import coco
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]


def write(root: Path, file: str, images: list[str], annotations: list[dict[str, Any]], folder: str = "") -> None:
    """Images of 8 x 6 px, and a file of annotations of them, whose image_id is a position from 1."""
    for name in images:
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / folder / name)
    content = {
        "images": [{"id": i, "file_name": name, "width": 8, "height": 6} for i, name in enumerate(images, 1)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))


def box(image: int, category: int, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [1, 2, 3, 4], **more}


def samples(found: Listing) -> dict[str, list[Sample]]:
    return {name: [*split.each()] for name, split in found.splits.items()}


def test_the_official_layout_gives_splits_boxes_and_sets_of_categories(tmp_path: Path) -> None:
    both = [box(1, 7), box(1, 3), box(1, 3), box(2, 3)]
    write(tmp_path, "annotations/instances_train2017.json", ["01.jpg", "02.jpg", "03.jpg"], both, "train2017")
    write(tmp_path, "annotations/instances_val2017.json", ["01.jpg"], [box(1, 7)], "val2017")
    (tmp_path / "annotations" / "captions_val2017.json").write_text("{}")
    found = coco.read(str(tmp_path), PLAIN)
    train, val = samples(found)["train"], samples(found)["val"]
    assert [s.key for s in train] == ["train2017/01.jpg", "train2017/02.jpg", "train2017/03.jpg"]
    assert [s.label for s in train] == [("cat", "dog"), ("cat",), ()] and [s.label for s in val] == [("dog",)]
    assert train[0].boxes == (Box(1, 2, 4, 6, "dog"), Box(1, 2, 4, 6, "cat"), Box(1, 2, 4, 6, "cat"))
    assert train[2].boxes == () and train[0].mask is None and found.columns == {"label": "categories", "boxes": "bbox"}
    assert found.left_out == ("other annotations: annotations/captions_val2017.json",)
    assert found.origin == "files annotations/instances_train2017.json, annotations/instances_val2017.json"


def test_each_split_may_hold_its_file(tmp_path: Path) -> None:
    for folder, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        write(tmp_path, f"{folder}/_annotations.coco.json", ["a.jpg"], [box(1, 3)], folder)
        assert (tmp_path / folder / "a.jpg").exists() and name in ("train", "val", "test")
    found = samples(coco.read(str(tmp_path), PLAIN))
    assert {name: [s.key for s in split] for name, split in found.items()} == {
        "train": ["train/a.jpg"],
        "val": ["valid/a.jpg"],
        "test": ["test/a.jpg"],
    }
    assert found["val"][0].label == "cat"  # one in every image


@pytest.mark.parametrize(("file", "folder"), [("all.json", "images"), ("all.json", ""), ("annotations/all.json", "")])
def test_a_file_or_its_folder_may_be_named(tmp_path: Path, file: str, folder: str) -> None:
    write(tmp_path, file, ["a.jpg", "deep/b.jpg"], [box(1, 3), box(2, 7)], folder)
    prefix = f"{folder}/" if folder else ""
    for argument in (tmp_path, tmp_path / file):
        found = samples(coco.read(str(argument), PLAIN))["train"]
        assert [(s.key, s.label) for s in found] == [(f"{prefix}a.jpg", "cat"), (f"{prefix}deep/b.jpg", "dog")]


def test_the_user_says_which_file_is_which_split(tmp_path: Path) -> None:
    write(tmp_path, "y2019.json", ["a.jpg"], [box(1, 3)])
    write(tmp_path, "y2020.json", ["b.jpg"], [box(1, 3)])
    assert list(coco.read(str(tmp_path), DataSettings(splits=("train=y2019", "test=y2020"))).splits) == [
        "train",
        "test",
    ]
    assert coco.read(str(tmp_path), DataSettings(splits=("train=y2019",))).splits["train"].total == 1


def test_masks_are_drawn_in_the_order_of_annotations(tmp_path: Path) -> None:
    over = {"counts": [0, 6, 42], "size": [6, 8]}  # the left column
    several = [box(1, 7, segmentation=SQUARE), box(1, 3, segmentation=over, iscrowd=1)]
    write(tmp_path, "a.json", ["a.png", "b.png"], several)
    one, two = samples(coco.read(str(tmp_path), PLAIN))["train"]
    assert one.mask is not None and two.mask is not None
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 2
    expected[:, 0] = 1
    assert np.array_equal(np.asarray(one.mask()), expected) and not np.asarray(two.mask()).any()
    assert one.boxes == (Box(1, 2, 4, 6, "dog"),)  # no crowd


def test_shapes_beyond_the_image_are_cut_off() -> None:
    drawn = np.asarray(coco.draw((8, 6), [(1, [[-5, -5, 3, -5, 3, 2, -5, 2]]), (2, [[7, 5, 99, 5, 99, 99, 7, 99]])]))
    expected = np.zeros((6, 8), np.uint8)
    expected[:2, :3] = 1
    expected[5, 7] = 2
    assert np.array_equal(drawn, expected)
    assert not np.asarray(coco.draw((8, 6), [(1, [[20, 20, 30, 20, 30, 30]])])).any()


def compress(counts: list[int]) -> str:
    """The inverse of `decompress`, written from the format's description."""
    text = ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return text


def test_compressed_runs_are_read() -> None:
    assert coco.decompress("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]  # as pycocotools writes them
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 9)) < 0.4
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int)])))
        counts = np.diff([0, *edges, flat.size]).tolist()
        for form in (counts, compress(counts), compress(counts).encode()):
            assert np.array_equal(coco.runs({"counts": form, "size": [7, 9]}, (9, 7)), mask)


def test_runs_that_do_not_fill_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="fill 10 of 8 x 6 pixels"):
        coco.runs({"counts": [4, 6], "size": [6, 8]}, (8, 6))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"x\.json can't be read: Expecting value"),
        ("[]", r"x\.json is not in the form of COCO's annotations"),
        ('{"images": []}', r"x\.json has no 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"x\.json has no 'file_name'"),
        ('{"images": [], "annotations": [], "categories": []}', r"none of the 0 images of x\.json is there"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=says):
        coco.identify(str(tmp_path / "x.json"), PLAIN)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", "x.json", ["a.png"], [box(1, 99)])
    with pytest.raises(UserError, match=r"x\.json, image a\.png: there is no 99 in its entry or among the categories"):
        coco.read(str(tmp_path / "a"), PLAIN)
    write(tmp_path / "b", "x.json", ["a.png"], [box(1, 3, bbox=[1, 2, 3])])
    with pytest.raises(UserError, match=r"x\.json, image a\.png: its box is not four numbers"):
        coco.read(str(tmp_path / "b"), PLAIN)
    write(tmp_path / "c", "x.json", ["a.png"], [])
    write(tmp_path / "c", "y.json", ["a.png"], [])
    with pytest.raises(UserError, match=r"x\.json and y\.json both have a\.png; give one of them, coco:"):
        coco.read(str(tmp_path / "c"), PLAIN)
    with pytest.raises(UserError, match=r"has no JSON file of COCO's annotations .* folder:"):
        (tmp_path / "d").mkdir()
        coco.read(str(tmp_path / "d"), PLAIN)
    with pytest.raises(UserError, match="there is no such folder"):
        coco.read(str(tmp_path / "e"), PLAIN)


def test_missing_images_and_those_without_an_entry_are_said(tmp_path: Path) -> None:
    write(tmp_path, "x.json", ["a.png", "b.png"], [box(1, 3)])
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    found = coco.read(str(tmp_path), PLAIN)
    assert found.left_out == ("1 images of x.json that are not there", "1 images without an entry")


def test_the_fingerprint_follows_annotations_and_images(tmp_path: Path) -> None:
    write(tmp_path, "x.json", ["a.png"], [box(1, 3)])
    name, before = coco.identify(str(tmp_path), PLAIN)
    write(tmp_path, "x.json", ["a.png"], [box(1, 7)])
    assert name == tmp_path.name and coco.identify(str(tmp_path), PLAIN)[1] != before
