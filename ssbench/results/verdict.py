"""A table -> which row to take, in words, and how far that carries: nothing is said that the tests do not. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.stats import rankdata

from ssbench.results.precision import MANY
from ssbench.results.standing import LEVEL, complete, judging, mean
from ssbench.results.stats import SEEDS, Difference, ahead, difference, holm, smallest
from ssbench.results.table import Row, Table

MOST = 6  # names in a list
LESS = 0.9  # of the seconds: what costs more is not called cheaper, since machines are busy at times


@dataclass(frozen=True)
class Best:
    """Of one column: the trained row of the best mean, and the rows that it is not shown to be ahead of."""

    column: int
    leader: Row
    tied: tuple[Row, ...]  # trained ones
    unbeaten: tuple[Row, ...]  # controls


def verdict(table: Table) -> list[str]:
    """Sentences, the answer first; about rows without labels and columns that judge."""
    columns = judging(table)
    rivals = [row for row in complete(table, columns) if not row.labels]
    trained = [row for row in rivals if not row.control]
    broken = _broken(table)
    if not columns or not trained:
        return [*_unsaid(table, columns), *broken]
    found = [best(rivals, at) for at in columns]
    answer = _answer(found, table)
    unsound = [name for name in _unsound(table) if answer.startswith(f"Take {name} ") or f" cost {name} (" in answer]
    caution = [f"But the training of {_listed(unsound)} looks broken; see below."] * bool(unsound)
    return [answer, *caution, *(_told(table, one) for one in found), *broken]


def best(rows: Sequence[Row], column: int) -> Best:
    """By the tests of the table's marks: bold, of each control by itself, of rivals with Holm's step-down over them."""

    def p(other: Row) -> float:
        return ahead(leader.cells[column].runs, other.cells[column].runs)

    leader = max((row for row in rows if not row.control), key=lambda row: mean(row, column))
    if leader.cells[column].bold:
        return Best(column, leader, (), ())
    rivals = sorted((row for row in rows if not row.control and row is not leader), key=lambda row: -mean(row, column))
    told = dict(zip((row.name for row in rivals), holm([2 * p(row) for row in rivals])))
    unbeaten = tuple(row for row in rows if row.control and p(row) > LEVEL)
    tied = tuple(row for row in rivals if told[row.name] > LEVEL)
    if not (tied or unbeaten):  # for the whole table that is not enough
        tied = tuple(sorted(rivals, key=lambda row: -told[row.name])[:1])
    return Best(column, leader, tied, unbeaten)


def _answer(found: Sequence[Best], table: Table) -> str:
    """Over all columns."""
    where = f"for this data at this budget ({table.title})"
    if all(one.unbeaten for one in found):
        controls = _listed(dict.fromkeys(row.name for one in found for row in one.unbeaten))
        return f"Take none yet {where}: nothing trained is shown to be ahead of {controls} in any task."
    sound = [one for one in found if not one.unbeaten]
    leaders = {one.leader.name for one in sound}
    but = _but(found, table)
    if len(leaders) == 1 and not any(one.tied for one in sound):
        return f"Take {sound[0].leader.name} {where}: it is ahead of every other row without labels{but}."
    first, *others = [{one.leader.name: one.leader} | {row.name: row for row in one.tied} for one in sound]
    common = [row for name, row in first.items() if all(name in other for other in others)]
    if not common:
        return f"It depends on the task {where}: no row is among the best of each{but}."
    if len(common) == 1:
        return f"Take {common[0].name} {where}: it alone is not shown to be behind the best of any task{but}."
    at = [one.column for one in sound]
    places = np.mean([rankdata([-mean(row, column) for row in common]) for column in at], 0)
    lead = common[int(places.argmin())]
    cheap = min(common, key=lambda row: inf if row.seconds is None else row.seconds)
    cost = f", which costs least of them, {cheap.seconds:,.0f} s" if cheap is lead and cheap.seconds is not None else ""
    if cheap.seconds is not None and lead.seconds is not None and cheap.seconds < LESS * lead.seconds:
        cost = f", or at less cost {cheap.name} ({cheap.seconds:,.0f} s instead of {lead.seconds:,.0f} s)"
    names = _listed(row.name for row in common)
    return f"Take {lead.name}{cost}, {where}: of {names} none is shown to be behind the best of any task{but}."


def _but(found: Sequence[Best], table: Table) -> str:
    """`, but in knn, where nothing is ahead of raw-pixels`."""
    lost = [one for one in found if one.unbeaten]
    tasks = _listed(table.columns[one.column].task for one in lost)
    controls = _listed(dict.fromkeys(row.name for one in lost for row in one.unbeaten))
    return f", but in {tasks}, where nothing trained is shown to be ahead of {controls}" if lost else ""


def _told(table: Table, one: Best) -> str:
    """What one column says: the best mean, what it is ahead of, what it can't be told from and what would tell them."""
    column, at, leader = table.columns[one.column], one.column, one.leader
    score = column.text(leader.cells[at].mean or 0.0, leader.cells[at].sd)
    start = f"{column.task}: {leader.name} has the best mean of what was trained, {score}"
    if one.unbeaten:
        controls = _listed(f"{row.name} ({column.text(row.cells[at].mean or 0.0, None)})" for row in one.unbeaten)
        return f"{start}, and is not shown to be ahead of {controls}."
    others = [row for row in table.rows if not (row.control or row.labels or row is leader) and row.cells[at].runs]
    near = max(one.tied or others, key=lambda row: mean(row, at), default=None)
    made = difference(leader.cells[at].runs, near.cells[at].runs) if near else None
    if near is None or made is None:
        return f"{start}, ahead of the controls."
    low, high = made.interval()
    by = f"{column.text(made.mean, None)} ({column.text(low, None)} to {column.text(high, None)}) above {near.name}"
    if not one.tied:
        return f"{start}, {by}, and ahead of every other row."
    tied, more = _listed(row.name for row in one.tied), _needed(made, leader, near, at)
    return f"{start}, and can't be told from {tied}; it is {by}, {more}."


