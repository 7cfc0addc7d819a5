"""What a mask does to an image, to work and to gradients, on hand-made cases whose answers are known."""

from collections.abc import Callable
from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssbench.methods.mim.measures import gradients, measures, overlap, statistics, work

MakeMIM = Callable[..., Any]


def pictures(count: int = 4, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def stand_in(cost: Callable[[Tensor, nn.ModuleList], Tensor], patch: int = 4) -> Any:
    """A model of two blocks, one weight each, with that reconstruction term."""
    blocks = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(2))
    encoder = SimpleNamespace(patch=patch, trunk=SimpleNamespace(blocks=blocks))
    return SimpleNamespace(encoder=encoder, reconstruction=lambda images, generator, progress: cost(images, blocks))


def test_a_gradient_that_is_the_same_in_all_patches_has_entropy_one_and_no_gini() -> None:
    found = gradients(stand_in(lambda images, blocks: images.sum()), pictures())
    assert found["gradient entropy"] == pytest.approx(1) and found["gradient Gini"] == pytest.approx(0, abs=1e-6)


def test_a_gradient_in_one_patch_has_no_entropy_and_the_most_gini() -> None:
    found = gradients(stand_in(lambda images, blocks: images[..., :4, 8:12].sum()), pictures())
    assert found["gradient entropy"] == pytest.approx(0, abs=1e-6)
    assert found["gradient Gini"] == pytest.approx(15 / 16)


