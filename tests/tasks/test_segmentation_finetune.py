"""Fine-tuning on masks: images and masks are cut alike, the encoder learns, what is chosen is chosen on `select`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import floor, score
from ssbench.task import Bench
from ssbench.tasks.segmentation_finetune import Mapper, SegmentationFinetune, cut

MakeBench = Callable[..., Bench]


def quadrants(count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (N, 3, 16, 16) of four noisy quadrants, each dark or bright, and masks of which; a corner is ignored."""
    generator = torch.Generator().manual_seed(0)
    bright = torch.randint(2, (count, 2, 2), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = 80 + 90 * bright[:, None] + torch.randint(-30, 30, (count, 3, 16, 16), generator=generator)
    masks = bright.to(torch.uint8)
    masks[:, :2, :2] = 255
    return images.to(torch.uint8), {"mask": masks}


def test_images_and_masks_are_cut_alike_and_shares_stay_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 16, 16, generator=generator)
    seen, shares = cut(images, torch.cat([images[:, :1], 1 - images[:, :1]], 1), 0.3, 1)
    torch.testing.assert_close(seen[:, :1], shares[:, :1])
    torch.testing.assert_close(shares.sum(1), torch.ones(6, 16, 16))
    assert not torch.equal(seen, cut(images, images[:, :2], 0.3, 2)[0])
    torch.testing.assert_close(seen, cut(images, images[:, :2], 0.3, 1)[0])


def test_the_layer_sees_every_place_and_the_loss_every_pixel(untrained: Encoder) -> None:
    network = Mapper(untrained, 3)
    images = torch.randn(2, 3, 16, 16)
    network.head.weight.data.normal_()
    here = torch.einsum("bdhw,cd->bchw", untrained.map(images), network.head.weight)
    torch.testing.assert_close(network.linear().scores(untrained.map(images), (4, 4)), here, atol=1e-4, rtol=1e-4)
    assert network(images).shape == (2, 3, 16, 16)


def test_it_learns_masks_and_shuffled_ones_teach_nothing(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = quadrants(160)
    settings = SegmentationFinetune.Settings(lrs=(4e-3,), epochs=6, batch=16)
    found = SegmentationFinetune(settings).evaluate(make_bench(images, targets, (120, 20, 20), untrained))
    assert score("iou", found.arrays["miou"]) > 85
    assert found.arrays["miou"]["confusion"].sum() == 20 * (16 * 16 - 4)
    assert found.selected["shift"] in settings.shifts and found.pictures["segmentation"].shape == (8, 3, 3, 16, 16)
    order = torch.randperm(160, generator=torch.Generator().manual_seed(1))
    other = make_bench(images, {"mask": targets["mask"][order]}, (120, 20, 20), untrained)
    shuffled = SegmentationFinetune(settings).evaluate(other)
    assert score("iou", shuffled.arrays["miou"]) < (floor("iou", shuffled.arrays["miou"]) or 0) + 12


def test_the_cost_is_stated_in_images(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = quadrants(40)
    settings = SegmentationFinetune.Settings(lrs=(1e-3, 4e-3), epochs=2)
    work = SegmentationFinetune(settings).work(make_bench(images, targets, (20, 12, 8), untrained))
    assert work.forward == 0 and work.trained == 2 * (2 * 20 + (12 + 8) // 3)


def test_rates_at_which_nothing_is_finite_are_an_error(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = quadrants(40)
    settings = SegmentationFinetune.Settings(lrs=(1e30,), epochs=3, batch=8)
    with pytest.raises(RuntimeError, match=r"lower segmentation-finetune\.lrs"):
        SegmentationFinetune(settings).evaluate(make_bench(images, targets, (20, 12, 8), untrained))
