"""Pixels: size, crop, colour, depth, transparency, orientation, what crops are cut from; masks: values, shapes."""

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
from ssbench.data.masks import Values, at_size, mapped
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


def kept(image: Any, tail: bytes = b"") -> Callable[[], Any]:
    """An opener of what was drawn: an array as it is, an image out of a file, as it would lie on a disk.

    With a tail of its own, a file differs from others of the same pixels.
    """
    if not isinstance(image, Image.Image):
        return lambda: image
    file = BytesIO()
    image.save(file, "tiff" if image.mode in "IF" else "png", **({"exif": image.getexif()} if image.getexif() else {}))
    return lambda: Image.open(BytesIO(file.getvalue() + tail))


def listing(*images: Any, each: Callable[[int], dict[str, Any]] = lambda at: {}, **words: Any) -> Listing:
    """All in train; enough of them that they can be split."""
    found = [
        Sample(str(at), f"image {at}", kept(image, str(at).encode()), **each(at)) for at, image in enumerate(images)
    ]

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


@pytest.mark.parametrize(("kind", "low", "step"), [("uint16", 700, 4), ("int32", -1000, 7), ("float32", 0.25, 0.001)])
def test_deep_images_have_one_scale_from_their_own_range(kind: str, low: float, step: float) -> None:
    ramp = np.arange(256).reshape(16, 16)
    images: list[Any] = [(low + step * (ramp // 2 + 128 * (i % 2))).astype(kind) for i in range(20)]
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
    image = Image.fromarray(np.tile(np.array([0, 1], np.uint8), (16, 8)), "P")
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
    monkeypatch.setattr("ssbench.data.sources.folder.read", None)
    again = data.load(f"folder:{photos}", PLAIN, ref)
    assert torch.equal(first.fit.images, again.fit.images) and first.fit.keys == again.fit.keys
    assert first.understood == again.understood and first.roles == again.roles and first.classes == again.classes
    with pytest.raises(TypeError):  # other settings are other images
        data.load(
            f"folder:{photos}",
            DataSettings(image_size=8),
            data.identify(f"folder:{photos}", DataSettings(image_size=8)),
        )


# --- masks ------------------------------------------------------------------------------------------------------------


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


def test_an_image_without_a_mask_beside_others_with_one_is_named_or_skipped() -> None:
    mask = kept(Image.fromarray(halves(0, 1)))
    images = [smooth(16, 16, at) for at in range(20)]
    found = listing(*images, each=lambda at: {"mask": mask} if at else {})
    with pytest.raises(UserError, match="image 0 can't be read: it has no mask, and others have"):
        loaded(found)
    assert loaded(found, DataSettings(on_bad_image="skip")).skipped == ("image 0",)


def test_masks_with_values_between_whole_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="between whole numbers"):
        masked(np.full((16, 16), 0.5, np.float32))


def test_void_pixels_are_255_in_every_part() -> None:
    found = masked(halves(0, 1, 2, 255))
    for part in (found.fit, found.select, found.test):
        assert torch.equal(part.targets["mask"].unique(), torch.tensor([0, 1, 2, 255], dtype=torch.uint8))
