"""Each corruption against what Pillow, SciPy, colorsys or a slow loop make of the same image."""

import colorsys
import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ssbench.tasks import corruptions
from ssbench.tasks.corruptions import FAMILIES, KINDS, OPERATIONS, SEVERITIES, STRENGTHS, corrupt


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(size: int, count: int = 2, channels: int = 3) -> Tensor:
    """Parts of a photograph, uint8 (count, channels, size, size)."""
    from sklearn.datasets import load_sample_image

    whole = Image.fromarray(load_sample_image("china.jpg"))
    parts = [whole.crop((100 * i, 40, 100 * i + 300, 340)).resize((size, size)) for i in range(count)]
    return torch.stack([torch.from_numpy(np.array(part)).permute(2, 0, 1)[:channels] for part in parts])


def applied(kind: str, x: Tensor, *values: float, scale: float = 1) -> Tensor:
    return OPERATIONS[kind](x, values, scale, random())


def test_the_fifteen_kinds_are_of_four_families_with_five_strengths_for_two_sizes() -> None:
    assert len(KINDS) == 15 and set(KINDS) == set(STRENGTHS) == set(OPERATIONS)
    assert [len(kinds) for kinds in FAMILIES.values()] == [3, 4, 4, 4]
    assert all(len(table) == 5 for tables in STRENGTHS.values() for table in tables)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "channels"), [(8, 3), (17, 1), (32, 2), (96, 3)])
def test_images_stay_images(kind: str, size: int, channels: int) -> None:
    images = photograph(size, 2, channels)
    before = images.clone()
    for severity in SEVERITIES:
        seen = corrupt(images, kind, severity, random())
        assert seen.shape == images.shape and seen.dtype == torch.uint8
    assert torch.equal(images, before), "the images themselves are left alone"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_images_and_another_others_where_there_is_chance(kind: str) -> None:
    images = photograph(32, 3)
    assert torch.equal(corrupt(images, kind, 3, random()), corrupt(images, kind, 3, random()))
    chance = kind not in ("defocus", "zoom", "brightness", "contrast", "pixelate", "jpeg")
    assert torch.equal(corrupt(images, kind, 3, random()), corrupt(images, kind, 3, random(1))) is not chance


RISING = [kind for kind in KINDS if kind not in ("glass", "elastic", "frost")]  # theirs don't, in the original neither


@pytest.mark.parametrize("kind", RISING)
@pytest.mark.parametrize("size", [32, 128])
def test_a_higher_severity_is_further_from_the_image(kind: str, size: int) -> None:
    images = photograph(size, 4)
    away = [
        (corrupt(images, kind, severity, random()).float() - images).square().mean().item() for severity in SEVERITIES
    ]
    assert away[0] > 0.5 and away[4] > 1.2 * away[0]
    if kind not in ("snow", "fog", "pixelate"):  # these overlap where flakes, mist or blocks fall otherwise
        assert all(b > 0.98 * a for a, b in pairwise(away)), away


