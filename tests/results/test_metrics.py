from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    r2_score,
    roc_auc_score,
)
from torchmetrics.functional.classification import binary_calibration_error

from ssbench.results.bootstrap import GROUP, interval
from ssbench.results.metrics import KINDS, floor, influences, iou_per_class, score


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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("auroc", "ap")])  # of first order
def test_a_weight_of_two_is_the_same_as_a_sample_twice(kind: str) -> None:
    draw = np.random.default_rng(2)
    arrays = {
        "predicted": draw.integers(3, size=8),
        "truth": draw.integers(3, size=8),
        "confusion": draw.integers(9, size=(8, 3, 3)),
        "value": draw.normal(size=8),
        "confidence": draw.random(8),
        "hit": draw.integers(2, size=8),
    }
    if kind == "r2":
        arrays |= {name: draw.normal(size=(8, 2)) for name in ("predicted", "truth")}
    if kind == "f1-labels":
        arrays |= {name: draw.integers(2, size=(8, 2)) for name in ("predicted", "truth")}
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


def multi_label(samples: int = 300, classes: int = 4) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    truth = (draw.random((samples, classes)) < [0.5, 0.2, 0.05, 0.4]).astype(np.uint8)
    return {"scores": np.round(truth + draw.normal(size=truth.shape), 1), "truth": truth}  # rounded: there are ties


def test_average_precision_is_that_of_scikit_learn() -> None:
    arrays = multi_label()
    wanted = 100 * average_precision_score(arrays["truth"], arrays["scores"], average="macro")
    assert score("ap", arrays) == pytest.approx(wanted)


def test_a_resample_of_average_precision_is_the_score_of_the_resample_to_first_order() -> None:
    arrays, draw = multi_label(2000), np.random.default_rng(1)
    per_sample, reduce = KINDS["ap"]
    shares = per_sample(arrays)
    found, wanted = [], []
    for _ in range(40):
        index = draw.integers(2000, size=2000)
        found.append(float(reduce(shares[index].sum(0), shares.sum(0))))
        wanted.append(100 * average_precision_score(arrays["truth"][index], arrays["scores"][index], average="macro"))
    assert np.corrcoef(found, wanted)[0, 1] > 0.99
    assert np.std(found) == pytest.approx(np.std(wanted), rel=0.1)


def test_average_precision_leaves_out_a_class_without_positives() -> None:
    arrays = multi_label()
    arrays["truth"][:, 2] = 0
    kept = {name: value[:, [0, 1, 3]] for name, value in arrays.items()}
    assert score("ap", arrays) == pytest.approx(score("ap", kept))


def test_f1_over_labels_is_that_of_scikit_learn() -> None:
    arrays = multi_label()
    predicted = (arrays["scores"] > 0.5).astype(np.uint8)
    wanted = 100 * f1_score(arrays["truth"], predicted, average="macro")
    assert score("f1-labels", {"predicted": predicted, "truth": arrays["truth"]}) == pytest.approx(wanted)


def test_floors_of_several_labels_are_those_of_constant_answers() -> None:
    truth = multi_label()["truth"]
    constant = {"scores": np.zeros(truth.shape), "truth": truth}
    assert floor("ap", constant) == pytest.approx(score("ap", constant))
    everything = {"predicted": np.ones_like(truth), "truth": truth}
    assert floor("f1-labels", everything) == pytest.approx(score("f1-labels", everything))


def test_r2_is_that_of_scikit_learn_and_a_mean_predictor_gets_none() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(3, 2, (100, 3))
    predicted = truth + draw.normal(size=truth.shape)
    assert score("r2", {"predicted": predicted, "truth": truth}) == pytest.approx(r2_score(truth, predicted))
    constant = {"predicted": np.broadcast_to(truth.mean(0), truth.shape), "truth": truth}
    assert score("r2", constant) == pytest.approx(0, abs=1e-9)


def test_r2_leaves_out_what_is_not_known() -> None:
    draw = np.random.default_rng(0)
    truth, predicted = draw.normal(size=(50, 2)), draw.normal(size=(50, 2))
    truth[:10, 1] = np.nan
    wanted = (r2_score(truth[:, 0], predicted[:, 0]) + r2_score(truth[10:, 1], predicted[10:, 1])) / 2
    assert score("r2", {"predicted": predicted, "truth": truth}) == pytest.approx(wanted)


def test_calibration_error_is_that_of_torchmetrics() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.random(500)
    hit = draw.random(500) < confidence**2
    wanted = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(hit).int(), n_bins=15)
    assert score("ece", {"confidence": confidence, "hit": hit}) == pytest.approx(100 * float(wanted), abs=1e-3)


def test_a_class_that_all_samples_have_has_no_area() -> None:
    truth, scores = np.array([0, 0, 0]), np.random.default_rng(0).normal(size=(3, 2))
    with pytest.warns(RuntimeWarning, match="empty"):
        assert np.isnan(score("auroc", {"scores": scores, "truth": truth}))
    assert score("auroc", {"scores": scores, "truth": np.array([0, 0, 1])}) >= 0


def test_a_mean_has_a_floor_where_the_constant_answer_is_known() -> None:
    value, constant = np.array([1.0, 3.0]), np.array([0.0, 1.0])
    assert floor("mean", {"value": value}) is None
    assert floor("mean", {"value": value, "constant": constant}) == 0.5


def test_influences_average_to_the_score_and_spread_as_the_jackknife_does() -> None:
    draw = np.random.default_rng(0)
    sample = draw.normal(size=400)
    found = influences(lambda index: float(np.std(sample[index])), np.arange(400))
    assert found.mean() == pytest.approx(np.std(sample))
    group = np.arange(400) % 20
    without = np.array([np.std(sample[group != one]) for one in range(20)])
    assert found.var() / 400 == pytest.approx(19 / 20 * ((without - without.mean()) ** 2).sum())


def test_influences_of_groups_spread_as_a_bootstrap_of_groups_does() -> None:
    """Each group in a row, as frames of a video are, so that dealing samples out would give all groups the same."""
    draw = np.random.default_rng(0)
    inside, count = 20, 60
    units = np.repeat(np.arange(count), inside)
    hold = 0
    for _ in range(200):
        sample = np.repeat(draw.normal(size=count), inside) + 0.3 * draw.normal(size=count * inside)
        found = influences(lambda index, sample=sample: float(np.std(sample[index])), units)  # type: ignore[misc]
        assert found.mean() == pytest.approx(np.std(sample))
        low, high = interval("mean", {"value": found, GROUP: units})
        hold += low <= np.sqrt(1 + 0.3**2) <= high
    assert 180 <= hold <= 197


def test_influences_of_one_sample_are_its_score() -> None:
    assert influences(lambda index: float(len(index)), np.arange(1)).tolist() == [1.0]