def _needed(made: Difference, one: Row, other: Row, column: int) -> str:
    """How many seeds of each would show a difference of this size in 4 of 5 cases."""
    count = min(len(row.cells[column].runs) for row in (one, other))

    def seen(seeds: int) -> bool:
        error, freedom = made.error * sqrt(count / seeds), made.freedom * (seeds - 1) / (count - 1)
        return smallest(error, freedom, made.shared) <= made.mean

    few, many = count, MANY
    if made.mean <= 0 or not seen(many):
        return "too little for any number of seeds on these test images"
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if seen(middle) else (middle, many)
    return f"which {many} seeds would show"


def _unsaid(table: Table, columns: Sequence[int]) -> list[str]:
    """Why there is no answer."""
    own = [row for row in table.rows if not row.control and not row.labels]
    if not columns or not own:
        return ["Nothing was trained here without labels, so that there is nothing to choose."]
    most = max((len(cell.runs) for row in own for cell in row.cells), default=0)
    return [
        f"No answer yet: a test needs {SEEDS} seeds of each row in each task, and there are {most}; say --seeds 0-2."
    ]


def _unsound(table: Table) -> dict[str, str]:
    """Rows that failed or whose training looks collapsed, with the first footnote of each."""
    found = {}
    for row in table.rows:
        notes = dict.fromkeys(table.footnotes[number - 1] for cell in row.cells for number in cell.notes)
        failed = any(cell.status == "failed" for cell in row.cells)
        if failed or any("collapsed" in note for note in notes):
            found[row.name] = next(iter(notes), "failed")
    return found


def _broken(table: Table) -> list[str]:
    said = [f"{name} ({note})" for name, note in _unsound(table).items()]
    return [f"Broken: {_listed(said, '; ')}."] if said else []


def _listed(names: Iterable[str], between: str = ", ") -> str:
    """`a, b and 3 more`."""
    found = [*names]
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return between.join(found[:MOST]) + more
