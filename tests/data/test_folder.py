"""Folders of images, as people keep them."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssbench import data
from ssbench.data.listing import Label, Listing
from ssbench.data.sources import folder
from ssbench.errors import UserError
from ssbench.spec import DataSettings

ROOT = Path(__file__).parent.parent.parent
PLAIN = DataSettings()


def draw(root: Path, *files: str, **save: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 20, 3), 100, np.uint8)).save(root / file, **save)
    return root


def listed(root: Path, settings: DataSettings = PLAIN) -> Listing:
    return folder.read(str(root), settings)


def labels(root: Path, settings: DataSettings = PLAIN) -> dict[str, dict[str, Label | None]]:
    """The label of each key of each split."""
    splits = listed(root, settings).splits
    return {name: {s.key: s.label for s in split.each()} for name, split in splits.items()}  # type: ignore[misc]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/, valid/ and test/ with cats and dogs, and things that are no images."""
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        draw(root, *(f"{split}/{name}/{i}.png" for name in ("cat", "dog") for i in range(count)))
    draw(root, "train/dog/deep/9.JPG", "train/dog/.hidden.png", "train/.cache/1.png", "__MACOSX/train/cat/0.png")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    (root / "train" / "cat" / "Thumbs.db").write_text("no image")
    return root


def test_each_split_and_class_has_its_folder(pets: Path) -> None:
    found = listed(pets)
    assert list(found.splits) == ["train", "val", "test"] and found.origin == "folders train, valid and test"
    cats = {f"train/cat/{i}.png": "cat" for i in range(3)}
    dogs = {f"train/dog/{name}": "dog" for name in ("0.png", "1.png", "2.png", "deep/9.JPG")}
    assert labels(pets)["train"] == cats | dogs and [*labels(pets)["train"]] == [*cats, *dogs]
    assert labels(pets)["val"] == {"valid/cat/0.png": "cat", "valid/dog/0.png": "dog"}
    assert found.left_out == ("1 files of other kinds: .txt 1",) and found.columns == {"label": "folder names"}
    assert [split.total for split in found.splits.values()] == [7, 2, 4]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("Training/a/1.png Testing/a/1.png", "train: a; test: a"),
        ("archive/Training/a/1.png archive/Training/b/1.png archive/Testing/a/1.png", "train: a b; test: a"),
        ("x/y/training_set/a/1.png x/y/test_set/a/1.png", "train: a; test: a"),
        ("training_set/training_set/a/1.png test_set/test_set/a/1.png", "train: a; test: a"),
        ("train/images/a/1.png valid/images/a/1.png", "train: a; val: a"),
        ("train/images/1.png valid/images/2.png", "train: None; val: None"),
        ("val/a/1.png test/a/1.png", "val: a; test: a"),
        ("train/a/1.png test/1.png", "train: a; test: None"),
        ("train/1.png test/1.png", "train: None; test: None"),
        ("train/a/1.png train/b/1.png val/a/1.png test/c/1.png", "train: a b; val: a; test: c"),
        ("a/train/1.png a/test/2.png b/train/1.png", "train: a b; test: a"),
        ("train/1.png plane/1.png ship/1.png", "train: plane ship train"),
        ("with_mask/1.png without_mask/1.png", "train: with_mask without_mask"),
        ("cat/1.png dog/1.png 7.png", "train: None cat dog"),
        ("cat/1.png", "train: cat"),
        ("celeba/celeba/1.png", "train: None"),
        ("cat/1.png cat/deep/2.png", "train: cat cat"),
        ("images/1.png", "train: None"),
        ("CUB/images/001.Albatross/1.png CUB/images/002.Auklet/1.png", "train: 001.Albatross 002.Auklet"),
        ("train/n1/images/1.png train/n2/images/2.png val/images/3.png", "train: n1 n2; val: None"),
        ("train/a/1.png val/a/1.png validation/a/2.png", "train: a; val: a a"),
    ],
)
def test_splits_and_classes_are_where_people_put_them(tmp_path: Path, files: str, expected: str) -> None:
    found = labels(draw(tmp_path, *files.split()))
    shown = (f"{split}: {' '.join(str(each) for each in of.values())}" for split, of in found.items())
    assert "; ".join(shown) == expected


