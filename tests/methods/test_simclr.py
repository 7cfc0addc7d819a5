"""SimCLR against NT-Xent written with loops."""

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss
from numpy.typing import NDArray
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.simclr import SimCLR, ntxent

Array = NDArray[np.float64]


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return SimCLR(encoder, SimCLR.Settings(**settings))


def batch(count: int = 4, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, size, size, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def projections(method: Any) -> list[Tensor]:
    """What the projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def slow_nt_xent(z: Array, temperature: float) -> float:
    """Chen et al. 2020, equation 1: mean over all 2B views; views i and i + B are of one image."""
    unit = [row / np.sqrt((row**2).sum()) for row in z]
    total = 0.0
    for i in range(len(z)):
        partner = (i + len(z) // 2) % len(z)
        below = sum(exp(unit[i] @ unit[k] / temperature) for k in range(len(z)) if k != i)
        total -= log(exp(unit[i] @ unit[partner] / temperature) / below)
    return total / len(z)


def slow_gradient(z: Array, temperature: float) -> Array:
    gradient = np.zeros_like(z)
    for at in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[at] = 1e-6
        gradient[at] = (slow_nt_xent(z + step, temperature) - slow_nt_xent(z - step, temperature)) / 2e-6
    return gradient


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_loss_and_its_gradient_equal_the_slow_formula(temperature: float) -> None:
    method = made(temperature=temperature, out=8)
    seen = projections(method)
    loss = method.loss(batch())["ntxent"]
    loss.backward()
    (z,) = seen
    assert z.shape == (8, 8) and z.grad is not None
    exact = z.detach().double().numpy()
    assert loss.item() == pytest.approx(slow_nt_xent(exact, temperature), abs=1e-5)
    np.testing.assert_allclose(z.grad, slow_gradient(exact, temperature), atol=1e-5)


def test_loss_keeps_float32_under_autocast() -> None:
    method = made(temperature=0.1, out=8)
    seen = projections(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(batch())["ntxent"]
    assert seen[0].dtype == torch.bfloat16 and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_nt_xent(seen[0].detach().double().numpy(), 0.1), abs=1e-5)


def test_collapsed_views_give_the_loss_of_guessing() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    assert method.loss(same)["ntxent"].item() == pytest.approx(log(2 * 5 - 1), abs=1e-5)
    assert method.chance(5) == pytest.approx({"ntxent": log(2 * 5 - 1)})


def test_order_of_images_and_of_views_does_not_matter() -> None:
    method, given = made(), batch(6)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    turned = Batch([given.views[1][order], given.views[0][order]], given.index[order], None, given.generator, 0.5)
    assert method.loss(turned)["ntxent"].item() == pytest.approx(method.loss(given)["ntxent"].item(), abs=1e-5)


def test_pairing_of_the_views_matters() -> None:
    method, given = made(temperature=0.1), batch(6)
    mixed = Batch([given.views[0], given.views[1].roll(1, 0)], given.index, None, given.generator, 0.5)
    assert abs(method.loss(mixed)["ntxent"].item() - method.loss(given)["ntxent"].item()) > 1e-3


def test_turning_and_scaling_the_embedding_space_does_not_matter() -> None:
    first, second = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))[0]
    turned = ntxent(torch.cat([3 * first @ turn, 0.5 * second @ turn]), 0.5)
    assert turned.item() == pytest.approx(ntxent(torch.cat([first, second]), 0.5).item(), abs=1e-5)


def test_views_are_two_and_follow_the_settings() -> None:
    (view,) = made(jitter=1.0, crop_min=0.3).views
    assert (view.count, view.crop, view.jitter, view.blur) == (2, (0.3, 1.0), (0.8, 0.8, 0.8, 0.2), 0.0)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    loss = method.loss(batch(2, 32))["ntxent"]
    loss.backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()


def test_its_loss_is_lightlys() -> None:
    z = torch.randn(12, 7, generator=torch.Generator().manual_seed(3))
    for temperature in (0.1, 0.5):
        torch.testing.assert_close(ntxent(z, temperature), NTXentLoss(temperature)(*z.chunk(2)))
