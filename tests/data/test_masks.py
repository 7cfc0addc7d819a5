"""Masks: values of a whole set become classes, or are refused with what was found."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssbench import data
from ssbench.data.masks import Values, at_size, mapped
from ssbench.errors import UserError
from ssbench.spec import DataSettings

from .test_decode import kept, listing, loaded, smooth

PLAIN = DataSettings()


def masked(*masks: Any, count: int = 20, size: tuple[int, int] = (16, 16), **words: Any) -> data.Dataset:
    """Images with these masks in turn."""
    openers = [kept(mask if isinstance(mask, Image.Image) else Image.fromarray(mask)) for mask in masks]
    images = [smooth(*size, at) for at in range(count)]
    return loaded(listing(*images, each=lambda at: {"mask": openers[at % len(openers)]}), DataSettings(**words))


def halves(*values: int, kind: type = np.uint8) -> NDArray[Any]:
    """(16, 16) of equal stripes, one a value."""
    return np.repeat(np.array(values, kind), 16 // len(values))[None].repeat(16, 0)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_keep_their_values_and_are_squashed_by_nearest(mode: str) -> None:
    classes = np.random.default_rng(1).choice([0, 3, 7, 255], (48, 96)).astype(np.uint8)
    mask = Image.fromarray(classes)
    if mode == "P":  # values are indices into colours that mean nothing
        mask = Image.frombytes("P", mask.size, classes.tobytes())
        mask.putpalette(np.random.default_rng(2).integers(0, 256, 768, dtype=np.uint8).tobytes())
    rows, columns = (np.arange(16) * 2 + 1) * 48 // 32, (np.arange(16) * 2 + 1) * 96 // 32
    values = Values()
    small = at_size(mask, 16, values, "PNG")
    found = mapped("x", values, PLAIN)
    assert found.values == (0, 3, 7) and found.void == 255
    expected = np.vectorize({0: 0, 3: 1, 7: 2, 255: 255}.get)(classes[rows][:, columns])
    assert np.array_equal(found.table[small], expected)


@pytest.mark.parametrize(
    ("mask", "values", "void"),
    [
        (halves(0, 255), [0, 255], None),
        (halves(0, 1), [0, 1], None),
        (halves(0, 1) > 0, [0, 1], None),
        (halves(0, 1, 255, 255), [0, 1], 255),
        (halves(0, 128, 200, 200), [0, 128, 200], None),
        (halves(7, 300, 40000, 7, kind=np.uint16), [7, 300, 40000], None),
    ],
)
def test_values_become_classes_in_their_order(mask: Any, values: list[int], void: int | None) -> None:
    found = masked(mask)
    assert found.understood["mask_values"] == values and found.understood["mask_void"] == void
    assert found.mask_classes == len(values) and found.ignore_index == 255
    numbers = {value: at for at, value in enumerate(values)} | {255: values.index(255) if 255 in values else 255}
    assert found.fit.targets["mask"][0, 0].tolist() == [numbers[int(value)] for value in mask[0]]


def test_colours_are_classes() -> None:
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:, 8:] = (255, 0, 0)
    colours[8:] = (0, 0, 5)
    found = masked(Image.fromarray(colours))
    assert found.mask_classes == 3 and len(found.fit.targets["mask"].unique()) == 3


def test_the_value_that_is_no_class_can_be_said() -> None:
    found = masked(halves(0, 1, 11, 2), ignore_index=11)
    assert found.understood["mask_values"] == [0, 1, 2] and (found.fit.targets["mask"] == 255).any()


@pytest.mark.parametrize("void", [-1, 1])
def test_one_value_is_refused(void: int) -> None:
    mask = halves(0, 0) if void == -1 else halves(0, 1)
    with pytest.raises(UserError, match=r"masks have one value that is a class \(0.*two are needed.*one-mask-value"):
        masked(mask, ignore_index=void)


def smeared(quality: int) -> Image.Image:
    file, mask = BytesIO(), np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, 200, 0).astype(np.uint8)
    Image.fromarray(mask).save(file, "jpeg", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(("quality", "form"), [(50, "JPEG"), (85, "JPEG"), (100, "JPEG"), (50, "PNG"), (85, "PNG")])
def test_smeared_masks_are_refused_naming_their_values(quality: int, form: str) -> None:
    """Saved as JPEG, and perhaps as PNG after that."""
    values = Values()
    at_size(smeared(quality), 64, values, form)
    with pytest.raises(UserError, match=r"values \(0, 1.*smeared-masks"):
        mapped("x", values, PLAIN)


def test_many_classes_that_are_few_in_each_mask_are_classes() -> None:
    values = Values()
    for at in range(0, 150, 3):
        at_size(
            Image.fromarray(np.repeat(np.arange(at, at + 3, dtype=np.uint8), 5)[None].repeat(15, 0)), 15, values, "PNG"
        )
    assert mapped("x", values, PLAIN).classes == 150


def test_objects_by_number_are_refused() -> None:
    with pytest.raises(UserError, match="more than 256 values: they number objects"):
        masked(np.arange(400, dtype=np.uint16).reshape(20, 20), size=(20, 20))


@pytest.mark.parametrize("tag", [6, 3])
def test_an_image_that_its_tag_turns_beside_a_mask_without_one_is_refused(tag: int) -> None:
    image, mask = smooth(16, 24), Image.fromarray(np.eye(16, 24, dtype=np.uint8))
    image.getexif()[0x0112] = tag
    opener, masks = kept(image), kept(mask)
    found = listing(*[image] * 10, each=lambda at: {"mask": masks})
    with pytest.raises(UserError, match=r"image 0.*(once its orientation tag turns it|whether the mask is turned)"):
        loaded(found)
    assert opener().getexif()[0x0112] == tag


def test_an_image_and_its_mask_are_turned_together() -> None:
    mask = Image.fromarray(np.tri(16, 24, dtype=np.uint8))
    image = smooth(16, 24)
    for one in (image, mask):
        one.getexif()[0x0112] = 6
    opener = kept(mask)
    found = loaded(listing(*[image] * 10, each=lambda at: {"mask": opener}))
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(np.tri(16, 24, dtype=np.uint8), -1)))
    assert np.array_equal(
        found.fit.targets["mask"][0].numpy(), np.asarray(turned.resize((16, 16), Image.Resampling.NEAREST))
    )


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"image 0 is 16 x 16 px, and its mask 32 x 32.*mask-shapes"):
        masked(np.eye(32, dtype=np.uint8))
    assert masked(np.eye(32, dtype=np.uint8), allow=("mask-shapes",)).mask_classes == 2


def test_masks_with_values_between_whole_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="between whole numbers"):
        masked(np.full((16, 16), 0.5, np.float32))


def test_void_pixels_are_255_in_every_part() -> None:
    found = masked(halves(0, 1, 2, 255))
    for part in (found.fit, found.select, found.test):
        assert torch.equal(part.targets["mask"].unique(), torch.tensor([0, 1, 2, 255], dtype=torch.uint8))
