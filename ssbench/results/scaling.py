"""Ladders -> what a larger budget gives: scores by budget, the laws that they follow, which pairs cross. No torch."""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import slugged
from ssbench.results.ladders import Ladder, Rung
from ssbench.results.laws import fitted
from ssbench.results.metrics import Array
from ssbench.results.standing import LEVEL, compared, mean, spanned
from ssbench.results.stats import beliefs
from ssbench.results.table import SPREAD, Column, Row

LEAST = 3  # budgets: fewer are no curve
LAW = 5  # budgets that a law needs, with the largest, which it is to foretell
LAWS = (
    "limit, exponent: of limit + slope x budget to the minus exponent, the power law that all budgets follow best, "
    "with 95 % intervals over seeds and test samples; exponents of 0.05 and 2 are the edges of what was tried",
    "foretold: the score at the largest budget by the law of the smaller ones; off: measured less foretold; gain: "
    "measured less what the budget before had, which is how far off it were to expect nothing more",
)
CROSSED = (
    "pairs that a test tells apart in one order at one budget and in the other at a larger one (two-sided at 5 % for "
    "each budget's pairs, Holm); where they cross: straight between budgets, in their logarithm, with its 95 % interval"
)
NONE = "no two methods are told apart in one order at one budget and in the other at a larger one"
COST = "GFLOPs / image"
Climb = dict[str, list[Row]]  # of each row that every rung has, itself on each


def scaling(found: Iterable[Ladder]) -> list[Frame]:
    """For each trunk of a ladder with LEAST budgets or more, a frame of scores, and one of pairs that cross."""
    made = []
    for ladder in found:
        for trunk in dict.fromkeys(rung.trunk for rung in ladder.rungs):
            rungs = whole([rung for rung in ladder.rungs if rung.trunk == trunk])
            if len(rungs) >= LEAST:
                made += _frames(ladder, rungs)
    return made


def whole(rungs: Sequence[Rung]) -> list[Rung]:
    """Those that have two methods or more of the largest: other tables ask something else."""
    return [rung for rung in rungs if len(rung.rivals.keys() & rungs[-1].rivals.keys()) > 1]


def climb(rungs: Sequence[Rung]) -> Climb:
    """The rows that all rungs have."""
    names = [name for name in rungs[-1].rows if all(name in rung.rows for rung in rungs)]
    return {name: [rung.rows[name] for rung in rungs] for name in names}


def believed(rungs: Sequence[Rung], rows: Sequence[Row]) -> Array:
    """Where the means of one row on each rung may truly lie, (DRAWS, rungs), higher is better."""
    return np.stack(beliefs([row.cells[rung.at].runs for rung, row in zip(rungs, rows)], rows[0].name), 1)


def _frames(ladder: Ladder, rungs: Sequence[Rung]) -> list[Frame]:
    column, rows, offs = ladder.column, [], []
    for name, found in climb(rungs).items():
        cells = [row.cells[rung.at] for rung, row in zip(rungs, found)]
        shown = [Value(column.text(cell.mean or 0.0, cell.sd), cell.mean, cell.sd) for cell in cells]
        told, off = _law(rungs, found, column) if len(rungs) >= LAW else ([], None)
        offs += [off] if off else []
        cost = found[-1].gflops or 0.0
        rows.append((Value(name), *shown, Value(f"{cost:.3g}", cost), *told))
    title, header = f"{ladder.title}, {rungs[0].trunk}: {column.header} by budget", [*map(amount, rungs), COST]
    slug = slugged(f"{ladder.title} {rungs[0].trunk} {column.task} {column.protocol} by budget {ladder.key}")
    crossed, notes = _crossed(rungs), [SPREAD]
    if offs:
        header += ["limit", "exponent", "foretold", "off", "gain"]
        law, still = (column.text(sum(abs(off[at]) for off in offs) / len(offs), None) for at in (0, 1))
        inside = f"{sum(inside for *_, inside in offs)} of {len(offs)} scores lie in the interval that was foretold"
        notes += [*LAWS, f"on average the law is off by {law}, and the budget before by {still}; {inside}"]
    frames = [Frame(slug, title, ("method", *header), tuple(rows), (*notes, *([] if crossed else [NONE])))]
    if crossed:
        head = ("ahead with less", "ahead with more", "told at", "and at", "they cross at")
        frames.append(Frame(f"{slug}-crossed", f"{title}: which methods cross", head, tuple(crossed), (CROSSED,)))
    return frames


