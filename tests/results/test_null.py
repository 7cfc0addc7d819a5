"""Whole tables of rows that do not differ: how often one is said to be ahead."""

import numpy as np
import pytest

from ssbench.results.marks import leaders
from ssbench.results.standing import LEVEL, compared
from ssbench.results.stats import Side, ahead, moderated, runs
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


@pytest.mark.parametrize("seeds", [3, 5])
def test_in_a_whole_table_of_equals_one_in_twenty_is_ahead_at_most(seeds: int) -> None:
    draw, bold, told, behind = np.random.default_rng(seeds), 0, 0, []
    for _ in range(TABLES):
        table = null(draw, seeds, 0.15)
        bold += bool(leaders({at: {row: of[at] for row, of in enumerate(table)} for at in range(COLUMNS)}))
        rows = [
            Row(str(at), "", False, tuple(Cell(runs=one) for one in of), False, 1.0, 1.0, 1.0, 1.0)
            for at, of in enumerate(table)
        ]
        told += any(p <= LEVEL for pairs in compared(rows, range(COLUMNS)) for p in pairs.values())
        behind += [ahead(table[0][at], table[1][at]) <= LEVEL for at in range(COLUMNS)]
    reach = 1.65 * (0.05 * 0.95 / TABLES) ** 0.5  # what 5 % can come out as
    assert bold / TABLES <= 0.05 + reach and told / TABLES <= 0.05 + reach
    assert np.mean(behind) <= 0.05 + reach
