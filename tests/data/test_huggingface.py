"""What Hugging Face's `datasets` itself can load: names, local folders, configurations, saved sets."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from ssbench.data.sources import huggingface, parquet
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dull", "bright"])})


def picture(level: int) -> Image.Image:
    return Image.fromarray(np.full((4, 6), level, np.uint8))


def made(*levels: int) -> datasets.Dataset:
    cells = []
    for level in levels:
        file = BytesIO()
        picture(level).save(file, "png")
        cells.append({"bytes": file.getvalue(), "path": None})
    return datasets.Dataset.from_dict({"image": cells, "label": [i % 2 for i in levels]}, features=FEATURES)


def write(root: Path, **splits: tuple[int, ...]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, levels in splits.items():
        made(*levels).to_parquet(root / f"{name}.parquet")
    return root


def levels(place: Any, split: str = "train", settings: DataSettings = PLAIN) -> list[int]:
    found = huggingface.read(str(place), settings).splits[split]
    each = list(found.each())
    assert len(each) == found.total
    return [int(np.asarray(one.open())[0, 0]) for one in each]


@pytest.fixture(autouse=True)
def _no_cache_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def test_what_datasets_loads_equals_the_files_read_directly(tmp_path: Path) -> None:
    root = write(tmp_path / "mine", train=(1, 2, 3), validation=(4,), test=(5, 6))
    direct, loaded = parquet.read(str(root), PLAIN), huggingface.read(str(root), PLAIN)
    assert list(loaded.splits) == ["train", "val", "test"] and loaded.names == direct.names == {0: "dull", 1: "bright"}
    assert loaded.columns == direct.columns and loaded.origin == "splits train, validation, test"
    for name, samples in direct.splits.items():
        for here, there in zip(samples.each(), loaded.splits[name].each(), strict=True):
            assert (here.key, here.label) == (there.key, there.label)
            assert np.array_equal(np.asarray(here.open()), np.asarray(there.open()))
    assert [one.name for one in loaded.splits["test"].each()] == ["test row 0", "test row 1"]


@pytest.mark.parametrize("layout", ["parquet", "images"])
def test_the_fingerprint_of_a_loaded_set_is_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    def make(root: Path, last: int) -> None:
        if layout == "parquet":
            write(root, train=(1, 2, last))
        for i in [1, 2, last] if layout == "images" else []:
            (root / "train" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
            picture(i).save(root / "train" / f"{i % 2}" / f"{i}.png")

    found = []
    for k, (place, last) in enumerate([("one", 3), ("two", 3), ("two/more", 5)]):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / f"cache{k}")
        make(tmp_path / place / "mine", last)
        found.append(huggingface.identify(str(tmp_path / place / "mine"), PLAIN))
    assert found[0] == found[1] and found[0][0] == "mine"
    assert found[2][1] != found[0][1]


def test_several_configurations_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    root = tmp_path / "two"
    write(root / "small", train=(1, 2))
    write(root / "large", train=(3, 4, 5))
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("small", "large"))
    (root / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(
        UserError, match=r"two has several configurations: small, large; say which, such as hf:.*two@small$"
    ):
        huggingface.read(str(root), PLAIN)
    assert levels(f"{root}@large") == [3, 4, 5]
    assert huggingface.identify(f"{root}@small", PLAIN)[0] == "two@small"
    with pytest.raises(UserError, match="has no configuration 'smal'; did you mean small"):
        huggingface.read(f"{root}@smal", PLAIN)


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    root = write(tmp_path / "me@home", train=(1,))
    assert levels(root) == [1] and huggingface.identify(str(root), PLAIN)[0] == "me@home"


def test_sets_saved_to_disk_are_loaded(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": made(1, 2), "validation": made(3)})
    both.save_to_disk(tmp_path / "both")
    assert levels(tmp_path / "both") == [1, 2] and levels(tmp_path / "both", "val") == [3]
    made(4, 5).save_to_disk(tmp_path / "one")
    assert levels(tmp_path / "one") == [4, 5]
    assert huggingface.identify(str(tmp_path / "one"), PLAIN)[0] == "one"


def test_splits_of_other_names_are_refused_until_the_user_says(tmp_path: Path) -> None:
    datasets.DatasetDict({"left": made(1), "right": made(2)}).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match=r"has splits left, right: say which is what, --set data.splits=train=left"):
        huggingface.read(str(tmp_path / "set"), PLAIN)
    named = DataSettings(splits=("train=right", "test=left"))
    assert levels(tmp_path / "set", "train", named) == [2] and levels(tmp_path / "set", "test", named) == [1]


def test_the_only_split_trains_whatever_it_is_called(tmp_path: Path) -> None:
    datasets.DatasetDict({"full": made(1, 2)}).save_to_disk(tmp_path / "set")
    assert levels(tmp_path / "set") == [1, 2]
    assert huggingface.read(str(tmp_path / "set"), PLAIN).origin == "splits full, taken for train"


def test_a_split_without_a_role_is_left_out_and_said(tmp_path: Path) -> None:
    datasets.DatasetDict({"dev": made(3), "test": made(1), "extra": made(2, 3)}).save_to_disk(tmp_path / "set")
    found = huggingface.read(str(tmp_path / "set"), PLAIN)
    assert list(found.splits) == ["val", "test"]
    assert found.left_out == ("splits extra (rows: 2), which is no split's name",)


def test_images_in_folders_have_the_labels_that_datasets_gives_them(tmp_path: Path) -> None:
    for i in range(4):
        place = tmp_path / "photos" / "train" / ("dark", "light")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture(i * 10).save(place / f"{i}.png")
    found = huggingface.read(str(tmp_path / "photos"), PLAIN)
    assert found.names == {0: "dark", 1: "light"}
    pairs = [(one.label, int(np.asarray(one.open())[0, 0])) for one in found.splits["train"].each()]
    assert pairs == [(0, 0), (0, 20), (1, 10), (1, 30)]


def test_loose_images_in_folders_called_like_splits_have_no_labels(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for i in range(count):
            picture(i).save(tmp_path / "photos" / split / f"{i}.png")
    found = huggingface.read(str(tmp_path / "photos"), PLAIN)
    assert {name: [one.label for one in split.each()] for name, split in found.splits.items()} == {
        "train": [None] * 3,
        "test": [None] * 2,
    }


def test_labels_of_a_metadata_file_are_text(tmp_path: Path) -> None:
    for i in range(2):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,dog\n1.png,cat\n")
    found = huggingface.read(str(tmp_path), PLAIN)
    assert [one.label for one in found.splits["train"].each()] == ["dog", "cat"] and found.names is None


def test_a_set_that_cant_be_loaded_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="hf:nobody/nothing can't be loaded") as caught:
        huggingface.identify("nobody/nothing", PLAIN)
    assert "\n" not in str(caught.value)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf: needs the extra: pip install 'ssbench\[hf\]'"):
        huggingface.read("some/thing", PLAIN)
