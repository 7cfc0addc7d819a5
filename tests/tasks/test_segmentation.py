"""Segmentation counts pixels as loops and torchmetrics do, and learns what a linear layer can."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_erosion
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import floor, score
from ssbench.task import Bench
from ssbench.tasks.heads import sample
from ssbench.tasks.lbfgs import Path
from ssbench.tasks.maps import boundaries, confusion, details, miou, patch_modes, standard
from ssbench.tasks.neighbours import Bank
from ssbench.tasks.segmentation import Segmentation

MakeBench = Callable[..., Bench]
CLASSES, IGNORED = 5, 255
VOID = CLASSES  # what ignored pixels are in counts


def some_masks() -> tuple[Tensor, Tensor]:
    """Predicted and true classes (6, 8, 8): class 3 is only predicted, and a sixth of the truth is ignored."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(CLASSES, (6, 8, 8), generator=generator)
    truth = torch.randint(CLASSES, (6, 8, 8), generator=generator)
    truth[truth == 3] = 0
    truth[torch.rand(truth.shape, generator=generator) < 1 / 6] = VOID
    return found.to(torch.uint8), truth.to(torch.uint8)


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
        if truth[n, i, j] != VOID:
            expected[n, truth[n, i, j], found[n, i, j]] += 1
    np.testing.assert_array_equal(confusion(found, truth, CLASSES), expected)


def test_miou_equals_pixel_sets_and_torchmetrics_over_the_classes_in_the_truth() -> None:
    found, truth = some_masks()
    kept = truth != VOID
    present = [c for c in range(CLASSES) if (truth == c).any()]
    assert present == [0, 1, 2, 4]
    by_hand = [
        ((found == c) & (truth == c)).sum().item() / (((found == c) | (truth == c)) & kept).sum().item()
        for c in present
    ]
    table = confusion(found, truth, CLASSES)
    assert miou(table) == pytest.approx(100 * np.mean(by_hand), abs=1e-5)
    oracle = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=VOID)(found.long(), truth.long())
    np.testing.assert_allclose(100 * oracle[present], np.multiply(by_hand, 100), atol=1e-4)
    shown = details(table)
    assert [*shown["profile"]["class"]] == ["0", "1", "2", "4"] and shown["classes_averaged"] == 4
    np.testing.assert_allclose([*shown["profile"]["class"].values()], np.multiply(by_hand, 100), atol=1e-5)
    hits = found[kept] == truth[kept]
    assert shown["pixel_accuracy"] == pytest.approx(100 * hits.float().mean().item(), abs=1e-4)
    recalls = [hits[truth[kept] == c].float().mean().item() for c in present]
    assert shown["mean_class_accuracy"] == pytest.approx(100 * np.mean(recalls), abs=1e-4)


def test_predictions_on_ignored_pixels_do_not_count() -> None:
    found, truth = some_masks()
    other = found.where(truth != VOID, (found + 1) % CLASSES)
    assert not torch.equal(found, other)
    np.testing.assert_array_equal(*(confusion(one, truth, CLASSES) for one in (found, other)))


def test_the_patch_oracle_says_each_patchs_most_frequent_class() -> None:
    _, truth = some_masks()
    truth[0, :4, :4] = VOID
    modes = patch_modes(truth, (2, 2), CLASSES)
    for n, i, j in product(range(6), range(2), range(2)):
        rows, columns = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
        counts = np.bincount(truth[n, rows, columns].flatten(), minlength=256)[:CLASSES]
        assert (modes[n, rows, columns] == counts.argmax()).all()


