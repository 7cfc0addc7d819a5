"""Fewer labels are part of more, the penalty is chosen by them alone, and the curve is what its points say."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from torch import Tensor

from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.few_labels import FewLabels, areas, interval, order

MakeBench = Callable[..., Bench]
SETTINGS = FewLabels.Settings(shots=(1, 2, 5, 10, 50), draws=4)


def test_each_draw_has_so_many_of_each_class_and_fewer_are_part_of_more() -> None:
    labels = [at % 7 % 3 for at in range(200)]
    for draw in range(3):
        ranks = order(labels, draw)
        subsets = [{*np.flatnonzero(ranks < shots).tolist()} for shots in (1, 2, 5, 1000)]
        assert all(few < more for few, more in pairwise(subsets))
        assert [len(one) for one in subsets] == [3, 6, 15, 200]
        assert {labels[at] for at in subsets[0]} == {0, 1, 2}
    assert (order(labels, 0) != order(labels, 1)).any() and (order(labels, 0) == order(labels, 0)).all()


def test_the_curve_rises_on_digits_and_ends_at_a_ridge_classifier(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    found = FewLabels(SETTINGS).evaluate(make_bench(images, {"label": labels}, (1000, 100, 600)))
    curve = found.details["profile"]["labels a class"]
    assert [*curve] == ["1", "2", "5", "10", "50", "all"]
    middles = [point[0] if isinstance(point, list) else point for point in curve.values()]
    assert middles == sorted(middles) and middles[0] > 35 and middles[-1] > 91
    assert all(low < value < high for value, low, high in list(curve.values())[:-1])
    assert [point["labels"] for point in found.sweep] == [10] * 4 + [20] * 4 + [50] * 4 + [100] * 4 + [500] * 2 + [1000]
    area = sum(weight * value for weight, value in zip(found.details["weights"].values(), middles))
    assert score("mean", found.arrays["area"]) == pytest.approx(area)


def test_no_label_of_select_and_none_beyond_those_counted_is_seen(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    settings, other = FewLabels.Settings(shots=(2,), draws=3), labels.clone()
    other[500:600] = other[500:600].flip(0)
    first, second = (
        FewLabels(settings).evaluate(make_bench(images, {"label": y}, (500, 100, 300))) for y in (labels, other)
    )
    np.testing.assert_array_equal(first.arrays["area"]["value"], second.arrays["area"]["value"])
    assert first.sweep == second.sweep


def test_a_perfect_feature_needs_one_label_a_class(make_bench: MakeBench) -> None:
    labels = torch.arange(600) % 4
    x = torch.nn.functional.one_hot(labels, 4).float()[..., None, None]
    found = FewLabels(SETTINGS).evaluate(make_bench(x, {"label": labels}, (300, 100, 200)))
    assert (found.arrays["area"]["value"] > 99.999).all()
    assert found.arrays["area"]["constant"].mean() == 25


def test_shuffled_labels_are_chance(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (2000,), generator=generator)
    table = make_bench(torch.randn(2000, 8, 1, 1, generator=generator), {"label": labels}, (800, 200, 1000))
    assert score("mean", FewLabels(SETTINGS).evaluate(table).arrays["area"]) == pytest.approx(25, abs=2)


def test_constant_features_are_the_constant_answer_at_most(make_bench: MakeBench) -> None:
    labels = torch.arange(400) % 4 % 3
    found = FewLabels(SETTINGS).evaluate(make_bench(torch.ones(400, 6, 1, 1), {"label": labels}, (200, 100, 100)))
    value, constant = (found.arrays["area"][name].mean() for name in ("value", "constant"))
    assert constant == 50 and value <= 50 + 1e-9


def test_intervals_are_students_and_areas_trapezoids() -> None:
    draws = np.array([60.0, 64, 62, 70])
    low, high = scipy_stats.t.interval(0.95, 3, draws.mean(), scipy_stats.sem(draws))
    assert interval(draws) == pytest.approx([64, low, high])
    assert interval(np.array([3.0])) == 3.0
    sizes, curve = [8.0, 40, 80, 1000], np.array([30.0, 50, 60, 80])
    wanted = np.trapezoid(curve, np.log(sizes)) / (math.log(1000) - math.log(8))
    assert np.dot(areas(sizes), curve) == pytest.approx(wanted)
    assert areas([5.0]) == [1.0]


def test_a_class_of_few_gives_all_it_has_and_one_image_is_enough(make_bench: MakeBench) -> None:
    labels = torch.tensor([0] * 20 + [1] * 2 + [0, 1] * 10)
    x = torch.randn(42, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    found = FewLabels(FewLabels.Settings(shots=(1, 5), draws=2)).evaluate(
        make_bench(x, {"label": labels}, (22, 10, 10))
    )
    assert [point["labels"] for point in found.sweep] == [2, 2, 7, 7, 22]
    one = FewLabels(SETTINGS).evaluate(make_bench(x, {"label": labels * 0}, (1, 1, 40)))
    assert score("mean", one.arrays["area"]) == 100
