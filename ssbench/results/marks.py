"""Which cells are bold, for being ahead of all others, and which are marked, for not being ahead of the controls."""

from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean
from typing import Literal, TypeVar

from ssbench.results.groups import Cells, Head, Line
from ssbench.results.metrics import Kind
from ssbench.results.record import Record
from ssbench.results.stats import LEVEL, SEEDS, UNTESTED, Moderated, Run, Side, ahead, holm, moderated, runs
from ssbench.results.store import Arrays, Store

K = TypeVar("K", bound=Hashable)
H = TypeVar("H", bound=Hashable)
MARK = "°"
TEST = "a test over seeds and test samples"
BOLD = (
    f"bold: ahead of every other row without labels, by {TEST}, at 5 % for the whole table (Holm over rivals, columns)"
)
FEW = f"nothing is bold or marked: {TEST} needs {SEEDS} seeds"


@dataclass(frozen=True)
class Marks:
    """Of one table: its bold cells, those not shown to be ahead of the floors, and what is said of both."""

    bold: frozenset[tuple[Line, Head]]
    behind: frozenset[tuple[Line, Head]]
    notes: tuple[str, ...]


def sides(store: Store, done: Mapping[K, Sequence[Record]]) -> dict[K, Moderated]:
    """What tests need of the done runs of one column, where there are any. Raises UserError on bad predictions."""
    alike: dict[tuple[Kind, Literal["higher", "lower"]], dict[tuple[K, int], Arrays]] = defaultdict(dict)
    for key, records in done.items():
        for record in records:
            score = record.scores[record.headline]
            alike[score.kind, score.better][key, record.spec.pretraining.seed] = store.arrays(record, record.headline)
    made: dict[K, dict[int, Run]] = {key: {} for key, records in done.items() if records}
    for (kind, better), arrays in alike.items():
        for (key, seed), run in runs(kind, better, arrays).items():
            made[key][seed] = run
    return moderated(made, {key for key, records in done.items() if all(map(_fixed, records))})


def _fixed(record: Record) -> bool:
    """Whether no seed made what it judges: pixels, or weights as they came."""
    p = record.spec.pretraining
    return not record.costs.parameters or bool(p.init and p.budget is None)


def leaders(columns: Mapping[H, Mapping[K, Side]], barred: Container[K] = ()) -> dict[H, K]:
    """The one of each column that is ahead of all others there, at 5 % for all columns together.

    What is barred is a rival, but never leads. Two-sided, since the best was picked after looking; Holm's step-down
    over its rivals and then over columns.
    """
    tried = {head: made for head, rows in columns.items() if (made := _lead(rows, barred)) is not None}
    found = {head: made for head, made in tried.items() if not isnan(made[1])}
    level = holm([p for _, p in found.values()])
    return {head: best for (head, (best, _)), p in zip(found.items(), level) if p <= LEVEL}


def _lead(rows: Mapping[K, Side], barred: Container[K]) -> tuple[K, float] | None:
    """The best row of a column and its p against all others there; NaN where it shares too few seeds with one."""
    best = max((key for key in rows if key not in barred), key=lambda key: _mean(rows[key]), default=None)
    rivals = [side for key, side in rows.items() if key != best]
    if best is None or not rivals:
        return None
    found = [2 * ahead(rows[best], side) for side in rivals]
    return best, nan if any(map(isnan, found)) else max(holm(found))


def _mean(side: Side) -> float:
    return fmean(run.value for run in side.values())


