"""The embedded digits."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from ssbench.data.sources import digits
from ssbench.errors import UserError
from ssbench.spec import DataSettings


def every(size: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    """Images and labels in scikit-learn's order, and their keys."""
    splits = digits.read("", DataSettings(image_size=size)).splits
    keys = [key for split in splits.values() for key in split.keys]
    order = sorted(range(len(keys)), key=lambda at: int(keys[at]))
    images, labels = (torch.cat(of)[order] for of in zip(*((s.images, s.targets["label"]) for s in splits.values())))
    return images, labels, [keys[at] for at in order]


def test_digits_are_grey_squares_with_ten_classes() -> None:
    images, labels, keys = every()
    assert images.shape == (1797, 1, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(labels, torch.from_numpy(load_digits().target)) and keys == [*map(str, range(1797))]
    assert digits.read("", DataSettings()).classes == tuple("0123456789")


def test_drawn_data_keeps_the_first_rule_of_splits() -> None:
    """A sample's part is the hash of the source's name and of its position, whatever its class."""
    splits = digits.read("", DataSettings()).splits
    parts = {key: int(hashlib.sha256(f"digits|{key}".encode()).hexdigest()[:8], 16) % 10 for key in every()[2]}
    held = {"val": {0}, "test": {1, 2}, "train": {*range(3, 10)}}
    for name, split in splits.items():
        assert [*split.keys] == [key for key, part in parts.items() if part in held[name]]


def test_at_their_own_size_digits_are_the_pixels_of_scikit_learn() -> None:
    assert np.array_equal(every(8)[0][:, 0].numpy(), (load_digits().images * 255 / 16).round())


def test_enlarged_digits_are_what_pillow_makes_of_them() -> None:
    images = every(24)[0]
    for i in range(20):
        small = Image.fromarray((load_digits().images[i] * 255 / 16).astype(np.float32))
        large = np.asarray(small.resize((24, 24), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.abs(images[i, 0].numpy() - large).max() <= 0.51


def test_the_fingerprint_is_of_pixels_and_labels() -> None:
    data = load_digits()
    content = bytes(int(v) for v in data.images.ravel()) + bytes(int(v) for v in data.target)
    expected = hashlib.sha256(content).hexdigest()[:16]
    assert digits.identify("", DataSettings()) == ("digits", expected)


def test_digits_take_no_argument() -> None:
    with pytest.raises(UserError, match="digits:8: digits takes no argument"):
        digits.identify("8", DataSettings())
