"""Ladders -> what a larger budget gives: scores by budget, the laws that they follow, which pairs cross. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ssbench.results.grid import Frame, Value
from ssbench.results.ladders import Ladder, Rung, common
from ssbench.results.laws import EXPONENTS, fitted
from ssbench.results.metrics import Array
from ssbench.results.naming import digest, slugged
from ssbench.results.standing import mean, spanned, tested
from ssbench.results.stats import LEVEL, Difference, beliefs, difference, holm
from ssbench.results.table import DASH, SPREAD, Column, Row

LEAST = 3  # budgets: fewer are no curve
LAW = 5  # budgets that a law needs, with the largest, which it is to foretell
LAWS = (
    "limit, exponent: of limit + slope x budget to the minus exponent, the power law that all budgets follow best, "
    "with 95 % intervals over seeds and test samples; exponents of 0.05 and 2 are the edges of what was tried",
    "foretold: the score at the largest budget by the law of the smaller ones, and where that law may truly lie; off: "
    "measured less foretold; gain: measured less what the budget before had, which is how far off it were to expect "
    "nothing more; both in the score's own direction",
)
CROSSED = (
    "pairs that a test tells apart in one order at one budget and in the other at a larger one (two-sided at 5 % for "
    "all pairs and budgets, Holm); they cross: between these two, straight in the budget's logarithm, with the 95 % "
    "interval of that"
)
MORE = (
    "more: the score at the largest {by} less that at the smallest, above 0 where it is better, with its 95 % interval "
    "over seeds and test samples, for each row by itself; {told} (two-sided at 5 % for all rows, Holm)"
)
NONE = "no two methods are told apart in one order at one budget and in the other at a larger one"


@dataclass(frozen=True)
class Scaled(Frame):
    """A frame of scores by budget, with what a figure needs."""

    unit: str
    amounts: tuple[float, ...]  # of the columns after the first
    gflops: tuple[float, ...]  # an image, of each row


def scaling(found: Iterable[Ladder]) -> list[Frame]:
    """For each trunk of a ladder with LEAST budgets or more, a frame of scores, and one of pairs that cross."""
    made: list[Frame] = []
    for ladder in found:
        for trunk in dict.fromkeys(rung.trunk for rung in ladder.rungs):
            rungs, names, left = common([rung for rung in ladder.rungs if rung.trunk == trunk])
            if len(rungs) >= LEAST:
                made += _frames(ladder, rungs, names, left)
    return made


def believed(rungs: Sequence[Rung], name: str) -> Array:
    """Where the means of one row on each rung may truly lie, (DRAWS, rungs), higher is better."""
    return np.stack(beliefs([rung.rows[name].cells[rung.at].runs for rung in rungs], name), 1)


def digits(column: Column) -> int:
    return 1 if column.score and column.score.unit == "%" else 3


def _frames(ladder: Ladder, rungs: Sequence[Rung], names: Sequence[str], left: Sequence[str]) -> list[Frame]:
    column, rows, offs, costs = ladder.column, [], [], []
    more: dict[str, Difference | None] = {}
    seeing = [name for name in rungs[-1].rows if name not in rungs[-1].rivals]
    for name in [*names, *(name for name in seeing if all(name in rung.rows for rung in rungs))]:
        found = [rung.rows[name] for rung in rungs]
        cells = [row.cells[rung.at] for rung, row in zip(rungs, found)]
        shown = [Value(column.text(cell.mean or 0.0, cell.sd), cell.mean, cell.sd) for cell in cells]
        if len(rungs) >= LAW:
            told, off = _law(rungs, name, column)
            offs.append(off)
        else:
            more[name] = difference(cells[-1].runs, cells[0].runs)
            told = [_gap(more[name], column)]
        costs.append(found[-1].gflops or 0.0)
        rows.append((Value(name), *shown, Value(f"{costs[-1]:.3g}", costs[-1]), *told))
    header = ["method", *(rung.said for rung in rungs), "GFLOPs / image"]
    crossed, notes = _crossed(rungs, names), [SPREAD, *left]
    if offs:
        header += ["limit", "exponent", "foretold", "off", "gain"]
        law, still = (column.text(sum(abs(off[at]) for off in offs) / len(offs), None) for at in (0, 1))
        inside = f"{sum(inside for *_, inside in offs)} of {len(offs)} scores are what was foretold, as far as both go"
        notes += [
            *(law.replace("budget", ladder.by) for law in LAWS),
            f"on average the law is off by {law}, and the {ladder.by} before by {still}; {inside}",
        ]
    if more:
        header, notes = [*header, "more"], [*notes, MORE.format(by=ladder.by, told=_told(more))]
    by = ladder.by + " of the images" * (ladder.by == "share")
    title = f"{ladder.title}, {rungs[0].trunk}: {column.header} by {by}"
    about = slugged(f"{ladder.title} {rungs[0].trunk} {column.task} {column.protocol} by {by}")[:120]
    slug = f"{about}-{digest([ladder.key, rungs[0].trunk])}"
    notes += [] if crossed else [NONE.replace("budget", ladder.by)]
    amounts = tuple(rung.amount for rung in rungs)
    frames: list[Frame] = [
        Scaled(slug, title, tuple(header), tuple(rows), tuple(notes), rungs[0].unit, amounts, tuple(costs))
    ]
    if crossed:
        head = ("ahead with less", "ahead with more", "told at", "and at", "they cross at")
        how = (CROSSED.replace("budget", ladder.by),)
        frames.append(Frame(f"{slug}-crossed", f"{title}: which methods cross", head, tuple(crossed), how))
    return frames


def _gap(found: Difference | None, column: Column) -> Value:
    if found is None:
        return Value(DASH)
    (low, high), to = found.interval(), digits(column)
    return Value(f"{found.mean:+.{to}f} [{low:.{to}f}, {high:.{to}f}]", found.mean, span=(low, high))


def _told(more: Mapping[str, Difference | None]) -> str:
    """Which differences are told from none."""
    each = {name: gap.above() for name, gap in more.items() if gap is not None}
    sure = [name for name, p in zip(each, holm([min(2 * min(p, 1 - p), 1.0) for p in each.values()])) if p <= LEVEL]
    return f"told from 0: {', '.join(sure)}" if sure else "none is told from 0"


def _law(rungs: Sequence[Rung], name: str, column: Column) -> tuple[list[Value], tuple[float, float, bool]]:
    """Its cells; how far off it is at the largest budget, how far the budget before is, and whether it holds."""
    lower = column.score is not None and column.score.better == "lower"
    sign, sizes = -1 if lower else 1, np.array([rung.amount for rung in rungs])
    scores = sign * np.array([mean(rung.rows[name], rung.at) for rung in rungs])
    may = np.concatenate([scores[None], sign * believed(rungs, name)])  # what was measured, then what may be true
    percent = digits(column) == 1
    bounds = (0.0 if percent or lower else -np.inf, 100.0 if percent else np.inf)
    law, before = fitted(sizes, may, bounds), fitted(sizes[:-1], may[:, :-1], bounds)
    ahead = before.at(sizes[-1])
    low, high = np.percentile(may[1:, -1] - ahead[1:], [2.5, 97.5])
    off, gain = float(scores[-1] - ahead[0]), float(scores[-1] - scores[-2])
    exponent = spanned(float(law.exponent[0]), law.exponent[1:], 2)
    edge = {EXPONENTS[0]: "≤ ", EXPONENTS[-1]: "≥ "}.get(law.exponent[0], "")
    cells = [
        spanned(float(law.limit[0]), law.limit[1:], digits(column)),
        Value(edge + exponent.text, exponent.mean, span=exponent.span),
        spanned(float(ahead[0]), ahead[1:], digits(column)),
        *(Value(f"{one:+.{digits(column)}f}", one) for one in (off, gain)),
    ]
    return cells, (off, gain, bool(low <= 0 <= high))


def _crossed(rungs: Sequence[Rung], names: Sequence[str]) -> list[tuple[Value, ...]]:
    each = [tested([(name, rung.rows[name]) for name in names], rung.at) for rung in rungs]
    adjusted = iter(holm([p for pairs in each for p in pairs.values()]))
    told = [{pair for pair, p in zip(pairs, adjusted) if p <= LEVEL} for pairs in each]  # the better one first
    made: list[tuple[Value, ...]] = []
    for one, other in [pair for two in combinations(names, 2) for pair in (two, two[::-1])]:
        first = [at for at, pairs in enumerate(told) if (one, other) in pairs]
        last = [at for at, pairs in enumerate(told) if (other, one) in pairs and first and at > first[0]]
        if last:
            span = rungs[max(at for at in first if at < last[0]) : last[0] + 1]
            where = _where(span, one, other)
            made.append((Value(one), Value(other), Value(span[0].said), Value(span[-1].said), where))
    return made


def _where(rungs: Sequence[Rung], one: str, other: str) -> Value:
    """At which budget the second of two rows overtakes the first."""
    rows: list[list[Row]] = [[rung.rows[name] for rung in rungs] for name in (one, other)]
    means = [np.array([mean(row, rung.at) for rung, row in zip(rungs, found)]) for found in rows]
    gaps = np.concatenate([(means[0] - means[1])[None], believed(rungs, one) - believed(rungs, other)])
    last = len(rungs) - 1
    after = np.minimum(np.maximum((gaps > 0).cumprod(1).sum(1), 1), last)  # the first rung that is not above
    picked = np.arange(len(gaps))
    high, low = gaps[picked, after - 1], gaps[picked, after]
    share = np.where(high <= 0, 0.0, np.where(low > 0, 1.0, high / np.maximum(high - low, 1e-12)))
    logs = np.log([rung.amount for rung in rungs])
    at = np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))
    down, up = np.percentile(at[1:], [2.5, 97.5])
    text = "{0:,.3g} [{1:,.3g}, {2:,.3g}]" if at[0] < 1000 else "{0:,.0f} [{1:,.0f}, {2:,.0f}]"
    return Value(f"{text.format(at[0], down, up)} {rungs[0].unit}", float(at[0]), span=(float(down), float(up)))
