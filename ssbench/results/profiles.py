"""Records -> tables of what a score is made of: by block, labels, corruption, class; what is lost. No torch.

A task hands in `details["profile"]`, {name: {point: value or [value, low, high]}}: each name of each task is a table,
its points are the columns. A column of other data's test stands beside its own test in a table of what is lost.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import Cells, Group, Head, Line, heading
from ssbench.results.naming import slugged
from ssbench.results.record import Record
from ssbench.results.table import DASH, SPREAD, Column, columns_of, lines_of

INTERVAL = "in brackets: 95 % interval of one seed, the mean of its ends over seeds"
DROP = "what is lost from its own test to other data: mean over seeds that have both, and their sample deviation"
TESTED, HOME = "tested on", "its own test"
Points = dict[str, dict[int, Any]]  # by the point's name, then by seed


def profiles(found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each profile of each column, and for each column of another test."""
    return [frame for group in found for frame in _of(group, controls)]


def _of(group: Group, controls: Mapping[str, str]) -> Iterator[Frame]:
    cells = group.cells
    columns = columns_of(cells)
    order = [*lines_of({line for line, _ in cells}, controls)]
    for head, column in columns.items():
        found: dict[str, dict[Line, Points]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
        for (line, at), runs in cells.items():
            for record in runs if at == head else ():
                for name, points in record.details.get("profile", {}).items():
                    for point, value in points.items():
                        found[name][line][point][record.spec.pretraining.seed] = value
        for name, lines in found.items():
            yield _frame(group, column, f"by {name}", order, lines, ())
    for head in [head for head in columns if head.settings.get(TESTED)]:
        home = Head(**(dict(head) | {"settings": {k: v for k, v in head.settings.items() if not k.startswith(TESTED)}}))
        if lines := _drops(cells, home, head):
            name = f"drop to {head.settings[TESTED]}"
            yield _frame(group, columns[head], name, order, lines, (DROP,))


def _drops(cells: Cells, home: Head, away: Head) -> dict[Line, Points]:
    """What each row scores at home and away, and the difference, by seed."""
    lines: dict[Line, Points] = {}
    for line in {line for line, _ in cells}:
        here, there = ({r.spec.pretraining.seed: r for r in _done(cells, line, head)} for head in (home, away))
        both = {seed: (_score(here[seed]), _score(there[seed])) for seed in here if seed in there}
        if both:
            lines[line] = {
                HOME: {seed: one for seed, (one, _) in both.items()},
                str(away.settings[TESTED]): {seed: other for seed, (_, other) in both.items()},
                "drop": {seed: one - other for seed, (one, other) in both.items()},
            }
    return lines


def _done(cells: Cells, line: Line, head: Head) -> list[Record]:
    return [record for record in cells.get((line, head), []) if record.status == "done"]


def _score(record: Record) -> float:
    return record.scores[record.headline].value


def _frame(
    group: Group,
    column: Column,
    name: str,
    order: Sequence[tuple[Line, str]],
    lines: Mapping[Line, Points],
    notes: tuple[str, ...],
) -> Frame:
    points = dict.fromkeys(point for line, _ in order for point in lines.get(line, {}))
    rows = []
    for line, label in order:
        if line in lines:
            found = (lines[line].get(point, {}) for point in points)
            rows.append((Value(label), *(_value(column, [*of.values()]) for of in found)))
    seeds = sorted({len(of) for points_of in lines.values() for of in points_of.values()})
    slug = f"{group.slug}-{slugged(f'{column.task} {column.protocol} {name}')}"
    values = (value for found in lines.values() for of in found.values() for value in of.values())
    intervals = any(isinstance(value, list) for value in values)
    what = name.removeprefix("by ")  # `MAE by factor` is no share of the headline
    said = f"{column.task} (protocol {column.protocol}), {what}" if " by " in what else f"{column.header}, {name}"
    title = f"{heading(group, seeds)}: {said}"
    return Frame(slug, title, ("method", *points), tuple(rows), (SPREAD, *[INTERVAL] * intervals, *notes))


def _value(column: Column, values: Sequence[Any]) -> Value:
    """Mean and deviation over seeds, and the ends of intervals where the values have some."""
    means = [value[0] if isinstance(value, list) else value for value in values]
    known = [value for value in means if value is not None]
    if not known:
        return Value(DASH)
    mean, sd = fmean(known), stdev(known) if len(known) > 1 else None
    ends = [value[1:] for value in values if isinstance(value, list)]
    reach = f" ({' to '.join(column.text(fmean(end), None) for end in zip(*ends))})" if ends else ""
    return Value(column.text(mean, sd) + reach, mean, sd)
