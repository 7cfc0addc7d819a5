"""BYOL against its loss written with loops, and its teacher."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.distillation.byol import BYOL


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return BYOL(encoder, BYOL.Settings(**settings))


def batch(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def slow(p: Tensor, z: Tensor) -> float:
    """Grill et al. 2020, equation 2: squared distance of unit vectors, over the batch."""
    total = 0.0
    for one, other in zip(p.tolist(), z.tolist()):
        lengths = math.dist(one, [0] * len(one)), math.dist(other, [0] * len(other))
        total += sum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(one, other))
    return total / len(p)


def test_the_loss_is_that_of_loops_over_images_and_both_directions() -> None:
    method, given = made().train(), batch()
    said = [method._predicted(view) for view in given.views]
    taught = [method.teacher(view) for view in given.views]
    wanted = slow(said[0], taught[1]) + slow(said[1], taught[0])
    assert method.loss(given)["byol"].item() == pytest.approx(wanted, rel=1e-5)


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given = made().train(), batch()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    whole = method.loss(given)["byol"].item()
    for views in (given.views[::-1], [view[order] for view in given.views]):
        assert method.loss(Batch(views, given.index, None, given.generator, 0.5))["byol"].item() == pytest.approx(
            whole, rel=1e-5
        )


def test_no_gradient_reaches_the_teacher() -> None:
    method = made().train()
    method.loss(batch())["byol"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(weight.grad is not None for weight in method.predictor.parameters())


def test_the_teacher_starts_as_a_copy_and_follows_with_a_momentum_that_rises_to_one() -> None:
    method = made(momentum=0.9)
    teacher, student = method.teacher.parts[1][0].weight, method.projector[0].weight
    assert torch.equal(teacher, student)
    for progress, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        with torch.no_grad():
            student.add_(1)
        wanted = momentum * teacher + (1 - momentum) * student
        method.after_step(progress)
        torch.testing.assert_close(teacher, wanted)


def test_the_second_view_alone_is_solarised() -> None:
    first, second = made(blur=1.0).views
    assert (first.solarise, second.solarise) == (0, 0.2) and (first.blur, second.blur) == (1, 0.1)


def test_heads_end_in_a_layer_without_bias() -> None:
    method = made()
    assert all(head[0].bias is None and head[-1].bias is None for head in (method.projector, method.predictor))
