"""MMCR against singular values from eigenvalues, one image after another, and what its loss must be at its ends."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.decorrelation.mmcr import MMCR


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return MMCR(encoder, MMCR.Settings(**settings))


def batch(views: list[Tensor]) -> Batch:
    return Batch(views, torch.arange(len(views[0])), None, torch.Generator().manual_seed(3), 0.5)


class Given(nn.Module):
    """Hands out the same embeddings (views, B, out), whatever is asked."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, pooled: Tensor) -> Tensor:
        return self.embeddings.flatten(0, 1)


def given(method: Any, embeddings: Tensor) -> Tensor:
    """The loss of views whose embeddings (views, B, out) are these."""
    method.projector = Given(embeddings)
    found: Tensor = method.loss(batch([torch.zeros(embeddings.shape[1], 3, 16, 16)] * len(embeddings)))["mmcr"]
    return found


def slow(embeddings: Tensor) -> Tensor:
    centroids = []
    for image in embeddings.unbind(1):
        centroids.append(sum(view / view.square().sum().sqrt() for view in image) / len(image))
    square = torch.stack(centroids) @ torch.stack(centroids).T
    return torch.linalg.eigvalsh(square).clamp(min=0).sqrt().sum()


def test_value_and_gradient_are_those_of_singular_values_from_eigenvalues() -> None:
    drawn = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)).double()
    one, other = (drawn.float().requires_grad_(), drawn.clone().requires_grad_())
    found, expected = given(made(out=8), one), 5 - slow(other)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    found.backward()
    expected.backward()
    assert one.grad is not None and other.grad is not None
    assert torch.allclose(one.grad.double(), other.grad, atol=1e-5)


def test_images_apart_whose_views_agree_cost_nothing_and_those_alike_what_chance_says() -> None:
    apart = torch.eye(6)[None].repeat(4, 1, 1)
    method = made(out=6)
    assert float(given(method, apart)) == pytest.approx(0, abs=1e-5)
    alike = torch.ones(4, 6, 6)
    assert float(given(method, alike)) == pytest.approx(method.chance(6)["mmcr"], rel=1e-5)


def test_views_that_disagree_shorten_centroids() -> None:
    generator = torch.Generator().manual_seed(1)
    apart = torch.eye(6)[None].repeat(4, 1, 1)
    noisy = apart + 0.5 * torch.randn(4, 6, 6, generator=generator)
    assert float(given(made(out=6), noisy)) > 0.5


def test_order_of_views_and_of_images_does_not_matter() -> None:
    drawn = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    method = made(out=8)
    found = [float(given(method, one)) for one in (drawn, drawn.flip(0), drawn.flip(1))]
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)
