"""One choice for every sweep: the best that did not diverge, and an edge that is more than noise."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssbench.results.metrics import Metric
from ssbench.task import _standard_error, choose

TOP1 = Metric("top1", "%", "higher", "accuracy")
COUNT = 400


def predictions(hits: int, first: int = 0) -> dict[str, NDArray[np.generic]]:
    """`hits` of 400 right, from position `first` on."""
    right = np.zeros(COUNT, bool)
    right[first : first + hits] = True
    return {"predicted": np.where(right, 0, 1), "truth": np.zeros(COUNT, int)}


def choice(hits: list[int], axes: dict[str, list[Any]], diverged: tuple[int, ...] = ()) -> tuple[int, bool]:
    points = [{name: values[i] for name, values in axes.items()} for i in range(len(hits))]
    sweep = [
        {**point, "select_top1": 100 * h / COUNT, "diverged": i in diverged}
        for i, (point, h) in enumerate(zip(points, hits))
    ]
    return choose(sweep, TOP1, tuple(axes), lambda i: predictions(hits[i]), "lower task.lrs")


def test_the_first_of_the_best_that_did_not_diverge_is_chosen() -> None:
    assert choice([100, 300, 300, 400], {"lr": [1, 2, 3, 4]}, diverged=(3,)) == (1, False)


def test_a_metric_of_which_less_is_better_is_minimised() -> None:
    sweep = [{"lr": lr, "select_error": error, "diverged": False} for lr, error in enumerate((3.0, 1.0, 2.0), 1)]
    assert choose(sweep, Metric("error", "", "lower", "mean"), ("lr",), lambda i: {}, "") == (1, False)


def test_when_all_diverge_it_says_what_to_lower() -> None:
    with pytest.raises(RuntimeError, match=r"every point of the sweep diverged.*lower task\.lrs"):
        choice([0, 0], {"lr": [1, 2]}, diverged=(0, 1))


@pytest.mark.parametrize(
    ("hits", "edge"),
    [([100, 200, 300], True), ([300, 200, 100], True), ([100, 300, 301], False), ([100, 300, 200], False)],
)
def test_an_edge_is_one_only_where_it_is_ahead_of_its_neighbour_by_more_than_noise(hits: list[int], edge: bool) -> None:
    assert choice(hits, {"lr": [1, 2, 3]})[1] is edge
    assert choice(hits[::-1], {"lr": [3, 2, 1]})[1] is edge  # in whatever order it was swept


def test_zero_a_single_value_and_names_are_no_edges() -> None:
    assert choice([300, 200], {"weight_decay": [0, 1]}) == (0, False)
    assert choice([300], {"lr": [1]}) == (0, False)
    assert choice([300, 100], {"pooling": ["mean", "cls"]}) == (0, False)


def test_the_neighbour_differs_in_one_axis_alone() -> None:
    axes: dict[str, list[Any]] = {"pooling": ["a", "a", "b", "b"], "lr": [1, 2, 1, 2]}
    assert choice([300, 100, 100, 299], axes) == (0, True)
    assert choice([300, 300, 100, 299], axes) == (0, False)


def test_an_edge_beside_a_point_that_diverged_is_one() -> None:
    assert choice([300, 0], {"lr": [1, 2]}, diverged=(1,)) == (0, True)


def test_the_standard_error_is_that_of_a_share() -> None:
    right = np.random.default_rng(0).integers(0, 2, COUNT)
    found = _standard_error(TOP1, {"predicted": right, "truth": np.zeros(COUNT, int)})
    share = (right == 0).mean()
    assert found == pytest.approx(100 * (share * (1 - share) / COUNT) ** 0.5, rel=0.5)  # twenty groups: within a sixth
    assert _standard_error(TOP1, predictions(COUNT)) == 0


def test_the_noise_of_a_mean_iou_is_of_the_same_classes_whoever_is_left_out() -> None:
    confusion = np.tile(np.array([[80, 20, 0], [20, 80, 0], [0, 0, 0]]), (100, 1, 1))
    confusion[7, 2] = [50, 0, 0]  # the one image with the third class, of which nothing is found
    assert _standard_error(Metric("miou", "%", "higher", "iou"), {"confusion": confusion}) < 1
