"""Masks beside images, as segmentation sets lie on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssbench.data.sources import folder
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


def draw(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), len(file), np.uint8)).save(root / file)
    return root


def paired(root: Path, settings: DataSettings = PLAIN) -> dict[str, list[str]]:
    """Keys of each split, with the name of the mask's file behind an arrow where there is one."""
    found = {}
    for name, split in folder.read(str(root), settings).splits.items():
        found[name] = [
            sample.key + (f" > {Path(sample.mask().filename).relative_to(root).as_posix()}" if sample.mask else "")  # type: ignore[attr-defined]
            for sample in split.each()
        ]
    return found


@pytest.mark.parametrize(
    ("image", "mask", "split"),
    [
        ("images/1.png", "masks/1.png", "train"),
        ("Images/1.jpg", "Masks/1.png", "train"),
        ("JPEGImages/1.jpg", "SegmentationClass/1.png", "train"),
        ("img/1.png", "gt/1.png", "train"),
        ("image/1.png", "label/1.png", "train"),
        ("set/images/1.png", "set/annotations/1_mask.png", "train"),
        ("images/img_1.png", "masks/mask_1.png", "train"),
        ("images/a.b 1.png", "labels/a.b 1.png", "train"),
        ("test/images/1.png", "test/masks/1.png", "test"),
        ("images/val/1.png", "masks/val/1.png", "val"),
        ("images/val/deep/1.png", "masks/val/deep/1_seg.png", "val"),
        ("test_images/1.png", "test_masks/1.png", "test"),
        ("test/1.png", "test_masks/1_mask.png", "test"),
        ("test/1.png", "test/masks/1.png", "test"),
        ("Kvasir-SEG/images/1.png", "Kvasir-SEG/masks/1.png", "train"),
        ("test/f1.png", "test_labels/f1_L.png", "test"),
        ("test/images/1_test.tif", "test/masks/1_manual.gif", "test"),
        ("1.png", "1_mask.png", "train"),
        ("test/1.png", "test/1-gt.png", "test"),
        ("1.png", "mask_1.png", "train"),
        ("1.png", "masks/1.png", "train"),
    ],
)
def test_an_image_finds_its_mask(tmp_path: Path, image: str, mask: str, split: str) -> None:
    draw(tmp_path, image, mask, image.replace("1", "2"), mask.replace("1", "2"))
    found = paired(tmp_path)
    assert found == {split: [f"{i} > {m}" for i, m in zip(each(image), each(mask))]}


def each(name: str) -> list[str]:
    return [name, name.replace("1", "2")]


def test_classes_may_have_masks_among_their_images(tmp_path: Path) -> None:
    draw(tmp_path, "benign/b (1).png", "benign/b (1)_mask.png", "benign/b (1)_mask_1.png")
    draw(tmp_path, "normal/n (1).png", "normal/n (1)_mask.png")
    found = folder.read(str(tmp_path), PLAIN)
    samples = [*found.splits["train"].each()]
    assert [(s.label, s.key) for s in samples] == [("benign", "benign/b (1).png"), ("normal", "normal/n (1).png")]
    assert all(sample.mask for sample in samples) and "1 masks without an image, or further ones" in found.left_out


def test_what_has_no_partner_is_counted(tmp_path: Path) -> None:
    draw(tmp_path, "images/1.png", "images/2.png", "images/3.png", "masks/1.png", "masks/2.png", "masks/x.png")
    found = folder.read(str(tmp_path), PLAIN)
    assert [sample.key for sample in found.splits["train"].each()] == ["images/1.png", "images/2.png"]
    assert found.left_out == ("1 images without a mask", "1 masks without an image, or further ones")
    assert found.columns == {"mask": "folder masks"}


def test_a_split_without_any_masks_stays(tmp_path: Path) -> None:
    draw(tmp_path, "train/1.png", "train_masks/1_mask.png", "test/2.png")
    assert paired(tmp_path) == {"train": ["train/1.png > train_masks/1_mask.png"], "test": ["test/2.png"]}


def test_folders_called_images_and_masks_that_do_not_match_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "images/1.png", "images/2.png", "masks/a.png", "masks/b.png")
    with pytest.raises(UserError, match=r"images and masks look like .* 0 of 2 masks .*data\.allow=pairs"):
        paired(tmp_path)
    assert [s.label for s in folder.read(str(tmp_path), DataSettings(allow=("pairs",))).splits["train"].each()]


def test_two_kinds_of_masks_are_told_apart_by_the_user(tmp_path: Path) -> None:
    draw(tmp_path, "images/1.png", "masks/1.png", "labels/1.png")
    with pytest.raises(UserError, match=r"images/1.png has two masks, .* --set data\.mask="):
        paired(tmp_path)
    draw(tmp_path / "named", "Task1-2_Input/1.png", "Task1_Truth/1_segmentation.png")
    found = paired(tmp_path / "named", DataSettings(mask="Task1_Truth"))
    assert found == {"train": ["Task1-2_Input/1.png > Task1_Truth/1_segmentation.png"]}
    draw(tmp_path / "other", "images/1.png", "fine/1.png")
    assert paired(tmp_path / "other", DataSettings(mask="fine")) == {"train": ["images/1.png > fine/1.png"]}


@pytest.mark.parametrize("files", ["mask/1.png no_mask/2.png", "label/1.png shirt/1.png", "gt/1.png other/2.png"])
def test_classes_whose_names_speak_of_masks_are_classes(tmp_path: Path, files: str) -> None:
    draw(tmp_path, *files.split())
    samples = folder.read(str(tmp_path), PLAIN).splits["train"].each()
    assert [sample.label for sample in samples] == [file.partition("/")[0] for file in files.split()]


def test_masks_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    draw(tmp_path, "images/1.png", "masks/1.png")
    before = folder.identify(str(tmp_path), PLAIN)
    Image.new("L", (4, 4), 9).save(tmp_path / "masks" / "1.png")
    assert folder.identify(str(tmp_path), PLAIN) != before
