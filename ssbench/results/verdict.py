"""A table -> which row to take, in words, and how far that carries: nothing is said that the tests do not. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
from scipy.stats import rankdata

from ssbench.results.notes import MACHINES, NOISE
from ssbench.results.precision import seeds_for
from ssbench.results.standing import block, judging, mean
from ssbench.results.stats import LEVEL, SEEDS, ahead, difference, holm
from ssbench.results.table import Row, Table

MOST = 6  # names in a list
LESS = 0.9  # of the cost: what has more is not called cheaper, since machines are busy at times
TOGETHER = " (at 5 % for all rows and tasks together)"


@dataclass(frozen=True)
class Best:
    """Of one column: the row of the best mean of those ahead of the floors, and those that it is not ahead of."""

    column: int
    leader: Row
    tied: tuple[Row, ...]  # no controls
    unbeaten: tuple[Row, ...]  # controls; what failed or was not run, has not been beaten
    barred: str = ""  # why it is not bold although it is ahead of all others


def verdict(table: Table) -> list[str]:
    """Sentences, the answer first; about rows without labels and columns that judge."""
    columns = judging(table)
    found = [one for at in columns if (one := best(table, at)) is not None]
    broken, odd = _unsound(table)
    last = [f"Broken: {_listed((f'{name} ({note})' for name, note in broken.items()), '; ')}."] * bool(broken)
    if odd:
        last.append(
            f"Odd: these look collapsed by their losses, yet are ahead of the controls: {_listed(odd.values())}."
        )
    if not found:
        return [_unsaid(table), *last]
    asked = [one for one in found if one.column in block(table)[0]] or found
    answer, named = _answer(asked, table)
    doubtful = _listed(row.name for row in named if row.name in {*broken, *odd})
    caution = [f"But the training of {doubtful} looks collapsed or has failed; see below."] * bool(doubtful)
    rest = [table.columns[one.column].task for one in found if one not in asked]
    caution += [note[0].upper() + note[1:] + "." for note in table.notes if note.startswith(NOISE)]
    caution += _untested(table, asked)
    silent = [table.columns[at].task for at in columns if at not in {one.column for one in found}]
    few = [f"{_listed(silent)}: no row has the {SEEDS} seeds that a test needs."] * bool(silent)
    caution += [f"Only some rows were judged by {_listed(rest)}: no part of this answer."] * bool(rest)
    return [answer, *caution, *(_told(table, one) for one in found), *few, *last]


def best(table: Table, column: int) -> Best | None:
    """By the table's marks, bold and ahead of the floors, and of the other rows by Holm's step-down over them.

    Of all rows and columns one is ahead of the floors by chance sooner or later: what is to be taken must be so at 5 %
    for all of them together. What can't be compared is not beaten. None where no row has the seeds that a test needs.
    """
    here = [row for row in table.rows if row.cells[column].runs and not row.labels]
    own = [row for row in here if not row.control]
    sound = [row for row in own if len(row.cells[column].runs) >= SEEDS]
    if not sound:
        return None
    shown = [
        row for row in sound if not row.cells[column].behind
    ]  # a higher mean may be one of seeds that lie far apart
    leader = max(shown or sound, key=lambda row: mean(row, column))

    def p(other: Row) -> float:
        found = ahead(leader.cells[column].runs, other.cells[column].runs)
        return 1.0 if isnan(found) else found

    cell, floors = leader.cells[column], [row for row in here if row.role == "floor"]
    unbeaten = _gone(table, column)
    if floors and cell.behind and not unbeaten:
        unbeaten = [row for row in floors if p(row) > LEVEL] or floors
    if cell.bold and not unbeaten:
        return Best(column, leader, (), ())
    rivals = sorted((row for row in own if row is not leader), key=lambda row: -mean(row, column))
    told = dict(zip((row.name for row in rivals), holm([2 * p(row) for row in rivals])))
    tied = [row for row in rivals if told[row.name] > LEVEL]
    lost = len(cell.ids) > len(cell.values) and not (tied or unbeaten)
    barred = "a seed of it failed" if lost else ""
    if not (tied or unbeaten or barred):  # for the whole table that is not enough
        tied = sorted(rivals, key=lambda row: -told[row.name])[:1]
    return Best(column, leader, tuple(tied), tuple(unbeaten), barred)


def _gone(table: Table, column: int) -> list[Row]:
    """The floors that failed or were not run there."""
    lost = "failed", "missing"
    here = ((row, row.cells[column]) for row in table.rows if row.role == "floor")
    return [row for row, cell in here if cell.status in lost and not cell.runs]


def _untested(table: Table, found: Sequence[Best]) -> list[str]:
    """What has a better mean than the leader of a column, from too few seeds for a test."""
    said = []
    for one in found:
        column, own = table.columns[one.column], [row for row in table.rows if not (row.control or row.labels)]
        few = [row for row in own if 0 < len(row.cells[one.column].runs) < SEEDS]
        better = [row for row in few if mean(row, one.column) > mean(one.leader, one.column)]
        said += [
            f"{row.name} ({column.text(row.cells[one.column].mean or 0.0, None)} in {column.task})" for row in better
        ]
    return [f"Not tested, since it has fewer than {SEEDS} seeds, and higher: {_listed(said)}."] * bool(said)


def _answer(found: Sequence[Best], table: Table) -> tuple[str, list[Row]]:
    """Over all columns, and the rows that it names to be taken."""
    where = f"for this data at this budget ({table.title})"
    if all(one.unbeaten for one in found):
        controls = _listed(dict.fromkeys(_floor(row, one.column) for one in found for row in one.unbeaten))
        return f"Take none yet {where}: nothing is shown to be ahead of {controls} in any task{TOGETHER}.", []
    sound = [one for one in found if not one.unbeaten]
    but, lead = _but(found, table), sound[0].leader
    if all((one.leader.cells[one.column].bold or one.barred) and one.leader is lead for one in sound):
        return f"Take {lead.name} {where}: it is ahead of every other row without labels{but}.", [lead]
    first, *others = [{row.name: row for row in _eligible(one)} for one in sound]
    common = [row for name, row in first.items() if all(name in other for other in others)]
    if not common:
        return f"It depends on the task {where}: no row is among the best of each{but}.", []
    if len(common) == 1:
        only = common[0]
        return (
            f"Take {only.name} {where}: it alone is ahead of the controls and not shown to be behind the best of any "
            f"task{but}.",
            [only],
        )
    places = [rankdata([-mean(row, one.column) for row in common]) for one in sound]
    lead = common[int(np.mean(places, 0).argmin())]
    costs, unit = _costs(table, common)
    cheap = min(common, key=lambda row: costs[row.name])
    least, own, cost, named = costs[cheap.name], costs[lead.name], "", [lead]
    if cheap is lead and own < inf:
        cost = f", which costs least of them, {own:,.0f} {unit}"
    elif least < LESS * own < inf:
        cost = f", or at less cost {cheap.name} ({least:,.0f} {unit} instead of {own:,.0f} {unit})"
        named.append(cheap)
    names = _listed(row.name for row in common)
    return f"Take {lead.name}{cost}, {where}: of {names} none is shown to be behind the best of any task{but}.", named


def _eligible(one: Best) -> list[Row]:
    """What may be taken for the best of a column: it has the seeds of a test, and is ahead of the floors."""
    tried = [row for row in (one.leader, *one.tied) if len(row.cells[one.column].runs) >= SEEDS]
    return [row for row in tried if row is one.leader or not row.cells[one.column].behind]


def _costs(table: Table, rows: Iterable[Row]) -> tuple[dict[str, float], str]:
    """What pretraining took: seconds, or GFLOPs where machines differ; infinite where it is not known."""
    if any(MACHINES in note for note in table.notes):
        made = {row.name: row.gflops * row.images if row.gflops and row.images else inf for row in rows}
        return made, "GFLOPs"
    return {row.name: inf if row.seconds is None else row.seconds for row in rows}, "s"


def _floor(row: Row, column: int) -> str:
    return row.name + ", which failed or was not run" * (not row.cells[column].runs)


def _but(found: Sequence[Best], table: Table) -> str:
    """`, but in knn, where nothing is ahead of raw-pixels`."""
    lost = [one for one in found if one.unbeaten]
    tasks = _listed(table.columns[one.column].task for one in lost)
    controls = _listed(dict.fromkeys(_floor(row, one.column) for one in lost for row in one.unbeaten))
    return f", but in {tasks}, where nothing trained is shown to be ahead of {controls}{TOGETHER}" if lost else ""


def _told(table: Table, one: Best) -> str:
    """What one column says: the best mean, what it is ahead of, what it can't be told from and what would tell them."""
    column, at, leader = table.columns[one.column], one.column, one.leader
    score = column.text(leader.cells[at].mean or 0.0, leader.cells[at].sd)
    own = [row for row in table.rows if not (row.control or row.labels) and row.cells[at].runs]
    higher = [row for row in own if mean(row, at) > mean(leader, at)]
    few = any(len(row.cells[at].runs) < SEEDS for row in own)
    of = " of what is shown to be ahead of the controls" if higher and not few else f" of what has {SEEDS} seeds" * few
    start = f"{column.task}: {leader.name} has the best mean{of or ' but for controls'}, {score}"
    if one.unbeaten:
        scores = ((row, row.cells[at].mean) for row in one.unbeaten)
        controls = _listed(
            _floor(row, at) if value is None else f"{row.name} ({column.text(value, None)})" for row, value in scores
        )
        return f"{start}, and is not shown to be ahead of {controls}."
    others = [row for row in own if row is not leader]
    near = max(one.tied or others, key=lambda row: mean(row, at), default=None)
    if near is None:
        walls = any(row.role == "floor" and row.cells[at].runs for row in table.rows)
        return f"{start}, ahead of the controls." if walls else f"{start}; there is nothing to compare it with."
    tied = f", and can't be told from {_listed(row.name for row in one.tied)}" if one.tied else ""
    made = difference(leader.cells[at].runs, near.cells[at].runs)
    if made is None:
        return f"{start}{tied}."
    low, high = made.interval()
    by = f"{column.text(made.mean, None)} ({column.text(low, None)} to {column.text(high, None)}) above {near.name}"
    if made.mean <= 0:
        return f"{start}{tied}; {near.name} has {column.text(near.cells[at].mean or 0.0, near.cells[at].sd)}."
    if not one.tied:
        why = f"; nothing is bold there, since {one.barred}" if one.barred else ""
        return f"{start}, {by}, and ahead of every other row{why}."
    count = min(len(row.cells[at].runs) for row in (leader, near))
    seeds = seeds_for(made, count)
    most = "too little for any number of seeds on these test images"
    more = f"which {seeds} seeds would show in 4 of 5 tests of these two alone" if seeds else most
    if low > 0:
        more = "which a test of these two alone shows, and one beside all rivals does not"
    return f"{start}{tied}; it is {by}, {more}."


