"""RotNet against numpy.rot90 and softmax regression written with loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.pretext.rotation import Rotation


def made(backbone: str = "vit-nano", size: int = 16) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return Rotation(encoder, Rotation.Settings())


def batch(count: int = 3, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch([torch.randn(count, 3, size, size, generator=generator)], torch.arange(count), None, generator, 0.5)


def test_encoder_sees_every_image_in_all_four_turns() -> None:
    method, given = made(), batch()
    seen: list[Tensor] = []
    method.encoder.trunk.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.loss(given)
    turned = [np.rot90(image.numpy(), k, axes=(1, 2)) for k in range(4) for image in given.views[0]]
    np.testing.assert_array_equal(seen[0], np.stack(turned))


def test_loss_and_its_gradient_equal_the_slow_formula() -> None:
    method, given = made(), batch()
    loss = method.loss(given)["rotation"]
    loss.backward()
    weight = method.head.weight.detach().double().numpy()
    bias = method.head.bias.detach().double().numpy()
    total, by_weight = 0.0, np.zeros_like(weight)
    for image in given.views[0]:
        for k in range(4):
            turned = torch.from_numpy(np.rot90(image.numpy(), k, axes=(1, 2)).copy())
            feature = method.encoder.pooled(turned[None])[0].detach().double().numpy()
            scores = np.exp(weight @ feature + bias)
            wrong = scores / scores.sum()
            total -= np.log(wrong[k]) / 12
            wrong[k] -= 1
            by_weight += np.outer(wrong, feature) / 12
    assert loss.item() == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(method.head.weight.grad, by_weight, atol=1e-5)


def test_turning_all_images_once_only_moves_the_labels() -> None:
    method, given = made(), batch()
    turned = Batch([given.views[0].rot90(1, (2, 3))], given.index, None, given.generator, 0.5)
    before = method.loss(turned)["rotation"].item()
    with torch.no_grad():  # class k now stands for k + 1 turns of the given image
        method.head.weight.copy_(method.head.weight.roll(1, 0))
        method.head.bias.copy_(method.head.bias.roll(1, 0))
    assert method.loss(given)["rotation"].item() == pytest.approx(before, abs=1e-5)


def test_a_head_that_says_nothing_gives_the_loss_of_guessing() -> None:
    method = made()
    method.head.requires_grad_(False).weight.zero_()
    method.head.bias.zero_()
    assert method.loss(batch())["rotation"].item() == pytest.approx(method.chance(3)["rotation"])


def test_order_of_images_does_not_matter() -> None:
    method, given = made(), batch()
    turned = Batch([given.views[0].flip(0)], given.index.flip(0), None, given.generator, 0.5)
    assert method.loss(turned)["rotation"].item() == pytest.approx(method.loss(given)["rotation"].item(), abs=1e-5)


def test_one_flipped_crop_is_asked_for() -> None:
    (view,) = made().views
    assert (view.count, view.crop, view.flip, view.size) == (1, (0.77, 1.0), 0.5, 1.0)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    loss = method.loss(batch(count=2, size=32))["rotation"]
    loss.backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
