"""What keeps representations apart is what its paper writes, pair by pair and slice by slice."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from ssbench.methods.mim.regularisers import REGULARISERS, SLICES, koleo, sigreg, uniformity, vicreg

NAMES = [name for name, term in REGULARISERS.items() if term]


def vectors(count: int = 12, width: int = 5) -> Tensor:
    scale = torch.linspace(0.2, 2, width)
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0)) * scale


def test_vicreg_is_the_hinge_of_deviations_and_the_covariances_of_numpy() -> None:
    x = vectors().double().numpy()
    covariance = np.cov(x.T)  # unbiased
    deviations = np.sqrt(np.diag(covariance) + 1e-4)
    hinge = np.mean([max(0, 1 - deviation) for deviation in deviations])
    apart = sum(covariance[i, j] ** 2 for i in range(5) for j in range(5) if i != j) / 5
    assert hinge > 0 and vicreg(vectors()).item() == pytest.approx(25 * hinge + apart, rel=1e-5)


def test_vicreg_is_lightlys_for_two_views_that_agree_but_for_one_of_their_covariances() -> None:
    """lightly's is 25 * (half of either view's hinge) + either view's covariances."""
    x = vectors()
    torch.testing.assert_close(vicreg(x), (VICRegLoss()(x, x) + VICRegLoss(nu_param=0)(x, x)) / 2)


def test_vicreg_of_collapsed_vectors_is_known() -> None:
    assert vicreg(torch.ones(8, 4)).item() == pytest.approx(25 * (1 - 0.01))


def test_koleo_is_the_log_distance_to_the_nearest_other_vector() -> None:
    unit = [x / np.sqrt((x**2).sum()) for x in vectors().double().numpy()]
    nearest = [min(float(np.sqrt(((a - b) ** 2).sum())) for b in unit if b is not a) for a in unit]
    assert koleo(vectors()).item() == pytest.approx(-np.mean(np.log(nearest)), rel=1e-4)


def test_uniformity_is_over_pairs_of_different_vectors() -> None:
    unit = [x / np.sqrt((x**2).sum()) for x in vectors().double().numpy()]
    pairs = [math.exp(-2 * float(((a - b) ** 2).sum())) for i, a in enumerate(unit) for b in unit[:i]]
    assert uniformity(vectors()).item() == pytest.approx(math.log(np.mean(pairs)), rel=1e-5)
    assert uniformity(torch.ones(6, 3)).item() == pytest.approx(0, abs=1e-5)


def test_sigreg_is_the_mean_epps_pulley_statistic_of_random_slices() -> None:
    """n * the weighted distance of characteristic functions, by the trapezoidal rule on -3..3 with 33 knots."""
    torch.manual_seed(5)
    found = sigreg(vectors())
    torch.manual_seed(5)
    directions = torch.randn(5, SLICES).double().numpy()
    x, total = vectors().double().numpy(), 0.0
    times = np.linspace(-3, 3, 33)
    for direction in directions.T:
        values = x @ (direction / np.sqrt((direction**2).sum()))
        error = [abs(np.exp(1j * t * values).mean() - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2) for t in times]
        total += len(x) * np.trapezoid(error, times)
    assert found.item() == pytest.approx(total / SLICES, rel=1e-4)


def test_sigreg_knows_a_normal_distribution() -> None:
    torch.manual_seed(0)
    normal = torch.randn(2000, 4)
    assert sigreg(normal) < sigreg(3 * normal) / 20 and sigreg(normal) < sigreg(normal.sign()) / 3


@pytest.mark.parametrize("term", [koleo, uniformity])
def test_turning_and_scaling_vectors_changes_nothing_on_a_sphere(term: Callable[[Tensor], Tensor]) -> None:
    x = vectors()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1))).Q
    torch.testing.assert_close(term(3 * x @ turn), term(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arch", ["mae", "simmim"])
def test_a_regulariser_is_a_term_of_its_own_on_the_mean_of_what_the_encoder_saw(
    name: str, arch: str, make_mim: Callable[..., Any], mim_batch: Callable[..., Any]
) -> None:
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    mim = make_mim(reg=name, reg_weight=0.25, arch=arch)
    visible, _ = mim.hide(images, torch.Generator().manual_seed(0), 0.0)
    mean = mim.predict.see(mim.encoder, images, visible).patches.mean(1)
    torch.manual_seed(7)
    terms = mim.loss(mim_batch(images))
    torch.manual_seed(7)
    term = REGULARISERS[name]
    assert term is not None and list(terms) == ["reconstruction", name]
    torch.testing.assert_close(terms[name], 0.25 * term(mean), atol=1e-6, rtol=1e-5)
    plain = make_mim(arch=arch).loss(mim_batch(images))["reconstruction"]
    torch.testing.assert_close(terms["reconstruction"], plain)
    gradients = torch.autograd.grad(terms[name], [p for p in mim.encoder.parameters() if p.requires_grad])
    assert all(gradient.isfinite().all() for gradient in gradients) and any(gradient.any() for gradient in gradients)


def test_a_regulariser_sees_float32_under_autocast(make_mim: Callable[..., Any], mim_batch: Callable[..., Any]) -> None:
    mim, seen = make_mim(reg="vicreg"), list[tuple[torch.dtype, bool]]()

    def term(mean: Tensor) -> Tensor:
        seen.append((mean.dtype, torch.is_autocast_enabled("cpu")))
        return mean.sum()

    mim.regularise = term
    with torch.autocast("cpu", torch.bfloat16):
        mim.loss(mim_batch(torch.randn(4, 3, 16, 16)))
    assert seen == [(torch.float32, False)]
