"""SupCon against its loss written with loops, against NT-Xent, and what it makes of labels."""

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.contrastive.simclr import ntxent
from ssbench.methods.contrastive.supcon import SupCon, supervised_ntxent

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return SupCon(encoder, SupCon.Settings(**{"hidden": 16, "out": 8, **settings}), classes=3)


def batch(labels: Tensor = LABELS) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(len(labels), 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(len(labels)), labels, generator, 0.5)


def slow(z: NDArray[np.float64], labels: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, over the number of anchors: the sum over positives is outside the logarithm."""
    unit = [row / np.sqrt((row**2).sum()) for row in z]
    total = 0.0
    for i in range(len(z)):
        below = sum(exp(unit[i] @ unit[a] / temperature) for a in range(len(z)) if a != i)
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        total -= sum(log(exp(unit[i] @ unit[p] / temperature) / below) for p in positives) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_that_of_loops_over_anchors_and_positives(temperature: float) -> None:
    method, given = made(temperature=temperature), batch()
    z = method.projector(method.encoder.pooled(torch.cat(given.views))).detach().double().numpy()
    wanted = slow(z, LABELS.tolist() * 2, temperature)
    assert method.loss(given)["supcon"].item() == pytest.approx(wanted, rel=1e-5)


def test_its_gradient_is_that_of_finite_differences() -> None:
    labels = [0, 1, 0, 0, 1, 0]
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    (found,) = torch.autograd.grad(supervised_ntxent(z, torch.tensor(labels), 0.2), z)
    exact = z.detach().numpy()
    for at in [(0, 0), (1, 2), (4, 3), (5, 1)]:
        step = np.zeros_like(exact)
        step[at] = 1e-6
        difference = (slow(exact + step, labels, 0.2) - slow(exact - step, labels, 0.2)) / 2e-6
        assert found[at].item() == pytest.approx(difference, abs=1e-6)


def test_with_a_class_to_each_image_it_is_ntxent() -> None:
    z = torch.randn(10, 7, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(supervised_ntxent(z, torch.arange(5).repeat(2), 0.2), ntxent(z, 0.2))


def test_equal_images_give_the_loss_of_guessing() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(6, 3, 16, 16)
    same = Batch([image, image], torch.arange(6), LABELS, torch.Generator(), 0.5)
    assert method.loss(same)["supcon"].item() == pytest.approx(log(2 * 6 - 1), abs=1e-4)


def test_it_is_least_where_each_class_is_one_point_of_a_simplex() -> None:
    corners = torch.eye(3)[LABELS.repeat(2)]  # by turns of each other and far apart
    near = corners + 0.3 * torch.randn(12, 3, generator=torch.Generator().manual_seed(4))
    labels = LABELS.repeat(2)
    assert supervised_ntxent(corners, labels, 0.1) < supervised_ntxent(near, labels, 0.1)


def test_order_of_images_and_of_views_and_names_of_classes_do_not_matter() -> None:
    method, given = made(), batch()
    order, whole = torch.tensor([3, 1, 5, 0, 4, 2]), method.loss(batch())["supcon"].item()
    views = [given.views[1][order], given.views[0][order]]
    turned = Batch(views, given.index, 7 - LABELS[order], given.generator, 0.5)
    assert method.loss(turned)["supcon"].item() == pytest.approx(whole, rel=1e-5)


def test_it_declares_that_it_sees_labels_and_other_labels_are_another_loss() -> None:
    method = made()
    assert method.supervised
    assert abs(method.loss(batch())["supcon"] - method.loss(batch(LABELS.roll(1)))["supcon"]) > 1e-4
