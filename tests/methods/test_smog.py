"""SMoG against groups that are moved, and predicted, with loops."""

from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.clustering.smog import SMoG, move

SMALL = {"groups": 4, "out": 6, "hidden": 16, "queue": 8, "beta": 0.7}


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return SMoG(encoder, SMoG.Settings(**{**SMALL, **settings})).train()


def batch(count: int = 6, size: int = 16, step: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, size, size, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5, step)


def unit(rows: Tensor) -> Tensor:
    return torch.stack([row / row.square().sum().sqrt() for row in rows])


def slow_move(groups: Tensor, z: Tensor, beta: float) -> Tensor:
    """One group after the other."""
    moved = []
    for k, group in enumerate(groups):
        own = [row for row in z if max(range(len(groups)), key=lambda j: float(row @ groups[j])) == k]
        moved.append(beta * group + (1 - beta) * torch.stack(own).mean(0) if own else group)
    return unit(torch.stack(moved))


def outputs(method: Any) -> dict[str, Tensor]:
    """What the heads give from now on."""
    seen: dict[str, Tensor] = {}
    parts = {"z": method.projector, "p": method.predictor, "t": method.teacher.parts[1]}
    for name, part in parts.items():
        part.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output.detach()}))
    return seen


def test_groups_move_as_in_loops_and_those_without_images_stay() -> None:
    generator = torch.Generator().manual_seed(2)
    groups, z = unit(torch.randn(9, 5, generator=generator)), unit(torch.randn(6, 5, generator=generator))
    found = move(groups, z, 0.8)
    torch.testing.assert_close(found, slow_move(groups, z, 0.8))
    unmoved = set(range(9)) - set((z @ groups.T).argmax(1).tolist())
    torch.testing.assert_close(found[sorted(unmoved)], groups[sorted(unmoved)])


@pytest.mark.parametrize("step", [0, 1])
def test_loss_is_that_of_loops_and_views_change_roles(step: int) -> None:
    method, given = made(), batch(step=step)
    groups, seen = method.centroids.double(), outputs(method)
    loss = method.loss(given)["smog"].item()
    z, p, t = (unit(seen[name].double()) for name in "zpt")
    moved, total = slow_move(groups, z, 0.7), 0.0
    for said, taught in zip(p, t):
        wanted = max(range(4), key=lambda k: float(taught @ groups[k]))
        scores = moved @ said / 0.1
        total -= (scores[wanted] - scores.exp().sum().log()).item() / 6
    assert loss == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(method.centroids.double(), moved)
    torch.testing.assert_close(seen["t"], method.teacher(given.views[1 - step]))


def test_the_gradient_goes_through_the_groups() -> None:
    groups = unit(torch.randn(3, 5, dtype=torch.float64))
    z = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: move(groups, F.normalize(rows, dim=1), 0.7), (z,))


def test_no_gradient_reaches_teacher_or_kept_groups() -> None:
    method = made()
    method.loss(batch())["smog"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert not method.centroids.requires_grad and not method.recent.vectors.requires_grad
    assert all(weight.grad is not None for weight in method.predictor.parameters())


def test_recent_embeddings_are_grouped_anew_before_an_epoch_and_the_teacher_begins_again() -> None:
    method = made()
    kept = F.normalize(torch.eye(6)[:4].repeat_interleave(2, 0), dim=1)
    method.recent.push(kept)
    images = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        method.projector.layers[0].weight.add_(1)
        torch.manual_seed(7)
        method.eval().before_epoch(1, images)
    assert all((method.centroids @ row).max() > 0.7 for row in method.centroids)
    assert {int(near) for near in (method.centroids @ torch.eye(6)).argmax(1)} <= {0, 1, 2, 3}
    assert torch.equal(method.teacher.parts[1].layers[0].weight, method.projector.layers[0].weight)


def test_at_the_start_images_are_grouped() -> None:
    method = made()
    before = method.centroids.clone()
    with torch.no_grad():
        method.eval().before_epoch(0, torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8))
    assert not torch.equal(method.centroids, before)
    torch.testing.assert_close(method.centroids.norm(dim=1), torch.ones(4))


def test_groups_that_are_all_alike_give_the_loss_of_guessing() -> None:
    method = made(beta=0.999999)
    method.centroids.copy_(method.centroids[:1].expand(4, -1).clone())
    assert method.loss(batch())["smog"].item() == pytest.approx(log(4), abs=1e-4)
    assert method.chance(6) == {"smog": log(4)}


def test_order_of_images_does_not_matter() -> None:
    given = batch()
    turned = Batch([view.flip(0) for view in given.views], given.index.flip(0), None, given.generator, 0.5)
    assert made().loss(turned)["smog"].item() == pytest.approx(made().loss(given)["smog"].item(), rel=1e-4)


def test_more_groups_than_embeddings_or_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"smog\.groups=9 is more than smog\.queue=8 embeddings"):
        made(groups=9)
    with pytest.raises(UserError, match=r"smog\.groups=4 is more than the 3 training images"):
        made().before_epoch(0, torch.zeros(3, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    method.loss(batch(size=32))["smog"].backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
