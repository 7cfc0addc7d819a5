"""LeJEPA against its two terms written with loops, and SIGReg against what is known of it."""

import cmath
import math
from typing import Any

import pytest
import torch
from lightly.loss import LeJEPALoss
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.decorrelation.lejepa import LeJEPA


def made(**settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return LeJEPA(encoder, LeJEPA.Settings(**settings))


def batch(count: int = 5, local: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, side, side, generator=generator) for side in [16] * 2 + [8] * local]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def drawn(count: int, width: int, seed: int = 2) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def embeddings(method: Any) -> list[Tensor]:
    """What the projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def directions(width: int, count: int) -> Tensor:
    """The unit columns that come of torch's seed 7."""
    torch.manual_seed(7)
    found = torch.randn(width, count)
    return (found / found.norm(dim=0)).double()


def slow_epps_pulley(x: list[float]) -> float:
    """n times the integral of |mean exp(itx) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) over -3..3, by trapezoids of 3/16."""
    total, step = 0.0, 3 / 16
    for k in range(-16, 17):
        t = k * step
        gap = sum(cmath.exp(1j * t * value) for value in x) / len(x) - math.exp(-t * t / 2)
        total += step * (0.5 if abs(k) == 16 else 1.0) * abs(gap) ** 2 * math.exp(-t * t / 2)
    return len(x) * total


def whole_line(x: Tensor) -> float:
    """The same over all t, in closed form (Epps & Pulley 1983)."""
    apart = (x[:, None] - x[None]).square()
    mean = math.sqrt(2 * math.pi) * (-apart / 2).exp().mean() - 2 * math.sqrt(math.pi) * (-x.square() / 4).exp().mean()
    return len(x) * float(mean + math.sqrt(2 * math.pi / 3))


def test_terms_equal_the_slow_formulas() -> None:
    """Every view, also a full-size one, is held to the mean of those, and each view's batch is tested (p. 12)."""
    method = made(out=6, slices=3, sigreg=0.3)
    seen, given = embeddings(method), batch()
    torch.manual_seed(7)
    terms = method.loss(given)
    z = seen[0].detach().double().unflatten(0, (4, 5))
    distance = sum(float(((z[v, b] - z[:2, b].mean(0)) ** 2).mean()) for v in range(4) for b in range(5)) / 20
    along = [z[v] @ directions(6, 3)[:, k] for v in range(4) for k in range(3)]
    wanted = sum(slow_epps_pulley(x.tolist()) for x in along) / len(along)
    assert terms["agreement"].item() == pytest.approx(0.7 * distance, rel=1e-5)
    assert terms["sigreg"].item() == pytest.approx(0.3 * wanted, rel=1e-4)


def test_gradient_equals_finite_differences() -> None:
    method = made(slices=3).double()
    z = drawn(5, 4).double().requires_grad_()

    def statistic(z: Tensor) -> Tensor:
        torch.manual_seed(7)
        found: Tensor = method.normality(z)
        return found

    assert torch.autograd.gradcheck(statistic, z)


def test_its_loss_is_lightlys() -> None:
    """From 1.6 on; before that, full-size views were left out (lightly, issue 2002)."""
    method = made()
    seen = embeddings(method)
    torch.manual_seed(7)
    loss = sum(method.loss(batch()).values())
    z = seen[0].unflatten(0, (4, 5))
    torch.manual_seed(7)
    known = LeJEPALoss(0.05, sigreg_num_vectors=256)(local_proj=z[2:], global_proj=z[:2])
    torch.testing.assert_close(loss, known)


def test_full_size_views_are_held_to_each_other_and_to_the_gaussian() -> None:
    for name in ("agreement", "sigreg"):
        method = made(local_crops=0)
        seen = embeddings(method)
        method.loss(batch(local=0))[name].backward()
        assert seen[0].grad is not None and bool((seen[0].grad.abs().sum(1) > 0).all())


def test_statistic_is_epps_and_pulleys_but_for_the_tails() -> None:
    for x in (drawn(64, 1), 2 * drawn(64, 1) + 1, drawn(64, 1).abs()):
        found = made(slices=1).normality(x).item()
        assert found == pytest.approx(whole_line(x[:, 0]), rel=0.02, abs=0.05)


def test_a_gaussian_scores_about_its_expectation_at_any_size_and_others_grow_with_it() -> None:
    expected = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)  # E|phi_n - phi|^2 = (1 - phi^2) / n
    normality = made().normality
    for count in (256, 1024):
        assert normality(drawn(count, 32)).item() == pytest.approx(expected, rel=0.2)
    assert normality(3 * drawn(1024, 32)).item() > 3.5 * normality(3 * drawn(256, 32)).item()


def test_collapsed_views_give_chance_at_the_origin_and_more_elsewhere() -> None:
    method = made()
    at_origin = 0.05 * method.normality(torch.zeros(9, 64)).item()
    assert at_origin == pytest.approx(method.chance(9)["sigreg"], rel=1e-5)
    assert 0.05 * method.normality(torch.full((9, 64), 0.3)).item() > at_origin


def test_directions_are_others_at_each_step_and_follow_the_seed() -> None:
    method, z = made(slices=2), drawn(8, 6)
    torch.manual_seed(7)
    first, second = method.normality(z).item(), method.normality(z).item()
    torch.manual_seed(7)
    assert first != second and first == method.normality(z).item()


def test_length_is_not_normalised_away() -> None:
    method, z = made(), drawn(64, 8)
    assert method.normality(4 * z).item() > 3 * method.normality(z).item()


def test_views_of_a_size_may_be_swapped_and_images_permuted() -> None:
    method, given, order = made(), batch(), torch.tensor([3, 1, 0, 2, 4])
    a, b, c, d = given.views
    found = []
    for views in (given.views, [b, a, d, c], [view[order] for view in given.views]):
        torch.manual_seed(7)
        found.append(method.loss(Batch(views, given.index, None, given.generator, 0.5)))
    for terms in found[1:]:
        for name in terms:
            torch.testing.assert_close(terms[name], found[0][name], rtol=1e-4, atol=1e-5)


def test_half_size_crops_are_smaller_pieces() -> None:
    whole, part = made(local_crops=3).views
    assert (whole.count, whole.size, whole.crop) == (2, 1.0, (0.3, 1.0))
    assert (part.count, part.size, part.crop) == (3, 0.5, (0.14, 0.3))
    with pytest.raises(UserError, match=r"lejepa\.local_min=0\.5"):
        made(local_min=0.5)
