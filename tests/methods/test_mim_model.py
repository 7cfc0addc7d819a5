"""The masked model's loss is what the papers write, for every cell of the grid."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.encoder import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods import METHODS
from ssbench.methods.mim.architectures import ARCHITECTURES
from ssbench.methods.mim.masks import MASKS, split
from ssbench.methods.mim.model import MIM
from ssbench.methods.mim.objective import lp
from ssbench.methods.mim.presets import PRESETS
from ssbench.methods.mim.targets import TARGETS
from ssbench.registry import find, load
from ssbench.settings import make

PATCH = 4


def model(backbone: str = "vit-nano", channels: int = 3, patch: int = 0, **settings: Any) -> MIM:
    torch.manual_seed(0)
    mean, std = torch.zeros(channels), torch.ones(channels)
    encoder = build(backbone, size=16, channels=channels, mean=mean, std=std, patch=patch)
    return MIM(encoder, make(MIM.Settings, settings, "mim")).eval()


def batch(images: Tensor, seed: int = 0) -> Batch:
    return Batch([images], torch.arange(len(images)), None, torch.Generator().manual_seed(seed), 0.0)


def pictures(count: int = 4, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, 16, 16, generator=torch.Generator().manual_seed(3))


def slow_loss(mim: MIM, images: Tensor, hidden: Tensor, power: float, normed: bool) -> Tensor:
    """Image by image, patch by patch, in raster order, with the same weights and mask."""
    decoder: Any = mim.predict
    rows = columns = 4
    per_image = []
    for image, row in zip(images, hidden.tolist()):
        seen = [n for n in range(rows * columns) if not row[n]]
        tokens = decoder.enter(mim.encoder.tokens(image[None], torch.tensor([seen])))[0]
        positions = [angles(n // columns, n % columns, decoder.width) for n in range(rows * columns)]
        contents = [tokens[seen.index(n)] if n in seen else decoder.mask_token for n in range(rows * columns)]
        sequence = torch.stack([content + position for content, position in zip(contents, positions)])
        out = decoder.head(decoder.norm(decoder.blocks(sequence[None])))[0]
        terms = []
        for n in range(rows * columns):
            if row[n]:
                top, left = n // columns * PATCH, n % columns * PATCH
                values = image[:, top : top + PATCH, left : left + PATCH].permute(1, 2, 0).reshape(-1)
                if normed:
                    mean = sum(values) / len(values)
                    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
                    values = (values - mean) / (variance + 1e-6).sqrt()
                terms.append(sum(abs(a - b) ** power for a, b in zip(out[n], values)) / len(values))
        per_image.append(sum(terms) / len(terms))
    return torch.as_tensor(sum(per_image) / len(per_image))


def angles(row: int, column: int, width: int) -> Tensor:
    quarter = width // 4
    frequency = [10000 ** (-k / quarter) for k in range(quarter)]
    return torch.tensor([f(x * w) for f in (math.sin, math.cos) for x in (row, column) for w in frequency])


@pytest.mark.parametrize(("mask", "target", "power"), [("random", "pixels-normed", 2.0), ("block", "pixels", 1.0)])
def test_the_loss_and_its_gradients_are_those_of_a_loop_over_patches(mask: str, target: str, power: float) -> None:
    mim = model(mask=mask, target=target, p=power, ratio=0.6)
    images = pictures(2).requires_grad_()
    hidden = MASKS[mask](images, (4, 4), 0.6, torch.Generator().manual_seed(0), tau=1.0)
    weights = [p for p in mim.parameters() if p.requires_grad]
    fast = mim.loss(batch(images))["reconstruction"]
    slow = slow_loss(mim, images, hidden, power, target == "pixels-normed")
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    found = torch.autograd.grad(fast, [images, *weights], allow_unused=True)
    wanted = torch.autograd.grad(slow, [images, *weights], allow_unused=True)
    assert sum(gradient is None for gradient in found) == 0
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("p", "wanted"), [(1.0, (1 + 2 + 0 + 3) / 4), (2.0, (1 + 4 + 0 + 9) / 4)])
def test_the_objective_is_the_mean_power_of_the_differences(p: float, wanted: float) -> None:
    prediction = torch.tensor([[[1.0, -2.0]], [[0.0, 5.0]]], dtype=torch.bfloat16)
    assert lp(prediction, torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]]), p).item() == wanted


def test_the_objective_is_computed_in_float32() -> None:
    prediction, target = torch.tensor([[[256.0]]]).bfloat16(), torch.tensor([[[0.5]]]).bfloat16()
    assert lp(prediction, target, 1.0).item() == 255.5  # bfloat16 has no such number


@pytest.mark.parametrize(("mask", "target", "arch"), [*product(MASKS, TARGETS, ARCHITECTURES)])
def test_every_cell_of_the_grid_gives_a_loss_and_trains_the_encoder(mask: str, target: str, arch: str) -> None:
    mim = model(mask=mask, target=target, arch=arch)
    terms = mim.loss(batch(pictures()))
    assert list(terms) == ["reconstruction"] and terms["reconstruction"].isfinite()
    terms["reconstruction"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mim.parameters() if p.requires_grad)


def test_only_hidden_patches_are_predicted() -> None:
    """Hidden pixels are in the loss as targets and nowhere else: its gradient there is the squared difference's."""
    mim = model(target="pixels", ratio=0.5)
    images = pictures().requires_grad_()
    hidden = MASKS["random"](images, (4, 4), 0.5, torch.Generator().manual_seed(0))
    mim.loss(batch(images))["reconstruction"].backward()
    with torch.no_grad():
        difference = TARGETS["pixels"](images, PATCH)[hidden] - mim.predict(
            mim.encoder, images, *split(hidden, 0.5)
        ).flatten(0, 1)
    assert images.grad is not None
    found = TARGETS["pixels"](images.grad, PATCH)[hidden]
    torch.testing.assert_close(found, 2 * difference / difference.numel(), atol=1e-7, rtol=1e-4)


