"""Folders of images, as people keep them."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssbench import data
from ssbench.data import folder
from ssbench.errors import UserError
from ssbench.spec import DataSettings

ROOT = Path(__file__).parent.parent.parent
PLAIN = DataSettings()


def picture(file: Path, level: int = 100) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 20, 3), level, np.uint8)).save(file)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/, valid/ and test/ with cats (dark) and dogs (bright), and things that are no images."""
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        for name, level in (("cat", 10), ("dog", 200)):
            for i in range(count):
                picture(root / split / name / f"{i}.png", level + i)
    picture(root / "train" / "dog" / "deep" / "9.JPG", 209)
    picture(root / "train" / "dog" / ".hidden.png")
    picture(root / "train" / ".cache" / "1.png")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    return root


def test_each_split_and_class_has_its_folder(pets: Path) -> None:
    source = folder.read(str(pets), PLAIN)
    assert list(source.splits) == ["train", "val", "test"] and source.classes == ("cat", "dog")
    train = source.splits["train"]
    cats, dogs = [f"train/cat/{i}.png" for i in range(3)], [f"train/dog/{i}.png" for i in range(3)]
    assert train.keys == (*cats, *dogs, "train/dog/deep/9.JPG")
    assert train.targets["label"].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert train.images.shape == (7, 3, 16, 16) and train.images[:, 0, 0, 0].tolist() == [
        10,
        11,
        12,
        200,
        201,
        202,
        209,
    ]
    assert source.splits["val"].keys == ("valid/cat/0.png", "valid/dog/0.png")


def test_class_folders_alone_are_the_training_split(pets: Path) -> None:
    source = folder.read(str(pets / "train"), PLAIN)
    assert list(source.splits) == ["train"] and source.classes == ("cat", "dog")
    assert source.splits["train"].keys[0] == "cat/0.png"


def test_loose_images_have_no_labels(pets: Path) -> None:
    source = folder.read(str(pets / "train" / "cat"), PLAIN)
    train = source.splits["train"]
    assert train.keys == ("0.png", "1.png", "2.png") and source.classes == () and not train.targets


@pytest.mark.parametrize("extension", folder.EXTENSIONS)
def test_every_extension_is_read(tmp_path: Path, extension: str) -> None:
    picture(tmp_path / f"one.{extension.upper()}", 120)
    images = folder.read(str(tmp_path), PLAIN).splits["train"].images
    assert (images.int() - 120).abs().max() <= 3


def test_the_name_is_the_folders_and_the_fingerprint_its_content(pets: Path, tmp_path: Path) -> None:
    name, fingerprint = folder.identify(str(pets), PLAIN)
    assert name == "pets"
    digest = hashlib.sha256()
    for file in sorted(pets.rglob("*.*"), key=lambda file: file.relative_to(pets).as_posix()):
        hidden = any(part.startswith(".") for part in file.relative_to(pets).parts)
        if file.suffix.lower() in (".png", ".jpg") and not hidden:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(pets).as_posix()}|{len(content)}|".encode() + content)
    assert fingerprint == digest.hexdigest()[:16]
    shutil.copytree(pets, tmp_path / "else" / "pets")
    assert folder.identify(str(tmp_path / "else" / "pets"), PLAIN) == (name, fingerprint)


def test_the_fingerprint_follows_bytes_and_names(pets: Path) -> None:
    found = [folder.identify(str(pets), PLAIN)[1]]
    picture(pets / "train" / "cat" / "0.png", 99)
    found.append(folder.identify(str(pets), PLAIN)[1])
    (pets / "train" / "cat" / "0.png").rename(pets / "train" / "cat" / "x.png")
    found.append(folder.identify(str(pets), PLAIN)[1])
    (pets / "train" / "cat" / "notes.txt").write_text("changed")
    found.append(folder.identify(str(pets), PLAIN)[1])
    assert len(set(found)) == 3 and found[2] == found[3]


