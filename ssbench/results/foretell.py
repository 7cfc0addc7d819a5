"""Ladders -> does the small foretell the large: how far a small table orders methods as the dearest does. No torch."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import kendalltau

from ssbench.results.grid import Frame, Value
from ssbench.results.ladders import Ladder, Rung, common
from ssbench.results.metrics import Array
from ssbench.results.naming import digest, slugged
from ssbench.results.scaling import believed
from ssbench.results.standing import mean, tested
from ssbench.results.stats import LEVEL, holm
from ssbench.results.table import DASH

LEAST = 4  # methods: fewer have no order worth a table
HEADER = (
    *("TFLOPs", "same order %", "tau", "pairs told apart", "the largest's that agree"),
    *("signal", "noise", "signal / noise"),
)
LARGEST = "the largest is the row whose trainings {what}; TFLOPs: of one training, mean over methods"
NOTES = (
    "same order: pairs of methods that stand in one order here and in the largest (decision accuracy), with a 95 % "
    "interval over seeds and test samples (percentile and basic bootstrap together); the largest's own: how many of "
    "its pairs another draw of its seeds and samples would order alike, the most to be asked; tau: Kendall's tau-b",
    "pairs told apart: by a test, two-sided at 5 % for all pairs of the row (Holm); the largest's that agree: of the "
    "pairs that it tells apart, those that stand here in the same order",
    "signal: best mean less worst; noise: standard deviation over seeds, the mean of methods' variances (after "
    "Heineman et al. 2025, arXiv:2508.13144, whose noise is over the last steps of one training)",
)


def foretelling(found: Iterable[Ladder]) -> list[Frame]:
    """A frame for each ladder that has LEAST methods in two rungs or more, and for each trunk where it has several."""
    return [frame for ladder in found for trunk in _trunks(ladder) if (frame := _frame(ladder, trunk)) is not None]


def _trunks(ladder: Ladder) -> list[str]:
    """'' for all of the rungs together, then each trunk by itself. Shares are compared on one trunk at a time."""
    kept, *_ = common(ladder.rungs)
    several = [*dict.fromkeys(rung.trunk for rung in kept)]
    if len(several) < 2:
        return [""]
    return several if ladder.by == "share" else ["", *several]


def _frame(ladder: Ladder, trunk: str) -> Frame | None:
    kept, names, left = common([rung for rung in ladder.rungs if trunk in ("", rung.trunk)])
    if len(kept) < 2 or len(names) < LEAST:
        return None
    shares = ladder.by == "share"
    rungs = sorted(kept, key=lambda rung: (rung.amount * shares, rung.cost(names)))
    column, theirs = ladder.column, _apart(rungs[-1], names)
    rows = [_row(rung, rungs[-1], names, theirs) for rung in rungs]
    of = f"{ladder.title}, {trunk}" if trunk else ladder.title
    title = f"{of}: {column.header}: does the small foretell the large"
    about = slugged(f"{of} {column.task} {column.protocol} small and large")[:120]
    largest = LARGEST.format(what="have the largest share of the images" if shares else "cost the most")
    notes = (largest, *NOTES, f"methods: {', '.join(names)}", *left)
    key = digest([ladder.key, trunk]) if trunk else ladder.key
    return Frame(f"{about}-{key}", title, ("trunk", ladder.by, *HEADER), tuple(rows), notes)


def _row(rung: Rung, largest: Rung, names: Sequence[str], theirs: set[tuple[str, str]]) -> tuple[Value, ...]:
    scores, known = (np.array([[mean(of.rows[name], of.at) for name in names]]) for of in (rung, largest))
    apart = _apart(rung, names)
    kept = sum(scores[0, names.index(one)] > scores[0, names.index(other)] for one, other in theirs)
    signal = float(np.ptp(scores))
    noise = float(np.mean([np.var(rung.rows[name].cells[rung.at].values, ddof=1) for name in names]) ** 0.5)
    tau = float(kendalltau(scores[0], known[0]).statistic)
    text, pairs = rung.table.columns[rung.at].text, len(names) * (len(names) - 1) // 2
    return (
        Value(rung.trunk),
        Value(rung.said + ", the largest" * (rung is largest), rung.amount),
        Value(f"{rung.cost(names):.3g}", rung.cost(names)),
        _agreement(rung, largest, names, scores, known),
        Value(f"{tau:.2f}", tau) if np.isfinite(tau) else Value(DASH),
        Value(f"{len(apart)} of {pairs}", len(apart)),
        Value(f"{kept} of {len(theirs)}", float(kept)),
        Value(text(signal, None), signal),
        Value(text(noise, None), noise),
        Value(f"{signal / noise:.1f}", signal / noise) if noise else Value(DASH),
    )


def _agreement(rung: Rung, largest: Rung, names: Sequence[str], scores: Array, known: Array) -> Value:
    """In %. Draws add noise to means that have some, and so agree too little where orders are all but sure.

    The basic bootstrap turns that round, but is too sure where they are not; the interval holds both.
    """
    sides = [believed([rung, largest], name) for name in names]
    here, there = (np.stack([side[:, at] for side in sides], 1) for at in (0, 1))  # (DRAWS, methods) each
    if rung is largest:
        drawn = 100 * same_order(here, known)
        found, (low, high) = float(drawn.mean()), np.percentile(drawn, [2.5, 97.5])
    else:
        found = 100 * float(same_order(scores, known)[0])
        ends = np.percentile(100 * same_order(here, there), [2.5, 97.5])
        low, high = min(ends[0], 2 * found - ends[1]), max(ends[1], 2 * found - ends[0])
    low, high = float(np.clip(low, 0, 100)), float(np.clip(high, 0, 100))
    return Value(f"{found:.0f} [{low:.0f}, {high:.0f}]", found, span=(low, high))


def same_order(one: Array, other: Array) -> Array:
    """The share of pairs of methods that two sets of scores (N, M) order alike, (N,); a tie in either counts half."""
    places = np.triu_indices(one.shape[1], 1)
    signs = [np.sign(scores[:, places[0]] - scores[:, places[1]]) for scores in (one, other)]
    return np.asarray((1 + signs[0] * signs[1]).mean(1) / 2)


def _apart(rung: Rung, names: Sequence[str]) -> set[tuple[str, str]]:
    """The pairs that are told apart, the better one first."""
    pairs = tested([(name, rung.rows[name]) for name in names], rung.at)
    return {pair for pair, p in zip(pairs, holm([*pairs.values()])) if p <= LEVEL}
