"""Neighbours of the cases: how other people's folders, images, masks and tables are, and what is right."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import ssbench
from ssbench import UserError

from .draw import IMAGE, SIDE, Pixels, cell, figures, folders, labels, pairs, parquet, read, rows, said, write


def each(root: Path, name: str, make: Callable[[Pixels], Any], **save: Any) -> str:
    """Classes a and b of what `make` makes of each picture, in files called `name`."""
    for kind, label in enumerate("ab"):
        for at, image in enumerate(figures(kind, 20)[0]):
            write(root / label / name.format(at), make(image), **save)
    return f"folder:{root}"


# --- folders


def test_folders_within_folders_of_one_name_say_nothing(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "test")):
        folders(tmp_path / "dataset" / "dataset" / name / name, ("a", "b"), 10, seed)
    assert "20 test images (folders train and test" in said(f"folder:{tmp_path}")


def test_what_other_systems_leave_behind_is_no_image_and_no_class(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"))
    for name in ("__MACOSX/a", ".ipynb_checkpoints", "a/.ipynb_checkpoints", "@eaDir"):
        folders(tmp_path / name, (".",), 2)
    for name in ("a/Thumbs.db", "a/._000.png", ".DS_Store", "b/desktop.ini"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    text = said(f"folder:{tmp_path}")
    assert "28 fit, 4 select, 8 test" in text and "2 classes (a, b)" in text and "left out" not in text


def test_classes_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    folders(tmp_path / "train", ("Cat", "Dog"))
    folders(tmp_path / "test", ("cat", "Dog"), 8, 1)
    with pytest.raises(UserError, match="the classes 'Cat' and 'cat' differ in case or spaces alone"):
        read(f"folder:{tmp_path}")
    assert read(f"folder:{folders(tmp_path / 'letters', ('A', 'a'))}").classes == ("A", "a")


def test_years_and_folds_with_the_same_classes_are_not_classes_until_it_is_said(tmp_path: Path) -> None:
    for seed, name in enumerate(("2019", "2020")):
        folders(tmp_path / name, ("a", "b"), 10, seed)
    with pytest.raises(UserError, match=r"2019, 2020 would be classes, but each holds a, b.*train=2019,test=2020"):
        read(f"folder:{tmp_path}")
    assert read(f"folder:{tmp_path}", splits=("train=2019", "test=2020")).classes == ("a", "b")
    assert read(f"folder:{tmp_path}", allow=("shared-classes",)).classes == ("2019", "2020")


def test_domains_with_the_same_classes_are_not_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(("amazon", "dslr", "webcam")):
        folders(tmp_path / name / "images", ("bike", "mug"), 10, seed)
    with pytest.raises(UserError, match=r"amazon, dslr, webcam would be classes, but each holds bike, mug"):
        read(f"folder:{tmp_path}")
    assert read(f"folder:{tmp_path / 'dslr'}").classes == ("bike", "mug")


def test_names_of_files_speak_of_no_splits(tmp_path: Path) -> None:
    for kind, label in enumerate("ab"):
        for at, image in enumerate(figures(kind, 20)[0]):
            write(tmp_path / label / f"photo of a {('train', 'test tube', 'val')[at % 3]} {at}.png", image)
    assert "28 fit, 4 select, 8 test images (no splits" in said(f"folder:{tmp_path}")


def test_a_class_without_images_is_said(tmp_path: Path) -> None:
    (folders(tmp_path, ("a", "b")) / "c").mkdir()
    assert "2 classes (a, b)" in said(f"folder:{tmp_path}") and "empty folders: c/" in said(f"folder:{tmp_path}")


def test_a_class_of_test_alone_is_refused(tmp_path: Path) -> None:
    folders(tmp_path / "train", ("good",))
    folders(tmp_path / "test", ("good", "scratch"), 8, 1)
    with pytest.raises(UserError, match="test has images of class 'scratch', and fit has none"):
        read(f"folder:{tmp_path}")


def test_any_name_is_a_class(tmp_path: Path) -> None:
    names = ("a b", "c, d", "x=y", "ñ", "🐱")
    folders(tmp_path, names, 10)
    os.rename(tmp_path / "ñ", os.fsencode(tmp_path) + b"/caf\xe9")
    assert {*read(f"folder:{tmp_path}").classes} == {"a b", "c, d", "x=y", "caf\\xe9", "🐱"}


def test_labels_are_matched_by_name_where_a_split_lacks_one(tmp_path: Path) -> None:
    """Loaders that number the folders of each split anew take b of val for a."""
    for seed, (name, classes) in enumerate({"train": "abc", "val": "bc", "test": "ac"}.items()):
        folders(tmp_path / name, classes, 6, seed)
    assert all(key.split("/")[1] == name for key, name in labels(read(f"folder:{tmp_path}")).items())


def test_a_val_folder_that_is_the_train_folder_is_refused(tmp_path: Path) -> None:
    folders(tmp_path / "d" / "train", ("a", "b"))
    shutil.copytree(tmp_path / "d" / "train", tmp_path / "d" / "val")
    words: dict[str, Any] = {"tasks": "knn", "seeds": 0, "device": "cpu", "results": tmp_path / "r"}
    with pytest.raises(UserError, match=r"40 of 40 test images .*pixel for pixel \(such as val/a/000.png"):
        ssbench.run("random-init", dataset=f"folder:{tmp_path / 'd'}", **words)


def test_files_that_can_not_be_read_are_named_or_skipped(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"), ending="jpg")
    (tmp_path / "a" / "empty.jpg").touch()
    (tmp_path / "a" / "page.jpg").write_text("<html>404 Not Found</html>")
    cut = tmp_path / "b" / "000.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a/empty.jpg can't be read: it is not an image; .* --on-bad-image skip"):
        read(f"folder:{tmp_path}")
    assert "left out: 3 unreadable images" in said(f"folder:{tmp_path}", on_bad_image="skip")


def test_tiny_and_long_images_take_no_size_from_the_others(tmp_path: Path) -> None:
    folders(tmp_path, ("a", "b"))
    write(tmp_path / "a" / "tracker.png", np.zeros((1, 1, 3), np.uint8))
    write(tmp_path / "b" / "panorama.png", np.tile(np.arange(250, dtype=np.uint8), (20, 40)))
    assert "shorter sides of 1 to 20 px (median 16), read at 16 px" in said(f"folder:{tmp_path}")


# --- pixels


@pytest.mark.parametrize(
    ("name", "make", "save"),
    [
        ("{}.JPG", Image.fromarray, {"quality": 95}),
        ("{}.jpg", lambda image: Image.fromarray(image).convert("CMYK"), {"quality": 95}),
        ("{}.jpg", Image.fromarray, {"format": "PNG"}),
        ("{}.png", lambda image: Image.fromarray(image).quantize(256), {}),
        ("{}.jpg", Image.fromarray, {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (16, 16))]}),
        ("{}.webp", Image.fromarray, {"save_all": True, "append_images": [Image.new("RGB", (16, 16))]}),
        ("{}.tif", Image.fromarray, {"save_all": True, "append_images": [Image.new("RGB", (16, 16))]}),
    ],
    ids=["upper", "cmyk", "png-as-jpg", "palette", "mpo", "animated-webp", "pages"],
)
def test_the_same_picture_in_another_form_looks_alike(tmp_path: Path, name: str, make: Any, save: Any) -> None:
    plain = {key[:-4]: image for key, image in images(each(tmp_path / "plain", "{}.png", Image.fromarray))}
    for key, image in images(each(tmp_path / "other", name, make, **save)):
        other = plain[key.rpartition(".")[0]]
        assert (image.float() - other.float()).abs().mean() < 20 and image.float().std() > 20


def images(source: str) -> list[tuple[str, torch.Tensor]]:
    found = read(source)
    return [pair for part in (found.fit, found.select, found.test) for pair in zip(part.keys, part.images)]


@pytest.mark.parametrize("void", [np.nan, -9999, -3.4028235e38, -np.inf])
def test_where_nothing_was_measured_takes_no_scale(tmp_path: Path, void: float) -> None:
    def masked(image: Pixels) -> Image.Image:
        values = image[..., 0].astype(np.float32) / 100
        values[:2] = void
        return Image.fromarray(values)

    source = each(tmp_path, "{}.tif", masked)
    low, high = read(source).understood["scale"]
    assert 0 <= low < high < 2.6 and read(source).fit.images.float().std() > 40


def test_one_broken_image_takes_no_scale_of_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = each(tmp_path, "{}.png", lambda image: rng.integers(700, 1300, (SIDE, SIDE)).astype(np.uint16))
    write(tmp_path / "a" / "broken.png", rng.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16))
    low, high = read(source).understood["scale"]
    assert 690 < low < high < 1310


def test_signed_values_have_their_own_range(tmp_path: Path) -> None:
    source = each(tmp_path, "{}.tif", lambda image: Image.fromarray(image[..., 0].astype(np.int32) * 16 - 1024))
    low, high = read(source).understood["scale"]
    assert low < -1000 and high > 2500 and read(source).fit.images.unique().numel() > 200


def png16(image: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = image.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in image)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("factor", [12, 257])
def test_colours_of_16_bits_that_use_the_lower_ones_are_refused(tmp_path: Path, factor: int) -> None:
    for kind, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        for at, image in enumerate(figures(kind, 20)[0]):
            (tmp_path / label / f"{at}.png").write_bytes(png16(image.astype(np.uint16) * factor))
    if factor == 257:
        assert "RGB, 8 bit, the upper 8 of 16" in said(f"folder:{tmp_path}")
        return
    with pytest.raises(UserError, match="40 images have 16 bits a colour and use the lower ones"):
        read(f"folder:{tmp_path}")


# --- masks


def palette(values: NDArray[Any]) -> Image.Image:
    image = Image.frombytes("P", values.shape[::-1], values.astype(np.uint8).tobytes())
    image.putpalette([(at * step) % 256 for at in range(256) for step in (37, 91, 13)])
    return image


def voc(figure: NDArray[np.bool_]) -> Image.Image:
    values = np.where(figure, 5, 0)
    values[0] = 255
    return palette(values)


def coloured(figure: NDArray[np.bool_], *alpha: int) -> Pixels:
    return np.where(figure[..., None], (128, 0, 128, *alpha), (0, 64, 0, *alpha)).astype(np.uint8)


def on_nothing(figure: NDArray[np.bool_]) -> Pixels:
    return np.dstack([np.zeros((*figure.shape, 3)), figure * 255]).astype(np.uint8)


@pytest.mark.parametrize(
    ("mask", "name", "values", "void"),
    [
        (voc, "masks/{}.png", [0, 5], 255),
        (coloured, "masks/{}.png", [0x1004000, 0x1800080], None),
        (lambda figure: coloured(figure, 255), "masks/{}.png", [0x1004000, 0x1800080], None),
        (on_nothing, "masks/{}.png", [0, 255], None),
        (lambda figure: Image.fromarray(figure), "masks/{}.png", [0, 1], None),
        (lambda figure: np.where(figure, 1000, 0).astype(np.uint16), "masks/{}.png", [0, 1000], None),
        (lambda figure: Image.fromarray(figure.astype(np.float32)), "masks/{}.tif", [0, 1], None),
        (lambda figure: (figure * 255).astype(np.uint8), "masks/{}_mask.png", [0, 255], None),
        (lambda figure: (figure * 255).astype(np.uint8), "labels/{}_label.png", [0, 255], None),
        (lambda figure: (figure * 255).astype(np.uint8), "images/{}_mask.png", [0, 255], None),
        (coloured, "images/{}_L.png", [0x1004000, 0x1800080], None),
        (lambda figure: palette(figure * 1), "train_masks/{}_mask.gif", [0, 1], None),
    ],
    ids=["voc", "rgb", "rgba", "alpha", "1-bit", "16-bit", "float", "_mask", "_label", "beside", "camvid", "carvana"],
)
def test_masks_come_in_many_forms(tmp_path: Path, mask: Any, name: str, values: list[int], void: int | None) -> None:
    pairs(tmp_path, mask, name)
    if name.startswith("train_masks"):
        (tmp_path / "images").rename(tmp_path / "train")
    found = read(f"folder:{tmp_path}")
    assert (found.understood["mask_values"], found.understood["mask_void"]) == (values, void)
    drawn = {f"{at:03d}": figure for at, figure in enumerate(figures(0, 20)[1])}
    for key, got in zip(found.fit.keys, found.fit.targets["mask"].numpy()):
        kept = got != 255
        assert (got[kept] == drawn[Path(key).stem][kept]).all()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (lambda figure: Image.fromarray(figure).resize((8, 8)), "is 16 x 16 px, and its mask 8 x 8"),
        (lambda figure: Image.fromarray(figure.astype(np.float32) * 0.7), "values between whole numbers"),
    ],
    ids=["smaller", "probabilities"],
)
def test_masks_that_are_none_are_refused_by_name(tmp_path: Path, mask: Any, text: str) -> None:
    with pytest.raises(UserError, match=f"images/000.png .*{text}"):
        read(f"folder:{pairs(tmp_path, mask, 'masks/{}.tif')}")


def test_objects_in_a_file_each_are_refused(tmp_path: Path) -> None:
    for at, (image, figure) in enumerate(zip(*figures(0, 5))):
        write(tmp_path / f"id{at}" / "images" / f"id{at}.png", image)
        for number in range(2):
            write(tmp_path / f"id{at}" / "masks" / f"{at}{number}f.png", figure)
    with pytest.raises(UserError, match="look like images and masks, but 0 of 2 masks have the name of an image"):
        read(f"folder:{tmp_path}")


# --- tables


def table(root: Path, line: str, head: str = "file_name,label", file: str = "{}.png", encoding: str = "utf-8") -> str:
    """20 dogs and 20 cats, and a line each of name, number, label and its number."""
    lines = [head]
    for kind, label in enumerate(("dog", "cat")):
        for at, image in enumerate(figures(kind, 20)[0]):
            name = f"{kind}{at:02d}"
            write(root / file.format(name), image)
            lines.append(line.format(name=name, at=at, label=label, kind=kind, next=kind + 1, other=1 - kind))
    (root / "labels.csv").write_bytes("\r\n".join(lines).lstrip("\r\n").encode(encoding))
    return f"folder:{root}"


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (("{at},{name}.png,{label}", ",file_name,label"), ("cat", "dog")),
        (("{name}.png,{label}", ""), ("cat", "dog")),
        (("{name}.png;{label}", "file_name;label", "{}.png", "utf-8-sig"), ("cat", "dog")),
        (("{name}.png\t{label}", "file_name\tlabel", "{}.png", "utf-16"), ("cat", "dog")),
        (("{name},{label}", "id,breed", "images/{}.png"), ("cat", "dog")),
        (("{name},{kind}", "id_code,diagnosis", "images/{}.png"), ("0", "1")),
        (("/home/somebody/data/{name}.png,{label}", "path,label"), ("cat", "dog")),
        (("C:\\data\\img\\{name}.png,{label}", "path,label", "img/{}.png"), ("cat", "dog")),
        (("{name}.png, {label} ", "file_name, label"), ("cat", "dog")),
        (("{name}.dcm,{label}", "image,label"), ("cat", "dog")),
        (("{name}.jpg,{label}", "image,label", "{}.JPG"), ("cat", "dog")),
        (('"{name}.png","{label}, big"', '"file_name","label"'), ("cat, big", "dog, big")),
        (("{name}.png,{next}",), ("1", "2")),
        (("{name}.png,{kind}.0",), ("0", "1")),
        (("{name}.png,0{kind}",), ("00", "01")),
        (("{name}.png,-{kind}",), ("-1", "0")),
    ],
    ids=str,
)
def test_tables_come_in_many_forms(tmp_path: Path, words: tuple[str, ...], classes: tuple[str, ...]) -> None:
    found = read(table(tmp_path, *words))
    assert found.classes == classes
    names = labels(found)
    assert len(names) == 40
    kinds = {name: {key.rpartition("/")[2][0] for key in names if names[key] == name} for name in classes}
    assert sorted(kinds.values(), key=min) == [{"0"}, {"1"}]


def test_na_is_a_name(tmp_path: Path) -> None:
    table(tmp_path, "{name}.png,{label}")
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("dog", "NA").replace("cat", "EU"))
    assert read(f"folder:{tmp_path}").classes == ("EU", "NA")


def test_several_findings_with_bars_between_are_several_labels(tmp_path: Path) -> None:
    source = table(tmp_path, "{name}.png,{label}|night", "Image Index,Finding Labels")
    assert "several of 3 labels an image (cat, dog, night)" in said(source)


def test_measurements_are_numbers_where_they_are_named(tmp_path: Path) -> None:
    source = table(tmp_path, "{name}.png,{at}.{kind}5")
    with pytest.raises(UserError, match=r"too small to be split .* 40 training images of 40 classes"):
        read(source)
    found = read(source, numbers=("label",))
    assert not found.classes and found.fit.targets["factors"].shape == (28, 1)


def test_patients_are_kept_together_where_their_column_is_named(tmp_path: Path) -> None:
    source = table(tmp_path, "{name}.png,{label},p{at}", "file_name,label,patient_id")
    assert "columns of labels.csv that are not read: patient_id" in said(source)
    found = read(source, group="patient_id")
    fit, select, test = ({*part.groups} for part in (found.fit, found.select, found.test))
    assert not (fit & select or fit & test or select & test)


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (pd.Categorical(["cat", "dog"] * 20), ("cat", "dog")),
        ([0.0, 1.0] * 20, ("0", "1")),
        ([False, True] * 20, ("False", "True")),
        ([1, -1] * 20, ("-1", "1")),
    ],
    ids=["categorical", "float", "bool", "negative"],
)
def test_a_frame_with_an_index_and_bytes_is_read(tmp_path: Path, given: Any, classes: tuple[str, ...]) -> None:
    content = [image["bytes"] for image in rows()[0]]
    frame = pd.DataFrame({"image": content, "label": given})
    frame[frame.index % 10 > 1].to_parquet(tmp_path / "train.parquet")
    assert read(f"parquet:{tmp_path}").classes == classes


def test_pixels_in_columns_are_refused_in_few_words(tmp_path: Path) -> None:
    pd.DataFrame({"label": [0, 1], **{f"pixel{at}": [0, 1] for at in range(784)}}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"has no column of images: its columns: label .* and 773 more$"):
        read(f"parquet:{tmp_path}")


def test_names_in_another_order_in_another_split_are_refused(tmp_path: Path) -> None:
    for split, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
        images_, kinds = rows(20)
        features = {"image": IMAGE, "label": {"_type": "ClassLabel", "names": names}}
        parquet(tmp_path / f"{split}.parquet", {"image": images_, "label": kinds}, features)
    with pytest.raises(UserError, match=r"test.parquet has other classes in column 'label'"):
        read(f"parquet:{tmp_path}")


def test_a_cell_without_an_image_is_named_or_skipped(tmp_path: Path) -> None:
    content = [None, *(cell(image) for image in figures(0, 19)[0])]
    parquet(tmp_path / "train.parquet", {"image": content, "label": [0, 1] * 10})
    with pytest.raises(UserError, match=r"train.parquet row 0 can't be read: column image: there is no image"):
        read(f"parquet:{tmp_path}")
    assert "left out: 1 unreadable images" in said(f"parquet:{tmp_path}", on_bad_image="skip")