def test_the_working_folder_has_a_name(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    assert folder.identify(".", PLAIN)[0] == "pets"


def test_a_test_class_that_train_lacks_is_named(pets: Path) -> None:
    picture(pets / "test" / "emu" / "1.png")
    with pytest.raises(UserError, match="there is no class 'emu' in train"):
        folder.read(str(pets), PLAIN)


def test_a_test_split_with_classes_does_not_go_with_loose_training_images(pets: Path) -> None:
    shutil.rmtree(pets / "train")
    picture(pets / "train" / "1.png")
    with pytest.raises(UserError, match="there is no class 'cat' in train"):
        folder.read(str(pets), PLAIN)


def test_an_image_beside_class_folders_is_named(pets: Path) -> None:
    picture(pets / "test" / "stray.png")
    with pytest.raises(UserError, match=r"stray\.png lies beside the class folders"):
        folder.read(str(pets), PLAIN)


def test_a_missing_folder_and_one_without_images_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder:nowhere: there is no such folder"):
        folder.identify("nowhere", PLAIN)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="has no images; looked for jpg"):
        folder.identify(str(tmp_path), PLAIN)


def test_a_link_that_leads_nowhere_is_named(pets: Path) -> None:
    (pets / "train" / "cat" / "lost.png").symlink_to(pets / "nowhere.png")
    with pytest.raises(UserError, match=r"lost.png can't be read: No such file"):
        folder.identify(str(pets), PLAIN)


def test_an_empty_split_is_named(pets: Path) -> None:
    shutil.rmtree(pets / "valid")
    (pets / "valid").mkdir()
    with pytest.raises(UserError, match="valid has no images"):
        folder.identify(str(pets), PLAIN)


def test_a_truncated_jpeg_is_named_or_skipped(pets: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    torn = pets / "train" / "cat" / "torn.jpg"
    Image.fromarray(noise).save(torn)
    torn.write_bytes(torn.read_bytes()[:-900])
    with pytest.raises(
        UserError, match=r"train/cat/torn.jpg can't be read: image file is truncated.*--on-bad-image skip"
    ):
        folder.read(str(pets), PLAIN)
    source = folder.read(str(pets), DataSettings(on_bad_image="skip"))
    assert source.skipped == ("train/cat/torn.jpg",) and len(source.splits["train"]) == 7


def test_a_file_that_is_no_image_is_named(pets: Path) -> None:
    (pets / "test" / "dog" / "0.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"test/dog/0.png can't be read: it is not an image"):
        folder.read(str(pets), PLAIN)


def test_phone_photos_stand_upright(tmp_path: Path) -> None:
    top = np.zeros((16, 16, 3), np.uint8)
    top[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(np.rot90(top).copy()).save(tmp_path / "photo.png", exif=exif)
    image = folder.read(str(tmp_path), PLAIN).splits["train"].images[0]  # (3, S, S)
    assert torch.equal(image, torch.from_numpy(top).permute(2, 0, 1))


def test_data_is_identified_without_torch(pets: Path) -> None:
    code = (
        "import sys\n"
        "from ssbench import data\n"
        "from ssbench.spec import DataSettings\n"
        f"for source in ('folder:{pets}', 'parquet:{pets}/a.parquet', 'digits', 'shapes', 'torchvision:CIFAR10'):\n"
        "    data.identify(source, DataSettings())\n"
        "assert not {'torch', 'torchvision', 'datasets'} & set(sys.modules)"
    )
    (pets / "a.parquet").write_bytes(b"")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_becomes_a_data_set(photos: Path) -> None:
    ref = data.identify(f"folder:{photos}", PLAIN)
    found = data.load(f"folder:{photos}", PLAIN, ref)
    assert len(found.fit) + len(found.select) + len(found.test) == 120
    assert found.size == 16 and found.classes == ("bright", "dark") and found.targets == {"label"}
    assert "on_bad_image" not in ref.settings and str(photos.parent) not in ref.canonical()
