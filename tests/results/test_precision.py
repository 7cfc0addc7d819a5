import numpy as np
import pytest

from ssbench.results.bootstrap import DRAWS
from ssbench.results.precision import precision
from ssbench.results.stats import Run, Side, difference, smallest


def rows(count: int, seeds: int, by_seed: float, by_samples: float) -> list[Side]:
    """Rows without any difference; test samples are shared by the seeds of a row."""
    draw = np.random.default_rng(0)
    made: list[Side] = []
    for _ in range(count):
        noise = by_samples * draw.normal(size=DRAWS)
        values = by_seed * draw.normal(size=seeds)
        made.append({at: Run(value, value + noise, 100) for at, value in enumerate(values)})
    return made


def test_deviations_are_those_that_went_in() -> None:
    found = precision(rows(300, 3, 2.0, 0.5)[:60])
    assert found is not None
    assert found.seeds == pytest.approx(2.0, rel=0.15) and found.samples == pytest.approx(0.5, rel=0.05)


def test_what_each_run_has_of_its_own_is_no_deviation_over_seeds() -> None:
    """Seeds that differ as much as their test answers do at random have no deviation of their own."""
    draw = np.random.default_rng(1)
    sides: list[Side] = [
        {at: Run(value, value + draw.normal(size=DRAWS), 100) for at, value in enumerate(draw.normal(size=40))}
        for _ in range(20)
    ]
    found = precision(sides)
    assert found is not None and found.samples == pytest.approx(1.0, rel=0.05) and found.seeds < 0.4


def test_the_smallest_difference_is_that_of_two_typical_rows_and_seeds_halve_it() -> None:
    one, other = rows(2, 4, 1.0, 0.05)
    found, made = precision([one, other]), difference(one, other)
    assert found is not None and made is not None and found.count == 4
    assert found.least == pytest.approx(smallest(made.error, made.freedom, made.shared))
    assert found.halving is not None
    at = {n: smallest(made.error * (4 / n) ** 0.5, made.freedom * (n - 1) / 3, made.shared) for n in
          (found.halving - 1, found.halving)}  # fmt: skip
    assert at[found.halving] <= found.least / 2 < at[found.halving - 1]


def test_where_test_samples_are_what_is_missing_no_seeds_help() -> None:
    found = precision(rows(4, 3, 0.05, 2.0))
    assert found is not None and found.halving is None


def test_two_seeds_say_nothing() -> None:
    assert precision(rows(4, 2, 1.0, 1.0)) is None and precision([]) is None


def test_what_probes_scatter_is_no_deviation_over_seeds() -> None:
    """Two of 3 squared of a run's variance are the probe's."""
    draw = np.random.default_rng(2)
    sides: list[Side] = [
        {
            at: Run(value, value + 0.1 * draw.normal(size=DRAWS), 100)
            for at, value in enumerate(3 * draw.normal(size=60))
        }
        for _ in range(20)
    ]
    again = [(mean + 2**0.5 * draw.normal(size=4)).tolist() for mean in 3 * draw.normal(size=400)]
    found = precision(sides, again)
    assert found is not None and found.probes == pytest.approx(2**0.5, rel=0.1)
    assert found.seeds == pytest.approx((9 - 2) ** 0.5, rel=0.1)