def test_it_learns_masks_that_a_linear_layer_can_tell(make_bench: MakeBench) -> None:
    maps, targets = quadrants(120)
    settings = Segmentation.Settings()
    found = Segmentation(settings).evaluate(make_bench(maps, targets, (80, 20, 20)))
    for name in ("miou", "miou@knn"):
        table = found.arrays[name]["confusion"]
        assert score("iou", found.arrays[name]) > 90 and table.shape == (20, 3, 3)
        assert (table.sum((1, 2)) == 16 * 16 - 4).all()  # the ignored corner is left out
    points = [(row["penalty"], row["shift"]) for row in found.sweep if "penalty" in row]
    assert points == list(product([10.0**one for one in settings.decades], settings.shifts))
    assert [row["k"] for row in found.sweep if "k" in row] == list(settings.ks)
    for key, chosen in (("select_miou", found.selected), ("select_miou@knn", found.selected["miou@knn"])):
        assert chosen[key] == max(row.get(key, 0) for row in found.sweep)
    assert found.details["patch_oracle_miou"] == 100 and found.details["label_resolution"] == 16
    assert found.details["classes_averaged"] == 3


def taught(maps: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Places of maps of 3 classes, and their pixels of each class."""
    truth = targets["mask"].where(targets["mask"] != IGNORED, 3)
    return sample(maps, truth, 3, 10**6, torch.Generator())


def test_ignored_pixels_teach_nothing() -> None:
    maps, targets = quadrants(40)
    wrong = {"mask": targets["mask"].clone()}
    targets["mask"][:, 8:] = IGNORED
    other = maps.clone()
    other[:, :, 2:] += 1  # the places below, all of them ignored
    heads = [Path(*taught(x, targets)).at(1e-2).head for x in (maps, other)]
    torch.testing.assert_close(heads[0], heads[1])
    assert not torch.allclose(heads[0], Path(*taught(maps, wrong)).at(1e-2).head)


def test_heads_are_those_of_logistic_regression() -> None:
    maps, targets = quadrants(40)
    maps += torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
    targets["mask"][:, :2, :2] = targets["mask"][:, 2:4, 2:4]  # nothing ignored: a place has one class
    scaled = standard(maps)(maps)
    path = Path(*taught(scaled, targets))
    x = scaled.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    y = targets["mask"][:, ::4, ::4].flatten().numpy()
    for penalty in (1e-1, 1e-3):
        head = path.at(penalty).head
        oracle = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-10, max_iter=5000).fit(x, y)
        np.testing.assert_allclose(head[:-1].T, oracle.coef_, atol=2e-3)
        bias = head[-1] - head[-1].mean()  # a constant for all classes changes nothing
        np.testing.assert_allclose(bias, oracle.intercept_ - oracle.intercept_.mean(), atol=2e-3)


def test_more_iterations_change_no_score(make_bench: MakeBench) -> None:
    maps, targets = quadrants(80)
    maps += 2 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))
    tables = [
        Segmentation(Segmentation.Settings(iterations=n)).evaluate(make_bench(maps, targets, (40, 20, 20))).sweep
        for n in (60, 600)
    ]
    for a, b in zip(*tables):
        assert a.get("select_miou", 0) == pytest.approx(b.get("select_miou", 0), abs=0.2)


def test_rare_classes_that_a_converged_head_never_says_are_found_by_the_shift(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = (torch.rand(150, 4, 4, generator=generator) < 0.1).long() * torch.randint(
        1, 3, (150, 4, 4), generator=generator
    )
    noise = 1.5 * torch.randn(150, 3, 4, 4, generator=generator)
    masks = F.interpolate(classes[:, None].to(torch.uint8), (16, 16))[:, 0]
    found = Segmentation(Segmentation.Settings()).evaluate(
        make_bench(F.one_hot(classes, 3).permute(0, 3, 1, 2) + noise, {"mask": masks}, (100, 30, 20))
    )
    plain = max(row["select_miou"] for row in found.sweep if row.get("shift") == 0)
    assert found.selected["shift"] > 0 and found.selected["select_miou"] > plain + 2


def test_a_place_copies_the_pixels_of_its_neighbours_as_a_loop_does() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 5, 2, 2, generator=generator)
    masks = torch.randint(0, 4, (9, 6, 6), generator=generator, dtype=torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = IGNORED
    truth = masks.where(masks != IGNORED, 4)
    found = Bank.of(maps[:6], truth[:6], 4, 1000, torch.Generator()).tables(maps[6:], truth[6:], (1, 5))
    x = maps.permute(0, 2, 3, 1).double().numpy()  # (N, 2, 2, D)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    bank = [(x[n, i, j], masks[n, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]) for n, i, j in np.ndindex(6, 2, 2)]
    for k, table_of_k in zip((1, 5), found):
        expected = np.zeros((3, 4, 4), int)
        for n, i, j in np.ndindex(3, 2, 2):
            near = sorted(bank, key=lambda one: -(one[0] @ x[6 + n, i, j]))[:k]
            for a, b in np.ndindex(3, 3):
                votes = [int(labels[a, b]) for _, labels in near if labels[a, b] != IGNORED]
                votes = votes or [int(one) for _, labels in near for one in labels.flatten() if one != IGNORED]
                said = max(range(4), key=lambda c: (votes.count(c), -c))
                if (wanted := int(masks[6 + n, 3 * i + a, 3 * j + b])) != IGNORED:
                    expected[n, wanted, said] += 1
        np.testing.assert_array_equal(table_of_k, expected)


def test_a_bank_is_of_all_columns_alike_and_without_places_that_are_ignored() -> None:
    maps = torch.zeros(2048, 8, 1, 8) + torch.eye(8)[None, :, None]  # a place says which column it is in
    truth = torch.zeros(2048, 8, 8, dtype=torch.uint8)
    found = Bank.of(maps, truth, 2, 4096, torch.Generator()).features.sum(0)  # of each column
    assert found.sum() == 4096 and (found - 512).abs().max() < 90  # four deviations of a chance choice
    maps, targets = quadrants(20)
    truth = targets["mask"].where(targets["mask"] != IGNORED, 3)
    truth[:, :8] = 3
    bank = Bank.of(maps, truth, 3, 16, torch.Generator())
    assert bank.features.shape == (16, 3) and (bank.labels != 3).all()
    assert len(Bank.of(maps[:10], truth[:10], 3, 1000, torch.Generator()).features) == 10 * 8


def test_a_dimension_that_says_nothing_on_fit_decides_nothing_elsewhere(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    maps = torch.cat([maps, torch.zeros_like(maps[:, :1])], 1)
    maps[20:, -1, ::2] = 0.3  # a dead channel that wakes up on select and test
    found = Segmentation(Segmentation.Settings()).evaluate(make_bench(maps, targets, (20, 10, 10)))
    assert score("iou", found.arrays["miou@knn"]) > 95


def test_one_image_to_choose_on_is_enough(make_bench: MakeBench) -> None:
    found = Segmentation(Segmentation.Settings()).evaluate(make_bench(*quadrants(12), (6, 1, 5)))
    assert found.selected["at_edge"] is False


def test_nothing_to_choose_on_is_an_error(make_bench: MakeBench) -> None:
    maps, targets = quadrants(12)
    targets["mask"][4:8] = IGNORED
    with pytest.raises(RuntimeError, match="nothing on select can be judged"):
        Segmentation(Segmentation.Settings()).evaluate(make_bench(maps, targets, (4, 4, 4)))


def test_a_mask_that_the_map_does_not_divide_is_judged_at_its_own_size(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    masks = F.interpolate(targets["mask"][:, None], (15, 15))[:, 0]
    found = Segmentation(Segmentation.Settings()).evaluate(make_bench(maps, {"mask": masks}, (20, 10, 10)))
    for arrays in (found.arrays["miou"], found.arrays["miou@knn"]):
        assert arrays["confusion"].sum() == (masks[30:] != IGNORED).sum() and score("iou", arrays) > 80


def test_images_of_ignored_pixels_alone_break_nothing(make_bench: MakeBench) -> None:
    maps, targets = quadrants(12)
    targets["mask"][0] = targets["mask"][9] = IGNORED
    found = Segmentation(Segmentation.Settings()).evaluate(make_bench(maps, targets, (4, 4, 4)))
    assert not any(row["diverged"] for row in found.sweep)
    assert found.arrays["miou"]["confusion"][1].sum() == 0
    assert np.isfinite(score("iou", found.arrays["miou"]))


def test_features_that_are_not_finite_are_an_error(make_bench: MakeBench) -> None:
    maps, targets = quadrants(40)
    with pytest.raises(RuntimeError, match="the features are not finite"):
        Segmentation(Segmentation.Settings()).evaluate(make_bench(maps * torch.nan, targets, (20, 10, 10)))


def test_judging_changes_no_statistics(make_bench: MakeBench, untrained: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 2, (24, 16, 16), dtype=torch.uint8, generator=generator)
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    table = make_bench(images, {"mask": masks}, (8, 8, 8), untrained)
    Segmentation(Segmentation.Settings(iterations=2)).evaluate(table)
    for name, value in untrained.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_bands_are_what_erosion_takes_off_each_classs_mask() -> None:
    found, truth = (F.interpolate(one[:, None], (40, 40))[:, 0] for one in some_masks())
    width = 1  # round(0.02 * 56.6)
    expected: dict[str, list[list[int]]] = {"hit": [], "truth": [], "predicted": []}
    for said, wanted in zip(found.numpy(), truth.numpy()):
        kept = wanted != VOID
        said = np.where(kept, said, VOID)
        rows: list[list[int]] = []
        for c in range(CLASSES):
            rims = [mask & ~binary_erosion(mask, np.ones((3, 3)), width) for mask in (wanted == c, said == c)]
            rows.append([int((rims[0] & rims[1]).sum()), int(rims[0].sum()), int(rims[1].sum())])
        for name, column in zip(expected, zip(*rows)):
            expected[name].append([*column])
    counts = boundaries(found, truth, CLASSES)
    for name, values in expected.items():
        np.testing.assert_array_equal(counts[name], values)


def test_the_boundary_of_a_perfect_answer_is_whole_and_that_of_a_shifted_one_is_not() -> None:
    truth = torch.zeros(2, 64, 64, dtype=torch.uint8)
    truth[:, 16:48, 16:48] = 1
    whole, moved = (
        score("iou", {name: value.numpy() for name, value in boundaries(said, truth, 2).items()})
        for said in (truth, truth.roll(2, 2))
    )
    assert whole == 100 and moved < 80 < miou(confusion(truth.roll(2, 2), truth, 2))


def test_a_constant_answer_scores_the_floor_and_shuffled_masks_little_more(make_bench: MakeBench) -> None:
    maps, targets = quadrants(120)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    found = Segmentation(Segmentation.Settings()).evaluate(
        make_bench(maps, {"mask": targets["mask"][order]}, (80, 20, 20))
    )
    blank = targets["mask"][:20].where(targets["mask"][:20] != IGNORED, 3)
    tables = [confusion(torch.full_like(blank, c), blank, 3) for c in range(3)]
    assert floor("iou", {"confusion": tables[0].numpy()}) == pytest.approx(max(map(miou, tables)))
    assert all(score("iou", found.arrays[name]) < 30 for name in ("miou", "miou@knn"))  # a third's guess has 20


def test_penalties_go_on_where_the_best_is_the_last(make_bench: MakeBench) -> None:
    maps, targets = quadrants(60)
    table = (40, 10, 10)
    settings = Segmentation.Settings(decades=(1, 2), shifts=(0,))
    found = Segmentation(settings).evaluate(make_bench(maps, targets, table))
    assert {row["penalty"] for row in found.sweep if "penalty" in row} > {1, 10, 100}
    assert found.selected["penalty"] < 10 and found.selected["select_miou"] > 90


def test_several_blocks_are_read_where_there_are_some(make_bench: MakeBench, untrained: Encoder) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = (images[:, 0] > 127).to(torch.uint8)
    table = make_bench(images, {"mask": masks}, (8, 8, 8), untrained)
    assert table.fit.maps(4).shape == (8, min(4, untrained.depth) * untrained.dim, 4, 4)
    torch.testing.assert_close(table.fit.maps(4)[:, -untrained.dim :], table.fit.map())
    found = Segmentation(Segmentation.Settings(iterations=5)).evaluate(table)
    assert found.arrays["miou@multi"]["confusion"].shape == (8, 2, 2)
    assert found.pictures["segmentation"].shape == (8, 3, 3, 16, 16)
