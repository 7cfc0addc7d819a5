"""Targets hold the right values in the right order, and objectives are what they say."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssbench.errors import UserError
from ssbench.methods.mim.objective import cross_entropy, distance, ranking
from ssbench.methods.mim.patches import hog, pixels, pixels_normed
from ssbench.methods.mim.targets import TARGETS

MakeMIM = Callable[..., Any]


def test_pixels_are_in_the_order_row_column_channel() -> None:
    images = torch.randn(2, 3, 8, 12)
    found = pixels(images, 4)
    assert found.shape == (2, 6, 48)
    for b in range(2):
        for n in range(6):
            row, column = n // 3 * 4, n % 3 * 4
            wanted = [images[b, c, row + i, column + j] for i in range(4) for j in range(4) for c in range(3)]
            assert torch.equal(found[b, n], torch.stack(wanted))


def test_normalised_pixels_are_those_of_numpy() -> None:
    images = torch.randn(3, 3, 8, 8) * 3 + 1
    patches = pixels(images, 4).double().numpy()
    mean, var = patches.mean(-1, keepdims=True), patches.var(-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(pixels_normed(images, 4), (patches - mean) / np.sqrt(var + 1e-6), atol=1e-5)


def test_a_flat_patch_has_a_target_of_zero() -> None:
    assert torch.equal(pixels_normed(torch.ones(1, 3, 4, 4), 4), torch.zeros(1, 1, 48))
    assert torch.equal(hog(torch.ones(1, 3, 8, 8), 4), torch.zeros(1, 4, 108))


def test_normalising_needs_more_than_one_value() -> None:
    with pytest.raises(UserError, match=r"take mim\.target=pixels"):
        pixels_normed(torch.zeros(1, 1, 4, 4), 1)


@pytest.mark.parametrize("patches", [pixels, pixels_normed])
def test_a_patch_says_nothing_of_another_patch(patches: Callable[[Tensor, int], Tensor]) -> None:
    images = torch.randn(1, 3, 8, 8)
    other = images.clone()
    other[:, :, :4, :4] += torch.randn(3, 4, 4)
    same = (patches(images, 4) == patches(other, 4)).all(-1)
    assert same.tolist() == [[False, True, True, True]]


@pytest.mark.parametrize(
    ("direction", "orientation"),
    [((1, 1), 2), ((1, -1), 6), ((0, 1), 4), ((1, 0), 0)],
    ids=["falling diagonal", "rising diagonal", "upright", "lying"],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_edge_is_in_the_one_bin_of_its_orientation(direction: tuple[int, int], orientation: int, sign: int) -> None:
    """Bins are 20 degrees of atan2(x, y) modulo 180: 45, 135, 90 and 0 degrees; light to dark is dark to light."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    image = sign * (direction[0] * (rows - 7.5) + direction[1] * (columns - 7.5) > 0).float().expand(1, 2, 16, 16)
    cells = hog(image, 16).view(2, 9, 4).transpose(1, 2).flatten(0, 1)  # (channels * cells, 9)
    edges = cells[cells.any(1)]
    assert len(edges) >= 4
    least = 0.9 if all(direction) else 1 - 1e-6  # a diagonal edge is bent where the image is mirrored at its border
    assert (edges.argmax(1) == orientation).all() and (edges[:, orientation] > least).all()


@pytest.mark.parametrize(("patch", "cells"), [(16, 4), (8, 4), (4, 4), (2, 4), (3, 1), (1, 1)])
def test_cells_are_half_a_patch_and_their_histograms_have_length_one(patch: int, cells: int) -> None:
    found = hog(torch.randn(2, 3, 48, 96, generator=torch.Generator().manual_seed(0)), patch)
    assert found.shape == (2, 48 * 96 // patch**2, 3 * 9 * cells)
    length = found.unflatten(2, (3, 9, cells)).norm(dim=3)
    single = patch**2 == cells  # cells of one pixel: those in the corners have no gradient, the border being a mirror
    assert (length == 0).sum() == (2 * 3 * 4 if single else 0)
    torch.testing.assert_close(length[length > 0], torch.ones_like(length[length > 0]), atol=1e-5, rtol=0)


def test_histograms_of_a_channel_do_not_change_with_its_contrast() -> None:
    images = torch.randn(2, 3, 16, 16)
    scaled = images * torch.tensor([0.1, 1.0, -7.0])[:, None, None] + 2  # a gradient's sign does not matter either
    torch.testing.assert_close(hog(scaled, 8), hog(images, 8), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"features"}))
