"""Pascal VOC's layout, as it lies on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssbench.data.listing import Box, Listing, Sample
from ssbench.data.sources import voc
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


def draw(root: Path, *files: str, mode: str = "RGB") -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (8, 6), 1).save(root / file)


def annotate(root: Path, file: str, *labels: str) -> None:
    objects = "".join(
        f"<object><name>{label}</name><difficult>1</difficult>"
        "<bndbox><xmax>5</xmax><xmin>1</xmin><ymin>2</ymin><ymax>6.5</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>0</xmin></bndbox></part></object>"
        for label in labels
    )
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(f"<annotation><filename>x</filename>{objects}</annotation>")


def write(root: Path, file: str, text: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Four images of which two have masks, in VOCdevkit's folders."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    draw(base, *(f"JPEGImages/{i}.jpg" for i in range(5)))
    draw(base, "SegmentationClass/0.png", "SegmentationClass/3.png", "SegmentationObject/0.png", mode="P")
    for i, labels in enumerate((("dog", "cat", "cat"), ("cat",), ("dog",), ())):
        annotate(base, f"Annotations/{i}.xml", *labels)
    write(base, "ImageSets/Main/train.txt", "0\n1\n9\n")
    write(base, "ImageSets/Main/val.txt", "2\n3\n")
    write(base, "ImageSets/Main/trainval.txt", "0\n1\n2\n3\n")
    write(base, "ImageSets/Main/cat_train.txt", "0 1\n1 1\n")
    write(base, "ImageSets/Segmentation/train.txt", "0\n")
    write(base, "ImageSets/Segmentation/val.txt", "3\n")
    return tmp_path


def samples(found: Listing) -> dict[str, list[Sample]]:
    return {name: [*split.each()] for name, split in found.splits.items()}


def test_the_official_layout_gives_boxes_and_sets_of_names_in_the_lists_splits(official: Path) -> None:
    found = voc.read(str(official), PLAIN)
    train, val = samples(found)["train"], samples(found)["val"]
    assert [s.key for s in train] == [f"VOCdevkit/VOC2012/JPEGImages/{i}.jpg" for i in (0, 1)]
    assert [s.label for s in (*train, *val)] == [("cat", "dog"), ("cat",), ("dog",), ()]
    assert train[0].boxes == tuple(Box(1, 2, 5, 6.5, name) for name in ("dog", "cat", "cat")) and val[1].boxes == ()
    assert all(s.mask is None for s in train)
    assert found.left_out == (
        "1 images of train are not there",
        "1 images in no split",
        "2 masks; --set data.mask=SegmentationClass takes the images that have one",
    )


def test_the_images_with_masks_are_taken_where_masks_are_asked_for(official: Path) -> None:
    found = voc.read(str(official), DataSettings(mask="SegmentationClass"))
    assert {name: [s.name[-5:] for s in split] for name, split in samples(found).items()} == {
        "train": ["0.jpg"],
        "val": ["3.jpg"],
    }
    (sample,) = samples(found)["train"]
    assert sample.mask is not None and sample.mask().mode == "P" and np.asarray(sample.mask()).max() == 1
    assert "Segmentation/train.txt" in found.origin and found.columns["mask"] == "SegmentationClass"


def test_masks_alone_are_enough(tmp_path: Path) -> None:
    draw(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    draw(tmp_path, "SegmentationClass/a.png", mode="P")
    found = voc.read(str(tmp_path), PLAIN)
    assert [s.key for s in samples(found)["train"]] == ["JPEGImages/a.jpg"]
    assert found.left_out == ("1 images of train have no annotation",)


def test_trainval_is_train_where_there_is_no_other(official: Path) -> None:
    lists = official / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    (lists / "train.txt").unlink()
    (lists / "val.txt").unlink()
    assert {name: len(split) for name, split in samples(voc.read(str(official), PLAIN)).items()} == {"train": 4}
    settings = DataSettings(splits=("train=trainval", "test=cat_train"))
    assert list(voc.read(str(official), settings).splits) == ["train", "test"]


def test_images_and_files_may_lie_side_by_side_or_in_folders_of_their_own(tmp_path: Path) -> None:
    for place, (image, note) in {"flat": ("a.jpg", "a.xml"), "two": ("images/a.png", "annotations/a.xml")}.items():
        draw(tmp_path / place, image)
        annotate(tmp_path / place, note, "cat")
        assert [(s.key, s.label) for s in samples(voc.read(str(tmp_path / place), PLAIN))["train"]] == [(image, "cat")]
    for name in ("train/a", "test/b"):
        draw(tmp_path / "splits", f"{name}.jpg")
        annotate(tmp_path / "splits", f"{name}.xml", "cat")
    assert list(voc.read(str(tmp_path / "splits"), PLAIN).splits) == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"a\.xml can't be read: no element found"),
        ("<annotation><object/></annotation>", r"a\.xml: an object has no name, or no bndbox"),
        ("<annotation><object><name>x</name><bndbox/></object></annotation>", "an object has no name, or no bndbox"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', r"a\.xml declares a document type or entities"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    draw(tmp_path, "a.jpg")
    write(tmp_path, "a.xml", text)
    with pytest.raises(UserError, match=says):
        voc.identify(str(tmp_path), PLAIN)


def test_what_is_no_voc_is_refused_with_what_to_type(tmp_path: Path, official: Path) -> None:
    draw(tmp_path / "plain", "a.jpg")
    with pytest.raises(UserError, match=r"has 1 images and no XML file or mask of their names; folder:"):
        voc.identify(str(tmp_path / "plain"), PLAIN)
    draw(official, "VOCdevkit/VOC2007/JPEGImages/0.jpg")
    with pytest.raises(UserError, match=r"holds several sets; give one of voc:.*VOC2007.*VOC2012"):
        voc.identify(str(official), PLAIN)
    with pytest.raises(UserError, match=r"has no masks in other \(data\.mask\)"):
        voc.identify(str(official / "VOCdevkit" / "VOC2012"), DataSettings(mask="other"))


def test_the_fingerprint_follows_boxes_and_lists(official: Path) -> None:
    base = official / "VOCdevkit" / "VOC2012"
    found = [voc.identify(str(official), PLAIN)[1]]
    annotate(base, "Annotations/0.xml", "emu")
    found.append(voc.identify(str(official), PLAIN)[1])
    write(base, "ImageSets/Main/train.txt", "0\n1\n")
    found.append(voc.identify(str(official), PLAIN)[1])
    assert len(set(found)) == 3