def marks(
    judged: Mapping[Head, Mapping[Line, Side]], controls: Mapping[str, str], cells: Cells, names: Mapping[Head, str]
) -> Marks:
    """Of the rows and columns of one table; `names` says what columns are called, `controls` what each control is.

    `judged` has the runs of every row, by column.

    Rows that train on labels are neither bold, nor rivals, nor marked. While a floor has failed or was not run, it has
    not been beaten, and nothing in its column is bold; one that does not apply there is left out. A row with a failed
    seed is a rival, but never bold: the seeds that are left are not a fair sample.
    """
    floors = [name for name, role in controls.items() if role == "floor"]
    labelled = {line for (line, _), found in cells.items() if any(record.supervised for record in found)}
    failed = failing(cells)
    columns = {head: {line: side for line, side in judged[head].items() if line not in labelled} for head in names}
    absent = {head: gone for head in names if columns[head] and (gone := _absent(floors, cells, head))}
    barred = {line for line, _ in cells if line.method in controls or line in failed}
    whole = {head: rows for head, rows in columns.items() if head not in absent}
    best = leaders(whole, barred)
    untried = [head for head, rows in whole.items() if (made := _lead(rows, barred)) is not None and isnan(made[1])]
    over = _over(controls, floors, columns)
    tested = {key: p for key, p in over.items() if not isnan(p) and key[1] not in absent}
    beyond = {key for key, p in zip(tested, holm([*tested.values()])) if p <= LEVEL}
    behind = over.keys() - beyond
    own = {head: [line for line in rows if line.method not in controls] for head, rows in columns.items()}
    none = [head for head, rows in own.items() if rows and all((line, head) in behind for line in rows)]
    if not any(len(side) >= SEEDS for rows in columns.values() for side in rows.values()):
        return Marks(frozenset(), frozenset(), (FEW,))
    beaten = " and ".join(floors)
    notes = [BOLD]
    if behind:
        notes.append(
            f"{MARK}: not shown to be ahead of {beaten} where they apply, by the same test, one-sided at 5 % for the "
            "whole table (Holm over rows, columns)"
        )
    if none:
        notes.append(f"no row without labels is ahead of {beaten} in {', '.join(names[head] for head in none)}")
    if untried:
        where = ", ".join(names[head] for head in untried)
        notes.append(f"nothing is bold in {where}: {UNTESTED} in the best row or another")
    for head, gone in absent.items():
        notes.append(f"nothing is bold in {names[head]}: {', '.join(gone)} failed or was not run")
    lost = sorted({line.method for line in failed if line.method not in controls})
    if lost:
        notes.append(f"never bold, since a seed of it failed: {', '.join(lost)}")
    return Marks(frozenset((line, head) for head, line in best.items()), frozenset(behind), tuple(notes))


def failing(cells: Cells) -> set[Line]:
    """The rows of which a run has failed."""
    return {line for (line, _), found in cells.items() if any(record.status == "failed" for record in found)}


def _absent(floors: list[str], cells: Cells, head: Head) -> list[str]:
    """The floors that were not run in a column. Those of a given encoder are not the table's, if it has own rows."""
    own = any(not line.encoder and line.method not in floors for line, _ in cells)
    known = {
        line.method
        for (line, at), found in cells.items()
        if at == head and not (own and line.encoder) and any(r.status != "failed" for r in found)
    }
    return [name for name in floors if name not in known]


def _over(
    controls: Mapping[str, str], floors: list[str], columns: Mapping[Head, Mapping[Line, Side]]
) -> dict[tuple[Line, Head], float]:
    """How likely each cell were as far above the floors of its column if it were not above all of them (p); NaN where
    one of them can't be compared, or none is the row's. A column without floors has no place."""
    found = {}
    for head, rows in columns.items():
        walled = any(line.method in floors for line in rows)
        for line, side in rows.items() if walled else ():
            if line.method not in controls:
                each = [ahead(side, rows[wall]) for name in floors for wall in _walls(rows, name, line)]
                found[line, head] = nan if any(map(isnan, each)) else max(each, default=nan)
    return found


def _walls(rows: Iterable[Line], floor: str, line: Line) -> list[Line]:
    """The rows of a floor that a row must be ahead of: those of its own network and size, else of the table's."""
    found = [row for row in rows if row.method == floor]
    twins = [row for row in found if (row.encoder, row.size, row.patch) == (line.encoder, line.size, line.patch)]
    return twins or [row for row in found if not row.encoder]
