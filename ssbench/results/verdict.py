"""A table -> which row to take, in words, and how far that carries: nothing is said that the tests do not. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
from scipy.stats import rankdata

from ssbench.results.precision import seeds_for
from ssbench.results.standing import LEVEL, block, judging, mean
from ssbench.results.stats import SEEDS, ahead, difference, holm
from ssbench.results.table import Row, Table

MOST = 6  # names in a list
LESS = 0.9  # of the seconds: what costs more is not called cheaper, since machines are busy at times


@dataclass(frozen=True)
class Best:
    """Of one column: the row of the best mean but controls, and those that it is not shown to be ahead of."""

    column: int
    leader: Row
    tied: tuple[Row, ...]  # no controls
    unbeaten: tuple[Row, ...]  # controls
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
    beaten = [one.column for one in asked if not one.unbeaten]
    for row in named[:1]:
        low = _listed(table.columns[at].task for at in beaten if row.cells[at].behind)
        caution += [f"In {low} {row.name} itself is not shown to be ahead of the controls."] * bool(low)
    silent = [table.columns[at].task for at in columns if at not in {one.column for one in found}]
    few = [f"{_listed(silent)}: no row has the {SEEDS} seeds that a test needs."] * bool(silent)
    caution += [f"Only some rows were judged by {_listed(rest)}: no part of this answer."] * bool(rest)
    return [answer, *caution, *(_told(table, one) for one in found), *few, *last]


def best(table: Table, column: int) -> Best | None:
    """By the table's marks, bold and not ahead of controls, and of the other rows by Holm's step-down over them.

    What can't be compared is not beaten. None where no row has the seeds that a test needs.
    """
    here = [row for row in table.rows if row.cells[column].runs and not row.labels]
    own = [row for row in here if not row.control]
    sound = [row for row in own if len(row.cells[column].runs) >= SEEDS]
    if not sound:
        return None
    leader = max(sound, key=lambda row: mean(row, column))

    def p(other: Row) -> float:
        found = ahead(leader.cells[column].runs, other.cells[column].runs)
        return 1.0 if isnan(found) else found

    cell, floors = leader.cells[column], [row for row in here if row.control]
    if cell.bold:
        return Best(column, leader, (), ())
    unbeaten = [row for row in floors if p(row) > LEVEL] or floors if cell.behind else []
    rivals = sorted((row for row in own if row is not leader), key=lambda row: -mean(row, column))
    told = dict(zip((row.name for row in rivals), holm([2 * p(row) for row in rivals])))
    tied = [row for row in rivals if told[row.name] > LEVEL]
    barred = _barred(table, leader, column) if not (tied or unbeaten) else ""
    if not (tied or unbeaten or barred):  # for the whole table that is not enough
        tied = sorted(rivals, key=lambda row: -told[row.name])[:1]
    return Best(column, leader, tuple(tied), tuple(unbeaten), barred)


def _barred(table: Table, leader: Row, column: int) -> str:
    """What keeps a cell from being bold besides its rivals: a seed that failed, a control that was not run."""
    if len(leader.cells[column].ids) > len(leader.cells[column].values):
        return "a seed of it failed"
    lost = "failed", "missing"
    gone = [row.name for row in table.rows if row.role == "floor" and row.cells[column].status in lost]
    return f"{_listed(gone)} failed or was not run" if gone else ""


def _answer(found: Sequence[Best], table: Table) -> tuple[str, list[Row]]:
    """Over all columns, and the rows that it names to be taken."""
    where = f"for this data at this budget ({table.title})"
    if all(one.unbeaten for one in found):
        controls = _listed(dict.fromkeys(row.name for one in found for row in one.unbeaten))
        return f"Take none yet {where}: nothing is shown to be ahead of {controls} in any task.", []
    sound = [one for one in found if not one.unbeaten]
    but, lead = _but(found, table), sound[0].leader
    if all((one.leader.cells[one.column].bold or one.barred) and one.leader is lead for one in sound):
        return f"Take {lead.name} {where}: it is ahead of every other row without labels{but}.", [lead]
    first, *others = [{row.name: row for row in (one.leader, *_tested(one.tied, one.column))} for one in sound]
    common = [row for name, row in first.items() if all(name in other for other in others)]
    if not common:
        return f"It depends on the task {where}: no row is among the best of each{but}.", []
    if len(common) == 1:
        only = common[0]
        return f"Take {only.name} {where}: it alone is not shown to be behind the best of any task{but}.", [only]
    places = [rankdata([-mean(row, one.column) for row in common]) for one in sound]
    lead = common[int(np.mean(places, 0).argmin())]
    cheap = min(common, key=lambda row: inf if row.seconds is None else row.seconds)
    cost, named = "", [lead]
    if cheap is lead and cheap.seconds is not None:
        cost = f", which costs least of them, {cheap.seconds:,.0f} s"
    elif cheap.seconds is not None and lead.seconds is not None and cheap.seconds < LESS * lead.seconds:
        cost = f", or at less cost {cheap.name} ({cheap.seconds:,.0f} s instead of {lead.seconds:,.0f} s)"
        named.append(cheap)
    names = _listed(row.name for row in common)
    return f"Take {lead.name}{cost}, {where}: of {names} none is shown to be behind the best of any task{but}.", named


def _tested(rows: Iterable[Row], column: int) -> list[Row]:
    """Those that have the seeds of a test: what has fewer is not told from anything, and not to be taken for that."""
    return [row for row in rows if len(row.cells[column].runs) >= SEEDS]


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
    start = f"{column.task}: {leader.name} has the best mean but for controls, {score}"
    if one.unbeaten:
        controls = _listed(f"{row.name} ({column.text(row.cells[at].mean or 0.0, None)})" for row in one.unbeaten)
        return f"{start}, and is not shown to be ahead of {controls}."
    others = [row for row in table.rows if not (row.control or row.labels or row is leader) and row.cells[at].runs]
    near = max(one.tied or others, key=lambda row: mean(row, at), default=None)
    if near is None:
        return f"{start}, ahead of the controls."
    tied = f", and can't be told from {_listed(row.name for row in one.tied)}" if one.tied else ""
    made = difference(leader.cells[at].runs, near.cells[at].runs)
    if made is None:
        return f"{start}{tied}."
    low, high = made.interval()
    by = f"{column.text(made.mean, None)} ({column.text(low, None)} to {column.text(high, None)}) above {near.name}"
    if not one.tied:
        why = f"; nothing is bold there, since {one.barred}" if one.barred else ""
        return f"{start}, {by}, and ahead of every other row{why}."
    count = min(len(row.cells[at].runs) for row in (leader, near))
    seeds = seeds_for(made, count) if made.mean > 0 else None
    most = "too little for any number of seeds on these test images"
    more = f"which {seeds} seeds would show in a test of these two alone" if seeds else most
    return f"{start}{tied}; it is {by}, {more}."


def _unsaid(table: Table) -> str:
    """Why there is no answer."""
    own = [row for row in table.rows if not row.control and not row.labels]
    if not own:
        return "There are controls and rows with labels alone, so that there is nothing to choose."
    most = max((len(cell.runs) for row in own for cell in row.cells), default=0)
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
