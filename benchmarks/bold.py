"""How often a table of equal methods has a bold cell, and what difference is found in 80 % of tables.

    python benchmarks/bold.py [TABLES]

Rows are equal but for seeds, whose deviation is 2 points around 40 %, and for which of 2,000 test samples they get
right: partly the same for all rows, partly a row's own, partly a run's own. `still` is a last row without any spread
over seeds, as raw pixels are. The difference is that of one row from all others, which are equal.
"""

import sys
from itertools import product

import numpy as np
from scipy.special import ndtri

from ssbench.results import stats
from ssbench.results.marks import leaders

LEVEL, SEED_SD, SAMPLES = 40.0, 2.0, 2000
SHARES = (0.4, 0.2, 0.4)  # of the variance of how hard a sample is: for all rows, for a row, for a run
POWER = 0.8


def table(
    draw: np.random.Generator, rows: int, seeds: int, gap: float = 0.0, still: bool = False, samples: int = SAMPLES
) -> dict[int, stats.Moderated]:
    """The runs of each row by seed; row 0 is `gap` points better."""
    every = draw.normal(size=samples)
    arrays = {}
    for row in range(rows):
        own, fixed = draw.normal(size=samples), still and row == rows - 1
        noise = draw.normal(size=samples)
        for seed in range(seeds):
            share = LEVEL + gap * (row == 0) + (0 if fixed else SEED_SD * draw.normal())
            noise = noise if fixed else draw.normal(size=samples)
            hard = sum(np.sqrt(part) * one for part, one in zip(SHARES, (every, own, noise)))
            arrays[row, seed] = {"predicted": hard < ndtri(share / 100), "truth": np.ones(samples, bool)}
    found = stats.runs("accuracy", "higher", arrays)  # all at once is faster than row by row
    made = {row: {seed: found[row, seed] for seed in range(seeds)} for row in range(rows)}
    return stats.moderated(made, {rows - 1} if still else ())


def bold(draw: np.random.Generator, tables: int, columns: int = 1, **options: float) -> float:
    """The share of tables in which a cell is bold: any one, or row 0 where it is better."""
    found = 0
    for _ in range(tables):
        best = leaders({column: table(draw, **options) for column in range(columns)})  # type: ignore[arg-type]
        found += any(row == 0 for row in best.values()) if options.get("gap") else bool(best)
    return found / tables


def difference(draw: np.random.Generator, tables: int, **options: float) -> float:
    """Points that are found in POWER of tables, to half a point, by halving."""
    low, high = 0.0, 48.0
    while high - low > 0.5:
        gap = (low + high) / 2
        low, high = (low, gap) if bold(draw, tables, gap=gap, **options) >= POWER else (gap, high)
    return high


def main(tables: int = 1000) -> None:
    print("rows seeds still columns   false bold %   difference in 80 %, points")
    for rows, seeds, still in product((2, 3, 6, 15), (3, 5), (False, True)):
        draw = np.random.default_rng(rows * 100 + seeds * 10 + still)
        share = bold(draw, tables, rows=rows, seeds=seeds, still=still)
        power = difference(draw, max(tables // 10, 50), rows=rows, seeds=seeds, still=still)
        print(f"{rows:4} {seeds:5} {still!s:>5} {1:7} {100 * share:14.1f} {power:12.1f}", flush=True)
    share = bold(np.random.default_rng(0), tables, columns=4, rows=2, seeds=3)
    print(f"{2:4} {3:5} {False!s:>5} {4:7} {100 * share:14.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
