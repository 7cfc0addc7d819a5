"""VICRegL against matching and terms written with loops, and its places against the views' own resampling."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.method import Batch
from ssbench.methods.decorrelation.embeddings import COLLAPSED
from ssbench.methods.decorrelation.vicregl import VICRegL, matches, where
from ssbench.training.views import crop_boxes, resample


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return VICRegL(encoder, VICRegL.Settings(**settings))


def boxes(count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.cat([crop_boxes(count, (0.1, 1.0)), (torch.rand(count, 1) < 0.5).float()], 1)


def batch(count: int = 5, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, size, size, generator=generator) for _ in range(2)]
    cut = [boxes(count, 1), boxes(count, 2)]
    return Batch(views, torch.arange(count), None, generator, 0.5, boxes=cut)


def turned(given: Batch, views: list[Tensor], cut: list[Tensor]) -> Batch:
    return Batch(views, given.index, None, given.generator, 0.5, boxes=cut)


def slow_vicreg(x: Tensor, y: Tensor) -> list[Tensor]:
    """The three terms of pairs (B, n, D), each slot over the batch, by loops over slots and dimensions."""
    count, slots, width = x.shape
    zero = x.new_zeros(())
    lack, pairs = zero, zero
    for z in (x, y):
        for n in range(slots):
            rows = [z[:, n, d] - z[:, n, d].sum() / count for d in range(width)]
            for i in range(width):
                deviation = ((rows[i] ** 2).sum() / (count - 1) + 1e-4) ** 0.5
                lack = lack + (1 - deviation if deviation < 1 else zero) / width / slots / 2
                for j in set(range(width)) - {i}:
                    pairs = pairs + ((rows[i] * rows[j]).sum() / (count - 1)) ** 2 / width / slots / 2
    return [((x - y) ** 2).sum() / x.numel(), lack, pairs]


def slow_matches(a: Tensor, b: Tensor, at: Tensor, there: Tensor, count: int) -> tuple[Tensor, Tensor]:
    first, second = [], []
    for image in range(len(a)):
        found = []
        for n, own in enumerate(at[image].tolist()):
            distances = [math.dist(own, other) for other in there[image].tolist()]
            found.append((min(distances), n, distances.index(min(distances))))
        kept = sorted(sorted(found)[:count], key=lambda one: one[1])
        first.append(torch.stack([a[image, n] for _, n, _ in kept]))
        second.append(torch.stack([b[image, m] for _, _, m in kept]))
    return torch.stack(first), torch.stack(second)


def slow_where(box: list[float], h: int, w: int) -> list[list[float]]:
    x, y, width, height, mirrored = box
    found = []
    for row in range(h):
        for column in range(w):
            seen = w - 1 - column if mirrored else column
            found.append([x - width / 2 + width * (seen + 0.5) / w, y - height / 2 + height * (row + 0.5) / h])
    return found


def embeddings(method: Any, head: str) -> list[Tensor]:
    """What a head gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    getattr(method, head).register_forward_hook(keep)
    return seen


def test_terms_and_their_gradients_equal_the_slow_formulas() -> None:
    """A vit-nano sees 4 x 4 places in 16 px."""
    method, given = made(out=4, places=3, matches=5, alpha=0.6), batch()
    whole, places = embeddings(method, "projector"), embeddings(method, "places")
    terms = method.loss(given)
    torch.stack([*terms.values()]).sum().backward()
    exact = [z.detach().double().requires_grad_() for z in (*whole, *places)]
    x, y = exact[:2]
    a, b = (z.unflatten(0, (5, 16)) for z in exact[2:])
    at, there = (torch.tensor([slow_where(box, 4, 4) for box in cut.tolist()]) for cut in given.boxes)
    near = slow_matches(a, b, at, there, 5), slow_matches(b, a, there, at, 5)
    alike = slow_matches(a, b, a, b, 16), slow_matches(b, a, b, a, 16)
    local = [sum(parts) / 2 for parts in zip(*(slow_vicreg(*pair) for pair in (*near, *alike)))]
    wanted = [0.6 * w * t for w, t in zip((25, 25, 1), slow_vicreg(x[:, None], y[:, None]))]
    wanted += [0.4 * w * t for w, t in zip((25, 25, 1), local)]
    names = [f"{what}_{name}" for what in ("image", "place") for name in ("invariance", "variance", "covariance")]
    assert list(terms) == names
    for term, known in zip(terms.values(), wanted):
        assert term.item() == pytest.approx(known.item(), rel=1e-4, abs=1e-6)
    torch.stack(wanted).sum().backward()
    for z, one in zip((*whole, *places), exact):
        assert z.grad is not None and one.grad is not None
        torch.testing.assert_close(z.grad.double(), one.grad, rtol=1e-3, atol=1e-5)


