"""A grid holds its choice: it grows where the best is outermost, and is finer around it."""

from collections.abc import Callable
from typing import Any

import pytest

from ssbench.tasks.grids import MOST, search


def tried(score: Callable[[float], Any]) -> list[float]:
    return [*search((-1, 0, 1), lambda exponent: exponent, score, finer=2)]


def test_around_the_best_it_is_finer() -> None:
    assert tried(lambda at: -abs(at - 0.4)) == [-1, -0.5, 0, 0.5, 1]


def test_a_best_at_the_end_makes_it_grow_until_it_is_inside() -> None:
    assert tried(lambda at: -abs(at - 2)) == [-1, 0, 1, 1.5, 2, 2.5, 3]
    assert tried(lambda at: -abs(at + 2)) == [-3, -2.5, -2, -1.5, -1, 0, 1]


def test_it_grows_so_often_and_not_without_a_gain() -> None:
    assert max(tried(lambda at: at)) == 1 + MOST + 0.5
    assert tried(lambda at: 0.0) == [-1.5, -1, -0.5, 0, 1]  # the first of equals


def test_a_gain_that_is_too_small_makes_no_grid_grow() -> None:
    found = search((-1, 0, 1), lambda exponent: exponent, lambda at: 0.1 * at, finer=1, least=0.2)
    assert [*found] == [-1, 0, 1]


def test_a_grid_of_one_value_is_only_made_finer() -> None:
    assert [*search((0,), lambda at: at, lambda at: at, finer=2)] == [-0.5, 0, 0.5]


@pytest.mark.parametrize("score", [lambda at: (1, -abs(at - 1))])
def test_equals_may_be_told_apart_by_a_second_score(score: Callable[[float], Any]) -> None:
    assert 1 in tried(score) and 2 in tried(score)