@pytest.mark.parametrize(
    ("files", "name", "text"),
    [
        (
            "train/a/1.png test/a/1.png extra/1.png",
            "unused-folders",
            "train and test hold class folders.*extra would.*splits=train=train,test=test",
        ),
        ("Train/1.png Holdout/1.png", "split-classes", "Holdout, Train would be classes, but Train sound like"),
        (
            "seg_train/a/1.png seg_test/a/1.png seg_pred/1.png",
            "split-classes",
            "--set data.splits=test=seg_test,train=seg_train",
        ),
        ("trainA/1.png trainB/1.png testA/1.png", "split-classes", "sound like splits"),
        ("a/train/good/1.png a/test/bad/1.png b/train/good/1.png", "splits-inside", "but a holds test and train"),
        ("train/images/1.png train/1st_manual/2.png", "pairs", "images sound like images and masks"),
        ("yes/1.png no/1.png all/yes/1.png all/no/1.png", "nested-classes", "but all holds no and yes again"),
        ("Input_A/1.png Truth_B/1_segmentation.png", "pairs", "Truth_B has the file names of Input_A"),
        ("images/1.png thumbs/2.png", "pairs", "images sound like images and masks"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_unless_it_is_meant(
    tmp_path: Path, files: str, name: str, text: str
) -> None:
    draw(tmp_path, *files.split())
    with pytest.raises(UserError, match=rf"{text}.*--set data\.allow={name}"):
        listed(tmp_path)
    assert listed(tmp_path, DataSettings(allow=(name,))).splits["train"].total > 0


def test_the_user_says_which_folder_is_which_split(tmp_path: Path) -> None:
    draw(tmp_path / "top", "2019/a/1.png", "2020/a/1.png", "2021/a/1.png")
    settings = DataSettings(splits=("train=2019", "test=2020"))
    assert labels(tmp_path / "top", settings) == {"train": {"2019/a/1.png": "a"}, "test": {"2020/a/1.png": "a"}}
    assert listed(tmp_path / "top", settings).left_out == ("1 images outside the folders of data.splits",)
    draw(tmp_path / "below", "a/2019/1.png", "a/2020/1.png", "b/2019/1.png")
    found = labels(tmp_path / "below", settings)
    assert found == {"train": {"a/2019/1.png": "a", "b/2019/1.png": "b"}, "test": {"a/2020/1.png": "a"}}
    with pytest.raises(UserError, match=r"data\.splits=test=2022: there is no '2022'"):
        listed(tmp_path / "top", DataSettings(splits=("test=2022",)))


@pytest.mark.parametrize(
    ("end", "form"),
    [
        *(("JPG", "JPEG"), ("jfif", "JPEG"), ("heic", "JPEG"), ("pgm", "PPM"), ("webp", "WEBP"), ("tga", "TGA")),
        *(("jp2", "JPEG2000"), ("avif", "AVIF"), ("ppm", "PPM"), ("png_large", "PNG"), ("001", "JPEG")),
    ],
)
def test_every_format_that_pillow_opens_is_read_whatever_its_ending_says(tmp_path: Path, end: str, form: str) -> None:
    draw(tmp_path, f"a/1.{end}", format=form)
    (sample,) = listed(tmp_path).splits["train"].each()
    assert np.asarray(sample.open()).shape[:2] == (16, 20)


def test_what_is_no_image_is_counted_by_ending(tmp_path: Path) -> None:
    draw(tmp_path, "a/1.png")
    for name in ("a/1.txt", "a/2.txt", "a/clip.mp4", "a/paper.pdf", "a/LICENSE"):
        (tmp_path / name).write_bytes(b"%PDF")
    expected = "5 files of other kinds: .txt 2, without ending 1, .mp4 1, .pdf 1"
    assert listed(tmp_path).left_out == (expected,)


def test_real_heic_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (sample,) = listed(tmp_path).splits["train"].each()
    with pytest.raises(Exception, match="pip install pillow-heif"):
        sample.open()


def test_bands_that_pillow_would_lose_are_read_or_name_the_extra(tmp_path: Path) -> None:
    bands = np.arange(16 * 20 * 5, dtype=np.uint8).reshape(16, 20, 5)
    (tmp_path / "tile.tif").write_bytes(tiff(bands))
    (sample,) = listed(tmp_path).splits["train"].each()
    try:
        import tifffile  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install 'ssbench\[tiff\]'"):
            sample.open()
    else:
        assert np.array_equal(np.asarray(sample.open()), bands)


def tiff(bands: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    """An uncompressed TIFF of (H, W, C) uint8, written by the letter of TIFF 6.0."""
    height, width, count = bands.shape
    data = 8 + bands.nbytes
    extra = count - 3
    after = data + 2 + 12 * 10 + 4  # where values too long for a tag lie
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, count, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, count), (278, 3, 1, height), (279, 4, 1, bands.nbytes), (338, 3, extra, 0)]
    head = b"II*\0" + data.to_bytes(4, "little") + bands.tobytes()
    body = b"".join(b"".join(n.to_bytes(s, "little") for n, s in zip(tag, (2, 2, 4, 4))) for tag in tags)
    return head + len(tags).to_bytes(2, "little") + body + bytes(4) + (8).to_bytes(2, "little") * count


def test_the_name_is_the_folders_and_the_fingerprint_its_content(pets: Path, tmp_path: Path) -> None:
    name, fingerprint = folder.identify(str(pets), PLAIN)
    assert name == "pets"
    digest = hashlib.sha256()
    for file in sorted(pets.rglob("*.*"), key=lambda file: file.relative_to(pets).as_posix()):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(pets).parts)
        if file.suffix.lower() in (".png", ".jpg") and not hidden:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(pets).as_posix()}|{len(content)}|".encode() + content)
    assert fingerprint == digest.hexdigest()[:16]
    shutil.copytree(pets, tmp_path / "else" / "pets")
    assert folder.identify(str(tmp_path / "else" / "pets"), PLAIN) == (name, fingerprint)


