"""DCL and DCLW against their loss written with loops, and against lightly's."""

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import DCLLoss
from numpy.typing import NDArray

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.dcl import DCL, decoupled
from ssbench.registry import entries
from ssbench.settings import make

Array = NDArray[np.float64]


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return DCL(encoder, DCL.Settings(**{"hidden": 16, "out": 8, **settings}))


def batch(count: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def slow(z: Array, temperature: float, sigma: float, weights: list[float] | None = None) -> float:
    """Yeh et al. 2021, equations 5 and 6: mean over views; weights of positives are of section 3.2."""
    unit, count = [row / np.sqrt((row**2).sum()) for row in z], len(z) // 2
    weights = weights or slow_weights(z, sigma)
    total = 0.0
    for i in range(2 * count):
        image = i % count
        below = sum(exp(unit[i] @ unit[k] / temperature) for k in range(2 * count) if k % count != image)
        total += log(below) - weights[image] * (unit[image] @ unit[image + count]) / temperature
    return total / (2 * count)


def slow_weights(z: Array, sigma: float) -> list[float]:
    unit, count = [row / np.sqrt((row**2).sum()) for row in z], len(z) // 2
    if not sigma:
        return [1.0] * count
    high = [exp(unit[i] @ unit[i + count] / sigma) for i in range(count)]
    return [2 - one / (sum(high) / count) for one in high]


@pytest.mark.parametrize(("temperature", "sigma"), [(0.1, 0.0), (0.5, 0.0), (0.1, 0.5), (0.2, 0.3)])
def test_the_loss_is_that_of_loops_over_views(temperature: float, sigma: float) -> None:
    method, given = made(temperature=temperature, sigma=sigma).train(), batch()
    z = method.projector(method.encoder.pooled(torch.cat(given.views))).detach().double().numpy()
    assert method.loss(given)["dcl"].item() == pytest.approx(slow(z, temperature, sigma), abs=2e-5)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_its_gradient_is_that_of_finite_differences_with_weights_held(sigma: float) -> None:
    z = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    (found,) = torch.autograd.grad(decoupled(z, 0.2, sigma), z)
    exact = z.detach().numpy()
    held = slow_weights(exact, sigma)
    for at in [(0, 0), (1, 2), (4, 3), (7, 1)]:
        step = np.zeros_like(exact)
        step[at] = 1e-6
        difference = (slow(exact + step, 0.2, sigma, held) - slow(exact - step, 0.2, sigma, held)) / 2e-6
        assert found[at].item() == pytest.approx(difference, abs=1e-6)


def test_weights_are_one_on_average_and_least_for_the_nearest_pair() -> None:
    z = np.random.default_rng(0).normal(size=(10, 4))
    weights = slow_weights(z, 0.5)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert np.mean(weights) == pytest.approx(1)
    assert np.argmin(weights) == np.argmax((unit[:5] * unit[5:]).sum(1))


def test_unweighted_it_is_lightlys() -> None:
    z = torch.randn(12, 7, generator=torch.Generator().manual_seed(3))
    for temperature in (0.1, 0.5):
        torch.testing.assert_close(decoupled(z, temperature), DCLLoss(temperature)(*z.chunk(2)))


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_equal_images_give_the_loss_of_guessing(sigma: float) -> None:
    method = made(sigma=sigma).eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    assert method.loss(same)["dcl"].item() == pytest.approx(log(2 * (5 - 1)), abs=1e-4)
    assert method.chance(5) == pytest.approx({"dcl": log(8)})


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_order_of_images_and_of_views_does_not_matter(sigma: float) -> None:
    method, given = made(sigma=sigma), batch()
    order = torch.tensor([3, 1, 0, 4, 2])
    turned = Batch([given.views[1][order], given.views[0][order]], given.index[order], None, given.generator, 0.5)
    assert method.loss(turned)["dcl"].item() == pytest.approx(method.loss(given)["dcl"].item(), rel=1e-5)


def test_dclw_alone_weights_positives() -> None:
    found = {name: make(DCL.Settings, entries("methods")[name].preset, name) for name in ("dcl", "dclw")}
    assert [getattr(found[name], "sigma") for name in ("dcl", "dclw")] == [0.0, 0.5]  # noqa: B009
