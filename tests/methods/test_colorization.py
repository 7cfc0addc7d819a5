"""Colorization against colours, soft targets and weights computed with loops."""

from collections.abc import Callable
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.pretext.colorization import Colorization, gamut, soft


def made(backbone: str = "vit-nano", size: int = 16, channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    mean, std = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
    encoder = build(backbone, size=size, channels=channels, mean=mean, std=std)
    return Colorization(encoder, Colorization.Settings(**settings))


def pixels(count: int = 4, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return blocks.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)


def batch(method: Any, images: Tensor) -> Batch:
    return Batch([method.encoder.normalise(images)], torch.arange(len(images)), None, torch.Generator(), 0.5)


def uncached(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    return make()


def lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """CIE Lab of an sRGB colour in 0..1 with the white of D65, from its definition."""
    r, g, b = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in (red, green, blue))
    rows = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    xyz = [(p * r + q * g + s * b) / white for (p, q, s), white in zip(rows, (0.95047, 1.0, 1.08883))]
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def slow_soft(a: float, b: float, bins: list[list[float]]) -> list[float]:
    apart = [(a - p) ** 2 + (b - q) ** 2 for p, q in bins]
    near = sorted(range(len(bins)), key=lambda k: apart[k])[:5]
    weights = {k: exp(-apart[k] / 50) for k in near}
    return [weights.get(k, 0.0) / sum(weights.values()) for k in range(len(bins))]


def places(images: Tensor) -> list[list[tuple[float, float, float]]]:
    """The Lab colour of each of the 4 x 4 blocks of each image, row by row."""
    return [
        [lab(*(image[:, y, x] / 255).tolist()) for y in range(0, 16, 4) for x in range(0, 16, 4)] for image in images
    ]


def test_bins_are_those_of_srgb_and_hold_grey() -> None:
    bins = gamut(10.0)
    assert bins.shape == (261, 2) and [0.0, 0.0] in bins.tolist()
    for corner in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)):
        _, a, b = lab(*corner)
        assert [round(a / 10) * 10, round(b / 10) * 10] in bins.tolist()


def test_targets_are_the_five_nearest_bins_by_a_gaussian() -> None:
    bins, colours = gamut(10.0), torch.tensor([[3.0, -4.5], [63.5, 41.2], [1.3, 0.6]])
    found = soft(colours, bins)
    wanted = torch.tensor([slow_soft(a, b, bins.tolist()) for a, b in colours.tolist()])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert ((found > 0).sum(1) == 5).all()


def test_weights_are_rarer_bins_and_one_on_average() -> None:
    method, images = made(rebalance=0.5), pixels()
    method.prepare(images, uncached)
    bins = method.bins.tolist()
    targets = [slow_soft(a, b, bins) for image in places(images) for _, a, b in image]
    p = [sum(target[k] for target in targets) / len(targets) for k in range(len(bins))]
    weight = [1 / (0.5 * share + 0.5 / len(bins)) for share in p]
    each = [weight[target.index(max(target))] for target in targets]
    wanted = torch.tensor(weight) * len(each) / sum(each)
    torch.testing.assert_close(method.weight, wanted, rtol=1e-3, atol=0)


def test_loss_is_that_of_loops_over_images_and_places() -> None:
    method, images = made().eval(), pixels()
    method.prepare(images, uncached)
    bins, total = method.bins.tolist(), torch.tensor(0.0)
    for image in places(images):
        light = torch.tensor([place[0] / 100 for place in image]).reshape(1, 1, 4, 4)
        light = light.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
        scores = method.head(method.encoder.map((light - 0.5) / 0.25))[0].flatten(1).T.double()  # (16, Q)
        for place, (_, a, b) in zip(scores.log_softmax(1), image):
            target = slow_soft(a, b, bins)
            total = total - method.weight[target.index(max(target))] * (torch.tensor(target).double() @ place) / 64
    loss = method.loss(batch(method, images))["colour"]
    assert loss.item() == pytest.approx(float(total.detach()), rel=1e-4)


def test_the_encoder_sees_no_colour() -> None:
    method = made()
    seen: list[Tensor] = []
    method.encoder.trunk.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.loss(batch(method, pixels()))
    assert torch.equal(seen[0][:, 0], seen[0][:, 1]) and torch.equal(seen[0][:, 0], seen[0][:, 2])


def test_the_best_constant_answer_gives_the_loss_of_guessing() -> None:
    method, images = made(), pixels()
    assert method.chance(4)["colour"] == pytest.approx(log(261))  # before the colours are counted
    method.prepare(images, uncached)
    method.requires_grad_(False).head.weight.zero_()
    target = method._told(batch(method, images).views[0])[1].flatten(0, 2)
    likely = (method.weight[target.argmax(1), None] * target).mean(0)
    method.head.bias.copy_(likely.clamp(min=1e-9).log())
    assert method.loss(batch(method, images))["colour"].item() == pytest.approx(method.chance(4)["colour"], rel=1e-3)


def test_preparing_leaves_the_encoder_as_it_was() -> None:
    method = made("resnet18", 32).train()
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    method.prepare(pixels(size=32), uncached)
    assert all(torch.equal(value, before[name]) for name, value in method.encoder.state_dict().items())
    assert method.encoder.training


def test_grey_images_are_refused() -> None:
    with pytest.raises(UserError, match="colorization tells red, green and blue, and these images have 1 channel"):
        made(channels=1)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    method.loss(batch(method, pixels(size=32)))["colour"].backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
