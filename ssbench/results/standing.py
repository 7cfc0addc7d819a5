"""Tables -> where rows stand: what can't be told apart, skill between the controls, wins, average rank. No torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan

import numpy as np
from scipy.stats import rankdata

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import DIAGNOSTICS
from ssbench.results.metrics import Array
from ssbench.results.stats import LEVEL, SEEDS, ahead, beliefs, holm
from ssbench.results.table import DASH, Row, Table

LEAST, MOST = 3, 52  # rows: fewer have no order worth a table, more have not enough letters
LETTERS = (
    "letters: rows of a column that share one are not told apart, by a test over seeds and test samples, "
    "two-sided at 5 % for the whole table (Holm over all pairs of all columns)"
)
WINS = "wins–ties–losses: against each other row in each column, as the letters tell; win rate: ties count half"
RANK = (
    "average rank: over columns, 1 is best; in brackets what the letters leave open of it, from all rows that are not "
    "told apart being behind to all being ahead; rows that see labels are no rivals and stand in no rank"
)
Pairs = dict[tuple[str, str], float]  # p of one row against another that stands below it, adjusted; by names


def standing(tables: Iterable[Table]) -> list[Frame]:
    """A frame for each table with LEAST rows or more that can be ranked, the best average rank first."""
    return [frame for table in tables if (frame := _standing(table)) is not None]


def judging(table: Table) -> list[int]:
    """Which columns judge: those of diagnostics predict."""
    return [at for at, one in enumerate(table.columns) if one.score and one.task != DIAGNOSTICS]


def tried(row: Row, column: int) -> bool:
    """Whether a row has the seeds of a test there."""
    return len(row.cells[column].runs) >= SEEDS


def block(table: Table) -> tuple[list[int], list[Row]]:
    """The judging columns, and the rows that have enough seeds in all of them, that hold the most cells together.

    A suite that asks more of some rows takes nothing from the order of all. Controls and rows with labels don't choose.
    """
    columns = judging(table)
    own = [row for row in table.rows if not row.labels]
    own = [row for row in own if not row.control] or own
    has = [frozenset(at for at in columns if tried(row, at)) for row in own]
    spans = {one & other for one in has for other in has} - {frozenset()}

    def size(span: Iterable[int]) -> tuple[int, int]:
        return sum(one.issuperset(span) for one in has) * len([*span]), len([*span])

    chosen = sorted(max(sorted(spans, key=sorted), key=size)) if spans else []
    return chosen, [row for row in table.rows if chosen and all(tried(row, at) for at in chosen)]


def _standing(table: Table) -> Frame | None:
    columns, (ranked, whole) = judging(table), block(table)
    rivals = [row for row in table.rows if not row.labels and any(tried(row, at) for at in columns)]
    if len([row for row in whole if not row.labels]) < LEAST or len(rivals) > MOST:
        return None
    apart = compared(rivals, columns)
    shown = [lettered(rivals, at, pairs) for at, pairs in zip(columns, apart)]
    believed = {row.name: np.stack(beliefs([row.cells[at].runs for at in ranked], row.name), 1) for row in whole}
    placed = _ranks([row for row in whole if not row.labels], ranked, dict(zip(columns, apart)))
    skills, note = _skills(table, whole, ranked, believed)
    rows = []
    for row in sorted(rivals, key=lambda row: placed[row.name].mean or 0.0 if row.name in placed else len(rivals)):
        scores = [
            Value(f"{table.columns[at].text(row.cells[at].mean or 0.0, None)} {own[row.name]}")
            if row.name in own
            else Value(DASH)
            for at, own in zip(columns, shown)
        ]
        rank = placed.get(row.name, Value(DASH))
        rows.append((Value(row.name), *scores, skills.get(row.name, Value(DASH)), *_wins(row.name, apart), rank))
    header = ("method", *(table.columns[at].header for at in columns), "skill %", "wins–ties–losses", "win rate %")
    tests = [p for pairs in apart for p in pairs.values()]
    told = f"{sum(p <= LEVEL for p in tests)} of {len(tests)} pairs are told apart"
    names = [table.columns[at].task for at in ranked]
    over = [f"skill and average rank: over {', '.join(names)} alone, which the most rows have"]
    gone = ", ".join(row.name for row in table.rows if row not in whole and any(cell.runs for cell in row.cells))
    left = [f"without skill and rank, since they lack {SEEDS} seeds in a column of these: {gone}"] * bool(gone)
    notes = (told, LETTERS, *note, WINS, RANK, *(over if len(ranked) < len(columns) else []), *left)
    return Frame(
        f"{table.slug}-standing", f"{table.title}: where rows stand", (*header, "average rank"), tuple(rows), notes
    )


def compared(rows: Sequence[Row], columns: Sequence[int]) -> list[Pairs]:
    """Of each column, the two-sided p of every pair of rows that are tried there, the better one first.

    They are adjusted for all pairs of all columns (Holm); 1 where test samples are others.
    """
    named = {at: [(row.name, row) for row in rows if tried(row, at)] for at in columns}
    found = {(at, *pair): p for at in columns for pair, p in tested(named[at], at).items()}
    known = {key: p for key, p in found.items() if not isnan(p)}
    adjusted = dict.fromkeys(found, 1.0) | dict(zip(known, holm([*known.values()])))
    return [{(one, other): p for (of, one, other), p in adjusted.items() if of == at} for at in columns]


def tested(rows: Iterable[tuple[str, Row]], column: int) -> Pairs:
    """The two-sided p of every pair of named rows in a column, the better one first; NaN as `ahead` has it."""
    ordered = sorted(rows, key=lambda one: -mean(one[1], column))
    return {
        (name, beside): min(2 * ahead(row.cells[column].runs, other.cells[column].runs), 1.0)
        for (name, row), (beside, other) in combinations(ordered, 2)
    }


def lettered(rows: Sequence[Row], column: int, pairs: Pairs) -> dict[str, str]:
    """Letters by row that is tried there: two share one where they are not told apart. `a` is the best row's."""
    names = [row.name for row in sorted((r for r in rows if tried(r, column)), key=lambda row: -mean(row, column))]
    p = np.ones((len(names), len(names)))
    for one, other in combinations(range(len(names)), 2):
        p[one, other] = p[other, one] = pairs[names[one], names[other]]
    return letters(names, p)


