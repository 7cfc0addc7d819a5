"""The controls: an untouched network, principal components of pixels, cross-entropy with labels."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError
from ssbench.method import Batch
from ssbench.methods.controls import PixelEncoder, RandomInit, RawPixels, Supervised


def encoder(backbone: str = "vit-nano", size: int = 16) -> Encoder:
    torch.manual_seed(0)
    return build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))


def digits() -> Tensor:
    """Scikit-learn's handwritten digits as uint8 (1797, 1, 8, 8)."""
    return torch.from_numpy(load_digits().images * 15).byte().unsqueeze(1)


def noise(count: int, size: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)


def pixels(images: Tensor) -> PixelEncoder:
    def never() -> Encoder:
        raise AssertionError("raw pixels need no network")

    made = RawPixels.make_encoder(never, images, RawPixels.Settings())
    assert isinstance(made, PixelEncoder)
    return made


def batch(size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(5, 3, size, size, generator=generator)]
    return Batch(views, torch.arange(5), torch.tensor([2, 0, 1, 1, 2]), generator, 0.5)


def test_random_init_judges_the_very_encoder_it_is_given_and_never_trains() -> None:
    given = encoder()
    before = copy.deepcopy(given.state_dict())
    method = RandomInit(given, RandomInit.Settings())
    method.after_step(0.5)
    assert not RandomInit.trains and method.judged() is given
    assert len(list(method.parameters())) == len(list(given.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in method.judged().state_dict().items())
    with pytest.raises(NotImplementedError):
        method.loss(batch())


def test_raw_pixels_equal_scikit_learns_components_up_to_sign() -> None:
    images = digits()
    made = pixels(images)
    flat = images.flatten(1).numpy() / 255
    expected = PCA(svd_solver="full").fit(flat)
    clear = expected.explained_variance_ > 1e-6  # four of the 64 pixels are all but always black
    found = made.vectors(made.normalise(images))["mean"].numpy()[:, clear]
    np.testing.assert_allclose(np.abs(found), np.abs(expected.transform(flat)[:, clear]), atol=1e-4)


def test_raw_pixels_keep_the_distances_that_the_best_components_can_keep() -> None:
    images = noise(600, 16)  # 768 pixels, 256 components of flat spectrum: the hardest case
    made = pixels(images)
    flat = images.flatten(1).double().numpy() / 255
    best = np.linalg.svd(flat - flat.mean(0), compute_uv=False)[:256]
    kept = made.vectors(made.normalise(images))["mean"].double().numpy()
    assert made.dim == 256 and kept.shape == (600, 256)
    assert (kept**2).sum() == pytest.approx((best**2).sum(), rel=0.03)
    np.testing.assert_allclose(made.components @ made.components.T, np.eye(256), atol=1e-4)


@pytest.mark.parametrize(("count", "size", "dim"), [(40, 8, 39), (300, 4, 48), (300, 16, 256)])
def test_raw_pixels_take_fewer_components_of_few_images_or_pixels(count: int, size: int, dim: int) -> None:
    made = pixels(noise(count, size))
    assert made.dim == dim
    assert made.vectors(made.normalise(noise(7, size)))["mean"].shape == (7, dim)


def test_raw_pixels_are_fitted_alike_each_time() -> None:
    images = noise(600, 16)
    assert torch.equal(pixels(images).components, pixels(images).components)


def test_raw_pixels_are_fitted_on_images_of_the_whole_split() -> None:
    images = noise(5_500, 4)
    images[5_000:] = 255  # a cut at 5,000 would miss them
    np.testing.assert_allclose(pixels(images).centre, images.flatten(1).float().mean(0) / 255, atol=0.01)


@pytest.mark.parametrize(("size", "patch"), [(32, 4), (8, 1), (28, 2), (4, 1)])
def test_raw_map_holds_each_patch_whole(size: int, patch: int) -> None:
    made = pixels(noise(20, size))
    images = made.normalise(noise(3, size))
    found = made.map(images)
    assert found.shape == (3, 3 * patch * patch, size // patch, size // patch)
    for row, column in [(0, 0), (1, 2), (size // patch - 1, 0)]:
        area = images[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        assert torch.equal(found[:, :, row, column], area.flatten(1))


def test_raw_pixels_have_no_tokens_and_nothing_to_train() -> None:
    made = pixels(noise(20, 8))
    method = RawPixels(made, RawPixels.Settings())
    assert not RawPixels.trains and list(method.parameters()) == []
    assert made.poolings == ("mean",) and not made.has_tokens and made.patch is None
    images = made.normalise(noise(2, 8))
    assert torch.equal(made.pooled(images), made.vectors(images)["mean"])
    with pytest.raises(NotApplicable):
        made.tokens(images)


def test_raw_pixels_of_large_images_are_those_of_images_averaged_to_64_px() -> None:
    large = noise(40, 128)
    small = torch.nn.functional.avg_pool2d(large.float(), 2) / 255
    made = pixels(large)
    vectors = made.vectors(large.float() / 255)["mean"]
    expected = (small.flatten(1) - made.centre) @ made.components.T
    assert made.components.shape == (39, 3 * 64 * 64)
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=1e-4)


def test_raw_pixels_refuse_another_image_size() -> None:
    made = pixels(noise(20, 8))
    with pytest.raises(NotApplicable, match="raw pixels of 8 px say nothing about images of 16 px"):
        made.vectors(noise(2, 16).float())


def test_raw_pixels_come_back_from_their_state() -> None:
    one, other = pixels(noise(20, 8)), pixels(digits()[:20].expand(-1, 3, -1, -1))
    other.load_state_dict(one.state_dict())
    images = one.normalise(noise(2, 8))
    assert torch.equal(one.pooled(images), other.pooled(images))


def test_supervised_loss_and_its_gradient_equal_the_slow_formula() -> None:
    method: Any = Supervised(encoder(), Supervised.Settings(), classes=3)
    given = batch()
    assert Supervised.supervised and given.labels is not None
    loss = method.loss(given)["cross_entropy"]
    loss.backward()
    weight, bias = (value.detach().double().numpy() for value in (method.head.weight, method.head.bias))
    total, by_bias = 0.0, np.zeros(3)
    for image, label in zip(given.views[0], given.labels.tolist(), strict=True):
        scores = np.exp(weight @ method.encoder.pooled(image[None])[0].detach().double().numpy() + bias)
        wrong = scores / scores.sum()
        total -= np.log(wrong[label]) / 5
        wrong[label] -= 1
        by_bias += wrong / 5
    assert loss.item() == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(method.head.bias.grad, by_bias, atol=1e-5)


def test_supervised_without_a_say_gives_the_loss_of_guessing() -> None:
    method: Any = Supervised(encoder(), Supervised.Settings(), classes=3)
    method.head.requires_grad_(False).weight.zero_()
    method.head.bias.zero_()
    assert method.loss(batch())["cross_entropy"].item() == pytest.approx(method.chance(5)["cross_entropy"])


def test_supervised_needs_labels() -> None:
    with pytest.raises(UserError, match="supervised needs labels"):
        Supervised(encoder(), Supervised.Settings(), classes=0)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = Supervised(encoder(backbone, 32), Supervised.Settings(), classes=3)
    loss = method.loss(batch(32))["cross_entropy"]
    loss.backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
