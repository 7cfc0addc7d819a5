"""Relative location against pairs of tiles cut with loops."""

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.pretext import relative_location
from ssbench.methods.pretext.relative_location import RelativeLocation, one_channel, tiles


def made(backbone: str = "vit-nano", size: int = 16) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return RelativeLocation(encoder, RelativeLocation.Settings(hidden=16))


def batch(count: int = 4, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, size, size, generator=generator)]
    return Batch(views, torch.arange(count), None, torch.Generator().manual_seed(2), 0.5)


def places(size: int, patch: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Where 200 images' tiles began, (200, 9, 2): pixels that name their places, cut without a change of colour."""
    monkeypatch.setattr(relative_location, "one_channel", lambda found, kept: found)
    down, across = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    named = torch.stack([down, across, down]).float().expand(200, -1, -1, -1)
    return tiles(named, patch, torch.Generator().manual_seed(0))[:, :, :2, 0, 0].long()


def test_tiles_lie_half_a_tile_apart_but_for_the_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    found = places(224, 16, monkeypatch)  # tiles of 48 px every 72, moved by up to round(3.5) = 4
    apart = found - found[:, 4:5]
    for k in range(9):
        wanted = torch.tensor([k // 3 - 1, k % 3 - 1]) * 72
        assert (apart[:, k] - wanted).abs().max() <= 8
    assert found.min() == 0 and found.max() == 224 - 48  # the grid's place is random, and stays inside
    assert found[:, 4].unique().numel() > 20


def test_small_images_have_room_for_tiles_of_one_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = places(32, 8, monkeypatch)
    assert found[:, 0].max() <= 1 and found[:, 8].min() >= 23 and (found[:, 4] - 12).abs().max() <= 1


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="relative-location: 24 px have no room for 3 x 3 tiles of a patch of 8 px"):
        tiles(torch.zeros(1, 3, 24, 24), 8, torch.Generator())


def test_one_channel_is_kept_and_noise_of_a_hundredth_put_into_the_others() -> None:
    given = torch.randn(2, 9, 3, 8, 8) * 5 + 3
    kept = torch.randint(3, (2, 9, 1, 1, 1))
    found = one_channel(given, kept)
    for b in range(2):
        for k in range(9):
            channel = int(kept[b, k])
            true = given[b, k, channel] - given[b, k, channel].mean()
            torch.testing.assert_close(
                found[b, k, channel], true / true.square().mean().div(3).sqrt(), rtol=1e-3, atol=0
            )
            for other in {0, 1, 2} - {channel}:
                assert found[b, k, other].std() / found[b, k, channel].std() == pytest.approx(0.01, rel=0.4)
    torch.testing.assert_close(found.square().mean((2, 3, 4)), torch.ones(2, 9))


def test_loss_is_that_of_loops_over_images_and_sides() -> None:
    method, given = made().eval(), batch()
    torch.manual_seed(5)
    loss = method.loss(given)["location"].item()
    torch.manual_seed(5)
    found = tiles(given.views[0], 4, torch.Generator().manual_seed(2))
    total = 0.0
    for nine in found:
        middle = method.encoder.pooled(nine[4][None])[0]
        for side, k in enumerate([0, 1, 2, 3, 5, 6, 7, 8]):
            scores = method.head(torch.cat([middle, method.encoder.pooled(nine[k][None])[0]])[None])[0].double()
            total -= (scores[side] - scores.exp().sum().log()).item() / 32
    assert loss == pytest.approx(total, abs=1e-5)


def test_plain_images_give_the_loss_of_guessing() -> None:
    method, given = made(), batch()
    method.head[-1].requires_grad_(False).bias.zero_()
    plain = Batch([torch.ones_like(given.views[0])], given.index, None, given.generator, 0.5)
    assert method.loss(plain)["location"].item() == pytest.approx(log(8), abs=1e-4)  # batch norm sees one vector
    assert method.chance(4) == {"location": log(8)}


def test_views_are_not_mirrored() -> None:
    (view,) = made().views
    assert (view.count, view.crop, view.flip, view.size) == (1, (0.33, 1.0), 0.0, 1.0)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    method.loss(batch(count=2, size=32))["location"].backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
