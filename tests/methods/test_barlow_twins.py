"""Barlow Twins against its loss written with loops over dimensions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.decorrelation.barlow_twins import BarlowTwins


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return BarlowTwins(encoder, BarlowTwins.Settings(**settings))


def batch(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def projections(method: Any) -> list[Tensor]:
    """What the projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def slow(first: Tensor, second: Tensor, redundancy: float, eps: float = 1e-5) -> Tensor:
    """Zbontar et al. 2021, equations 1 and 2; eps is that of a batch norm."""
    total = first.new_zeros(())
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            a, b = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
            c = (a * b).mean() / ((a * a).mean() + eps).sqrt() / ((b * b).mean() + eps).sqrt()
            total = total + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return total


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_loss_and_its_gradient_equal_the_slow_formula(scale: float) -> None:
    method = made(out=7, redundancy=0.2, scale=scale)
    seen = projections(method)
    loss = method.loss(batch())["barlow"]
    loss.backward()
    exact = [z.detach().double().requires_grad_() for z in seen]
    wanted = scale * slow(exact[0], exact[1], 0.2)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for z, known in zip(seen, exact):
        assert z.grad is not None and known.grad is not None
        torch.testing.assert_close(z.grad.double(), known.grad, rtol=1e-3, atol=1e-6)


def test_three_by_two_by_hand() -> None:
    """Both dimensions alike: the diagonal is right, and each pair has a correlation of 1."""
    column = torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 2).contiguous()
    assert made(redundancy=0.1).criterion(column, column.clone()).item() == pytest.approx(0.1 * 2, abs=1e-4)


def test_collapsed_views_give_chance() -> None:
    method = made(out=5)
    same = torch.ones(4, 5)
    assert method.criterion(same, same.clone()).item() == pytest.approx(method.chance(4)["barlow"]) == 5


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given = made(), batch()
    whole, order = method.loss(given)["barlow"].item(), torch.tensor([3, 1, 5, 0, 2, 4])
    for views in (given.views[::-1], [view[order] for view in given.views]):
        turned = Batch(views, given.index, None, given.generator, 0.5)
        assert method.loss(turned)["barlow"].item() == pytest.approx(whole, rel=1e-4)


def test_scaling_and_moving_a_dimension_does_not_matter() -> None:
    z = torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(2))
    criterion, by = made().criterion, torch.linspace(1, 4, 8)
    moved = criterion(z[0] * by + 3, z[1].clone())
    assert moved.item() == pytest.approx(criterion(z[0].clone(), z[1].clone()).item(), rel=1e-4)


def test_loss_keeps_float32_under_autocast() -> None:
    method = made(out=7, redundancy=0.2)
    seen = projections(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(batch())["barlow"]
    assert seen[0].dtype == torch.bfloat16 and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow(seen[0].double(), seen[1].double(), 0.2).item(), rel=1e-4)


def test_biases_and_norms_have_a_rate_of_their_own() -> None:
    vectors, weights = made(vectors=0.024).groups(1e-6)
    assert vectors["lr_scale"] == 0.024 and vectors["weight_decay"] == 0 and "lr_scale" not in weights
    assert all(weight.ndim == 1 for weight in made().groups(0.1)[0]["params"] if weight.requires_grad)
    slow, undecayed = made(vectors=0.024).groups(0)
    assert [len(one["params"]) for one in (slow, undecayed)] == [len(one["params"]) for one in (vectors, weights)]
    assert slow["lr_scale"] == 0.024 and undecayed["weight_decay"] == 0 and "lr_scale" not in undecayed


def test_the_second_view_alone_is_solarised() -> None:
    first, second = made(blur=1.0).views
    assert (first.solarise, second.solarise) == (0, 0.2) and (first.blur, second.blur) == (1, 0.1)


def test_measures_tell_a_collapse() -> None:
    method = made().eval()
    image = torch.randn(1, 3, 16, 16).expand(6, 3, 16, 16)
    assert method.measures(image, None)["embedding std"] == pytest.approx(0, abs=1e-3)
    assert method.measures(batch().views[0], None)["embedding std"] > 0.01


def test_no_linear_layer_has_a_bias() -> None:
    projector = made().projector
    assert [part.bias for part in projector if hasattr(part, "in_features")] == [None] * 3
