"""Data sets that torchvision knows, here MNIST from files written by hand: nothing is downloaded."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ssbench import data
from ssbench.data import vision
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


def test_mnist_is_read_from_its_files(mnist: Path) -> None:
    source = vision.read("MNIST", PLAIN)
    train, test = source.splits["train"], source.splits["test"]
    assert train.images.shape == (60, 3, 24, 24) and test.images.shape == (20, 3, 24, 24)
    assert train.images[:, 1, 5, 5].tolist() == list(range(60)) and test.images[0, 2, 0, 0] == 60
    assert torch.equal(train.targets["label"], torch.arange(60) % 10) and train.keys[:2] == ("0", "1")
    assert source.classes[3] == "3 - three" and len(source.classes) == 10


def test_mnist_becomes_a_data_set(mnist: Path) -> None:
    found = data.load("torchvision:MNIST", PLAIN, data.identify("torchvision:MNIST", PLAIN))
    assert len(found.fit) + len(found.select) == 60 and len(found.test) == 20 and found.ref.name == "MNIST"


def test_classes_without_names_are_numbers(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "classes", None)
    assert vision.read("MNIST", PLAIN).classes == tuple("0123456789")


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
