"""SimSiam against its loss written with loops, and the rate of its predictor."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.distillation.simsiam import SimSiam
from ssbench.spec import Train
from ssbench.training.optimisers import optimiser, peak, schedule


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return SimSiam(encoder, SimSiam.Settings(**{"hidden": 16, "out": 8, "bottleneck": 4, **settings})).train()


def batch(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def slow(p: Tensor, z: Tensor) -> float:
    """Chen and He 2020, equation 1: minus the cosine, over the batch."""
    total = 0.0
    for one, other in zip(p.tolist(), z.tolist()):
        lengths = math.dist(one, [0] * len(one)) * math.dist(other, [0] * len(other))
        total -= sum(a * b for a, b in zip(one, other)) / lengths
    return total / len(p)


def seen(method: Any, given: Batch) -> tuple[list[Tensor], list[Tensor]]:
    z = [method.projector(method.encoder.pooled(view)) for view in given.views]
    return [method.predictor(one) for one in z], z


def test_the_loss_is_half_of_each_direction() -> None:
    method, given = made(), batch()
    p, z = seen(method, given)
    wanted = slow(p[0], z[1]) / 2 + slow(p[1], z[0]) / 2
    assert method.loss(given)["simsiam"].item() == pytest.approx(wanted, rel=1e-5)


def test_its_gradient_is_that_of_constant_targets() -> None:
    method, given = made(), batch()
    method.loss(given)["simsiam"].backward()
    found = [weight.grad.clone() for weight in method.parameters() if weight.grad is not None]
    method.zero_grad()
    targets = [one.detach() for one in seen(method, given)[1]]
    p, _ = seen(method, given)
    unit = [[one / one.norm(dim=1, keepdim=True) for one in pair] for pair in (p, targets)]
    (-(unit[0][0] * unit[1][1]).sum(1).mean() / 2 - (unit[0][1] * unit[1][0]).sum(1).mean() / 2).backward()
    wanted = [weight.grad for weight in method.parameters() if weight.grad is not None]
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given = made(), batch()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    whole = method.loss(given)["simsiam"].item()
    for views in (given.views[::-1], [view[order] for view in given.views]):
        other = method.loss(Batch(views, given.index, None, given.generator, 0.5))["simsiam"].item()
        assert other == pytest.approx(whole, rel=1e-5)


def test_the_predictors_rate_alone_is_constant_and_vectors_do_not_decay() -> None:
    method, recipe = made(), Train(optimiser="sgd", lr=0.5, weight_decay=0.1, warmup=0)
    groups = method.groups(0.1)
    learned = [weight for weight in method.parameters() if weight.requires_grad]
    assert sorted(map(id, learned)) == sorted(id(weight) for group in groups for weight in group["params"])
    assert all((weight.ndim > 1) == (group["weight_decay"] > 0) for group in groups for weight in group["params"])
    steps = optimiser(groups, recipe)
    schedule(steps, recipe, 0.999)
    of_predictor = {id(weight) for weight in method.predictor.parameters()}
    for group in steps.param_groups:
        constant = {id(weight) in of_predictor for weight in group["params"]}
        assert constant == {group["lr"] == peak(recipe)} and (group["lr"] == peak(recipe) or group["lr"] < 1e-4)


def test_the_projector_ends_in_a_norm_without_weights_and_the_predictor_in_none() -> None:
    method = made()
    assert [len(list(part.parameters())) for part in method.projector] == [1, 2, 0, 1, 2, 0, 1, 0]
    assert [len(list(part.parameters())) for part in method.predictor] == [1, 2, 0, 2]


def test_embeddings_that_are_one_point_have_no_spread_and_random_ones_have_all() -> None:
    method, images = made(out=64).eval(), torch.randn(200, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    method.projector = torch.nn.Flatten()
    method.encoder.pooled = lambda images: images.flatten(1)[:, :64]
    assert method.measures(images, None)["embedding std"] == pytest.approx(1, abs=0.02)
    assert method.measures(images[:1].expand(9, -1, -1, -1), None)["embedding std"] == pytest.approx(0, abs=1e-6)
