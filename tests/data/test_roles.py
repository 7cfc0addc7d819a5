"""Who trains, who chooses, who judges: fixed by hashes of keys, the same on every machine and for every method."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssbench import data
from ssbench.data import Split, tenth
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()
TENTHS = [0, 3, 0, 6, 1, 1, 6, 3, 0, 4, 5, 4, 8, 0, 6, 2, 7, 3, 4, 7]  # of pets|0 ... pets|19, by sha256sum


def split(count: int, start: int = 0) -> Split:
    """Images that show their own position, so that a sample can be followed."""
    numbers = torch.arange(start, start + count, dtype=torch.uint8)
    images = numbers[:, None, None, None].expand(-1, 3, 8, 8).clone()
    return Split(images, tuple(str(i) for i in range(start, start + count)), {"label": numbers.long() % 2})


def picture(file: Path, level: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(file)


def load(root: Path) -> data.Dataset:
    return data.load(f"folder:{root}", PLAIN, data.identify(f"folder:{root}", PLAIN))


def test_the_tenth_of_a_sample_is_fixed() -> None:
    assert [tenth("pets", str(i)) for i in range(20)] == TENTHS
    assert tenth("pets", "cat/1.png") == 3 and tenth("cars", "cat/1.png") == 4


def test_without_other_splits_select_is_part_0_and_test_parts_1_and_2() -> None:
    fit, select, test, roles = data._roles("pets", {"train": split(100)})
    parts = {key: tenth("pets", key) for key in map(str, range(100))}
    assert set(select.keys) == {key for key, part in parts.items() if part == 0}
    assert set(test.keys) == {key for key, part in parts.items() if part in (1, 2)}
    assert set(fit.keys) == {key for key, part in parts.items() if part > 2}
    assert "tenth" in roles and "fifth" in roles


def test_images_and_targets_go_with_their_keys() -> None:
    for part in data._roles("pets", {"train": split(100)})[:3]:
        numbers = torch.tensor([int(key) for key in part.keys])
        assert torch.equal(part.images[:, 0, 0, 0].long(), numbers)
        assert torch.equal(part.targets["label"], numbers % 2)


def test_a_test_split_of_the_source_is_the_test_and_select_a_tenth_of_train() -> None:
    fit, select, test, _ = data._roles("pets", {"train": split(100), "test": split(10, 100)})
    assert len(fit) + len(select) == 100 and set(test.keys) == set(map(str, range(100, 110)))
    assert all(tenth("pets", key) == 0 for key in select.keys)


def test_a_val_split_of_the_source_is_select() -> None:
    splits = {"train": split(100), "val": split(10, 100), "test": split(10, 110)}
    fit, select, test, roles = data._roles("pets", splits)
    assert (fit.keys, select.keys, test.keys) == tuple(splits[name].keys for name in ("train", "val", "test"))
    assert roles == "the source's own splits"


def test_train_and_val_without_test_make_val_the_test() -> None:
    fit, select, test, roles = data._roles("pets", {"train": split(100), "val": split(10, 100)})
    assert test.keys == tuple(map(str, range(100, 110)))
    assert len(fit) + len(select) == 100 and not set(fit.keys) & set(select.keys)
    assert "val" in roles


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("train", "val")])
def test_select_and_test_never_overlap_fit(names: tuple[str, ...]) -> None:
    splits = {name: split(80, 80 * k) for k, name in enumerate(names)}
    fit, select, test, _ = data._roles("pets", splits)
    keys = [*fit.keys, *select.keys, *test.keys]
    assert len(keys) == len(set(keys)) == 80 * len(names)


def test_the_order_of_rows_changes_no_role() -> None:
    shuffled = list(range(100))
    random.Random(0).shuffle(shuffled)
    for one, other in zip(
        data._roles("pets", {"train": split(100)})[:3], data._roles("pets", {"train": split(100).take(shuffled)})[:3]
    ):
        assert set(one.keys) == set(other.keys)


def test_a_file_added_to_a_folder_changes_no_other_files_role(tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / "a" / f"{i:02}.png", i)
    before = load(tmp_path)
    picture(tmp_path / "a" / "000.png", 99)
    after = load(tmp_path)
    for role in ("fit", "select", "test"):
        old, new = set(getattr(before, role).keys), set(getattr(after, role).keys)
        assert new - old <= {"a/000.png"} and old <= new
    assert before.ref.fingerprint != after.ref.fingerprint


def test_too_little_data_says_so() -> None:
    with pytest.raises(UserError, match="pets is too small to be split into fit, select and test: 3 training images"):
        data._roles("pets", {"train": split(3)})


def test_data_without_train_says_what_it_has() -> None:
    with pytest.raises(UserError, match="no split called train; it has test"):
        data._roles("pets", {"test": split(3)})


@pytest.mark.parametrize("place", ["train", "test"])
def test_an_empty_class_is_named(tmp_path: Path, place: str) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
        picture(tmp_path / name, 100)
    (tmp_path / place / "dog" / "1.png").unlink()
    with pytest.raises(UserError, match=f"class 'dog' has no images in the split {place}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [("fodler:x", "did you mean folder"), ("folder", "needs an argument"), ("torchvision:", "needs an argument")],
)
def test_a_source_that_is_not_one_says_what_there_is(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.identify(source, PLAIN)


def test_large_arrays_are_files_that_can_be_taken_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "IN_MEMORY", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small, large = data.allocate((10, 10), torch.uint8), data.allocate((200, 8), torch.int64)
    assert small.shape == (10, 10) and large.shape == (200, 8) and large.dtype == torch.int64
    assert in_a_file(large, tmp_path) and not in_a_file(small, tmp_path)
    large.copy_(torch.arange(1600).view(200, 8))
    assert large[150, 3] == 150 * 8 + 3
    whole = split(100)
    assert torch.equal(whole.take([7, 3]).images, whole.images[[7, 3]])  # in memory: 2 x 192 bytes
    half = whole.take(list(range(0, 100, 2)))
    assert in_a_file(half.images, tmp_path) and torch.equal(half.images, whole.images[::2])
    assert not list(tmp_path.iterdir()), "the file has no name, so nothing is left behind"


def in_a_file(values: torch.Tensor, folder: Path) -> bool:
    """Whether a tensor's memory is a map of a file in a folder, by the system's own table."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        if low <= values.data_ptr() < high:
            return str(folder) in line
    return False
