"""W-MSE against whitening by Gram and Schmidt, and what whitening must leave."""

from typing import Any

import pytest
import torch
from lightly.loss.wmse_loss import Whitening2d
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.decorrelation.w_mse import WMSE, whiten


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return WMSE(encoder, WMSE.Settings(**settings))


def batch(count: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, torch.Generator().manual_seed(3), 0.5)


def projections(method: Any) -> list[Tensor]:
    """What the projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def drawn(count: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, width, generator=generator) @ torch.randn(width, width, generator=generator) + 3


def slow_whiten(z: Tensor, shrinkage: float) -> Tensor:
    """Gram and Schmidt on the dimensions, each below it with the rows whose covariance is the identity's share."""
    count, width = z.shape
    x = z - z.mean(0)
    mean = (x**2).sum() / (count - 1) / width
    rows = (shrinkage * mean * (count - 1)).sqrt() * torch.eye(width, dtype=z.dtype)
    done: list[tuple[Tensor, Tensor]] = []
    for d in range(width):
        column, own = torch.cat([(1 - shrinkage) ** 0.5 * x[:, d], rows[:, d]]), x[:, d]
        for other, others in done:
            along = (column * other).sum()
            column, own = column - along * other, own - along * others
        length = column.square().sum().sqrt()
        done.append((column / length, own / length))
    return torch.stack([own for _, own in done], 1) * (count - 1) ** 0.5


def slow(x: Tensor, y: Tensor, parts: list[list[int]], shrinkage: float) -> Tensor:
    """Ermolov et al. 2021: squared distance of unit vectors, after each part of each view was whitened."""
    total = x.new_zeros(())
    for part in parts:
        for a, b in zip(slow_whiten(x[part], shrinkage), slow_whiten(y[part], shrinkage)):
            total = total + (a / a.square().sum().sqrt() - b / b.square().sum().sqrt()).square().sum()
    return total / len(x)


@pytest.mark.parametrize(("part", "cuts"), [(16, 1), (8, 2), (6, 2)])
def test_loss_and_its_gradient_equal_the_slow_formula(part: int, cuts: int) -> None:
    method = made(out=3, part=part, shrinkage=0.01)
    seen = projections(method)
    loss = method.loss(batch())["w_mse"]
    loss.backward()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    parts = [piece.tolist() for piece in order.tensor_split(cuts)]
    exact = seen[0].detach().double().requires_grad_()
    wanted = slow(exact[:16], exact[16:], parts, 0.01)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert seen[0].grad is not None and exact.grad is not None
    torch.testing.assert_close(seen[0].grad.double(), exact.grad, rtol=1e-2, atol=1e-4)


def test_whitened_embeddings_have_mean_zero_and_the_identity_as_covariance() -> None:
    z = whiten(drawn(64, 8), 1e-7)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.T.cov(), torch.eye(8), atol=1e-3, rtol=0)


def test_whitening_without_shrinkage_is_lightlys() -> None:
    z = drawn(32, 6).double()
    torch.testing.assert_close(whiten(z, 0.0), Whitening2d(6, track_running_stats=False).double()(z))


def test_scaling_and_moving_the_space_does_not_matter() -> None:
    z = drawn(32, 6)
    torch.testing.assert_close(whiten(100 * z + 5, 1e-3), whiten(z, 1e-3), atol=1e-3, rtol=1e-3)


def test_less_images_than_dimensions_and_no_variance_stay_finite() -> None:
    few, none = drawn(5, 8).requires_grad_(), torch.ones(9, 8, requires_grad=True)
    for z in (few, none):
        found = whiten(z, 1e-3)
        found.sum().backward()
        assert found.isfinite().all() and z.grad is not None and z.grad.isfinite().all()


def test_collapsed_views_give_chance_and_equal_ones_none() -> None:
    method, z = made(), drawn(64, 32)
    assert method._distance(torch.ones(64, 32), torch.ones(64, 32)).item() == method.chance(64)["w_mse"]
    assert method._distance(z, z).item() == pytest.approx(0, abs=1e-5)
    wide = torch.randn(2, 512, 32, generator=torch.Generator().manual_seed(5))
    assert method._distance(*wide).item() == pytest.approx(2, abs=0.1)


def test_both_views_have_the_same_parts_and_steps_have_others() -> None:
    method, given = made(out=3, part=8), batch()
    first = method.loss(given)["w_mse"].item()
    assert method.loss(given)["w_mse"].item() != first  # the generator went on
    same = Batch([given.views[0], given.views[0]], given.index, None, given.generator, 0.5)
    assert method.loss(same)["w_mse"].item() == pytest.approx(0, abs=1e-5)


def test_views_may_be_swapped_and_images_of_one_part_permuted() -> None:
    method, order = made(out=3, part=16), torch.randperm(16)
    first, second = batch().views
    found = [
        method.loss(Batch(views, torch.arange(16), None, torch.Generator().manual_seed(3), 0.5))["w_mse"].item()
        for views in ([first, second], [second, first], [first[order], second[order]])
    ]
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-3)


def test_loss_keeps_float32_under_autocast() -> None:
    method = made(out=3, part=16, shrinkage=0.01)
    seen = projections(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(batch())["w_mse"]
    exact = seen[0].double()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow(exact[:16], exact[16:], [[*range(16)]], 0.01).item(), rel=1e-3)


def test_a_part_too_small_for_its_dimensions_is_refused() -> None:
    with pytest.raises(UserError, match=r"w-mse\.part=64.*w-mse\.out=33"):
        made(out=33)