def letters(names: Sequence[str], p: Array) -> dict[str, str]:
    """The compact display (Piepho 2004) of which are apart at 5 %, from each pair's adjusted p, (N, N)."""
    from scikit_posthocs import compact_letter_display  # loads seaborn

    found = compact_letter_display(p, LEVEL, [*names])
    return {name: "".join(found[name].split()) for name in names}


def mean(row: Row, column: int) -> float:
    """Higher is better."""
    return float(np.mean([run.value for run in row.cells[column].runs.values()]))


def _wins(name: str, apart: Sequence[Pairs]) -> tuple[Value, Value]:
    wins = sum(p <= LEVEL for pairs in apart for (one, _), p in pairs.items() if one == name)
    losses = sum(p <= LEVEL for pairs in apart for (_, other), p in pairs.items() if other == name)
    count = sum(name in pair for pairs in apart for pair in pairs)
    if not count:
        return Value(DASH), Value(DASH)
    rate = 100 * (wins + (count - wins - losses) / 2) / count
    return Value(f"{wins}–{count - wins - losses}–{losses}"), Value(f"{rate:.0f}", rate)


def _ranks(rows: Sequence[Row], columns: Sequence[int], apart: Mapping[int, Pairs]) -> dict[str, Value]:
    """The average rank of each row, and the least and the most that it may be by the pairs that are told apart.

    Of pairs that are, all are so at 5 % together: all ranks lie in what they leave open, 19 times in 20 (as Al
    Mohamad et al. 2017, arXiv:1708.02729, have it of Tukey's test).
    """
    means = np.array([[mean(row, at) for at in columns] for row in rows])  # (rows, columns)
    found, names = rankdata(-means, axis=0).mean(1), {row.name for row in rows}
    told = [pair for at in columns for pair, p in apart[at].items() if p <= LEVEL and names.issuperset(pair)]
    above, below = (Counter(pair[end] for pair in told) for end in (1, 0))  # rows ahead of a row, and behind it
    made = {}
    for row, rank in zip(rows, found):
        low, high = 1 + above[row.name] / len(columns), len(rows) - below[row.name] / len(columns)
        made[row.name] = Value(f"{rank:.1f} [{low:.1f}, {high:.1f}]", float(rank), span=(low, high))
    return made


@dataclass(frozen=True)
class Scale:
    """What skill is measured by: 0 % and 100 %, and the columns where the ceiling is ahead."""

    floor: Row
    ceiling: Row
    columns: tuple[int, ...]

    def skill(self, row: Row) -> float:
        """In %, the mean over columns."""
        own, low, high = (np.array([mean(one, at) for at in self.columns]) for one in (row, self.floor, self.ceiling))
        return float(100 * ((own - low) / (high - low)).mean())


def scale(rows: Iterable[Row], columns: Iterable[int]) -> Scale | None:
    """None where one of the two was not run; the floor is the untrained network: pixels have none."""
    rows = [*rows]
    floor = next((row for row in rows if row.role == "floor" and row.parameters), None)
    ceiling = next((row for row in rows if row.role == "ceiling"), None)
    if floor is None or ceiling is None:
        return None
    good = (at for at in columns if ahead(ceiling.cells[at].runs, floor.cells[at].runs) <= LEVEL)
    return Scale(floor, ceiling, tuple(good))


def _skills(
    table: Table, rows: Sequence[Row], columns: Sequence[int], believed: Mapping[str, Array]
) -> tuple[dict[str, Value], list[str]]:
    """Of each row, and what is said of it; dashes where there is no scale."""
    by, blank = scale(rows, columns), {row.name: Value(DASH) for row in rows}
    if by is None:
        return blank, []
    floor, ceiling = by.floor.name, by.ceiling.name
    if not by.columns:
        return blank, [f"there is no skill: {ceiling} is not shown to be ahead of {floor}"]
    places = [at for at, column in enumerate(columns) if column in by.columns]
    low, high = (believed[name][:, places] for name in (floor, ceiling))
    made = {
        row.name: spanned(by.skill(row), 100 * ((believed[row.name][:, places] - low) / (high - low)).mean(1), 0)
        for row in rows
        if row.name not in (floor, ceiling)
    }
    without = ", ".join(table.columns[at].task for at in columns if at not in by.columns)
    but = f" (not {without}, where it is not shown to be)" if without else ""
    note = (
        f"skill: how far a score is from that of {floor}, 0 %, to that of {ceiling}, 100 %, mean over the columns "
        f"where the latter is ahead{but}, with its 95 % interval over seeds and test samples"
    )
    return blank | made, [note]


def spanned(value: float, may: Array, digits: int = 1) -> Value:
    """`4.5 [2.0, 7.5]`."""
    low, high = np.percentile(may, [2.5, 97.5])
    text = f"{value + 0:.{digits}f} [{low + 0:.{digits}f}, {high + 0:.{digits}f}]"
    return Value(text, value, span=(float(low), float(high)))