def test_the_mask_comes_from_the_generator_of_the_batch() -> None:
    mim = model()
    first, again, other = (mim.loss(batch(pictures(), seed))["reconstruction"] for seed in (0, 0, 1))
    assert first == again != other


def test_the_temperature_reaches_the_adaptive_mask() -> None:
    losses = {model(mask="adaptive", tau=tau).loss(batch(pictures()))["reconstruction"].item() for tau in (-9, 0, 9)}
    assert len(losses) == 3


def test_other_channels_and_sizes_work() -> None:
    mim = model(channels=1)
    images = torch.randn(2, 1, 24, 16)
    assert mim.loss(batch(images))["reconstruction"].isfinite()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_cell_of_the_grid(name: str) -> None:
    entry = find("methods", name)
    assert load(entry) is MIM and entry.scope == "mim" and METHODS[name] is PRESETS[name]
    mim = model(**entry.preset)
    assert mim.loss(batch(pictures()))["reconstruction"].isfinite()


def test_mim_as_it_is_is_mim_random() -> None:
    assert make(MIM.Settings, {}, "mim") == make(MIM.Settings, PRESETS["mim-random"].preset, "mim")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "blok"}, r"mim\.mask=blok: there is no such mask; did you mean block\?"),
        ({"target": "hogg"}, r"mim\.target=hogg: there is no such target; known: pixels, pixels-normed"),
        ({"arch": "simmin"}, r"mim\.arch=simmin: there is no such arch; did you mean simmim"),
        ({"ratio": 0.99}, r"mim\.ratio=0\.99 hides all 16 patches"),
        ({"mask": "block", "patch": 8}, r"mim\.mask=block needs at least 3 x 3 patches, not 2 x 2"),
        ({"ratio": 1.0}, r"mim\.ratio=1\.0: Input should be less than 1"),
        ({"decoder_width": 50}, r"mim\.decoder_width=50: Input should be"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_trained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model(**settings)


def test_a_backbone_without_patch_tokens_is_refused_in_one_line() -> None:
    with pytest.raises(
        UserError, match=r"needs patch tokens that can be dropped: take a ViT such as vit-nano"
    ) as error:
        model(backbone="resnet18")
    assert "\n" not in str(error.value)
