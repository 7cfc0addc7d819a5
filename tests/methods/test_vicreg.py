"""VICReg against its three terms written with loops."""

from typing import Any

import pytest
import torch
from lightly.loss import VICRegLoss
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.decorrelation.embeddings import COLLAPSED, covariance, variance
from ssbench.methods.decorrelation.vicreg import VICReg


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return VICReg(encoder, VICReg.Settings(**settings))


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


def slow(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Bardes et al. 2022, equations 1 to 5 at 25, 25, 1, with main_vicreg.py's means over dimensions and halves."""
    (count, width), zero = x.shape, x.new_zeros(())
    distance = sum(((x[b, d] - y[b, d]) ** 2 for b in range(count) for d in range(width)), zero)
    lack, pairs = zero, zero
    for z in (x, y):
        rows = [z[:, d] - z[:, d].sum() / count for d in range(width)]
        for i in range(width):
            deviation = ((rows[i] ** 2).sum() / (count - 1) + 1e-4) ** 0.5
            lack = lack + (1 - deviation if deviation < 1 else zero) / width / 2
            for j in range(width):
                if i != j:
                    pairs = pairs + ((rows[i] * rows[j]).sum() / (count - 1)) ** 2 / width
    return {"invariance": 25 * distance / count / width, "variance": 25 * lack, "covariance": pairs}


def test_terms_and_their_gradients_equal_the_slow_formulas() -> None:
    method = made(out=7)
    seen = projections(method)
    terms = method.loss(batch())
    exact = [z.detach().double().requires_grad_() for z in seen]
    wanted = slow(*exact)
    assert list(terms) == list(wanted)
    for name in terms:
        torch.testing.assert_close(terms[name].double(), wanted[name], rtol=1e-5, atol=1e-6)
    torch.stack([*terms.values()]).sum().backward()
    torch.stack([*wanted.values()]).sum().backward()
    for z, known in zip(seen, exact):
        assert z.grad is not None and known.grad is not None
        torch.testing.assert_close(z.grad.double(), known.grad, rtol=1e-4, atol=1e-6)


def test_its_loss_is_lightlys() -> None:
    method = made()
    seen = projections(method)
    loss = sum(method.loss(batch()).values())
    torch.testing.assert_close(loss, VICRegLoss()(*seen))


def test_three_by_two_by_hand() -> None:
    z = torch.tensor([[-2.0, -1.0], [0.0, 0.0], [2.0, 1.0]])  # variances 4 and 1, covariance 2
    assert variance(z / 2).item() == pytest.approx((0 + 1 - (0.25 + 1e-4) ** 0.5) / 2, abs=1e-6)
    assert covariance(z).item() == pytest.approx((2**2 + 2**2) / 2)


def test_places_are_the_mean_of_their_own_batches() -> None:
    z = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(covariance(z), torch.stack([covariance(z[:, n]) for n in range(3)]).mean())
    torch.testing.assert_close(variance(z), torch.stack([variance(z[:, n]) for n in range(3)]).mean())


def test_collapsed_views_give_chance() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16).expand(5, 3, 16, 16)
    terms = method.loss(Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5))
    assert terms["variance"].item() == pytest.approx(method.chance(5)["variance"], abs=1e-3) == 25 * COLLAPSED
    assert terms["invariance"].item() == pytest.approx(0, abs=1e-6) == terms["covariance"].item()


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given, order = made(), batch(), torch.tensor([3, 1, 5, 0, 2, 4])
    whole = method.loss(given)
    for views in (given.views[::-1], [view[order] for view in given.views]):
        turned = method.loss(Batch(views, given.index, None, given.generator, 0.5))
        for name in whole:
            torch.testing.assert_close(turned[name], whole[name], rtol=1e-4, atol=1e-5)


def test_loss_keeps_float32_under_autocast() -> None:
    method = made(out=7)
    seen = projections(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.loss(batch())
    wanted = slow(seen[0].double(), seen[1].double())
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(wanted[name].item(), rel=1e-4, abs=1e-6)


def test_no_linear_layer_has_a_bias() -> None:
    projector = made().projector
    assert [part.bias for part in projector if hasattr(part, "in_features")] == [None] * 3