def test_the_fingerprint_follows_bytes_and_names(pets: Path) -> None:
    found = [folder.identify(str(pets), PLAIN)[1]]
    Image.new("RGB", (9, 9)).save(pets / "train" / "cat" / "0.png")
    found.append(folder.identify(str(pets), PLAIN)[1])
    (pets / "train" / "cat" / "0.png").rename(pets / "train" / "cat" / "x.png")
    found.append(folder.identify(str(pets), PLAIN)[1])
    (pets / "train" / "cat" / "notes.txt").write_text("changed")
    found.append(folder.identify(str(pets), PLAIN)[1])
    assert len(set(found)) == 3 and found[2] == found[3]


def test_keys_are_the_same_wherever_the_folder_lies_and_whatever_it_is_called(pets: Path, tmp_path: Path) -> None:
    before = labels(pets)
    pets.rename(tmp_path / "train, photos [new]")
    assert labels(tmp_path / "train, photos [new]") == before


def test_the_working_folder_has_a_name(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    assert folder.identify(".", PLAIN)[0] == "pets"


def test_any_name_of_a_file_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    strange = [b"a/caf\xe9.png", b"a/x,y;z.png", "a/画像.png".encode(), b"a/new\nline.png"]
    for name in strange:
        Image.new("RGB", (4, 4)).save(os.path.join(os.fsencode(tmp_path), name), "PNG")
    assert len(folder.identify(str(tmp_path), PLAIN)[1]) == 16
    samples = [*listed(tmp_path).splits["train"].each()]
    assert {sample.key for sample in samples} == {"a/caf\\xe9.png", "a/x,y;z.png", "a/画像.png", "a/new\\nline.png"}
    for sample in samples:
        assert np.asarray(sample.open()).shape == (4, 4, 3) and sample.key.encode() and sample.name == sample.key


def test_links_are_followed_but_not_round_in_circles(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cat").symlink_to(pets / "train" / "cat")
    (tmp_path / "links" / "dog").symlink_to(pets / "test" / "dog")
    (pets / "train" / "cat" / "back").symlink_to(pets / "train")
    (pets / "test" / "dog" / "self").symlink_to("self")
    found = labels(tmp_path / "links")["train"]
    assert [*found] == ["cat/0.png", "cat/1.png", "cat/2.png", *(f"cat/back/dog/{name}" for name in NINE), *DOGS]


NINE = ("0.png", "1.png", "2.png", "deep/9.JPG")
DOGS = ("dog/0.png", "dog/1.png")


def test_a_link_that_leads_nowhere_is_named(pets: Path) -> None:
    (pets / "train" / "cat" / "lost.png").symlink_to(pets / "nowhere.png")
    before = folder.identify(str(pets), PLAIN)
    with pytest.raises(UserError, match=r"lost.png can't be read: No such file.*--on-bad-image skip"):
        data.load(f"folder:{pets}", PLAIN, data.identify(f"folder:{pets}", PLAIN))
    skipping = DataSettings(on_bad_image="skip", allow=("blank-images",))
    found = data.load(f"folder:{pets}", skipping, data.identify(f"folder:{pets}", skipping))
    assert found.skipped == ("train/cat/lost.png",)
    (pets / "train" / "cat" / "lost.png").unlink()
    assert folder.identify(str(pets), PLAIN) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.zip", "it is an archive: unpack it, and give the folder, such as folder:x"),
        ("x.tar.gz", "it is an archive"),
        ("x.parquet", "it is a table: parquet:"),
        ("x.csv", "give the folder that it lies in"),
        ("x.json", "coco:"),
        ("x.png", "it is a file, not a folder"),
    ],
)
def test_what_is_no_folder_says_what_to_type(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(UserError, match=text):
        folder.identify(str(tmp_path / file), PLAIN)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("notes.txt", r"has no images; it has \.txt 1"),
        ("train.parquet", "but Parquet files: parquet:"),
        ("data.arrow", "but Arrow files: hf:"),
        ("all.zip", "unpack the archives first"),
    ],
)
def test_a_folder_without_images_says_what_it_has(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(UserError, match=text):
        folder.identify(str(tmp_path), PLAIN)


@pytest.mark.parametrize("name", ["nowhere", "x" * 5000])
def test_a_missing_folder_is_told_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no such folder|can't be read"):
        folder.identify(name, PLAIN)


def test_other_layouts_name_the_source_that_reads_them(tmp_path: Path) -> None:
    draw(tmp_path / "coco", "train2017/1.jpg")
    (tmp_path / "coco" / "annotations").mkdir()
    (tmp_path / "coco" / "annotations" / "instances_train2017.json").write_text("{}")
    with pytest.raises(UserError, match=r"looks like a COCO data set .* coco:"):
        listed(tmp_path / "coco")
    draw(tmp_path / "plain", "1.jpg")
    (tmp_path / "plain" / "all.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(UserError, match=r"looks like a COCO data set \(all\.json\)"):
        listed(tmp_path / "plain")
    (tmp_path / "plain" / "all.json").write_text('{"images": 1}')
    assert listed(tmp_path / "plain").left_out == ("1 files of other kinds: .json 1",)
    draw(tmp_path / "voc", "JPEGImages/1.jpg")
    (tmp_path / "voc" / "Annotations").mkdir()
    (tmp_path / "voc" / "Annotations" / "1.xml").write_text("<annotation/>")
    with pytest.raises(UserError, match=r"looks like Pascal VOC .* voc:"):
        listed(tmp_path / "voc")


def test_the_boxes_of_yolo_are_said_to_be_left_out(tmp_path: Path) -> None:
    draw(tmp_path, "images/train/1.png", "images/val/2.png")
    for file in ("labels/train/1.txt", "labels/val/2.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("0 0.5 0.5 0.2 0.2")
    found = listed(tmp_path)
    assert labels(tmp_path) == {"train": {"images/train/1.png": None}, "val": {"images/val/2.png": None}}
    assert "boxes in YOLO's text files are not read: labels/train/1.txt and 1 more" in found.left_out[0]


def test_data_is_identified_without_torch(pets: Path) -> None:
    code = (
        "import sys\n"
        "from ssbench.data.sources import folder\n"
        "from ssbench.spec import DataSettings\n"
        f"folder.identify({str(pets)!r}, DataSettings()); folder.read({str(pets)!r}, DataSettings())\n"
        "assert not {'torch', 'torchvision', 'datasets', 'pandas'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
