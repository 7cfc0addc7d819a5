"""Ladders -> does the small foretell the large: how far a small table orders methods as the largest does. No torch."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import kendalltau

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import slugged
from ssbench.results.ladders import Ladder, Rung
from ssbench.results.metrics import Array
from ssbench.results.scaling import amount, believed
from ssbench.results.standing import LEVEL, compared, mean, spanned
from ssbench.results.table import DASH

LEAST = 4  # methods: fewer have no order worth a table
HEADER = ("trunk", "budget", "TFLOPs", "same order %", "tau", "told apart", "told there", "signal", "noise", "s / n")
NOTES = (
    "the largest is the one whose trainings cost the most; TFLOPs: of one training, mean over methods",
    "same order: pairs of methods that stand in one order here and there (decision accuracy), with where that may "
    "truly lie, 95 % over seeds and test samples; of the largest itself: how sure its order is; tau: Kendall's tau-b",
    "told apart: pairs that a test tells apart, two-sided at 5 % for all pairs of the row (Holm); told there: how many "
    "of those that the largest tells apart stand here in the same order",
    "signal: best mean less worst; noise: standard deviation over seeds, the mean of methods' variances (after "
    "Heineman et al. 2025, arXiv:2508.13144, whose noise is over the last steps of one training)",
)


def foretelling(found: Iterable[Ladder]) -> list[Frame]:
    """A frame for each ladder that has LEAST methods in two rungs or more."""
    return [frame for ladder in found if (frame := _frame(ladder)) is not None]


def _frame(ladder: Ladder) -> Frame | None:
    largest = max(ladder.rungs, key=lambda rung: _cost(rung, rung.rivals))
    rungs = [rung for rung in ladder.rungs if len(rung.rivals.keys() & largest.rivals.keys()) >= LEAST]
    names = [name for name in largest.rivals if all(name in rung.rivals for rung in rungs)]
    if len(rungs) < 2 or len(names) < LEAST:
        return None
    rungs, column = sorted(rungs, key=lambda rung: _cost(rung, names)), ladder.column
    rows = [_row(rung, largest, names) for rung in rungs]
    title = f"{ladder.title}: {column.header}: does the small foretell the large"
    slug = slugged(f"{ladder.title} {column.task} {column.protocol} small and large {ladder.key}")
    return Frame(slug, title, HEADER, tuple(rows), (*NOTES, f"methods: {', '.join(names)}"))


def _cost(rung: Rung, names: Iterable[str]) -> float:
    """TFLOPs of one training, mean over methods."""
    rows = [rung.rows[name] for name in names]
    return sum((row.gflops or 0.0) * (row.images or 0.0) / 1e3 for row in rows) / max(len(rows), 1)


def _row(rung: Rung, largest: Rung, names: Sequence[str]) -> tuple[Value, ...]:
    scores, theirs = (np.array([[mean(of.rows[name], of.at) for name in names]]) for of in (rung, largest))
    sides = [believed([rung, largest], [rung.rows[name], largest.rows[name]]) for name in names]
    here, there = (np.stack([side[:, at] for side in sides], 1) for at in (0, 1))  # (DRAWS, methods) each
    if rung is largest:  # how sure its order is of itself
        there = theirs
    same = float(alike(scores, theirs)[0])
    tau = kendalltau(scores[0], theirs[0]).statistic
    apart, known = _apart(rung, names), _apart(largest, names)
    kept = sum(scores[0, names.index(one)] > scores[0, names.index(other)] for one, other in known)
    signal = float(np.ptp(scores))
    noise = float(np.mean([np.var(rung.rows[name].cells[rung.at].values, ddof=1) for name in names]) ** 0.5)
    text, pairs = rung.column.text, len(names) * (len(names) - 1) // 2
    return (
        Value(rung.trunk),
        Value(amount(rung), rung.amount),
        Value(f"{_cost(rung, names):.3g}", _cost(rung, names)),
        spanned(100 * same, 100 * alike(here, there), 0),
        Value(f"{tau:.2f}", float(tau)),
        Value(f"{len(apart)} of {pairs}", len(apart)),
        Value(f"{kept} of {len(known)}", float(kept)),
        Value(text(signal, None), signal),
        Value(text(noise, None), noise),
        Value(f"{signal / noise:.1f}", signal / noise) if noise else Value(DASH),
    )


def alike(one: Array, other: Array) -> Array:
    """The share of pairs of methods that two sets of scores (N, M) order alike, (N,); a tie in either counts half."""
    places = np.triu_indices(one.shape[1], 1)
    signs = [np.sign(scores[:, places[0]] - scores[:, places[1]]) for scores in (one, other)]
    return np.asarray((1 + signs[0] * signs[1]).mean(1) / 2)


def _apart(rung: Rung, names: Sequence[str]) -> set[tuple[str, str]]:
    """The pairs that are told apart, the better one first."""
    (pairs,) = compared([rung.rows[name] for name in names], [rung.at])
    return {pair for pair, p in pairs.items() if p <= LEVEL}
