"""MoCo v2 against its loss written with loops, its queue and its teacher."""

from math import exp, log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.moco_v2 import MoCoV2
from ssbench.methods.parts.spread import spread


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return MoCoV2(encoder, MoCoV2.Settings(**{"queue": 10, "out": 8, "hidden": 16, **settings}))


def batch(count: int = 4, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def unit(row: list[float]) -> list[float]:
    length = sum(value**2 for value in row) ** 0.5
    return [value / length for value in row]


def slow(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> float:
    """He et al. 2020, equation 1: the key against itself and all keys of the queue, mean over queries."""
    total = 0.0
    for query, key in zip(q.tolist(), k.tolist()):
        query = unit(query)
        right, *wrong = (
            exp(sum(a * b for a, b in zip(query, other)) / temperature) for other in (unit(key), *queue.tolist())
        )
        total -= log(right / (right + sum(wrong)))
    return total / len(q)


@pytest.mark.parametrize("temperature", [0.2, 0.07])
def test_the_loss_is_that_of_loops_over_queries_and_the_queue_before_it(temperature: float) -> None:
    method, given = made(temperature=temperature), batch()
    method.loss(batch(seed=2))
    q, k = method.projector(method.encoder.pooled(given.views[0])), method.teacher(given.views[1])
    wanted = slow(q, k, method.queue.vectors.clone(), temperature)
    assert method.loss(given)["moco"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_queries_is_that_of_finite_differences() -> None:
    method, given = made(), batch()
    q = method.projector(method.encoder.pooled(given.views[0])).detach().double()
    k, queue = method.teacher(given.views[1]).double(), method.queue.vectors.double()
    seen: list[Tensor] = []
    method.projector.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss = method.loss(given)["moco"]
    (found,) = torch.autograd.grad(loss, seen)
    for at in [(0, 0), (1, 3), (3, 7)]:
        step = torch.zeros_like(q)
        step[at] = 1e-5
        difference = (slow(q + step, k, queue, 0.2) - slow(q - step, k, queue, 0.2)) / 2e-5
        assert found[at].item() == pytest.approx(difference, abs=1e-5)


def test_the_queue_starts_with_unit_vectors_and_takes_the_teachers_keys_newest_first() -> None:
    method = made()
    before = method.queue.vectors.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(10))
    given = batch()
    method.loss(given)
    torch.testing.assert_close(method.queue.vectors[:4], F.normalize(method.teacher(given.views[1]), dim=1))
    assert torch.equal(method.queue.vectors[4:], before[:6]) and not method.queue.vectors.requires_grad


def test_equal_images_give_the_loss_of_guessing() -> None:
    method = made()
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    for _ in range(2):
        method.loss(same)
    assert method.loss(same)["moco"].item() == pytest.approx(log(1 + 10), abs=1e-4)
    assert method.chance(5) == pytest.approx({"moco": log(11)})


def test_the_order_of_images_does_not_matter() -> None:
    order, given = torch.tensor([3, 1, 0, 2]), batch()
    whole = made().loss(given)["moco"].item()
    turned = Batch([view[order] for view in given.views], given.index, None, given.generator, 0.5)
    assert made().loss(turned)["moco"].item() == pytest.approx(whole, rel=1e-5)


def test_no_gradient_reaches_the_teacher_which_follows_by_its_momentum() -> None:
    method = made(momentum=0.9)
    method.loss(batch())["moco"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(weight.grad is not None for weight in method.projector.parameters())
    teacher, student = method.teacher.parts[1].layers[0].weight, method.projector.layers[0].weight
    assert torch.equal(teacher, student)
    with torch.no_grad():
        student.add_(1)
    wanted = 0.9 * teacher + 0.1 * student
    method.after_step(0.7)
    torch.testing.assert_close(teacher, wanted)


def test_the_queue_is_put_back_with_the_state() -> None:
    method, given = made(), batch()
    method.loss(batch(seed=2))
    state = {name: value.clone() for name, value in method.state_dict().items()}
    first = method.loss(given)["moco"]
    assert not torch.equal(method.loss(given)["moco"], first)
    method.load_state_dict(state)
    assert torch.equal(method.loss(given)["moco"], first)


def test_spread_is_one_of_vectors_in_all_directions_and_zero_of_equal_ones() -> None:
    assert spread(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))) == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(8, 16)) == pytest.approx(0, abs=1e-6)
