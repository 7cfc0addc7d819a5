from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, jaccard_score, roc_auc_score

from ssbench.results.metrics import KINDS, floor, iou_per_class, score
from ssbench.results.stats import interval


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int, ignore: int = 255) -> np.ndarray:
    """(N, C, C) counts of (truth, predicted), one pixel at a time."""
    table = np.zeros((len(truth), classes, classes), np.int64)
    for image, (t, p) in enumerate(zip(truth, predicted)):
        for a, b in zip(t.ravel(), p.ravel()):
            if a != ignore:
                table[image, a, b] += 1
    return table


def test_accuracy_is_the_share_of_hits_in_percent() -> None:
    arrays = {"predicted": np.array([0, 1, 2, 2]), "truth": np.array([0, 1, 1, 2])}
    assert score("accuracy", arrays) == 75.0


def test_accuracy_equals_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    truth, predicted = draw.integers(7, size=500), draw.integers(7, size=500)
    expected = 100 * accuracy_score(truth, predicted)
    assert score("accuracy", {"predicted": predicted, "truth": truth}) == pytest.approx(expected, abs=1e-9)


def test_what_stands_beside_top1_equals_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    truth = draw.choice([0, 1, 2, 4], size=400, p=[0.7, 0.2, 0.08, 0.02])  # class 3 is only ever predicted
    scores = np.round(draw.random((400, 5)) + np.eye(5)[truth] * 0.3, 1)  # with ties
    predicted = scores.argmax(1)
    arrays = {"predicted": predicted, "truth": truth, "scores": scores}
    found = {kind: score(kind, arrays) for kind in ("class-accuracy", "f1", "auroc")}
    seen = [0, 1, 2, 4]
    areas = [roc_auc_score(truth == one, scores[:, one]) for one in seen]
    recalls = [accuracy_score(truth[truth == one], predicted[truth == one]) for one in seen]
    assert found["class-accuracy"] == pytest.approx(100 * np.mean(recalls), abs=1e-9)
    assert found["f1"] == pytest.approx(100 * np.mean(f1_score(truth, predicted, labels=seen, average=None)), abs=1e-9)
    assert found["auroc"] == pytest.approx(100 * np.mean(areas), abs=1e-9)


def test_balanced_accuracy_is_scikit_learns() -> None:
    draw = np.random.default_rng(3)
    truth, predicted = draw.integers(5, size=300), draw.integers(5, size=300)
    expected = 100 * balanced_accuracy_score(truth, predicted)
    assert score("class-accuracy", {"predicted": predicted, "truth": truth}) == pytest.approx(expected, abs=1e-9)


def test_the_interval_of_an_area_is_that_of_resampled_areas() -> None:
    draw = np.random.default_rng(4)
    truth = (draw.random(300) < 0.2).astype(int)
    one = draw.normal(size=300) + truth
    scores = np.stack([-one, one], 1)
    low, high = interval("auroc", {"scores": scores, "truth": truth})
    index = draw.integers(300, size=(300, 300))
    slow = np.percentile([100 * roc_auc_score(truth[at], one[at]) for at in index], [2.5, 97.5])
    np.testing.assert_allclose([low, high], slow, atol=1.5)


def test_a_constant_answer_gets_an_equal_share_of_every_class() -> None:
    truth = np.array([0] * 90 + [1] * 10)
    arrays = {"truth": truth, "predicted": np.zeros(100, int)}
    for kind in ("accuracy", "class-accuracy", "f1"):
        assert floor(kind, arrays) == pytest.approx(score(kind, arrays))
    assert floor("class-accuracy", arrays) == 50.0 and floor("auroc", arrays) == 50.0


def test_iou_counted_by_hand() -> None:
    truth, predicted = np.array([[[0, 0], [1, 1]]]), np.array([[[0, 1], [1, 1]]])
    # class 0: 1 of 2 pixels in the union, class 1: 2 of 3
    assert score("iou", {"confusion": confusion(truth, predicted, 2)}) == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


def test_iou_equals_scikit_learns_jaccard_over_the_classes_in_the_truth() -> None:
    draw = np.random.default_rng(1)
    truth = draw.choice([0, 1, 3, 255], size=(6, 5, 5))  # class 2 is only ever predicted
    predicted = draw.integers(4, size=(6, 5, 5))
    seen = truth != 255
    each = jaccard_score(truth[seen], predicted[seen], labels=[0, 1, 3], average=None)
    table = confusion(truth, predicted, 4)
    assert score("iou", {"confusion": table}) == pytest.approx(100 * each.mean(), abs=1e-9)
    total = table.sum(0).astype(float)
    regions = np.concatenate([total.diagonal(), total.sum(1), total.sum(0)])
    np.testing.assert_allclose(iou_per_class(regions), [*each[:2], np.nan, each[2]])


def test_the_mean_of_values_is_their_mean() -> None:
    assert score("mean", {"value": np.array([1.0, 2.0, 6.0], np.float32)}) == pytest.approx(3.0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "auroc"])  # whose weights are of first order
def test_a_weight_of_two_is_the_same_as_a_sample_twice(kind: str) -> None:
    draw = np.random.default_rng(2)
    arrays = {
        "predicted": draw.integers(3, size=8),
        "truth": draw.integers(3, size=8),
        "confusion": draw.integers(9, size=(8, 3, 3)),
        "value": draw.normal(size=8),
    }
    per_sample, reduce = KINDS[kind]
    weights = np.array([2, 0, 1, 1, 0, 3, 0, 1])
    repeated = {name: np.repeat(value, weights, axis=0) for name, value in arrays.items()}
    weighted = reduce(weights @ per_sample(arrays), per_sample(arrays).sum(0))
    assert weighted == pytest.approx(score(kind, repeated), abs=1e-9)  # type: ignore[arg-type]


def test_a_resample_that_misses_a_class_keeps_the_classes_of_the_whole_truth() -> None:
    draw = np.random.default_rng(5)
    table = draw.integers(1, 9, size=(12, 3, 3))
    table[:, 2] = 0
    table[0, 2] = [1, 0, 9]  # one image has the rare class
    whole = table.sum(0)

    def slow(picked: "np.ndarray[Any, Any]") -> float:
        each = []
        for c in range(3):
            counts = table[picked].sum(0)
            counts = counts if counts[c].sum() else whole
            each.append(counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c]))
        return float(100 * np.mean(each))

    per_sample, reduce = KINDS["iou"]
    sums = per_sample({"confusion": table})
    missed = 0
    for _ in range(50):
        picked = draw.integers(12, size=12)
        missed += 0 not in picked
        assert reduce(sums[picked].sum(0), sums.sum(0)) == pytest.approx(slow(picked))
    assert 5 < missed < 45


def test_the_floor_is_the_best_constant_answer() -> None:
    draw = np.random.default_rng(6)
    truth = draw.choice(4, size=300, p=[0.1, 0.6, 0.3, 0.0])
    scores = [score("accuracy", {"truth": truth, "predicted": np.full(300, c)}) for c in range(4)]
    assert floor("accuracy", {"truth": truth, "predicted": truth}) == pytest.approx(max(scores))
    masks = draw.choice([0, 1, 3], size=(6, 5, 5), p=[0.7, 0.2, 0.1])
    constant = [score("iou", {"confusion": confusion(masks, np.full_like(masks, c), 4)}) for c in range(4)]
    assert floor("iou", {"confusion": confusion(masks, masks, 4)}) == pytest.approx(max(constant))
    assert floor("mean", {"value": np.ones(3)}) is None