def test_a_target_has_a_row_for_each_patch_and_no_gradient(name: str, make_mim: MakeMIM) -> None:
    mim = make_mim(target=name)
    images = torch.randn(2, 3, 16, 24).requires_grad_()
    target, _ = mim.target(images, mim.teacher)
    assert target.shape[:2] == (2, 24) and not target.requires_grad
    prediction = torch.randn(2, 5, mim.target.out or mim.encoder.dim).requires_grad_()
    cost = mim.target.loss(prediction, target[:, :5])
    assert cost.shape == (2, 5) and cost.dtype == torch.float32
    cost[0, 2].backward()  # each patch's cost is its own
    assert prediction.grad is not None
    assert prediction.grad.any(2).nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_teachers_tokens_are_normalised_means_of_its_normalised_last_layers(layers: int, make_mim: MakeMIM) -> None:
    mim = make_mim(target="ema", top_layers=layers)
    images, outputs = torch.randn(2, 3, 16, 16), list[Tensor]()
    for block in mim.teacher.trunk.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output[:, 1:]))
    last = mim.teacher.tokens(images)
    spread = [(x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt() for x in outputs]
    mean = sum(spread[3 - layers : 3], torch.zeros(())) / layers if layers else last  # each channel over the tokens
    found, terms = mim.target(images, mim.teacher)
    wanted = (mean - mean.mean(2, keepdim=True)) / (mean.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-4)
    assert not terms


@pytest.mark.parametrize(("p", "wanted"), [(1.0, (1 + 2 + 0 + 3) / 4), (2.0, (1 + 4 + 0 + 9) / 4)])
def test_the_distance_is_the_mean_power_of_the_differences(p: float, wanted: float) -> None:
    prediction = torch.tensor([[[1.0, -2.0]], [[0.0, 5.0]]], dtype=torch.bfloat16)
    found = distance(prediction, torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]]), p, 0)
    assert found.shape == (2, 1) and found.mean() == wanted


@pytest.mark.parametrize(("beta", "wanted"), [(1.0, [0.5 * 0.25, 2.5]), (2.0, [0.25 / 4, 2.0]), (5.0, [0.025, 0.9])])
def test_the_smooth_distance_is_squared_below_beta_and_linear_above(beta: float, wanted: list[float]) -> None:
    found = distance(torch.tensor([[[0.5], [-3.0]]]), torch.zeros(1, 2, 1), 2, beta)
    torch.testing.assert_close(found, torch.tensor([wanted]))


def test_the_distance_is_computed_in_float32() -> None:
    prediction, target = torch.tensor([[[256.0]]]).bfloat16(), torch.tensor([[[0.5]]]).bfloat16()
    assert distance(prediction, target, 1.0, 0).item() == 255.5  # bfloat16 has no such number


def test_the_cross_entropy_of_codes_is_that_of_certain_probabilities() -> None:
    logits, codes = torch.randn(2, 3, 5), torch.tensor([[0, 4, 2], [1, 1, 3]])
    found = cross_entropy(logits, codes)
    torch.testing.assert_close(found, cross_entropy(logits, torch.nn.functional.one_hot(codes, 5).float()))
    for i in range(2):
        for n in range(3):
            below = sum(math.exp(x) for x in logits[i, n].tolist())
            assert found[i, n].item() == pytest.approx(math.log(below) - logits[i, n, codes[i, n]].item(), abs=1e-5)


def test_knowing_nothing_costs_a_bit_a_pair_and_ties_cost_nothing() -> None:
    cost = torch.tensor([[1.0, 2.0, 2.0, 5.0]])
    assert ranking(torch.zeros(1, 4), cost).item() == pytest.approx(math.log(2))
    assert ranking(100 * cost, cost) < 1e-6 < ranking(-100 * cost, cost)
    assert ranking(torch.tensor([[-9.0, 0.0, 7.0, 99.0]]), cost) < 0.01  # the second and third may come in any order
    assert ranking(torch.randn(1, 4), torch.ones(1, 4)) == 0