def _unsaid(table: Table) -> str:
    """Why there is no answer."""
    own = [row for row in table.rows if not row.control and not row.labels]
    if not own:
        return "There are controls and rows with labels alone, so that there is nothing to choose."
    tried = [row.cells[at] for row in own for at in judging(table)]
    most = max((len(cell.runs) for cell in tried), default=0)
    if not most:
        return "No answer: none of the runs that judge was done; see below, or ssbench run again."
    return f"No answer yet: a test needs {SEEDS} seeds of each row in a task, and there are {most}; say --seeds 0-2."


def _unsound(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    """Rows that failed or whose training looks collapsed, with the first footnote of each.

    Apart from them those that look collapsed and are ahead of the controls in a task all the same.
    """
    walled = [any(row.role == "floor" and row.cells[at].runs for row in table.rows) for at in range(len(table.columns))]
    broken, odd = {}, {}
    for row in table.rows:
        notes = dict.fromkeys(table.footnotes[number - 1] for cell in row.cells for number in cell.notes)
        collapsed = [note for note in notes if "collapsed" in note]
        lost = [note for note in notes if "failed" in note and note not in collapsed]
        failed = bool(lost) or any(cell.status == "failed" for cell in row.cells)
        tested = [at for at, wall in enumerate(walled) if wall and len(row.cells[at].runs) >= SEEDS]
        ahead_in = [table.columns[at].task for at in tested if not row.cells[at].behind]
        if collapsed and ahead_in and not (failed or row.labels or row.control):
            odd[row.name] = f"{row.name} (in {_listed(ahead_in)})"
        elif collapsed or failed:
            broken[row.name] = next(iter([*lost, *collapsed]), "failed")
    return broken, odd


def _listed(names: Iterable[str], between: str = ", ") -> str:
    """`a, b and 3 more`."""
    found = [*names]
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return between.join(found[:MOST]) + more
