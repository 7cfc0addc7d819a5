"""Pixels: size, crop, colour, depth, transparency, orientation, what is kept larger for crops."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssbench import data
from ssbench.data import stored
from ssbench.data.listing import Box, Listing, Sample, Samples
from ssbench.data.pixels import Pixels, bytes_of, to_size, upright
from ssbench.data.survey import survey
from ssbench.errors import UserError
from ssbench.spec import DataRef, DataSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)  # (H, W, 3)
PLAIN = DataSettings()
RGB = Pixels(3, 16)


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    parts = [np.sin(x / 5 + seed), np.cos(y / 7), np.sin((x + y) / 9)]
    return Image.fromarray((np.stack(parts, 2) * 127 + 128).astype(np.uint8))


def kept(image: Any) -> Callable[[], Any]:
    """An opener of what was drawn: an array as it is, an image out of a file, as it would lie on a disk."""
    if not isinstance(image, Image.Image):
        return lambda: image
    file = BytesIO()
    image.save(file, "tiff" if image.mode in "IF" else "png", **({"exif": image.getexif()} if image.getexif() else {}))
    return lambda: Image.open(BytesIO(file.getvalue()))


def listing(*images: Any, each: Callable[[int], dict[str, Any]] = lambda at: {}, **words: Any) -> Listing:
    """All in train; enough of them that they can be split."""
    found = [Sample(str(at), f"image {at}", kept(image), **each(at)) for at, image in enumerate(images)]

    def go() -> Iterator[Sample]:
        return iter(found)

    return Listing("x", {"train": Samples(len(found), go)}, **words)


def loaded(found: Listing, settings: DataSettings = PLAIN) -> data.Dataset:
    """Surveyed, split, decoded."""
    room = stored.begin("made")
    story = data._decoded(found, settings, room, lambda text: None)
    folder = stored.finish(room, "made" + room.folder.name, story)
    return data._assembled(DataRef(name="x", fingerprint="0", settings={}), *stored.read(folder))


def every(found: data.Dataset) -> torch.Tensor:
    """All images in the order of their keys."""
    parts = (found.fit, found.select, found.test)
    images = torch.cat([part.images for part in parts])
    order = sorted(range(len(images)), key=lambda at: int([key for part in parts for key in part.keys][at]))
    return images[order]


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(32, 32)], 32),
        ([(30, 99)], 24),
        ([(500, 375)], 224),
        ([(64, 66)], 64),
        ([(65, 63)], 56),
        ([(9, 9), (64, 64), (64, 80)], 64),
        ([(640, 480), (640, 480), (16, 16)], 224),
    ],
)
def test_the_size_is_the_median_of_the_shorter_sides_at_most_224_in_steps_of_8(
    sizes: list[tuple[int, int]], side: int
) -> None:
    assert survey(listing(*(Image.new("RGB", size) for size in sizes)), PLAIN).pixels.size == side


def test_most_images_of_fewer_than_8_px_are_refused() -> None:
    with pytest.raises(UserError, match=r"fewer than 8 px.*tiny-images"):
        survey(listing(Image.new("RGB", (5, 5))), PLAIN)
    assert survey(listing(Image.new("RGB", (5, 5))), DataSettings(image_size=16)).pixels.size == 16


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    square = PIXELS[:, :48]
    for whole in (True, False):
        assert np.array_equal(to_size([Image.fromarray(square)], 48, whole), square.transpose(2, 0, 1))


def test_an_image_of_the_right_height_is_cropped_in_the_centre() -> None:
    assert np.array_equal(to_size([Image.fromarray(PIXELS)], 48, whole=False), PIXELS[:, 24:72].transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width", "side"), [(120, 240, 40), (96, 160, 24), (20, 30, 60)])
def test_images_are_resized_by_the_shorter_side_then_cropped(height: int, width: int, side: int) -> None:
    image = smooth(height, width)
    wide = image.resize((round(width * side / height), side), Image.Resampling.BICUBIC)
    left = (wide.width - side) // 2
    slow = np.asarray(wide.crop((left, 0, left + side, side))).astype(int).transpose(2, 0, 1)
    error = np.abs(to_size([image], side, whole=False) - slow)
    assert error[:, :, 3:-3].max() <= 1, "but for the borders, where the crop is not seen beyond"
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
    expected = np.einsum("ah,hwc,bw->cab", bicubic(48, 16), square, bicubic(48, 16)).clip(0, 255)
    assert np.abs(to_size([Image.fromarray(square)], 16, whole=False) - expected).max() <= 1.5


def test_the_whole_picture_counts_where_there_is_a_mask() -> None:
    expected = np.einsum("ah,hwc,bw->cab", bicubic(48, 24), PIXELS, bicubic(96, 24)).clip(0, 255)
    assert np.abs(to_size([Image.fromarray(PIXELS)], 24, whole=True) - expected).max() <= 1.5


def test_grey_images_are_one_channel_unless_others_have_colour() -> None:
    grey = Image.fromarray(PIXELS[:, :48, 0])
    assert loaded(listing(*[grey] * 10)).fit.images.shape[1] == 1
    mixed = loaded(listing(*[grey] * 10, smooth(48, 48)))
    assert mixed.fit.images.shape[1] == 3 and torch.equal(mixed.fit.images[0, 0], mixed.fit.images[0, 2])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32], ids=["12 bit in 16", "signed 32 bit", "float"])
def test_deep_images_have_one_scale_from_their_own_range(kind: type) -> None:
    low = {np.uint16: 700, np.int32: -1000, np.float32: 0.25}[kind]
    step = {np.uint16: 4, np.int32: 7, np.float32: 0.001}[kind]
    ramp = np.arange(256).reshape(16, 16)
    images = [(low + step * (ramp // 2 + 128 * (i % 2))).astype(kind) for i in range(20)]  # each has half of the range
    found = loaded(listing(*map(Image.fromarray, images)))
    levels = every(found)[:, 0].long()
    assert len(levels[0].unique()) > 120 and int(levels[0].max()) < int(levels[1].min()) + 3
    assert found.understood["scale"][0] == pytest.approx(low, abs=2 * step)
    assert found.fit.images.shape[1] == 1


def test_a_dead_pixel_does_not_take_the_scale() -> None:
    image = np.full((64, 64), 1000, np.uint16)
    image[:, 32:] = 1200
    image[0, 0] = 65535
    found = loaded(listing(*[Image.fromarray(image)] * 10))
    assert found.understood["scale"] == [1000, 1200]


def test_deep_images_beside_others_are_refused_unless_meant() -> None:
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16))
    with pytest.raises(UserError, match="mixed-depth"):
        survey(listing(deep, Image.new("L", (16, 16))), PLAIN)


def test_values_0_and_1_are_seen() -> None:
    image = np.zeros((16, 16), np.uint8)
    image[:, 8:] = 1
    found = loaded(listing(*[Image.fromarray(image)] * 10))
    assert found.fit.images.unique().tolist() == [0, 255] and found.understood["scale"] == [0, 1]


def test_black_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"10 of 10 images have one value.*blank-images"):
        loaded(listing(*[Image.new("RGB", (16, 16))] * 10))


def test_transparency_is_laid_on_grey() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[4:12, 4:12, 3] = 255
    found = loaded(listing(*[Image.fromarray(ink)] * 10))
    assert found.fit.images.shape[1] == 3 and found.fit.images[0].unique().tolist() == [0, 128]


def test_a_palette_with_a_transparent_colour_is_laid_on_grey() -> None:
    image = Image.fromarray(np.tile(np.uint8([0, 1]), (16, 8)), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = 0
    assert np.unique(np.asarray(bytes_of(image, RGB)[0])).tolist() == [128, 255]


def test_a_fourth_channel_of_data_is_kept() -> None:
    bands = np.random.default_rng(0).integers(1, 255, (10, 16, 16, 4), dtype=np.uint8)
    found = loaded(listing(*map(Image.fromarray, bands)))
    assert torch.equal(every(found), torch.from_numpy(bands).permute(0, 3, 1, 2))


@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_bands_is_read(count: int) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (10, 16, 16, count), dtype=np.uint8)
    found = loaded(listing(*bands))
    assert torch.equal(every(found), torch.from_numpy(bands).permute(0, 3, 1, 2))


def test_deep_bands_have_one_scale() -> None:
    bands = np.random.default_rng(0).integers(0, 3000, (10, 16, 16, 5)).astype(np.uint16)
    found = loaded(listing(*bands))
    assert found.fit.images.shape[1] == 5 and 1 < found.fit.images.float().std() < 80
    assert found.fit.images.max() == 255


def test_images_that_differ_in_their_bands_are_refused() -> None:
    with pytest.raises(UserError, match="differ in their bands"):
        survey(listing(np.zeros((8, 8, 5), np.uint8), np.zeros((8, 8, 6), np.uint8)), PLAIN)


@pytest.mark.parametrize(("tag", "turned"), [(1, PIXELS), (3, PIXELS[::-1, ::-1]), (6, np.rot90(PIXELS, -1))])
def test_the_orientation_tag_is_followed(tag: int, turned: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "png", exif=exif)
    assert np.array_equal(np.asarray(upright(Image.open(file))), turned)


def test_crops_are_cut_from_a_larger_image_where_originals_are_larger() -> None:
    images = [smooth(90, 120, at) for at in range(20)]
    found = loaded(listing(*images), DataSettings(image_size=32))
    assert found.fit.larger is not None and found.fit.larger.shape[1:] == (3, 64, 64)
    assert found.select.larger is None and found.fit.images.shape[-1] == 32
    first = images[int(found.fit.keys[0])]
    assert torch.equal(found.fit.larger[0], torch.from_numpy(to_size([first], 64, whole=False)))
    assert loaded(listing(*images), DataSettings(image_size=80)).fit.crops.shape[-1] == 90
    assert loaded(listing(*images), DataSettings(image_size=32, store_size=32)).fit.larger is None
    assert loaded(listing(*images)).fit.crops.shape[-1] == 90, "its own, though it is no multiple of 8"


def test_boxes_are_in_pixels_of_the_image_that_is_read() -> None:
    boxes = {"boxes": [Box(10, 20, 30, 40, "cat"), Box(0, 0, 80, 40, "dog")]}
    found = loaded(listing(*[smooth(40, 80)] * 10, each=lambda at: boxes if at else {"boxes": []}))
    assert found.box_classes == ("cat", "dog") and found.size == 40
    row = found.fit.keys.index(next(key for key in found.fit.keys if key != "0"))
    assert found.fit.targets["boxes"][row].tolist() == [[5, 20, 15, 40, 0], [0, 0, 40, 40, 1]]


def test_numbers_and_groups_go_with_their_images() -> None:
    def each(at: int) -> dict[str, Any]:
        return {"numbers": (at, -at), "group": f"g{at // 2}"}

    found = loaded(listing(*[smooth(16, 16, at) for at in range(20)], each=each, numbers=("a", "b")))
    keys = torch.tensor([int(key) for key in found.test.keys]).float()
    assert torch.equal(found.test.targets["factors"], torch.stack([keys, -keys], 1)) and found.factors == ("a", "b")
    assert found.test.groups == tuple(f"g{int(key) // 2}" for key in found.test.keys)


def test_several_labels_are_a_table() -> None:
    labels = [["night"], ["cat", "night"], ["dog"]]
    found = loaded(listing(*[smooth(16, 16, at) for at in range(30)], each=lambda at: {"label": labels[at % 3]}))
    assert found.targets == {"labels"} and found.classes == ("cat", "dog", "night")
    expected = {0: [0, 0, 1], 1: [1, 0, 1], 2: [0, 1, 0]}
    assert found.fit.targets["labels"].tolist() == [expected[int(key) % 3] for key in found.fit.keys]


def test_unreadable_images_are_named_or_skipped() -> None:
    file = BytesIO()
    smooth(32, 32).save(file, "jpeg")
    torn = Sample("torn", "torn.jpg", lambda: Image.open(BytesIO(file.getvalue()[:-20])), 1)
    none = Sample("none", "none.jpg", lambda: Image.open(BytesIO(b"")), 1)
    good = [
        *listing(*[smooth(32, 32, at) for at in range(20)], each=lambda at: {"label": at % 2}).splits["train"].each()
    ]
    for bad, text in ((torn, "torn.jpg can't be read: image file is truncated"), (none, "none.jpg can't be read")):
        each = [bad, *good]
        found = Listing("x", {"train": Samples(21, lambda each=each: iter(each))})  # type: ignore[misc]
        with pytest.raises(UserError, match=rf"x: {text}.*--on-bad-image skip"):
            loaded(found)
        kept_ = loaded(found, DataSettings(on_bad_image="skip"))
        assert kept_.skipped == (bad.name,)
        assert len(kept_.fit) + len(kept_.select) + len(kept_.test) == 20


def test_what_was_decoded_is_not_decoded_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = data.identify(f"folder:{photos}", PLAIN)
    first = data.load(f"folder:{photos}", PLAIN, ref)
    monkeypatch.setattr("ssbench.data.folder.read", None)
    again = data.load(f"folder:{photos}", PLAIN, ref)
    assert torch.equal(first.fit.images, again.fit.images) and first.fit.keys == again.fit.keys
    assert first.understood == again.understood and first.roles == again.roles and first.classes == again.classes
    with pytest.raises(TypeError):  # other settings are other images
        data.load(
            f"folder:{photos}",
            DataSettings(image_size=8),
            data.identify(f"folder:{photos}", DataSettings(image_size=8)),
        )
