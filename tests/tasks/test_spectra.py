"""Label-free numbers of features of which they are known."""

import math

import numpy as np
import pytest

from ssbench.results.alike import cka
from ssbench.tasks import spectra


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_ranks_of_equal_eigenvalues_are_their_number_and_of_none_zero() -> None:
    ones = np.concatenate([np.ones(7), np.zeros(3)])
    for of in (spectra.effective_rank, spectra.nesum, spectra.participation):
        assert of(ones) == pytest.approx(7) and of(np.zeros(5)) == 0
    assert spectra.rankme(np.ones(8)) == pytest.approx(8, rel=1e-4)
    assert spectra.rankme(np.array([4.0, 1])) == pytest.approx(3 / 2 ** (2 / 3), rel=1e-4)  # shares 2/3 and 1/3


def test_alpha_of_a_power_law_is_its_exponent_and_undefined_for_few_dimensions() -> None:
    assert spectra.alpha(np.arange(1.0, 200) ** -1.3) == pytest.approx(1.3)
    assert math.isnan(spectra.alpha(np.ones(9)))


def test_points_turned_into_fewer_dimensions_keep_their_products() -> None:
    x = normal(10, 40)
    np.testing.assert_allclose(spectra.compact(x) @ spectra.compact(x).T, x @ x.T, atol=1e-10)


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    means = normal(200, 1, 8) * 10
    assert spectra.lidar(means + normal(200, 10, 8, seed=1)) == pytest.approx(8, abs=0.4)
    flat = means.copy()
    flat[..., 2:] = 0
    apart = spectra.lidar(flat + 1e-3 * normal(200, 10, 8, seed=1))
    assert apart == pytest.approx(2, abs=0.1)
    assert spectra.lidar(np.ones((20, 4, 6))) == 0, "images that are all alike are told apart by nothing"


@pytest.mark.parametrize("dimension", [2, 5])
def test_two_nn_finds_the_dimension_of_a_cube_turned_into_more(dimension: int) -> None:
    points = np.random.default_rng(0).random((2000, dimension)) @ normal(dimension, 20)
    doubled = np.concatenate([points, points[:50]])  # duplicates have no say
    found = spectra.two_nn(spectra.ratios(spectra.squared(spectra.compact(points))))
    assert found == pytest.approx(dimension, rel=0.12)
    assert spectra.two_nn(spectra.ratios(spectra.squared(doubled))) == pytest.approx(found, rel=0.1)


def test_uniformity_and_alignment_are_those_of_a_slow_loop() -> None:
    z, other = spectra.unit(normal(12, 5)), spectra.unit(normal(12, 5, seed=1))
    pairs = [math.exp(-2 * sum((a - b) ** 2)) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
    assert spectra.uniformity(np.exp(-2 * spectra.squared(z))) == pytest.approx(math.log(sum(pairs) / len(pairs)))
    assert spectra.alignment(z, other) == pytest.approx([sum((a - b) ** 2) for a, b in zip(z, other)])


@pytest.mark.parametrize(("correlation", "near"), [(0.3, 0.25), (0.99, None)])
def test_infonce_is_below_the_information_of_gaussian_pairs(correlation: float, near: float | None) -> None:
    d, n = 32, 1500
    x = normal(n, d)
    y = correlation * x + math.sqrt(1 - correlation**2) * normal(n, d, seed=1)
    truth = -d / 2 * math.log(1 - correlation**2)
    found = spectra.infonce(spectra.unit(x), spectra.unit(y), 0.1).mean()
    assert found < truth and found <= math.log(n)
    assert near is None or found > truth - near
    assert spectra.infonce(np.zeros((9, 3)), np.zeros((9, 3)), 0.1) == pytest.approx(np.zeros(9))


def test_cka_is_one_under_rotation_and_scale_and_about_zero_for_independent_features() -> None:
    x = normal(100, 30)
    turned = 3 * x @ np.linalg.qr(normal(30, 30, seed=1))[0] + 5
    assert cka(x, x) == pytest.approx(1) and cka(x, turned) == pytest.approx(1)
    assert abs(np.mean([cka(x, normal(100, 30, seed=seed)) for seed in range(2, 12)])) < 0.03
    assert math.isnan(cka(x, np.ones((100, 3))))
    assert cka(x, spectra.principal(x, 30)) == pytest.approx(1)


def test_unit_vectors_that_fill_the_sphere_have_a_deviation_of_one_and_collapsed_ones_of_zero() -> None:
    assert spectra.collapse(spectra.unit(normal(4000, 16))) == pytest.approx(1, abs=0.01)
    assert spectra.collapse(spectra.unit(np.ones((9, 4)))) == pytest.approx(0)