def amount(rung: Rung) -> str:
    """`16,000 samples`."""
    return f"{rung.amount:,.15g} {rung.unit}"


def _law(rungs: Sequence[Rung], rows: Sequence[Row], column: Column) -> tuple[list[Value], tuple[float, float, bool]]:
    """Its cells; how far off it is at the largest budget, how far the budget before is, and whether it lies inside."""
    sign = -1 if column.score and column.score.better == "lower" else 1
    sizes = np.array([rung.amount for rung in rungs])
    scores = sign * np.array([mean(row, rung.at) for rung, row in zip(rungs, rows)])
    may = np.concatenate([scores[None], sign * believed(rungs, rows)])  # what was measured, then what may be true
    bounds = (0.0, 100.0) if column.score and column.score.unit == "%" else (-np.inf, np.inf)
    law, before = fitted(sizes, may, bounds), fitted(sizes[:-1], may[:, :-1], bounds)
    ahead = before.at(sizes[-1])
    told = spanned(float(ahead[0]), ahead[1:])
    low, high = told.span or (0.0, 0.0)
    off, gain = float(scores[-1] - ahead[0]), float(scores[-1] - scores[-2])
    cells = [
        spanned(float(law.limit[0]), law.limit[1:]),
        spanned(float(law.exponent[0]), law.exponent[1:], 2),
        told,
        *(Value(f"{one:+.{1 if bounds[1] == 100 else 3}f}", one) for one in (off, gain)),
    ]
    return cells, (off, gain, low <= scores[-1] <= high)


def _crossed(rungs: Sequence[Rung]) -> list[tuple[Value, ...]]:
    rows = {name: found for name, found in climb(rungs).items() if name in rungs[-1].rivals}
    told = []  # of each rung, the pairs that are told apart, the better one first
    for place, rung in enumerate(rungs):
        (pairs,) = compared([found[place] for found in rows.values()], [rung.at])
        told.append({pair for pair, p in pairs.items() if p <= LEVEL})
    made = []
    for one, other in [pair for two in combinations(rows, 2) for pair in (two, two[::-1])]:
        first = [at for at, pairs in enumerate(told) if (one, other) in pairs]
        last = [at for at, pairs in enumerate(told) if (other, one) in pairs and first and at > first[0]]
        if last:
            early, late = max(at for at in first if at < last[0]), last[0]
            made.append((one, other, early, late, _where(rungs[early : late + 1], rows[one], rows[other], early)))
    return [
        (Value(one), Value(other), Value(amount(rungs[a])), Value(amount(rungs[b])), at)
        for one, other, a, b, at in made
    ]


def _where(rungs: Sequence[Rung], one: Sequence[Row], other: Sequence[Row], start: int) -> Value:
    """At which budget the second of two rows overtakes the first."""
    end = start + len(rungs)
    sides = one[start:end], other[start:end]
    means = [np.array([mean(row, rung.at) for rung, row in zip(rungs, rows)]) for rows in sides]
    may = believed(rungs, sides[0]) - believed(rungs, sides[1])
    gaps = np.concatenate([(means[0] - means[1])[None], may])  # (1 + DRAWS, rungs), from above 0 to below
    after = np.maximum((gaps > 0).cumprod(1).sum(1), 1).clip(max=len(rungs) - 1)  # the first that is not above
    picked = np.arange(len(gaps))
    high, low = gaps[picked, after - 1], gaps[picked, after]
    logs = np.log([rung.amount for rung in rungs])
    share = np.clip(high / np.where(high == low, 1, high - low), 0, 1)
    at = np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))
    down, up = np.percentile(at[1:], [2.5, 97.5])
    return Value(f"{at[0]:,.0f} [{down:,.0f}, {up:,.0f}]", float(at[0]), span=(float(down), float(up)))
