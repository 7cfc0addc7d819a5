"""Data sets that torchvision knows, here MNIST from files written by hand: nothing is downloaded."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torchvision

from ssbench import data
from ssbench.data.sources import vision
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PLAIN = DataSettings()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 training and 20 test images of 28 px, each as bright as its position says, in MNIST's own format (IDX)."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, start, count in (("train", 0, 60), ("t10k", 60, 20)):
        numbers = np.arange(start, start + count, dtype=np.uint8)
        images = np.broadcast_to(numbers[:, None, None], (count, 28, 28))
        header = b"\x00\x00\x08\x03" + np.array([count, 28, 28], ">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"\x00\x00\x08\x01" + np.array([count], ">i4").tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + (numbers % 10).tobytes())
    monkeypatch.setenv("SSBENCH_DATA", str(tmp_path))
    return tmp_path


def test_mnist_is_listed_from_its_files(mnist: Path) -> None:
    listing = vision.read("MNIST", PLAIN)
    train, test = ([*listing.splits[name].each()] for name in ("train", "test"))
    assert [sample.label for sample in train] == [i % 10 for i in range(60)] and len(test) == 20
    assert [int(np.asarray(sample.open()).max()) for sample in test] == list(range(60, 80))
    assert train[1].key == "1" and (listing.names or {})[3] == "3 - three"


def test_mnist_becomes_a_data_set(mnist: Path) -> None:
    settings = DataSettings(allow=("blank-images",))  # each of one value
    found = data.load("torchvision:MNIST", settings, data.identify("torchvision:MNIST", settings))
    assert len(found.fit) + len(found.select) == 60 and len(found.test) == 20 and found.ref.name == "MNIST"
    assert found.fit.images.shape[1:] == (1, 24, 24) and found.classes[3] == "3 - three"


def test_classes_without_names_are_numbers(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "classes", None)
    settings = DataSettings(image_size=8, allow=("blank-images",))
    found = data.load("torchvision:MNIST", settings, data.identify("torchvision:MNIST", settings))
    assert found.classes == tuple("0123456789")


@pytest.mark.parametrize("name", vision.NAMES)
def test_torchvision_knows_every_name_and_takes_its_arguments(name: str) -> None:
    signature = inspect.signature(getattr(torchvision.datasets, name))
    for words in vision.NAMES[name].values():
        signature.bind("root", download=True, **words)
    assert "train" in vision.NAMES[name] and set(vision.NAMES[name]) <= {"train", "val", "test"}


def test_an_unknown_name_gets_near_misses() -> None:
    with pytest.raises(UserError, match="unknown dataset torchvision:CIFAR; did you mean CIFAR10"):
        vision.identify("CIFAR", PLAIN)


def test_names_have_fingerprints_of_their_own() -> None:
    found = [vision.identify(name, PLAIN) for name in vision.NAMES]
    assert [name for name, _ in found] == list(vision.NAMES)
    assert len({fingerprint for _, fingerprint in found}) == len(found)
    assert all(len(fingerprint) == 16 for _, fingerprint in found)


def test_data_that_cant_be_had_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SSBENCH_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"torchvision:MNIST can't be had: .*set SSBENCH_DATA to a folder that has it"):
        vision.read("MNIST", PLAIN)
