"""ReSSL against its loss written with loops, its queue and its teacher."""

from math import exp, log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.ressl import ReSSL


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return ReSSL(encoder, ReSSL.Settings(**{"queue": 10, "out": 8, "hidden": 16, **settings}))


def batch(count: int = 4, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def relation(vector: Tensor, queue: Tensor, temperature: float) -> list[float]:
    """Zheng et al. 2021, equations 3 and 4: how like one image is to those of the queue."""
    length = (vector @ vector).item() ** 0.5
    high = [exp((vector @ one).item() / length / temperature) for one in queue]
    return [one / sum(high) for one in high]


def slow(q: Tensor, k: Tensor, queue: Tensor, temperature: float, sharper: float) -> float:
    """Equation 5: cross-entropy of the two relations, mean over images."""
    pairs = [(relation(one, queue, temperature), relation(other, queue, sharper)) for one, other in zip(q, k)]
    return -sum(t * log(s) for student, teacher in pairs for s, t in zip(student, teacher)) / len(q)


@pytest.mark.parametrize(("temperature", "sharper"), [(0.1, 0.04), (0.5, 0.2)])
def test_the_loss_is_that_of_loops_over_images_and_the_queue_before_it(temperature: float, sharper: float) -> None:
    method, given = made(temperature=temperature, temperature_teacher=sharper), batch()
    method.loss(batch(seed=2))
    q, k = method.projector(method.encoder.pooled(given.views[0])), method.teacher(given.views[1])
    wanted = slow(q, k, method.queue.vectors.clone(), temperature, sharper)
    assert method.loss(given)["ressl"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_the_student_is_that_of_finite_differences() -> None:
    method, given = made(), batch()
    q = method.projector(method.encoder.pooled(given.views[0])).detach().double()
    k, queue = method.teacher(given.views[1]).double(), method.queue.vectors.double().clone()
    outputs: list[Tensor] = []
    method.projector.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    loss = method.loss(given)["ressl"]
    (found,) = torch.autograd.grad(loss, outputs)
    for at in [(0, 0), (1, 3), (3, 7)]:
        step = torch.zeros_like(q)
        step[at] = 1e-5
        difference = (slow(q + step, k, queue, 0.1, 0.04) - slow(q - step, k, queue, 0.1, 0.04)) / 2e-5
        assert found[at].item() == pytest.approx(difference, rel=1e-3, abs=1e-5)


def test_the_queue_takes_the_teachers_vectors_after_the_loss() -> None:
    method, given = made(), batch()
    before = method.queue.vectors.clone()
    method.loss(given)
    torch.testing.assert_close(method.queue.vectors[:4], F.normalize(method.teacher(given.views[1]), dim=1))
    assert torch.equal(method.queue.vectors[4:], before[:6]) and not method.queue.vectors.requires_grad


def test_equal_images_give_the_loss_of_guessing() -> None:
    method = made()
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    for _ in range(2):
        method.loss(same)
    assert method.loss(same)["ressl"].item() == pytest.approx(log(10), abs=1e-4)
    assert method.chance(5) == pytest.approx({"ressl": log(10)})


def test_the_order_of_images_does_not_matter() -> None:
    order, given = torch.tensor([3, 1, 0, 2]), batch()
    whole = made().loss(given)["ressl"].item()
    turned = Batch([view[order] for view in given.views], given.index, None, given.generator, 0.5)
    assert made().loss(turned)["ressl"].item() == pytest.approx(whole, rel=1e-5)


def test_no_gradient_reaches_the_teacher_which_follows_by_its_momentum() -> None:
    method = made(momentum=0.9)
    method.loss(batch())["ressl"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(weight.grad is not None for weight in method.projector.parameters())
    teacher, student = method.teacher.parts[1].layers[0].weight, method.projector.layers[0].weight
    with torch.no_grad():
        student.add_(1)
    wanted = 0.9 * teacher + 0.1 * student
    method.after_step(0.7)
    torch.testing.assert_close(teacher, wanted)


def test_the_teacher_sees_a_crop_with_its_own_colours() -> None:
    strong, weak = made(blur=0.5).views
    assert (strong.jitter, strong.grey, strong.blur) == ((0.4, 0.4, 0.4, 0.1), 0.2, 0.5)
    assert (any(weak.jitter), weak.grey, weak.blur, weak.solarise) == (False, 0, 0, 0) and weak.crop == strong.crop


def test_the_teachers_entropy_is_that_of_its_softmax_over_the_queue() -> None:
    method, images = made().eval(), batch().views[0]
    wanted = [-sum(p * log(p) for p in relation(k, method.queue.vectors, 0.04)) for k in method.teacher(images)]
    with torch.no_grad():
        found = method.measures(images, None)["teacher entropy"]
    assert found == pytest.approx(sum(wanted) / 4 / log(10), rel=1e-4)