def test_places_lie_where_the_views_took_their_pixels() -> None:
    ramp = (torch.arange(64) + 0.5) / 64
    image = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)]).expand(6, 2, 64, 64)  # x and y as colours
    cut = boxes(6, 3)
    cut[:, 2:4] *= 0.9  # away from the border, beyond which there are no coordinates
    seen = resample(image, cut[:, :4], cut[:, 4] > 0, 3)  # (6, 2, 3, 3)
    torch.testing.assert_close(where(cut, 3, 3), seen.flatten(2).transpose(1, 2), atol=2e-3, rtol=0)


def test_the_same_crop_matches_each_place_with_itself_and_a_mirrored_one_with_its_mirror() -> None:
    a, b = torch.randn(2, 3, 9, 4)
    cut = torch.tensor([[0.5, 0.4, 0.6, 0.5, 0.0]]).repeat(3, 1)
    mirrored = cut + torch.tensor([0, 0, 0, 0, 1.0])
    assert torch.equal(matches(a, b, where(cut, 3, 3), where(cut, 3, 3), 9)[1], b)
    found = matches(a, b, where(cut, 3, 3), where(mirrored, 3, 3), 9)[1]
    assert torch.equal(found, b.unflatten(1, (3, 3)).flip(2).flatten(1, 2))


def test_of_crops_that_share_a_corner_the_shared_places_match() -> None:
    left, right = torch.tensor([[0.25, 0.5, 0.5, 1.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.0]])
    a, b = torch.arange(4.0).reshape(1, 4, 1), torch.arange(4.0).reshape(1, 4, 1) + 10  # 2 x 2 places each
    first, second = matches(a, b, where(left, 2, 2), where(right, 2, 2), 2)
    assert first.flatten().tolist() == [1, 3] and second.flatten().tolist() == [10, 12]


def test_collapsed_views_give_chance() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    blank = torch.zeros(5, 3, 16, 16)
    method.encoder.trunk.pos_embed.data.zero_()
    terms = method.loss(turned(batch(), [blank, blank], batch().boxes))
    for name, value in method.chance(5).items():
        assert terms[name].item() == pytest.approx(value, abs=1e-3)
    assert sum(method.chance(5).values()) == pytest.approx(25 * COLLAPSED * (0.75 + 0.5))


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given, order = made(matches=3), batch(), torch.tensor([3, 1, 0, 2, 4])
    whole = method.loss(given)
    swapped = turned(given, given.views[::-1], given.boxes[::-1])
    permuted = turned(given, [view[order] for view in given.views], [cut[order] for cut in given.boxes])
    for other in (swapped, permuted):
        terms = method.loss(other)
        for name in whole:
            torch.testing.assert_close(terms[name], whole[name], rtol=1e-3, atol=1e-5)


def test_where_crops_lie_matters_for_places_alone() -> None:
    method, given = made(matches=2), batch()
    terms, moved = (
        method.loss(given),
        method.loss(turned(given, given.views, [given.boxes[1], given.boxes[0].roll(1, 0)])),
    )
    assert terms["place_invariance"].item() != moved["place_invariance"].item()
    torch.testing.assert_close(terms["image_invariance"], moved["image_invariance"])


@pytest.mark.parametrize(("backbone", "places"), [("vit-nano", 16), ("resnet18", 4)])
def test_gradient_reaches_encoders_with_and_without_tokens(backbone: str, places: int) -> None:
    method, given = made(backbone, 16), batch(4, 16)
    found = embeddings(method, "places")
    terms = method.loss(given)
    assert len(found[0]) == 4 * places
    torch.stack([*terms.values()]).sum().backward()
    first = next(weight for weight in method.encoder.parameters() if weight.requires_grad)
    assert first.grad is not None and first.grad.isfinite().all() and first.grad.any()


def test_terms_are_float32_under_autocast() -> None:
    method = made()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.loss(batch())
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_no_linear_layer_of_the_projectors_has_a_bias() -> None:
    method = made()
    linear = [part for head in (method.projector, method.places) for part in head if hasattr(part, "in_features")]
    assert [part.bias for part in linear] == [None] * 6
