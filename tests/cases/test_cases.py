"""Other people's data that went wrong, each drawn small, and what is right; all were met in public."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssbench
from ssbench import Results, UserError

from .draw import IMAGE, PNG, SIDE, cell, figures, folders, labels, pairs, parquet, read, rows, said, scenes, write

CLASSES = {"_type": "ClassLabel", "names": ["cat", "dog"]}
INT = {"_type": "Value", "dtype": "int64"}


def run(source: str, results: Path, task: str = "knn", **words: Any) -> Results:
    asked: dict[str, Any] = {"methods": "random-init", "seeds": 0, "device": "cpu", "results": results} | words
    return ssbench.run(tasks=task, dataset=source, **asked)


def scores(found: Results) -> dict[str, float]:
    (record,) = found.records
    assert record.status == "done"
    return {name: score.value for name, score in record.scores.items()}


def refused(source: str, results: Path, text: str, task: str = "knn") -> None:
    """In one line, before anything is trained or written."""
    with pytest.raises(UserError, match=re.escape(text)) as raised:
        run(source, results / "r", task)
    assert "\n" not in str(raised.value) and not (results / "r").exists()


# --- masks


def test_masks_of_0_and_255_are_two_classes(tmp_path: Path) -> None:
    source = f"parquet:{scenes(tmp_path / 'd', lambda figure, split: (figure * 255).astype(np.uint8))}"
    assert "masks of 2 classes (values 0, 255)" in said(source)
    assert scores(run(source, tmp_path / "r", "segmentation"))["miou"] < 100


def test_masks_of_one_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"one value that is a class \(0, beside 255, which is none \(data.ignore_ind"):
        read(
            f"parquet:{scenes(tmp_path, lambda figure, split: (figure * 255).astype(np.uint8))}",
            ignore_index=255,
        )


def test_grey_levels_that_are_few_are_classes(tmp_path: Path) -> None:
    side = np.where(np.arange(SIDE) > 12, 200, 0)
    source = scenes(tmp_path, lambda figure, split: np.where(figure, 128, side).astype(np.uint8))
    assert "masks of 3 classes (values 0, 128, 200)" in said(f"parquet:{source}")


def test_masks_saved_as_jpeg_are_refused_with_their_values(tmp_path: Path) -> None:
    source = scenes(tmp_path, lambda figure, split: (figure * 200).astype(np.uint8), {"form": "JPEG", "quality": 85})
    with pytest.raises(UserError, match=r"masks are JPEG files, whose \d+ values \(0, 1, 2, .* are smeared"):
        read(f"parquet:{source}")


def test_a_test_split_whose_masks_are_withheld_is_refused_before_the_run(tmp_path: Path) -> None:
    source = scenes(
        tmp_path / "d", lambda figure, split: np.where(split == "test", 255, figure.astype(np.uint8)).astype(np.uint8)
    )
    refused(f"parquet:{source}", tmp_path, "the masks of test have no pixel of a class", "segmentation")


def test_an_image_that_its_tag_turns_away_from_its_mask_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = scenes(tmp_path, lambda figure, split: figure.astype(np.uint8), PNG, {"form": "JPEG", "exif": exif}, 24)
    with pytest.raises(UserError, match=r"row 0 is 16 x 24 px once its orientation tag turns it, and its mask 24 x 16"):
        read(f"parquet:{source}")


def test_images_and_masks_side_by_side_are_pairs(tmp_path: Path) -> None:
    source = f"folder:{pairs(tmp_path / 'd', lambda figure: figure.astype(np.uint8))}"
    assert "masks of 2 classes (values 0, 1)" in said(source) and "folder masks as mask" in said(source)
    assert len(read(source).fit) == 14
    refused(source, tmp_path, "knn needs label")
    assert 50 < scores(run(source, tmp_path / "r", "segmentation"))["miou"] < 100


# --- folders


def test_splits_with_a_capital_are_splits(tmp_path: Path) -> None:
    for seed, name in enumerate(("Training", "Testing")):
        folders(tmp_path / name, ("glioma", "healthy"), 10, seed)
    text = said(f"folder:{tmp_path}")
    assert "20 test images (folders Training and Testing" in text and "2 classes (glioma, healthy)" in text


def test_val_and_test_alone_are_splits(tmp_path: Path) -> None:
    for seed, name in enumerate(("val", "test")):
        folders(tmp_path / name, ("a", "b"), 10, seed)
    text = said(f"folder:{tmp_path}")
    assert "there is no train: fit is the source's val" in text and "2 classes (a, b)" in text


def test_one_class_is_refused_for_what_classifies(tmp_path: Path) -> None:
    source = f"folder:{folders(tmp_path / 'd', ('cat',))}"
    refused(source, tmp_path, "has one class, 'cat', and knn can't be wrong (d: 14 fit, 2 select, 4 test")


def test_images_to_be_submitted_are_left_out_and_said(tmp_path: Path) -> None:
    folders(tmp_path / "d" / "train", ("cat", "dog"))
    folders(tmp_path / "d", ("test",), 5, seed=3)
    source = f"folder:{tmp_path / 'd'}"
    assert "test is left out: none of its 5 images has a label" in said(source)
    assert scores(run(source, tmp_path / "r"))


def test_a_class_that_val_lacks_is_said(tmp_path: Path) -> None:
    for seed, (name, classes) in enumerate({"train": "a b rare", "val": "a b", "test": "a b rare"}.items()):
        folders(tmp_path / name, classes.split(), 6, seed)
    assert "3 classes (a, b, rare)" in said(f"folder:{tmp_path}")
    assert "select has no image of class 'rare'" in said(f"folder:{tmp_path}")


def test_all_endings_are_read(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"), 10)
    for seed, (ending, form) in enumerate({"jfif": "JPEG", "heic": "JPEG", "pgm": "PPM"}.items(), 1):
        for kind, name in enumerate("ab"):
            for at, image in enumerate(figures(kind, 5, seed)[0]):
                write(tmp_path / name / f"{at}.{ending}", Image.fromarray(image).convert("L"), format=form)
    found = read(f"folder:{tmp_path}")
    assert len(found.fit) + len(found.select) + len(found.test) == 50


def test_a_long_name_is_a_name(tmp_path: Path) -> None:
    root = folders(tmp_path / ("画像" * 35), ("a", "b"))
    assert scores(run(f"folder:{root}", tmp_path / "r"))


def test_a_rare_class_is_on_every_side(tmp_path: Path) -> None:
    root = folders(folders(tmp_path, ("a", "b")), ("", "", "rare"), 3)
    for file in root.glob("*.png"):
        file.unlink()
    found = read(f"folder:{root}")
    for part in (found.fit, found.select, found.test):
        assert {key.partition("/")[0] for key in part.keys} == {"a", "b", "rare"}


def test_images_without_labels_can_be_pretrained_on(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "test")):
        folders(tmp_path / "loose" / name, (".",), seed=seed)
    judged = f"folder:{folders(tmp_path / 'd', ('a', 'b'), seed=5)}"
    words: dict[str, Any] = {"methods": "rotation", "budget": "steps=1", "set": {"train.batch": 4}}
    for kind in ("folder", "hf"):
        found = run(judged, tmp_path / kind, pretrain_on=f"{kind}:{tmp_path / 'loose'}", **words)
        status = {record.spec.pretraining.method: record.status for record in found.records}
        assert status["rotation"] == "done" and status["supervised"] == "not-applicable"


def test_copies_of_test_images_are_refused_and_counted_where_they_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("train", 20), ("test", 8)):
        folders(tmp_path / "d" / name, ("a", "b"), count)
    refused(f"folder:{tmp_path / 'd'}", tmp_path, "16 of 16 test images of folder:")
    found = run(f"folder:{tmp_path / 'd'}", tmp_path / "r", set={"data.allow": "copies"})
    assert "16 of 16 test images look like copies of training images (16 equal in pixels)" in repr(found)


def test_drawings_that_are_only_alike_are_not_refused(tmp_path: Path) -> None:
    assert scores(run("digits", tmp_path / "r"))["top1"] < 100


def test_mean_per_class_and_the_majority_stand_beside_top1(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate({"train": 57, "test": 38}.items()):
        for name, share, more in (("healthy", count, 0), ("ill", count // 19, 7)):
            for at, image in enumerate(figures(0, share, seed + more)[0]):
                write(tmp_path / "d" / split / name / f"{at}.png", image)
    found = run(f"folder:{tmp_path / 'd'}", tmp_path / "r")
    assert scores(found)["top1"] > 90 and scores(found)["mean-class"] < 80
    assert "top1 (mean-class)" in repr(found) and "the best constant answer scores: knn 95.0" in repr(found)


def test_many_classes_are_read(tmp_path: Path) -> None:
    for label in range(150):
        for at, image in enumerate(figures(label, 4, label, 8, 8)[0]):
            write(tmp_path / str(label) / f"{at}.png", image)
    found = read(f"folder:{tmp_path}")
    assert len(found.classes) == 150
    assert {*found.fit.targets["label"].tolist()} == {*range(150)}


# --- pixels


def radiographs(root: Path, scale: int) -> Path:
    """12-bit texture of 40 of the 4,096 levels on a ramp."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(0)
    for name, along in (("a", x), ("b", y)):
        for at in range(20):
            image = 700 + 6 * x + 4 * y + np.sin(along * 0.8 + rng.uniform(0, 6)) * 40 + rng.normal(0, 15, x.shape)
            write(root / "xray" / name / f"{at}.png", (image.round() * scale).astype(np.uint16))
    return root / "xray"


