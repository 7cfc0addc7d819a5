"""Targets hold the right pixels in the right order."""

import numpy as np
import pytest
import torch

from ssbench.errors import UserError
from ssbench.methods.mim.targets import TARGETS, pixels, pixels_normed


def test_pixels_are_in_the_order_row_column_channel() -> None:
    images = torch.randn(2, 3, 8, 12)
    found = pixels(images, 4)
    assert found.shape == (2, 6, 48)
    for b in range(2):
        for n in range(6):
            row, column = n // 3 * 4, n % 3 * 4
            wanted = [images[b, c, row + i, column + j] for i in range(4) for j in range(4) for c in range(3)]
            assert torch.equal(found[b, n], torch.stack(wanted))


def test_pixels_can_be_put_back_together() -> None:
    images = torch.randn(2, 3, 8, 12)
    back = pixels(images, 4).view(2, 2, 3, 4, 4, 3).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 8, 12)
    assert torch.equal(back, images)


def test_normalised_pixels_are_those_of_numpy() -> None:
    images = torch.randn(3, 3, 8, 8) * 3 + 1
    patches = pixels(images, 4).double().numpy()
    mean, var = patches.mean(-1, keepdims=True), patches.var(-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(pixels_normed(images, 4), (patches - mean) / np.sqrt(var + 1e-6), atol=1e-5)


def test_a_flat_patch_has_a_target_of_zero() -> None:
    assert torch.equal(pixels_normed(torch.ones(1, 3, 4, 4), 4), torch.zeros(1, 1, 48))


def test_normalising_needs_more_than_one_value() -> None:
    with pytest.raises(UserError, match=r"take mim\.target=pixels"):
        pixels_normed(torch.zeros(1, 1, 4, 4), 1)


@pytest.mark.parametrize("name", TARGETS)
def test_a_patch_says_nothing_of_another_patch(name: str) -> None:
    images = torch.randn(1, 3, 8, 8)
    other = images.clone()
    other[:, :, :4, :4] += torch.randn(3, 4, 4)
    same = (TARGETS[name](images, 4) == TARGETS[name](other, 4)).all(-1)
    assert same.tolist() == [[False, True, True, True]]
