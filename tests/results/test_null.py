"""Whole tables of rows that do not differ: how often one is said to be ahead."""

from itertools import permutations, product

import numpy as np
import pytest

from ssbench.results.bootstrap import DRAWS, GROUP
from ssbench.results.marks import leaders
from ssbench.results.standing import _ranks, compared
from ssbench.results.stats import LEVEL, Run, Side, ahead, holm, moderated, runs
from ssbench.results.table import Cell, Row

TABLES, ROWS, COLUMNS, SAMPLES = 80, 6, 2, 150


def null(draw: np.random.Generator, seeds: int, by_seed: float) -> list[list[Side]]:
    """Rows by columns: all rows are right at 60 % of samples, some at more, each row at others; seeds scatter."""
    truth = np.zeros(SAMPLES, np.int64)
    made: list[list[Side]] = []
    for _ in range(ROWS):
        deviation = by_seed * draw.normal(size=seeds)  # what a seed does to every column of a row
        columns: list[Side] = []
        for _ in range(COLUMNS):
            hard = draw.normal(size=SAMPLES)  # a row's own hard samples, which its seeds share
            own = draw.normal(size=(seeds, SAMPLES))
            wrong = 0.25 + deviation[:, None] + (0.7 * hard + 0.7 * own) < 0
            columns.append(
                runs(
                    "accuracy",
                    "higher",
                    {s: {"predicted": one.astype(int), "truth": truth} for s, one in enumerate(wrong)},
                )
            )
        made.append(columns)
    shared = [moderated({row: of[at] for row, of in enumerate(made)}) for at in range(COLUMNS)]
    return [[column[row] for column in shared] for row in range(ROWS)]


def rows_of(columns: list[list[Side]]) -> list[Row]:
    return [
        Row(str(at), "", False, tuple(Cell(runs=one) for one in of), False, 1.0, 1.0, 1.0, 1.0)
        for at, of in enumerate(columns)
    ]


@pytest.mark.parametrize("seeds", [3, 5])
def test_in_a_whole_table_of_equals_one_in_twenty_is_ahead_at_most(seeds: int) -> None:
    draw, bold, told, behind = np.random.default_rng(seeds), 0, 0, []
    for _ in range(TABLES):
        table = null(draw, seeds, 0.15)
        bold += bool(leaders({at: {row: of[at] for row, of in enumerate(table)} for at in range(COLUMNS)}))
        told += any(p <= LEVEL for pairs in compared(rows_of(table), range(COLUMNS)) for p in pairs.values())
        pairs = product(permutations(table, 2), range(COLUMNS))
        behind += [ahead(one[at], other[at]) <= LEVEL for (one, other), at in pairs]
    reach = 1.65 * (0.05 * 0.95 / TABLES) ** 0.5  # what 5 % can come out as
    assert bold / TABLES <= 0.05 + reach and told / TABLES <= 0.05 + reach
    assert np.mean(behind) <= 0.05 + reach


def test_a_row_that_varies_five_times_as_much_is_told_from_its_equals_once_in_twenty_at_most() -> None:
    """Its variance is not shared: with the column's it would be told from some in every third table."""
    draw, told, tables = np.random.default_rng(0), 0, 200
    for _ in range(tables):
        values = draw.normal(50, [[1.0]] * 19 + [[5.0]], (20, 3))
        sides = {
            at: {s: Run(one, np.full(DRAWS, one), 100) for s, one in enumerate(of)} for at, of in enumerate(values)
        }
        wide, *others = [*moderated(sides).values()][::-1]
        p = [ahead(wide, other) for other in others]
        told += min(holm([2 * min(one, 1 - one) for one in p])) <= LEVEL
    assert told / tables <= 0.05 + 1.65 * (0.05 * 0.95 / tables) ** 0.5


@pytest.mark.parametrize("groups", [3, 5, 10])
def test_few_groups_of_test_images_tell_no_equals_apart(groups: int) -> None:
    """Two rows, each right in groups of its own: a normal law and the resamples' variance tell .15 apart with three."""
    draw, told, tables, truth = np.random.default_rng(groups), 0, 150, np.zeros(groups * 20, np.int64)
    for _ in range(tables):
        sides = []
        for _ in range(2):
            hard = np.repeat(draw.normal(size=groups), 20)
            wrong = [(0.25 + hard + 0.5 * draw.normal(size=len(truth)) < 0).astype(int) for _ in range(3)]
            group = np.repeat(np.arange(groups), 20)
            arrays = {s: {"predicted": one, "truth": truth, GROUP: group} for s, one in enumerate(wrong)}
            sides.append(runs("accuracy", "higher", arrays))
        told += ahead(*sides) <= LEVEL
    assert told / tables <= 0.05 + 1.65 * (0.05 * 0.95 / tables) ** 0.5


def test_average_ranks_hold_the_true_one_of_every_row_in_19_of_20_tables() -> None:
    """Ranks of noisy means that are drawn with noise again do in 1 of 5 for the first row."""
    draw, held, tables, count = np.random.default_rng(0), 0, 100, 12
    for _ in range(tables):
        values = draw.normal(0.1 * np.arange(count)[:, None, None], 1.0, (count, COLUMNS, 3))
        made = [[{s: Run(v, np.full(DRAWS, v), 100) for s, v in enumerate(one)} for one in of] for of in values]
        shared = [moderated({row: of[at] for row, of in enumerate(made)}) for at in range(COLUMNS)]
        rows = rows_of([[column[row] for column in shared] for row in range(count)])
        found = _ranks(rows, range(COLUMNS), dict(enumerate(compared(rows, range(COLUMNS)))))
        spans = [found[row.name].span or (0.0, 0.0) for row in rows]
        held += all(low <= count - at <= high for at, (low, high) in enumerate(spans))
    assert held / tables >= 0.91
