"""Jigsaw against tiles cut and permutations chosen with loops."""

from itertools import permutations
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.pretext.jigsaw import Jigsaw, far_apart, tiles


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return Jigsaw(encoder, Jigsaw.Settings(**{"permutations": 20, "hidden": 16, **settings}))


def batch(count: int = 5, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, size, size, generator=generator)]
    return Batch(views, torch.arange(count), None, torch.Generator().manual_seed(2), 0.5)


def slow_tiles(images: Tensor, grid: int, side: int, generator: torch.Generator) -> Tensor:
    """One tile after the other, with the same drawn places."""
    cell = images.shape[-1] // grid
    places = torch.randint(cell - side + 1, (len(images), grid**2, 2), generator=generator).tolist()
    found = torch.zeros(len(images), grid**2, 3, side, side)
    for b, image in enumerate(images):
        for k in range(grid**2):
            y, x = (at * cell + move for at, move in zip(divmod(k, grid), places[b][k]))
            for channel in range(3):
                tile = image[channel, y : y + side, x : x + side]
                found[b, k, channel] = (tile - tile.mean()) / tile.std(correction=0)
    return found


def test_tiles_lie_in_their_cells_and_are_normalised_each_by_itself() -> None:
    images = torch.randn(3, 3, 32, 32)
    found = tiles(images, 3, 8, torch.Generator().manual_seed(4))
    torch.testing.assert_close(found, slow_tiles(images, 3, 8, torch.Generator().manual_seed(4)))
    torch.testing.assert_close(found.mean((3, 4)), torch.zeros(3, 9, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "grid", "patch", "side"), [(32, 3, 8, 8), (32, 2, 8, 8), (32, 3, 1, 9), (16, 3, 4, 4), (224, 3, 16, 64)]
)
def test_tiles_are_whole_patches_and_leave_a_gap(size: int, grid: int, patch: int, side: int) -> None:
    found = tiles(torch.zeros(1, 3, size, size), grid, patch, torch.Generator())
    assert found.shape == (1, grid**2, 3, side, side)
    assert found.isfinite().all()  # of plain tiles as well


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"jigsaw\.grid=3: a cell of 8 px has no room for a patch of 8 px and a gap"):
        tiles(torch.zeros(1, 3, 24, 24), 3, 8, torch.Generator())


def test_permutations_are_those_of_the_greedy_loop() -> None:
    left = list(permutations(range(4)))
    chosen = [left.pop(0)]
    while len(chosen) < 10:
        apart = [sum(a != b for one in chosen for a, b in zip(one, other)) for other in left]
        chosen.append(left.pop(apart.index(max(apart))))
    np.testing.assert_array_equal(far_apart(4, 10), chosen)


def test_permutations_of_nine_tiles_differ_nearly_everywhere() -> None:
    found = far_apart(9, 100)
    assert len({tuple(row) for row in found.tolist()}) == 100 and (np.sort(found) == np.arange(9)).all()
    apart = (found[:, None] != found[None]).sum(2)
    assert apart.sum() / (100 * 99) > 8  # of random ones it is 8


def test_loss_is_that_of_loops_over_images_and_tiles() -> None:
    method, given = made(), batch()
    method.eval()  # the head's batch norm sees one image at a time here
    loss = method.loss(given)["jigsaw"].item()
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(20, (5,), generator=generator).tolist()
    cut, total = slow_tiles(given.views[0], 3, 4, generator), 0.0
    for b, k in enumerate(chosen):
        vectors = [method.encoder.pooled(cut[b, tile][None])[0] for tile in far_apart(9, 20)[k]]
        scores = method.head(torch.cat(vectors)[None])[0].double()
        total -= (scores[k] - scores.exp().sum().log()).item() / 5
    assert loss == pytest.approx(total, abs=1e-5)


def test_plain_images_give_the_loss_of_guessing() -> None:
    method, given = made(), batch()
    flat = Batch([torch.ones_like(given.views[0])], given.index, None, given.generator, 0.5)
    method.head[-1].requires_grad_(False).bias.zero_()
    assert method.loss(flat)["jigsaw"].item() == pytest.approx(log(20), abs=1e-4)  # batch norm sees one vector
    assert method.chance(5) == {"jigsaw": log(20)}


def test_more_permutations_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"jigsaw\.permutations=25: 4 tiles have 24"):
        made(grid=2, permutations=25)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    method.loss(batch(count=3, size=32))["jigsaw"].backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()


def test_views_are_not_mirrored() -> None:
    (view,) = made().views
    assert view.flip == 0
