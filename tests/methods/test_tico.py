"""TiCo against its loss written with loops, its covariance over steps, and its teacher."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import TiCoLoss
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.decorrelation.tico import TiCo


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return TiCo(encoder, TiCo.Settings(**settings))


def batch(count: int = 6, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def projections(method: Any) -> list[Tensor]:
    """What the student's projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def slow(z: Tensor, taught: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Zhu et al. 2022, equation 4, at rho = 1, with a given covariance."""
    invariance, contrast, count = z.new_zeros(()), z.new_zeros(()), len(z)
    for b in range(count):
        unit, other = z[b] / z[b].square().sum().sqrt(), taught[b] / taught[b].square().sum().sqrt()
        invariance = invariance + (1 - (unit * other).sum()) / count
        for i in range(len(unit)):
            for j in range(len(unit)):
                contrast = contrast + unit[i] * c[i, j] * unit[j] / count
    return invariance, contrast


def slow_covariance(batches: list[Tensor], beta: float) -> Tensor:
    c = torch.zeros(batches[0].shape[1], batches[0].shape[1], dtype=torch.float64)
    for z in batches:
        outer = torch.stack([torch.outer(row, row) / row.square().sum() for row in z.detach().double()])
        c = beta * c + (1 - beta) * outer.mean(0)
    return c


def test_terms_covariance_and_gradient_equal_the_slow_formulas_over_steps() -> None:
    method = made(out=5, rho=8.0, beta=0.7)
    seen = projections(method)
    for step in range(3):
        given = batch(seed=step)
        taught = method.teacher(given.views[1]).double()
        terms = method.loss(given)
        torch.stack([*terms.values()]).sum().backward()
        c = slow_covariance(seen, 0.7)
        exact = seen[-1].detach().double().requires_grad_()
        invariance, contrast = slow(exact, taught, c)
        (invariance + 8 * contrast).backward()
        torch.testing.assert_close(method.covariance.double(), c, atol=1e-6, rtol=1e-5)
        assert terms["invariance"].item() == pytest.approx(invariance.item(), rel=1e-4)
        assert terms["contrast"].item() == pytest.approx(8 * contrast.item(), rel=1e-4)
        grad = seen[-1].grad
        assert grad is not None and exact.grad is not None
        torch.testing.assert_close(grad.double(), exact.grad, rtol=1e-3, atol=1e-6)


def test_its_loss_is_lightlys() -> None:
    method, known = made(), TiCoLoss()
    seen = projections(method)
    for step in range(3):
        given = batch(seed=step)
        taught = method.teacher(given.views[1])
        torch.testing.assert_close(sum(method.loss(given).values()), known(seen[-1], taught))


def test_unit_vectors_keep_the_covariances_trace_below_one() -> None:
    method = made(beta=0.9)
    for step in range(4):
        method.loss(batch(seed=step))
        assert method.covariance.trace().item() == pytest.approx(1 - 0.9 ** (step + 1), rel=1e-5)


def test_collapsed_views_come_to_chance() -> None:
    method = made(beta=0.2).eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16).expand(5, 3, 16, 16)
    for _ in range(12):
        terms = method.loss(Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5))
    for name, value in method.chance(5).items():
        assert terms[name].item() == pytest.approx(value, abs=1e-4)


def test_no_gradient_reaches_the_teacher_nor_the_covariance() -> None:
    method = made()
    torch.stack([*method.loss(batch()).values()]).sum().backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert not method.covariance.requires_grad and "covariance" in method.state_dict()


def test_the_teacher_follows_with_a_momentum_that_rises_to_one() -> None:
    method = made(momentum=0.9)
    teacher, student = method.teacher.parts[1][0].weight, method.projector[0].weight
    assert torch.equal(teacher, student)
    for progress, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        with torch.no_grad():
            student.add_(1)
        wanted = momentum * teacher + (1 - momentum) * student
        method.after_step(progress)
        torch.testing.assert_close(teacher, wanted)


def test_images_may_be_permuted() -> None:
    given, order = batch(), torch.tensor([3, 1, 5, 0, 2, 4])
    turned = Batch([view[order] for view in given.views], given.index, None, given.generator, 0.5)
    first, second = made().loss(given), made().loss(turned)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_loss_keeps_float32_under_autocast() -> None:
    method = made(out=5)
    seen = projections(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.loss(batch())
    z = F.normalize(seen[0].detach().double(), dim=1)
    wanted = 8 * 0.1 * (z @ z.T).square().mean()
    assert terms["contrast"].dtype == torch.float32
    assert terms["contrast"].item() == pytest.approx(wanted.item(), rel=1e-3)
