"""Segmentation counts pixels as loops and torchmetrics do, and learns what a linear layer can."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.segmentation import Heads, Segmentation, confusion, details, miou, patch_modes, train

MakeBench = Callable[..., Bench]
CLASSES, IGNORED = 5, 255


def some_masks() -> tuple[Tensor, Tensor]:
    """Predicted and true classes (6, 8, 8): class 3 is only predicted, and a sixth of the truth is ignored."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(CLASSES, (6, 8, 8), generator=generator)
    truth = torch.randint(CLASSES, (6, 8, 8), generator=generator)
    truth[truth == 3] = 0
    truth[torch.rand(truth.shape, generator=generator) < 1 / 6] = IGNORED
    return found, truth


def quadrants(count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Maps (N, 3, 4, 4), each place noise about one of three axes, and masks (N, 16, 16) of which; 255 in a corner."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (count, 2, 2), generator=generator)
    places = F.interpolate(classes[:, None].float(), (4, 4))[:, 0].long()
    maps = F.one_hot(places, 3).permute(0, 3, 1, 2) + 0.1 * torch.randn(count, 3, 4, 4, generator=generator)
    masks = F.interpolate(places[:, None].float(), (16, 16))[:, 0].to(torch.uint8)
    masks[:, :2, :2] = IGNORED
    return maps, {"mask": masks}


def test_confusion_is_a_count_of_pixels_image_by_image() -> None:
    found, truth = some_masks()
    expected = np.zeros((6, CLASSES, CLASSES), dtype=int)
    for n, i, j in product(range(6), range(8), range(8)):
        if truth[n, i, j] != IGNORED:
            expected[n, truth[n, i, j], found[n, i, j]] += 1
    np.testing.assert_array_equal(confusion(found, truth, CLASSES, IGNORED), expected)


def test_miou_equals_pixel_sets_and_torchmetrics_over_the_classes_in_the_truth() -> None:
    found, truth = some_masks()
    kept = truth != IGNORED
    present = [c for c in range(CLASSES) if (truth == c).any()]
    assert present == [0, 1, 2, 4]
    by_hand = [
        ((found == c) & (truth == c)).sum().item() / (((found == c) | (truth == c)) & kept).sum().item()
        for c in present
    ]
    table = confusion(found, truth, CLASSES, IGNORED)
    assert miou(table) == pytest.approx(100 * np.mean(by_hand), abs=1e-5)
    oracle = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=IGNORED)(found, truth)
    np.testing.assert_allclose(100 * oracle[present], np.multiply(by_hand, 100), atol=1e-4)
    shown = details(table)
    assert shown["iou_per_class"][3] is None and shown["classes_averaged"] == 4
    np.testing.assert_allclose([shown["iou_per_class"][c] for c in present], np.multiply(by_hand, 100), atol=1e-5)
    hits = found[kept] == truth[kept]
    assert shown["pixel_accuracy"] == pytest.approx(100 * hits.float().mean().item(), abs=1e-4)
    recalls = [hits[truth[kept] == c].float().mean().item() for c in present]
    assert shown["mean_class_accuracy"] == pytest.approx(100 * np.mean(recalls), abs=1e-4)


def test_predictions_on_ignored_pixels_do_not_count() -> None:
    found, truth = some_masks()
    other = found.where(truth != IGNORED, (found + 1) % CLASSES)
    assert not torch.equal(found, other)
    np.testing.assert_array_equal(*(confusion(one, truth, CLASSES, IGNORED) for one in (found, other)))


def test_the_patch_oracle_says_each_patchs_most_frequent_class() -> None:
    _, truth = some_masks()
    truth[0, :4, :4] = IGNORED
    modes = patch_modes(truth, (2, 2), CLASSES, IGNORED)
    for n, i, j in product(range(6), range(2), range(2)):
        rows, columns = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
        counts = np.bincount(truth[n, rows, columns].flatten(), minlength=256)[:CLASSES]
        assert (modes[n, rows, columns] == counts.argmax()).all()


