"""The embedded digits."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ssbench.data.sources import digits
from ssbench.errors import UserError
from ssbench.spec import DataSettings


def test_digits_are_grey_squares_with_ten_classes() -> None:
    source = digits.read("", DataSettings())
    train = source.splits["train"]
    assert train.images.shape == (1797, 1, 32, 32) and train.images.dtype == torch.uint8
    assert source.classes == tuple("0123456789") and list(source.splits) == ["train"]
    assert torch.equal(train.targets["label"], torch.from_numpy(load_digits().target))
    assert train.keys[0] == "0" and len(set(train.keys)) == 1797


def test_at_their_own_size_digits_are_the_pixels_of_scikit_learn() -> None:
    images = digits.read("", DataSettings(image_size=8)).splits["train"].images
    assert np.array_equal(images[:, 0].numpy(), (load_digits().images * 255 / 16).round())


def test_enlarged_digits_are_what_pillow_makes_of_them() -> None:
    images = digits.read("", DataSettings(image_size=24)).splits["train"].images
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
