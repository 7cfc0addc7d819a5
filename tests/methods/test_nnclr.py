"""NNCLR against its loss written with loops, and its support set."""

from math import exp, log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.nnclr import NNCLR


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    small = {"queue": 10, "out": 8, "hidden": 16, "predictor": 16}
    return NNCLR(encoder, NNCLR.Settings(**{**small, **settings})).train()


def batch(count: int = 6, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def seen(method: Any, given: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Projections and predictions of both views."""
    z = [method.projector(method.encoder.pooled(view)) for view in given.views]
    return z, [method.predictor(one) for one in z]


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def slow(z: Tensor, p: Tensor, queue: Tensor, temperature: float) -> float:
    """Dwibedi et al. 2021, equation 3, mean over images: the neighbour of z_i against the predictions of the batch."""
    total = 0.0
    for i in range(len(z)):
        near = max(queue, key=lambda one: cosine(z[i], one))
        scores = [exp(cosine(near, one) / temperature) for one in p]
        total -= log(scores[i] / sum(scores))
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_that_of_loops_both_ways_round_with_the_queue_before_it(temperature: float) -> None:
    method, given = made(temperature=temperature), batch()
    method.loss(batch(seed=2))
    queue = method.queue.vectors.clone()
    z, p = seen(method, given)
    wanted = (slow(z[0], p[1], queue, temperature) + slow(z[1], p[0], queue, temperature)) / 2
    assert method.loss(given)["nnclr"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_predictions_is_that_of_finite_differences() -> None:
    method, given = made(), batch()
    z, p = [[one.detach().double() for one in both] for both in seen(method, given)]
    queue, outputs = method.queue.vectors.double().clone(), []
    method.predictor.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    loss = method.loss(given)["nnclr"]
    found = torch.autograd.grad(loss, outputs)
    for at in [(0, 0), (2, 3), (5, 7)]:
        step = torch.zeros_like(p[1])
        step[at] = 1e-5
        difference = (slow(z[0], p[1] + step, queue, 0.1) - slow(z[0], p[1] - step, queue, 0.1)) / 4e-5
        assert found[1][at].item() == pytest.approx(difference, abs=1e-5)


def test_projections_learn_through_the_predictor_alone() -> None:
    method, given = made(), batch()
    method.predictor.register_forward_hook(lambda module, inputs, output: output.detach().requires_grad_())
    method.loss(given)["nnclr"].backward()
    assert all(weight.grad is None for weight in method.projector.parameters())


def test_the_support_set_takes_the_first_views_unit_vectors_after_the_loss() -> None:
    method, given = made(), batch(4)
    before = method.queue.vectors.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(10))
    z, _ = seen(method, given)
    method.loss(given)
    torch.testing.assert_close(method.queue.vectors[:4], F.normalize(z[0], dim=1))
    assert torch.equal(method.queue.vectors[4:], before[:6]) and not method.queue.vectors.requires_grad


def test_an_image_whose_embedding_is_in_the_support_set_is_its_own_neighbour() -> None:
    method, given = made(), batch(4)
    z, _ = seen(method, given)
    method.queue.push(F.normalize(z[0], dim=1))
    assert method._nearest(z[0]).tolist() == [0, 1, 2, 3]


def test_equal_images_give_the_loss_of_guessing() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    assert method.loss(same)["nnclr"].item() == pytest.approx(log(5), abs=1e-5)
    assert method.chance(5) == pytest.approx({"nnclr": log(5)})


def test_views_may_be_swapped_and_images_permuted() -> None:
    given, order = batch(), torch.tensor([3, 1, 5, 0, 2, 4])
    whole = made().loss(given)["nnclr"].item()
    for views in (given.views[::-1], [view[order] for view in given.views]):
        turned = Batch(views, given.index, None, given.generator, 0.5)
        assert made().loss(turned)["nnclr"].item() == pytest.approx(whole, rel=1e-5)


def test_the_support_set_is_put_back_with_the_state() -> None:
    method, given = made(), batch()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    first = method.loss(given)["nnclr"]
    method.loss(batch(seed=3))
    method.load_state_dict(state)
    assert torch.equal(method.loss(given)["nnclr"], first)