def test_it_learns_masks_that_a_linear_layer_can_tell(make_bench: MakeBench) -> None:
    maps, targets = quadrants(120)
    table = make_bench(maps, targets, (80, 20, 20))
    settings = Segmentation.Settings(iterations=150)
    found = Segmentation(settings).evaluate(table)
    assert score("iou", found.arrays["miou"]) > 90
    assert found.arrays["miou"]["confusion"].shape == (20, 3, 3)
    assert (found.arrays["miou"]["confusion"].sum((1, 2)) == 16 * 16 - 4).all()  # the ignored corner is left out
    assert [(row["lr"], row["weight_decay"]) for row in found.sweep] == list(
        product(settings.lrs, settings.weight_decays)
    )
    assert found.selected["select_miou"] == max(row["select_miou"] for row in found.sweep)
    assert found.details["patch_oracle_miou"] == 100 and found.details["label_resolution"] == 16
    assert found.details["classes_averaged"] == 3


def test_ignored_pixels_teach_nothing(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    wrong = {"mask": targets["mask"].clone()}
    targets["mask"][:, 8:] = IGNORED
    wrong["mask"][:, 8:] = (wrong["mask"][:, 8:] + 1) % 3
    wrong["mask"][:, 8:] = IGNORED
    settings = Segmentation.Settings(iterations=5)
    heads = [train(make_bench(maps, t, (40, 0, 0)), [(1e-2, 0.0)], settings) for t in (targets, wrong)]
    torch.testing.assert_close(heads[0].weights[0], heads[1].weights[0])


def test_heads_trained_together_equal_each_trained_alone(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    table = make_bench(maps, targets, (40, 0, 0))
    settings = Segmentation.Settings(iterations=20, batch=8)
    grid = [(1e-3, 0.0), (1e-1, 0.0), (1e-1, 1.0)]
    together = train(table, grid, settings)
    order = torch.cat([torch.randperm(40, generator=g) for g in [table.generator("segmentation")] for _ in range(4)])
    for g, (lr, decay) in enumerate(grid):
        head = nn.Sequential(
            nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 3, 1), nn.Upsample((16, 16), mode="bilinear")
        )
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
        for index in order.view(20, 8):
            optimiser.zero_grad()
            F.cross_entropy(head(maps[index]), targets["mask"][index].long(), ignore_index=IGNORED).backward()
            optimiser.step()
            schedule.step()
        conv = head[1]
        assert isinstance(conv, nn.Conv2d)
        torch.testing.assert_close(together.weights[g], conv.weight, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.biases[g], conv.bias, atol=1e-5, rtol=1e-5)


def test_a_batch_of_ignored_pixels_alone_breaks_nothing(make_bench: MakeBench) -> None:
    maps, targets = quadrants(12)
    targets["mask"][0] = targets["mask"][9] = IGNORED
    said: list[str] = []
    table = make_bench(maps, targets, (1, 7, 4), progress=said.append)  # image 0 is all that it learns from
    found = Segmentation(Segmentation.Settings(iterations=100, batch=1)).evaluate(table)
    assert said[-1].endswith("loss a head 0.000")
    assert not any(row["diverged"] for row in found.sweep)
    assert found.arrays["miou"]["confusion"][1].sum() == 0
    assert np.isfinite(score("iou", found.arrays["miou"]))


def test_a_head_that_diverges_counts_as_zero(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    settings = Segmentation.Settings(lrs=(1e37, 1e-2), weight_decays=(1e-2,), iterations=20, batch=8)
    found = Segmentation(settings).evaluate(make_bench(maps, targets, (20, 10, 10)))
    assert [(row["diverged"], row["select_miou"] > 0) for row in found.sweep] == [(True, False), (False, True)]
    assert found.selected["lr"] == 1e-2
    with pytest.raises(RuntimeError, match="every head diverged"):
        Segmentation(settings).evaluate(make_bench(maps * torch.nan, targets, (20, 10, 10)))


def test_judging_changes_no_statistics(make_bench: MakeBench, untrained: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 2, (24, 16, 16), dtype=torch.uint8, generator=generator)
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    table = make_bench(images, {"mask": masks}, (8, 8, 8), untrained)
    Segmentation(Segmentation.Settings(iterations=2)).evaluate(table)
    for name, value in untrained.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    heads = Heads(table.fit.map().shape[1], 2, 1)
    heads.confusion(table.select, IGNORED)
    assert heads.norm.num_batches_tracked == 0