def test_twelve_bit_in_sixteen_are_the_same_pixels_as_stretched_ones(tmp_path: Path) -> None:
    plain, stretched = (read(f"folder:{radiographs(tmp_path / str(by), by)}") for by in (1, 16))
    assert torch.equal(plain.fit.images, stretched.fit.images) and plain.fit.images.unique().numel() > 150
    assert "read as 8 bit" in said(f"folder:{tmp_path / '1' / 'xray'}")


def test_the_size_follows_from_all_files(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"))
    write(tmp_path / "a" / "000.png", figures(0, 1)[0][0][:9, :9])
    text = said(f"folder:{tmp_path}")
    assert "shorter sides of 9 to 16 px (median 16), read at 16 px" in text


def test_a_figure_in_the_alpha_channel_shows(tmp_path: Path) -> None:
    for kind, name in enumerate(("disc", "bars")):
        for at, figure in enumerate(figures(kind, 20)[1]):
            ink = np.zeros((SIDE, SIDE, 4), np.uint8)
            ink[..., 3] = figure * 255
            write(tmp_path / name / f"{at}.png", ink)
    found = read(f"folder:{tmp_path}")
    assert {*found.fit.images.unique().tolist()} == {0, 128} and "transparency laid on grey" in said(
        f"folder:{tmp_path}"
    )


def test_four_channels_are_four(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("crop", "forest")):
        for at, figure in enumerate(figures(kind, 20)[1]):
            bands = rng.integers(60, 120, (SIDE, SIDE, 4)).astype(np.uint8)
            bands[..., 3] = 40 + 150 * figure
            write(tmp_path / "d" / name / f"{at}.tif", bands)
    assert "4 channels, 8 bit" in said(f"folder:{tmp_path / 'd'}")
    assert read(f"folder:{tmp_path / 'd'}").fit.images.shape[1] == 4
    assert scores(run(f"folder:{tmp_path / 'd'}", tmp_path / "r"))["top1"] > 80


# --- tables


@pytest.mark.parametrize(
    ("given", "features", "classes"),
    [
        ([0, 1], {"image": IMAGE, "label": INT}, ("0", "1")),
        (["cat", "dog"], {"image": IMAGE, "label": {"_type": "Value", "dtype": "string"}}, ("cat", "dog")),
        ([0, 1], None, ("0", "1")),
    ],
    ids=["label_int", "label_string", "image_struct_no_metadata"],
)
def test_plain_labels_are_labels(tmp_path: Path, given: list[Any], features: Any, classes: tuple[str, ...]) -> None:
    images, kinds = rows()
    parquet(tmp_path / "train.parquet", {"image": images, "label": [given[kind] for kind in kinds]}, features)
    found = read(f"parquet:{tmp_path}")
    assert found.classes == classes and "columns image, label" in said(f"parquet:{tmp_path}")


def test_a_test_split_of_minus_ones_is_left_out_and_said(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate({"train": 20, "validation": 10, "test": 6}.items()):
        images, kinds = rows(count, seed)
        columns = {"image": images, "label": [-1] * count if split == "test" else kinds}
        parquet(tmp_path / f"{split}-00000-of-00001.parquet", columns, {"image": IMAGE, "label": CLASSES})
    text = said(f"parquet:{tmp_path}")
    assert "test is left out: none of its 6 images has a label" in text and "10 test images" in text


def test_the_column_called_image_is_the_image_and_the_other_is_said(tmp_path: Path) -> None:
    images, kinds = rows()
    noise = [cell(np.random.default_rng(at).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)) for at in range(40)]
    features = {"depth": IMAGE, "image": IMAGE, "label": CLASSES}
    parquet(tmp_path / "train.parquet", {"depth": noise, "image": images, "label": kinds}, features)
    assert "left out: column depth, which holds images too" in said(f"parquet:{tmp_path}")


def test_several_labels_are_read_and_a_task_for_one_says_so(tmp_path: Path) -> None:
    images, kinds = rows()
    lists = [[kind, 2] if at % 3 else [kind] for at, kind in enumerate(kinds)]
    feature = {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": ["cat", "dog", "night"]}}
    parquet(tmp_path / "d" / "train.parquet", {"image": images, "labels": lists}, {"image": IMAGE, "labels": feature})
    assert "several of 3 labels an image (cat, dog, night)" in said(f"parquet:{tmp_path / 'd'}")
    refused(f"parquet:{tmp_path / 'd'}", tmp_path, "it has several labels an image, and this task wants one")


def test_configurations_are_listed_and_one_is_named(tmp_path: Path) -> None:
    for seed, name in enumerate(("small", "large")):
        images, kinds = rows(20, seed)
        parquet(
            tmp_path / name / "train.parquet", {"image": images, "label": kinds}, {"image": IMAGE, "label": CLASSES}
        )
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("small", "large"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(UserError, match=r"several configurations: small, large; say which, such as hf:.*@small"):
        read(f"hf:{tmp_path}")
    assert read(f"hf:{tmp_path}@large").classes == ("cat", "dog")


def test_a_table_beside_images_has_their_labels(tmp_path: Path) -> None:
    lines = ["file_name,label"]
    for kind, name in enumerate(("dog", "cat")):
        for at, image in enumerate(figures(kind, 20)[0]):
            write(tmp_path / f"{kind}{at:02d}.png", image)
            lines.append(f"{kind}{at:02d}.png,{name}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = read(f"folder:{tmp_path}")
    assert all(name == ("dog", "cat")[int(key[0])] for key, name in labels(found).items())


# --- commands that went wrong without data of their own; others stand in test_run.py and test_spec.py


def test_a_size_that_no_patch_divides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no patch that divides images of 101 px; set data.image_size=100 or 104"):
        run("digits", tmp_path / "r", set={"data.image_size": 101})