def test_entropy_and_gini_are_those_of_a_loop_over_pairs_of_patches() -> None:
    weight = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) ** 4
    found = gradients(stand_in(lambda images, blocks: (images * weight).sum()), pictures())
    entropies, ginis = [], []
    for image in weight.double().numpy():
        norms = [
            float(np.sqrt((image[:, r : r + 4, c : c + 4] ** 2).sum()))
            for r in range(0, 16, 4)
            for c in range(0, 16, 4)
        ]
        total = sum(norms)
        entropies.append(-sum(norm / total * log(norm / total) for norm in norms) / log(16))
        ginis.append(sum(abs(a - b) for a in norms for b in norms) / (2 * 16 * total))
    assert found["gradient entropy"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found["gradient Gini"] == pytest.approx(np.mean(ginis), rel=1e-5)


def test_a_block_has_its_share_of_the_squared_gradient() -> None:
    def cost(images: Tensor, blocks: nn.ModuleList) -> Tensor:
        first, second = blocks[0].weight, blocks[1].weight
        assert isinstance(first, Tensor) and isinstance(second, Tensor)
        return images.sum() + 1 * first.sum() + 3 * second.sum()

    found = gradients(stand_in(cost), pictures())
    assert found["block 1 %"] == pytest.approx(10) and found["block 2 %"] == pytest.approx(90)


@pytest.mark.parametrize(("arch", "seen"), [("mae", 4), ("simmim", 16)])
def test_gradients_are_those_of_the_reconstruction_alone(arch: str, seen: int, make_mim: MakeMIM) -> None:
    """Where the encoder sees 4 of 16 patches, the entropy is at most log 4 / log 16; no weight gets a gradient."""
    mim, images = make_mim(arch=arch, reg="koleo", pair="infonce"), pictures()
    found = gradients(mim, images)
    plain = gradients(make_mim(arch=arch), images)
    assert found == pytest.approx(plain)
    if arch == "mae":
        assert found["gradient entropy"] <= log(seen) / log(16) + 1e-6 and found["gradient Gini"] >= 12 / 16
    assert sum(found[f"block {n} %"] for n in (1, 2, 3)) == pytest.approx(100)
    assert all(p.grad is None for p in mim.parameters()) and not images.requires_grad


def test_what_stays_visible_of_an_object_and_what_is_hidden_of_its_border() -> None:
    """An object of 4 x 4 px in the upper left patch of 8 x 8, reaching one column into its neighbour."""
    objects = torch.zeros(1, 16, 16, dtype=torch.uint8)
    objects[0, 2:6, 5:9] = 1
    cases = {(): (100.0, 0.0), (0,): (25.0, 50.0), (1,): (75.0, 50.0), (0, 1): (0.0, 100.0), (2, 3): (100.0, 0.0)}
    for places, (visible, hit) in cases.items():
        hidden = torch.zeros(1, 4)
        hidden[0, list(places)] = 1
        found = overlap(hidden, (2, 2), objects)
        assert found == {"object visible %": visible, "border hit %": hit}, places


def test_overlap_is_that_of_a_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    objects = torch.randint(0, 3, (3, 4, 6), generator=generator).repeat_interleave(4, 1).repeat_interleave(3, 2).byte()
    hidden = torch.rand(3, 24, generator=generator).round()
    grid, side = (4, 6), 4
    objects = torch.nn.functional.pad(objects, (0, 6))  # (3, 16, 24)
    shown = thing = crossed = hit = 0
    for b in range(3):
        for n in range(24):
            top, left, edge = n // 6 * side, n % 6 * side, False
            for y in range(top, top + side):
                for x in range(left, left + side):
                    own = int(objects[b, y, x])
                    thing += own > 0
                    shown += own > 0 and not hidden[b, n]
                    around = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
                    edge |= any(objects[b, v, u] != own for v, u in around if 0 <= v < 16 and 0 <= u < 24)
            crossed += edge
            hit += edge and bool(hidden[b, n])
    found = overlap(hidden, grid, objects)
    assert found["object visible %"] == pytest.approx(100 * shown / thing)
    assert found["border hit %"] == pytest.approx(100 * hit / crossed)


def test_an_image_without_objects_gives_finite_numbers() -> None:
    found = overlap(torch.ones(2, 4), (2, 2), torch.zeros(2, 8, 8, dtype=torch.uint8))
    assert found == {"object visible %": 0, "border hit %": 0}


def test_statistics_of_masks_are_known_for_stripes_and_checkers() -> None:
    stripes = torch.tensor([[1.0, 1, 0, 0] * 4])
    checkers = torch.tensor([[1.0, 0, 1, 0, 0, 1, 0, 1] * 2])
    assert statistics(stripes, (4, 4))["mask border %"] == pytest.approx(100 * 4 / 24)
    assert statistics(checkers, (4, 4))["mask border %"] == 100
    both = statistics(torch.cat([checkers, 1 - checkers]), (4, 4))
    assert both["hidden %"] == 50 and both["coverage sd %"] == 0  # each patch is hidden in one of two


def floating_point_operations(tokens: int, patches: int) -> int:
    """Of vit-nano's forward pass on one image of 4 px patches: a multiplication and an addition are two."""
    width, depth = 96, 3
    weights = 3 * width**2 + width**2 + 2 * 4 * width**2  # attention's in and out, the MLP
    return 2 * patches * 48 * width + depth * (2 * tokens * weights + 2 * 2 * tokens**2 * width)


@pytest.mark.parametrize(("ratio", "seen"), [(0.25, 12), (0.5, 8), (0.75, 4)])
def test_operations_of_the_encoder_are_those_of_what_it_sees(ratio: float, seen: int, make_mim: MakeMIM) -> None:
    for arch, tokens in (("mae", seen), ("cross", seen), ("simmim", 16)):
        found = work(make_mim(arch=arch, ratio=ratio), pictures())["encoder MFLOPs"]
        assert found == pytest.approx(floating_point_operations(tokens + 1, tokens) / 1e6, rel=1e-6), arch


def test_memory_kept_grows_with_what_the_encoder_sees(make_mim: MakeMIM) -> None:
    """Without weights and images: in proportion to tokens, of which there are 5, 9 or 13 at 75, 50 or 25 %."""

    def kept(arch: str, count: int = 4) -> list[float]:
        mims = (make_mim(arch=arch, ratio=ratio) for ratio in (0.75, 0.5, 0.25))
        return [work(mim, pictures(count))["encoder KB kept"] for mim in mims]

    low, middle, high = kept("mae")
    assert middle / low == pytest.approx(9 / 5, rel=0.03) and high / low == pytest.approx(13 / 5, rel=0.03)
    assert kept("cross") == pytest.approx([low, middle, high])
    low, _, high = kept("simmim")
    assert high == pytest.approx(low, rel=0.01)
    assert kept("mae", 8) == pytest.approx(kept("mae", 4), rel=0.01)  # an image's share does not depend on the batch


def test_every_measure_is_finite_and_changes_nothing(make_mim: MakeMIM) -> None:
    mim, images = make_mim(mask="object", target="ema", pair="dino"), pictures(6)
    before = {key: value.clone() for key, value in mim.state_dict().items()}
    objects = (images.mean(1) > 0).byte()
    found, plain = mim.measures(images, objects), mim.measures(images, None)
    assert found.keys() - plain.keys() == {"object visible %", "border hit %"}
    assert all(np.isfinite(value) and value >= 0 for value in found.values()) and found["mask us"] > 0
    assert found["hidden %"] == pytest.approx(75)
    assert all(torch.equal(value, before[key]) for key, value in mim.state_dict().items())
    with torch.no_grad():  # as training calls it
        again = mim.measures(images, objects)
    assert {key: value for key, value in again.items() if key != "mask us"} == pytest.approx(
        {key: value for key, value in found.items() if key != "mask us"}
    )


def test_a_fixed_number_of_visible_patches_costs_the_encoder_the_same_at_every_size(make_mim: MakeMIM) -> None:
    mim = make_mim(visible=9, mask="window", arch="cross", asked=0.1)
    small, large = (work(mim, pictures(2, side))["encoder MFLOPs"] for side in (16, 128))
    assert small == large == pytest.approx(floating_point_operations(10, 9) / 1e6)


def test_the_use_of_a_learned_codebook_is_told(make_mim: MakeMIM) -> None:
    mim = make_mim(target="kmeans", codes=4)
    assert "codes used" not in measures(mim, pictures(), None)  # it has learned nothing yet
    mim.prepare(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8), lambda name, make: make())
    assert 1 <= measures(mim, pictures(), None)["codes used"] == float(mim.target.perplexity) <= 4