NOTHING = {
    "gaussian": (0,),
    "impulse": (0,),
    "defocus": (0, 0.1),
    "motion": (0, 1),
    "zoom": (1.005, 0.01),
    "snow": (0, 0, 1, 0.5, 0, 1, 1),
    "frost": (1, 0),
    "fog": (0, 2),
    "brightness": (0,),
    "contrast": (1,),
    "elastic": (0, 0, 0),
    "pixelate": (1,),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_strength_of_nothing_leaves_the_image(kind: str) -> None:
    x = photograph(32).float() / 255
    torch.testing.assert_close(applied(kind, x, *NOTHING[kind]), x, atol=2e-4, rtol=0)


def test_images_from_85_px_on_have_the_strengths_of_imagenet_c_and_smaller_ones_those_of_cifar_10_c() -> None:
    for size, left in ((84, 0.75), (85, 0.4)):
        images = photograph(size).float()
        mean = images.mean((2, 3), keepdim=True)
        expected = mean + left * (images - mean)
        torch.testing.assert_close(corrupt(images.byte(), "contrast", 1, random()).float(), expected, atol=0.6, rtol=0)


def test_lengths_grow_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def remember(x: Tensor, values: tuple[float, ...], scale: float, generator: torch.Generator) -> Tensor:
        seen.append(scale)
        return x

    monkeypatch.setitem(OPERATIONS, "motion", remember)
    for size in (16, 32, 64, 112, 224):
        corrupt(torch.zeros(1, 3, size, size, dtype=torch.uint8), "motion", 1, random())
    assert seen == [0.5, 1, 2, 0.5, 1]


def test_noise_has_its_mean_and_deviation() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    noise = applied("gaussian", grey, 0.08)
    assert noise.mean().item() == pytest.approx(0.5, abs=2e-3) and noise.std().item() == pytest.approx(0.08, rel=0.02)
    photons = applied("shot", grey, 12)
    assert photons.mean().item() == pytest.approx(0.5, abs=5e-3)
    assert photons.var().item() == pytest.approx(0.5 / 12, rel=0.03)  # Poisson: 6 photons of 12, variance 6
    assert torch.equal((photons * 12).round() / 12, photons)
    flipped = applied("impulse", grey, 0.2)
    assert (flipped == 1).float().mean().item() == pytest.approx(0.1, abs=5e-3)
    assert (flipped == 0).float().mean().item() == pytest.approx(0.1, abs=5e-3)
    assert (flipped == 0.5).float().mean().item() == pytest.approx(0.8, abs=5e-3)


@pytest.mark.parametrize(("radius", "soft", "edge"), [(3, 0.1, 1), (6.4, 0.5, 1), (10, 0.5, 2)])
def test_defocus_is_a_convolution_with_a_disc(radius: float, soft: float, edge: int) -> None:
    x = photograph(48).float() / 255
    away = np.hypot(*np.mgrid[-14:15, -14:15])
    kernel = ndimage.gaussian_filter((away <= radius).astype(float), soft, mode="constant", radius=edge)
    expected = ndimage.convolve(x.numpy(), kernel[None, None] / kernel.sum(), mode="mirror")
    np.testing.assert_allclose(applied("defocus", x, radius, soft), expected, atol=1e-4)


def test_glass_moves_pixels_as_far_as_a_loop_over_pixels() -> None:
    size, reach, rounds = 64, 2, 3
    at = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")).repeat(8, 1, 1, 1)
    slow, drawn = at[:2].numpy().copy(), np.random.default_rng(0)
    for image in slow:
        for _ in range(rounds):
            for row in range(size - reach, reach, -1):
                for column in range(size - reach, reach, -1):
                    right, down = drawn.integers(-reach, reach, 2)
                    image[:, row, column] = image[:, row + down, column + right]
    moved = (applied("glass", at, 1e-9, reach, rounds) - at)[..., 16:48, 16:48]
    expected = (slow - at[:2].numpy())[..., 16:48, 16:48]
    np.testing.assert_allclose(moved.mean((0, 2, 3)), expected.mean((0, 2, 3)), atol=0.5)
    np.testing.assert_allclose(moved.std((0, 2, 3)), expected.std((0, 2, 3)), rtol=0.12)


def test_glass_blurs_before_and_after_and_leaves_the_border_in_place() -> None:
    x = photograph(32).float() / 255
    blurred = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="nearest")
    twice = ndimage.gaussian_filter(blurred, (0, 0, 1.5, 1.5), mode="nearest")
    np.testing.assert_allclose(applied("glass", x, 1.5, 1, 0), twice, atol=1e-4)
    np.testing.assert_array_equal(applied("glass", x, 1e-9, 2, 1)[..., :3], x[..., :3])


@pytest.mark.parametrize("angle", [-0.7, 0, 0.5])
def test_a_streak_is_the_sum_of_shifted_copies(angle: float) -> None:
    x, sigma, radius = photograph(24).float() / 255, 3.0, 5
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    expected = np.zeros_like(x.numpy())
    for step, weight in enumerate(weights / weights.sum()):
        rows = np.clip(np.arange(24) + math.ceil(step * math.sin(angle) - 0.5), 0, 23)
        columns = np.clip(np.arange(24) + math.ceil(step * math.cos(angle) - 0.5), 0, 23)
        expected += weight * x.numpy()[:, :, rows[:, None], columns]
    found = corruptions.streak(x, radius, sigma, torch.full((2,), angle))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.3, 2.5])
def test_enlarging_agrees_with_scipy(factor: float) -> None:
    x = photograph(40).float() / 255
    inner = math.ceil(40 / factor)
    start = (40 - inner) // 2
    middle = x.numpy()[..., start : start + inner, start : start + inner]
    wide = ndimage.zoom(middle, (1, 1, factor, factor), order=1)
    cut = (wide.shape[-1] - 40) // 2
    np.testing.assert_allclose(corruptions.enlarged(x, factor), wide[..., cut : cut + 40, cut : cut + 40], atol=1e-5)


def test_zoom_is_the_mean_of_the_image_and_its_enlargements() -> None:
    x = photograph(40).float() / 255
    expected = (x + sum(corruptions.enlarged(x, factor) for factor in (1.0, 1.1, 1.2))) / 4
    torch.testing.assert_close(applied("zoom", x, 1.25, 0.1), expected)


