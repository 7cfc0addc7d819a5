"""Pixels: size, crop, colour, orientation, masks."""

from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssbench.data.decode import Opened, Sample, Samples, classes_at_size, decode, rgb, shorter_side, to_size, upright
from ssbench.errors import UserError
from ssbench.spec import DataSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)  # (H, W, 3)


def smooth(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    parts = [np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)]
    return Image.fromarray((np.stack(parts, 2) * 127 + 128).astype(np.uint8))


def samples(*opened: Opened) -> Samples:
    return Samples(len(opened), [Sample(f"k{i}", f"image {i}", lambda one=one: one) for i, one in enumerate(opened)])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("size", "side"), [((32, 32), 32), ((30, 99), 24), ((500, 375), 64), ((5, 5), 8), ((64, 66), 64), ((65, 63), 56)]
)
def test_the_own_size_is_the_shorter_side_at_most_64_in_steps_of_8(size: tuple[int, int], side: int) -> None:
    assert shorter_side(Image.new("RGB", size)) == side


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    square = PIXELS[:, :48]
    assert np.array_equal(to_size(Image.fromarray(square), 48, whole=False), square)
    assert np.array_equal(to_size(Image.fromarray(square), 48, whole=True), square)


def test_an_image_of_the_right_height_is_cropped_in_the_centre() -> None:
    assert np.array_equal(to_size(Image.fromarray(PIXELS), 48, whole=False), PIXELS[:, 24:72])


@pytest.mark.parametrize(("height", "width", "side"), [(120, 240, 40), (96, 160, 24), (20, 30, 60)])
def test_images_are_resized_by_the_shorter_side_then_cropped(height: int, width: int, side: int) -> None:
    image = smooth(height, width)
    wide = image.resize((round(width * side / height), side), Image.Resampling.BICUBIC)
    left = (wide.width - side) // 2
    slow = np.asarray(wide.crop((left, 0, left + side, side))).astype(int)
    error = np.abs(to_size(image, side, whole=False) - slow)
    assert error[:, 3:-3].max() <= 1, "but for the borders, where the crop is not seen beyond"
    assert error.max() < 30


def bicubic(size: int, side: int) -> NDArray[np.float64]:
    """Weights (side, size) of the antialiased cubic filter with a = -0.5, from its formula."""
    scale = max(size / side, 1)
    at = ((np.arange(side)[:, None] + 0.5) * size / side - np.arange(size) - 0.5) / scale
    x = np.abs(at)
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    return weights / weights.sum(1, keepdims=True)


def test_resizing_is_antialiased_and_bicubic() -> None:
    square = PIXELS[:, :48]
    expected = np.einsum("ah,hwc,bw->abc", bicubic(48, 16), square, bicubic(48, 16)).clip(0, 255)
    assert np.abs(to_size(Image.fromarray(square), 16, whole=False) - expected).max() <= 1.5


def test_the_whole_picture_counts_where_there_is_a_mask() -> None:
    expected = np.einsum("ah,hwc,bw->abc", bicubic(48, 24), PIXELS, bicubic(96, 24)).clip(0, 255)
    assert np.abs(to_size(Image.fromarray(PIXELS), 24, whole=True) - expected).max() <= 1.5


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_keep_their_values_and_are_squashed_by_nearest(mode: str) -> None:
    classes = np.random.default_rng(1).choice([0, 3, 7, 255], (48, 96)).astype(np.uint8)
    mask = Image.fromarray(classes)
    if mode == "P":  # values are indices into colours that mean nothing
        mask = Image.frombytes("P", mask.size, classes.tobytes())
        mask.putpalette(np.random.default_rng(2).integers(0, 256, 768, dtype=np.uint8).tobytes())
    rows, columns = (np.arange(16) * 2 + 1) * 48 // 32, (np.arange(16) * 2 + 1) * 96 // 32
    assert np.array_equal(classes_at_size(mask, 16), classes[rows][:, columns])


