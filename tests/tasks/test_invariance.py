"""Invariance of encoders of which it is known what they don't see."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks import invariance
from ssbench.tasks.invariance import Invariance, augmented, names

Evaluated = Callable[..., tuple[Outcome, dict[str, float]]]


def scenes(channels: int = 3) -> Tensor:
    from ssbench.data.sources.shapes import draw

    return torch.from_numpy(draw("train", 90, 16).images)[:, :channels]


@pytest.fixture
def evaluated(make_bench: Callable[..., Bench], reads: Callable[..., Encoder]) -> Evaluated:
    """`evaluated(read)`: the outcome for an encoder that gives what `read` reads out of pixels, and its profile."""

    def evaluate(read: Callable[[Tensor], Tensor], channels: int = 3) -> tuple[Outcome, dict[str, float]]:
        table = make_bench(scenes(channels), {}, (30, 20, 40), reads(read, channels))
        found = Invariance(Invariance.Settings()).evaluate(table)
        return found, found.details["profile"]["augmentation"]

    return evaluate


def pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def test_symmetric_pixels_do_not_move_under_the_mirror_and_do_under_all_else(evaluated: Evaluated) -> None:
    found, profile = evaluated(lambda x: pixels(x + x.flip(3)))
    assert profile["flip"] == pytest.approx(100, abs=1e-3)
    assert all(value < 99.5 for name, value in profile.items() if name != "flip")
    assert score("mean", found.arrays["invariance"]) == pytest.approx(sum(profile.values()) / len(profile), abs=1e-3)
    assert list(profile) == names(3) == [point["augmentation"] for point in found.sweep] and len(profile) == 13


def test_grey_pixels_do_not_see_that_colour_went(evaluated: Evaluated) -> None:
    def grey(x: Tensor) -> Tensor:
        return pixels(x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).unflatten(1, (3, -1)).sum(1)

    profile = evaluated(grey)[1]
    assert profile["grey"] > 99.5 > profile["noise"]


def test_turned_means_do_not_see_a_quarter_turn(evaluated: Evaluated) -> None:
    profile = evaluated(lambda x: x.mean((2, 3)))[1]
    for name in ("flip", "upside down", "quarter turn"):
        assert profile[name] == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize(("value", "left"), [(0, 0), (3.7, 0), (3.7, 1e-8)])
def test_a_collapsed_encoder_is_not_invariant(evaluated: Evaluated, value: float, left: float) -> None:
    found, profile = evaluated(lambda x: value + left * pixels(x))
    assert set(profile.values()) == {0.0} and score("mean", found.arrays["invariance"]) == 0


def test_features_that_forget_the_image_are_at_zero(evaluated: Evaluated) -> None:
    """A hash of the pixels: an image and its changed self are as far apart as two images."""

    def hashed(x: Tensor) -> Tensor:
        seeds = (x * 255).round().flatten(1) @ torch.arange(1.0, x[0].numel() + 1) % 100_003
        return torch.stack([torch.randn(512, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])

    profile = evaluated(hashed)[1]
    del profile["solarise"], profile["blur"]  # a dark image has nothing to solarise, and a blur may be none
    assert all(abs(value) < 8 for value in profile.values()), profile


def test_it_is_one_less_the_ratio_of_squared_distances(evaluated: Evaluated) -> None:
    profile = evaluated(pixels)[1]
    images = scenes()
    x = pixels(images / 255).double()
    centred = x - x[:30].mean(0)
    own = (centred / centred.norm(dim=1, keepdim=True))[50:]
    other = pixels(images[50:].flip(3) / 255).double() - x[:30].mean(0)
    other = other / other.norm(dim=1, keepdim=True)
    pairs = torch.cdist(own, own).square()
    expected = 100 * (1 - (own - other).square().sum(1).mean() / (pairs.sum() / (40 * 39)))
    assert profile["flip"] == pytest.approx(expected.item(), abs=0.01)


def test_scale_and_place_of_the_features_do_not_matter(evaluated: Evaluated) -> None:
    plain, moved = (evaluated(lambda x, a=a, b=b: a * pixels(x) + b)[1] for a, b in ((1, 0), (20, 5)))
    for name, value in plain.items():
        assert moved[name] == pytest.approx(value, abs=0.05)


def test_one_channel_has_no_hue(evaluated: Evaluated) -> None:
    profile = evaluated(pixels, channels=1)[1]
    assert not {"hue", "grey"} & profile.keys() and len(profile) == 11


@pytest.mark.parametrize("name", names(3))
def test_augmented_images_are_others_of_the_same_shape_and_repeat(name: str) -> None:
    images = scenes()[:5]
    seen, again = (augmented(images, name, torch.Generator().manual_seed(0)) for _ in range(2))
    assert seen.shape == images.shape and seen.dtype == torch.uint8
    assert torch.equal(seen, again) and not torch.equal(seen, images)


def test_moves_are_what_they_are_called() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 3, 16, 16, generator=generator)
    torch.testing.assert_close(invariance.moved(0, 1, 0)(x, generator), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(invariance.OTHERS["quarter turn"](x, generator)[0, 0, 0], x[0, 0, :, -1])
