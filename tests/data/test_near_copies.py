"""Copies are found after saving again, resizing, brightening, cutting, mirroring; look-alikes are not copies."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from ssbench.data.copies import copies, look, within
from ssbench.data.sources import shapes

FLOWERS = Path(__file__).parents[3] / "shared/data/flowers"
# Test images of flowers whose pixels correlate above 0.999 with a training image's; the next one has 0.89.
SAVED_AGAIN = {21, 23, 28, 30, 34, 46, 49, 51, 63, 64, 66, 68, 70, 72, 82, 84, 87, 91, 124, 128, 129, 133, 174}
# And those that are a training image mirrored or with another frame: pieces of all were matched at all places of all
# others, in a few scales and mirrored, and what correlated was looked at.
SAME_PHOTOGRAPH = SAVED_AGAIN | {0, 20, 24, 62, 67, 86, 93, 110, 116, 118, 184, 187, 195, 230, 231}


def photographs(count: int = 12, side: int = 96) -> Tensor:
    """Squares of scikit-learn's two photographs that do not overlap, uint8 (N, 3, side, side)."""
    whole = np.concatenate([image[:, :600] for image in load_sample_images().images])
    places = [(y, x) for y in range(0, 800, 200) for x in range(0, 600, 200)][:count]
    squares = [Image.fromarray(whole[y : y + 200, x : x + 200]).resize((side, side)) for y, x in places]
    return torch.stack([torch.from_numpy(np.array(square)).permute(2, 0, 1) for square in squares])


def each(images: Tensor, change) -> Tensor:  # type: ignore[no-untyped-def]
    changed = [change(Image.fromarray(image.permute(1, 2, 0).numpy())).convert("RGB") for image in images]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in changed])


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cut(image: Image.Image, share: float) -> Image.Image:
    side = image.width
    return image.resize((side, side), box=(side * share, side * share, side * (1 - share), side * (1 - share)))


CHANGES = {
    "saved at quality 75": lambda image: saved(image, 75),
    "saved at quality 50": lambda image: saved(image, 50),
    "smaller": lambda image: image.resize((48, 48)),
    "smaller and larger": lambda image: image.resize((48, 48)).resize((96, 96)),
    "brighter and flatter": lambda image: image.point(lambda value: value * 0.9 + 25),
    "a tenth darker": lambda image: image.point(lambda value: value * 0.9),
    "64 colours": lambda image: image.quantize(64),
    "cut by 2 % a side": lambda image: cut(image, 0.02),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_photograph_is_a_copy_of_its_own_and_of_no_other(name: str) -> None:
    images = photographs()
    assert copies(look(images), look(each(images, CHANGES[name]))).tolist() == [*range(len(images))]


def test_other_photographs_are_no_copies() -> None:
    images = photographs()
    assert copies(look(images[:6]), look(images[6:])).tolist() == [-1] * 6
    assert within(look(images)).tolist() == []


def test_pairs_within_some_images_are_named_once_and_in_order() -> None:
    images = photographs(4)
    some = torch.cat([images, each(images[1:3], CHANGES["saved at quality 75"]), images[:1]])
    assert within(look(some)).tolist() == [[0, 6], [1, 4], [2, 5]]


def test_of_several_copies_the_equal_one_is_named() -> None:
    images = photographs(3)
    seen = torch.cat([each(images, CHANGES["saved at quality 75"]), images])
    assert copies(look(seen), look(images)).tolist() == [3, 4, 5]


def test_a_grey_image_is_compared_with_grey_images_of_any_size() -> None:
    grey = photographs().float().mean(1, keepdim=True).to(torch.uint8)  # (N, 1, 96, 96)
    small = F.interpolate(grey.float(), (48, 48), mode="bicubic", antialias=True).clamp(0, 255).to(torch.uint8)
    assert copies(look(grey), look(small)).tolist() == [*range(len(grey))]


def test_constant_images_and_ramps_are_copies_only_when_equal() -> None:
    blank = torch.arange(0, 250, 10, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    ramps = torch.stack([torch.arange(0, 32 * step, step).expand(3, 32, 32) for step in range(1, 8)]).to(torch.uint8)
    for images in (blank, ramps):
        assert within(look(images)).tolist() == []
        assert copies(look(images), look(images)).tolist() == [*range(len(images))]
        assert copies(look(images), look(images + 1)).tolist() == [-1] * len(images)


def test_digits_of_different_writers_are_no_copies() -> None:
    digits = torch.from_numpy(load_digits().images[:600]).float()[:, None] * (255 / 16)
    images = F.interpolate(digits, (32, 32), mode="bicubic", antialias=True).clamp(0, 255).to(torch.uint8)
    assert len(within(look(images))) <= 1


def test_drawn_scenes_are_no_copies_of_each_other() -> None:
    train, test = (look(torch.from_numpy(shapes.draw(split, 300).images)) for split in ("train", "test"))
    assert copies(train, test).tolist() == [-1] * 300


def test_of_flowers_every_image_saved_again_is_found_and_no_other_photograph() -> None:
    if not FLOWERS.is_dir():
        pytest.skip(f"{FLOWERS} is not there")
    seen, judged = (look(flowers(split, 64)) for split in ("train", "test"))
    found = {i for i, source in enumerate(copies(seen, judged).tolist()) if source >= 0}
    assert found >= SAVED_AGAIN | {0}  # recall 1; image 0 is mirrored
    assert found <= SAME_PHOTOGRAPH  # precision 1


def flowers(split: str, side: int) -> Tensor:
    from pyarrow.parquet import read_table

    column = read_table(FLOWERS / f"{split}.parquet", columns=["image"]).column("image").to_pylist()
    images = [Image.open(io.BytesIO(entry["bytes"])).convert("RGB").resize((side, side)) for entry in column]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