def test_bilevel_masks_are_classes_0_and_1() -> None:
    half = np.zeros((16, 16), bool)
    half[:, 8:] = True
    assert np.array_equal(classes_at_size(Image.fromarray(half), 16), half)


def test_masks_in_colour_are_refused() -> None:
    with pytest.raises(ValueError, match="mode RGB"):
        classes_at_size(Image.fromarray(PIXELS), 16)


def test_grey_images_become_rgb() -> None:
    grey = PIXELS[..., 0]
    assert np.array_equal(np.asarray(rgb(Image.fromarray(grey))), np.stack([grey] * 3, 2))


def test_16_bit_images_keep_their_range() -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    file = BytesIO()
    Image.fromarray(deep).save(file, "png")
    assert np.array_equal(np.asarray(rgb(Image.open(file)))[..., 0], deep // 256)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        rgb(Image.new(mode, (8, 8)))


@pytest.mark.parametrize(("tag", "turned"), [(1, PIXELS), (3, PIXELS[::-1, ::-1]), (6, np.rot90(PIXELS, -1))])
def test_the_orientation_tag_is_followed(tag: int, turned: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "png", exif=exif)
    assert np.array_equal(np.asarray(upright(Image.open(file))), turned)


def test_all_splits_have_the_size_of_the_first_image() -> None:
    first, other = Opened(smooth(40, 50), 0), Opened(smooth(90, 20), 1)
    source = decode("x", {"train": samples(first, other), "test": samples(other)}, ("a", "b"), DataSettings())
    train, test = source.splits["train"], source.splits["test"]
    assert train.images.shape == (2, 3, 40, 40) and test.images.shape == (1, 3, 40, 40)
    assert train.images.dtype == torch.uint8 and train.targets["label"].tolist() == [0, 1]
    assert torch.equal(train.images[1], test.images[0])
    expected = torch.from_numpy(to_size(smooth(40, 50), 40, whole=False)).permute(2, 0, 1)
    assert torch.equal(train.images[0], expected)


def test_the_size_asked_for_wins() -> None:
    source = decode("x", {"train": samples(Opened(smooth(40, 50)))}, (), DataSettings(image_size=20))
    assert source.splits["train"].images.shape == (1, 3, 20, 20)
    assert not source.splits["train"].targets


def test_mask_classes_count_up_to_the_largest_value_that_is_not_ignored() -> None:
    masks = [np.full((16, 16), value, np.uint8) for value in (0, 4, 11)]
    opened = [Opened(smooth(16, 16), None, Image.fromarray(mask)) for mask in masks]
    splits = {"train": samples(*opened[:1]), "test": samples(*opened[1:])}
    assert decode("x", splits, (), DataSettings(ignore_index=11)).mask_classes == 5
    source = decode("x", splits, (), DataSettings())
    assert source.mask_classes == 12
    assert torch.equal(source.splits["test"].targets["mask"], torch.from_numpy(np.stack(masks[1:])))


def test_unreadable_images_are_named_or_skipped() -> None:
    def broken() -> Opened:
        file = BytesIO()
        smooth(32, 32).save(file, "jpeg")
        return Opened(Image.open(BytesIO(file.getvalue()[:-20])), 1)

    good = samples(Opened(smooth(32, 32), 0), Opened(smooth(40, 40), 1)).each
    each = [*good, Sample("k2", "torn.jpg", broken)]
    splits = {"train": Samples(3, [each[2], each[0], each[1]])}
    with pytest.raises(UserError, match=r"x: torn.jpg can't be read: image file is truncated.*--on-bad-image skip"):
        decode("x", splits, ("a", "b"), DataSettings())
    source = decode("x", splits, ("a", "b"), DataSettings(on_bad_image="skip"))
    train = source.splits["train"]
    assert source.skipped == ("torn.jpg",) and train.keys == ("k0", "k1")
    assert train.images.shape == (2, 3, 32, 32) and train.targets["label"].tolist() == [0, 1]
    with pytest.raises(UserError, match="x has no image that can be read in the split train"):
        decode("x", {"train": Samples(1, each[2:])}, (), DataSettings(on_bad_image="skip"))
