"""Records -> tables of errors under corruption in % of those of one row (Hendrycks and Dietterich 2019). No torch.

CE of a kind is a row's error, summed over severities, over that of the named row; mCE is the mean over kinds. Relative
CE takes each side's error on clean images off each severity first: what corruption adds. The paper's row is AlexNet;
here it is a control, for every table has those.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import Group, Line, heading
from ssbench.results.naming import slugged
from ssbench.results.record import Record
from ssbench.results.table import DASH, SPREAD, columns_of, lines_of

AGAINST = "random-init"  # the row whose errors are 100
EXPLAINED = (
    "CE: a row's error under a corruption, summed over severities, in % of the named row's, of which the mean over "
    "seeds is taken; mCE: its mean over corruptions (Hendrycks and Dietterich 2019, arXiv:1903.12261); lower is better"
)
RELATIVE = (
    "relative mCE: the same of what errors are above those on clean images; a dash where a corruption adds nothing to "
    "the named row's"
)


def mce(found: Iterable[Group], controls: Mapping[str, str], against: str = AGAINST) -> list[Frame]:
    """A frame for each table and each of its columns whose records have `errors`, where the named row has some."""
    frames = []
    for group in found:
        for head, column in columns_of(group.cells).items():
            here = {line: runs for (line, at), runs in group.cells.items() if at == head}
            told = {line: [r for r in runs if "errors" in r.details] for line, runs in here.items()}
            done = {line: runs for line, runs in told.items() if runs}
            floors = [line for line in done if line.method == against]
            if floors:
                floor = min(floors, key=lambda line: (line.title != against, line))  # the table's own network's first
                frames.append(_frame(group, column.header, done, floor, controls))
    return frames


def _frame(
    group: Group, column: str, done: Mapping[Line, Sequence[Record]], floor: Line, controls: Mapping[str, str]
) -> Frame:
    kinds = list(done[floor][0].details["errors"])
    base = {kind: fmean(record.details["errors"][kind] for record in done[floor]) for kind in kinds}
    added = {kind: fmean(_added(record, kind) for record in done[floor]) for kind in kinds}
    rows = []
    for line, label in lines_of(done, controls):
        runs = done.get(line, [])
        errors = [[_percent(r.details["errors"][kind], base[kind]) for r in runs] for kind in kinds]
        more = [[_percent(_added(r, kind), added[kind]) for r in runs] for kind in kinds]
        clean = [record.details["clean_error"] for record in runs]
        rows.append((Value(label), _over(errors), _over(more), _value(clean), *map(_value, errors)))
    seeds = sorted({len(runs) for runs in done.values()})
    title = f"{heading(group, seeds)}: {column}, errors in % of those of {floor.title}"
    header = ("method", "mCE", "relative mCE", "clean error %", *kinds)
    notes = (EXPLAINED, RELATIVE, SPREAD)
    return Frame(f"{group.slug}-mce-{slugged(column)}", title, header, tuple(rows), notes)


def _added(record: Record, kind: str) -> float:
    return record.details["errors"][kind] - record.details["clean_error"] * len(record.details["severities"])


def _percent(error: float, of: float) -> float:
    return 100 * error / of if of > 0 else float("nan")


def _over(kinds: Sequence[Sequence[float]]) -> Value:
    """The mean over kinds of each seed's."""
    return _value([fmean(of_seed) for of_seed in zip(*kinds)])


def _value(seeds: Sequence[float]) -> Value:
    if not seeds or any(value != value for value in seeds):
        return Value(DASH)
    mean, sd = fmean(seeds), stdev(seeds) if len(seeds) > 1 else None
    return Value(f"{mean:.1f}" + (f" ± {sd:.1f}" if sd is not None else ""), mean, sd)