def test_snow_whitens_and_falls_along_a_streak_in_both_directions() -> None:
    x = torch.zeros(4, 3, 64, 64)
    flakes = applied("snow", x, 0.1, 0.3, 1, 0.6, 5, 2, 1.0)
    assert torch.equal(flakes, flakes.rot90(2, (2, 3))) and torch.equal(flakes[:, 0], flakes[:, 2])
    assert 0.01 < flakes.mean() < 0.3
    pale = applied("snow", x, -9, 0, 1, 0.6, 5, 2, 0.7)  # no flakes: black gets three tenths of one half
    torch.testing.assert_close(pale, torch.full_like(x, 0.15))


def test_frost_is_drawn_as_bright_as_the_photographs_it_stands_for_and_bluish() -> None:
    pictures = torch.cat([corruptions.ice(128, random(seed)) for seed in range(8)])
    assert 0.45 < pictures.mean() < 0.65  # the photographs: 0.35 to 0.81 of 1
    assert 0.06 < pictures.std((1, 2)).mean() < 0.2  # 0.07 to 0.17
    channels = applied("frost", torch.zeros(20, 3, 64, 64), 1, 0.5).mean((0, 2, 3))
    assert channels[0] < channels[1] < channels[2]


def test_fog_is_a_height_map_that_is_rough_where_octaves_decay_slowly() -> None:
    smooth, rough = (corruptions.plasma(8, 50, decay, random()) for decay in (3, 1.4))
    for mist in (smooth, rough):
        assert mist.shape == (8, 50, 50) and mist.min() >= 0 and mist.max() <= 1
    assert rough.diff(dim=1).square().mean() > 4 * smooth.diff(dim=1).square().mean()
    whole = corruptions.plasma(3, 64, 2, random())
    torch.testing.assert_close(whole.amin((1, 2)), torch.zeros(3))
    torch.testing.assert_close(whole.amax((1, 2)), torch.ones(3))
    flat = corruptions.plasma(1, 16, 1e6, random())[0]  # one octave alone: the rest are means, going round
    torch.testing.assert_close(flat[4, 4], (flat[0, 0] + flat[0, 8] + flat[8, 0] + flat[8, 8]) / 4)
    torch.testing.assert_close(flat[0, 12], (flat[0, 8] + flat[0, 0] + flat[4, 12] + flat[12, 12]) / 4)
    x = photograph(32).float() / 255
    assert (applied("fog", x, 2, 2).amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-6).all()


def test_brightness_raises_the_value_of_hsv() -> None:
    x = photograph(8).float() / 255
    x[0, :, 0, 0] = 0
    seen = applied("brightness", x, 0.3)
    for image, changed in zip(x.flatten(2), seen.flatten(2)):
        for before, after in zip(image.T.tolist(), changed.T.tolist()):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1)), abs=1e-5)


def test_elastic_corners_move_and_smooth_steps_agree_with_scipy() -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (40, 40))
    for sigma, truncate, mode in ((3.2, 3, "reflect"), (28, 3, "reflect"), (0.7, 4, "nearest")):
        blur = corruptions.bell(40, sigma, truncate, mode).double().numpy()
        expected = ndimage.gaussian_filter(noise, sigma, mode=mode, truncate=truncate)
        np.testing.assert_allclose(blur @ noise @ blur.T, expected, atol=1e-6)
    slope = torch.arange(64.0).expand(1, 1, 64, 64) / 64
    turned = applied("elastic", slope, 0, 0, 0.02, scale=2)  # lengths of 64 px
    inner = turned[0, 0, 8:56, 8:56]
    assert inner.diff(n=2, dim=0).abs().max() < 1e-4, "an affine map keeps a slope straight"
    assert 1e-3 < (inner - slope[0, 0, 8:56, 8:56]).abs().max() < 4 * 0.02


@pytest.mark.parametrize(("size", "share"), [(32, 0.95), (32, 0.65), (100, 0.3), (224, 0.6)])
def test_pixelate_agrees_with_pillow(size: int, share: float) -> None:
    images = photograph(size)
    few = int(size * share)
    for image, seen in zip(images, applied("pixelate", images.float() / 255, share)):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        small = picture.resize((few, few), Image.Resampling.BOX).resize((size, size), Image.Resampling.BOX)
        np.testing.assert_allclose(255 * seen.permute(1, 2, 0), np.asarray(small), atol=1.01)


@pytest.mark.parametrize("quality", [80, 25, 7])
def test_jpeg_agrees_with_pillow(quality: int) -> None:
    images = photograph(64)
    for image, seen in zip(images, applied("jpeg", images.float() / 255, quality)):
        coded = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(coded, "JPEG", quality=quality)
        expected = np.asarray(Image.open(coded)).astype(float)
        assert np.abs(255 * seen.permute(1, 2, 0).numpy() - expected).mean() < 1
