"""Records -> tables of one setting against another, of where the optimum lies, and of what was measured. No torch.

A grid is one method on one task under the conditions of one table, where exactly two settings differ that all of its
variants have. What only some variants have follows from those two: a parameter that belongs to one kind of mask, say.
Where more settings differ, as when two suites share a results folder, each two of them make a grid wherever the others
hold still: the largest part of it without holes, since another suite may have run a part of a row only.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ssbench.results import stats
from ssbench.results.groups import Group, Head, Line, heading
from ssbench.results.marks import TEST, failing, leaders, sides
from ssbench.results.naming import canonical, differing, digest, slugged
from ssbench.results.record import Record
from ssbench.results.stats import SEEDS
from ssbench.results.store import Store
from ssbench.results.table import DASH, SPREAD, Column, columns_of, lines_of

BOLD = (
    f"bold: ahead of every other cell, by {TEST}, at 5 % for the whole grid (Holm over rivals); {SEEDS} seeds or more"
)
OPTIMUM = ("best on select", "its test score", "optimum 95 %")
EXPLAINED = (
    "best on select: the value with the best mean over seeds on the part of the training data that is held out for "
    "choosing, the smallest of equals",
    "its test score: what that choice, made without the test split, gives on it",
    "optimum 95 %: between which values the best test score lies when test samples and seeds are drawn again, with "
    f"replacement, 2,000 times (percentiles; equals count as both); with fewer than {SEEDS} seeds it is too narrow",
)
LOSS = (
    "loss: first → last logged value of the training loss, all terms together, mean over seeds, and the curve between "
    "them, on a scale of its own"
)
SPARKS = "▁▂▃▄▅▆▇█"
POINTS = 20  # of a curve, at most


@dataclass(frozen=True)
class Value:
    """One cell of a frame: how it reads, and its numbers where it has them."""

    text: str
    mean: float | None = None
    sd: float | None = None  # sample standard deviation over seeds
    bold: bool = False
    span: tuple[float, float] | None = None  # what stands in brackets, such as a 95 % interval


@dataclass(frozen=True)
class Frame:
    """A table of any columns, as it is read. Each row has a value for each name of the header."""

    slug: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pivot:
    """One method on one task by two settings. `runs` holds what was done, in the order of seeds, by value of each."""

    group: Group
    method: str
    head: Head
    column: Column
    row: str  # the setting whose values are the rows
    by: str  # the setting whose values are the columns
    values: tuple[tuple[Any, ...], tuple[Any, ...]]  # of rows and of columns, in their order
    fixed: tuple[str, ...]  # `setting=value` for what else differs among the variants, but not here
    runs: Mapping[tuple[str, str], list[Record]]  # by the canonical spelling of a row's and a column's value
    ahead: tuple[str, str] | None  # the cell that is really ahead of all others
    optimum: tuple[tuple[Value, Value, Value], ...]  # `OPTIMUM` for each row; empty where columns are not numbers


def pivots(store: Store, found: Iterable[Group]) -> list[Pivot]:
    """Every grid that tables' records give, by table, task and method. Raises UserError on unreadable predictions.

    A method has none where two variants would share a cell, for rows whose settings differ are never averaged.
    """
    made = []
    for group in found:
        cells = group.cells
        failed = failing(cells)
        methods = sorted({line.method for line, _ in cells})
        for head, column in columns_of(cells).items():
            for method in methods:
                done = {
                    line: [record for record in runs if record.status == "done"]
                    for (line, at), runs in cells.items()
                    if at == head and line.method == method and not line.tuned
                }
                made += [_pivot(store, group, method, head, column, failed, *axes) for axes in _axes(done)]
    return made


Axis = tuple[str, tuple[Any, ...]]  # a setting and its values in order
Runs = dict[tuple[str, str], list[Record]]


def _axes(done: Mapping[Line, list[Record]]) -> Iterator[tuple[Axis, Axis, Runs, tuple[str, ...]]]:
    """The settings of rows and columns, the runs of each cell and what is fixed, for each grid that variants make.

    `done` holds what was done, perhaps nothing, by variant.
    """
    tried = {line: line.shown() for line in done}
    variants = {line: variant for line, variant in tried.items() if done[line]}
    keys = differing(variants.values())
    if not all({*keys} <= line.settings.keys() for line in variants):
        return  # versions or owners differ
    for pair in combinations(keys, 2):
        others = [key for key in keys if key not in pair]
        slices: dict[str, dict[Line, dict[str, Any]]] = defaultdict(dict)
        for line, variant in variants.items():
            slices[canonical([variant[other] for other in others])][line] = variant
        for still, part in sorted(slices.items()):
            axes = {key: _ordered(variant[key] for variant in part.values()) for key in pair}
            if others:
                like = (v for v in tried.values() if {*keys} <= v.keys())
                same = (v for v in like if canonical([v[key] for key in others]) == still)
                axes = _whole(axes, {tuple(canonical(v[key]) for key in pair) for v in same})
            (row, rows), (by, columns) = _oriented(axes)
            runs = {(canonical(variant[row]), canonical(variant[by])): done[line] for line, variant in part.items()}
            unique = len(runs) == len(part)
            if min(len(rows), len(columns)) > 1 and unique:
                kept = {(r, c): runs[r, c] for r, c in _keys(rows, columns) if (r, c) in runs}
                one = next(iter(part.values()))
                yield (row, rows), (by, columns), kept, tuple(f"{key}={one[key]}" for key in others)


def _whole(axes: dict[str, tuple[Any, ...]], there: set[tuple[str, ...]]) -> dict[str, tuple[Any, ...]]:
    """The values of two settings that span the largest grid without holes: by its shorter side, then by its cells."""
    (row, rows), (by, columns) = axes.items()
    across = {r: frozenset(c for c in map(canonical, columns) if (r, c) in there) for r in map(canonical, rows)}
    best = largest(across)
    return {
        row: tuple(value for value in rows if best <= across[canonical(value)]),
        by: tuple(value for value in columns if canonical(value) in best),
    }


def largest(across: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Of what each row has, what some rows have in common: the most by the shorter side, then by cells."""
    spans: set[frozenset[str]] = set()
    for found in across.values():
        spans |= {found, *(found & span for span in spans)}

    def size(span: frozenset[str]) -> tuple[int, int]:
        tall = sum(span <= found for found in across.values())
        return min(tall, len(span)), tall * len(span)

    return max(sorted(spans, key=sorted), key=size)  # of equals, the first


def _keys(rows: tuple[Any, ...], columns: tuple[Any, ...]) -> list[tuple[str, str]]:
    return [(canonical(r), canonical(c)) for r in rows for c in columns]


def _oriented(values: Mapping[str, tuple[Any, ...]]) -> list[Axis]:
    """Rows and columns. Numbers are columns: of two such settings the one with more values.

    Of two others, that with more values is rows.
    """

    def rank(axis: Axis) -> tuple[bool, int, str]:
        numbers = _numeric(axis[1])
        return numbers, len(axis[1]) if numbers else -len(axis[1]), axis[0]

    return sorted(values.items(), key=rank)


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _ordered(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once: numbers by size, then what is none by how it reads."""
    distinct = {canonical(value): value for value in values}
    return tuple(sorted(distinct.values(), key=lambda v: (0, v, "") if _numeric([v]) else (1, 0, canonical(v))))


def _pivot(
    store: Store,
    group: Group,
    method: str,
    head: Head,
    column: Column,
    failed: Container[Line],
    rows: Axis,
    columns: Axis,
    runs: Runs,
    fixed: tuple[str, ...],
) -> Pivot:
    optimum: list[tuple[Value, Value, Value]] = []
    if _numeric(columns[1]):
        for row in rows[1]:
            line = {value: runs.get((canonical(row), canonical(value)), []) for value in columns[1]}
            optimum.append(_optimum(store, column, {value: found for value, found in line.items() if found}))
    barred = {key for key, found in runs.items() if group.line(found[0]) in failed}
    ahead = leaders({head: sides(store, dict(sorted(runs.items())))}, barred).get(head)
    values = rows[1], columns[1]
    return Pivot(group, method, head, column, rows[0], columns[0], values, fixed, runs, ahead, tuple(optimum))


def _optimum(store: Store, column: Column, line: Mapping[float, list[Record]]) -> tuple[Value, Value, Value]:
    """`OPTIMUM` for the runs of one row by the numbers of its columns, in their order; dashes where there is one."""
    dash = Value(DASH)
    if column.score is None or len(line) < 2:
        return dash, dash, dash
    better = column.score.better
    scores = {value: [one for one in map(selection, runs) if one is not None] for value, runs in line.items()}
    means = {value: fmean(found) for value, found in scores.items() if found}
    best = (max if better == "higher" else min)(means, key=lambda value: means[value]) if means else None
    leads = stats.leads([*sides(store, line).values()])
    if leads is None:
        interval = dash
    else:
        first, last = leads.argmax(1), len(line) - 1 - leads[:, ::-1].argmax(1)  # (DRAWS,) positions in the line
        low = np.percentile(first, 2.5, method="inverted_cdf")  # a value that was run, never one in between
        high = np.percentile(last, 97.5, method="inverted_cdf")
        ends = dict.fromkeys([[*line][int(low)], [*line][int(high)]])
        interval = Value(" to ".join(map(str, ends)))
    return (dash, dash, interval) if best is None else (Value(str(best)), scored(column, line[best]), interval)


def selection(record: Record) -> float | None:
    """The score on the held-out part of what a run chose; None where its record has none.

    Where the choice itself names no score, it is that of the points of the sweep that agree with it, or of all points.
    """
    better = max if record.scores[record.headline].better == "higher" else min
    agreeing = [
        point for point in record.sweep if all(record.selected.get(key, value) == value for key, value in point.items())
    ]
    for points in ([record.selected], agreeing, record.sweep):
        found: dict[str, list[float]] = defaultdict(list)
        for point in points:
            for key, value in point.items():
                if (key == "select" or key.startswith("select_")) and _numeric([value]):
                    found[key].append(value)
        for name in (f"select_{record.headline}", "select_top1"):
            if name in found:
                return better(found[name])
        if found:
            return better(value for values in found.values() for value in values)
    return None


def grids(found: Sequence[Pivot]) -> list[Frame]:
    """A frame for each pivot."""
    slugs = [_slug(pivot) for pivot in found]
    counts = Counter(slugs)
    told = (digest([one.head.shown(), one.method, one.row, one.by, one.fixed]) for one in found)
    return [_grid(pivot, slug + f"-{suffix}" * (counts[slug] > 1)) for pivot, slug, suffix in zip(found, slugs, told)]


def _slug(pivot: Pivot) -> str:
    parts = (pivot.column.task, pivot.method, pivot.row, "by", pivot.by, *(["at", *pivot.fixed] if pivot.fixed else []))
    return "-".join([pivot.group.slug, "grid", *map(slugged, parts)])


def _grid(pivot: Pivot, slug: str) -> Frame:
    rows = []
    for place, row in enumerate(pivot.values[0]):
        keys = [(canonical(row), canonical(value)) for value in pivot.values[1]]
        cells = [scored(pivot.column, pivot.runs.get(key, []), key == pivot.ahead) for key in keys]
        rows.append((Value(str(row)), *cells, *(pivot.optimum[place] if pivot.optimum else ())))
    header = (pivot.row, *(f"{pivot.by}={value}" for value in pivot.values[1]), *(OPTIMUM if pivot.optimum else ()))
    title = heading(pivot.group, sorted({len(runs) for runs in pivot.runs.values()}))
    at = f" at {', '.join(pivot.fixed)}" if pivot.fixed else ""
    title = f"{title}: {pivot.method}, {pivot.column.header}, {pivot.row} by {pivot.by}{at}"
    notes = (BOLD, SPREAD, *(EXPLAINED if pivot.optimum else ()))
    return Frame(slug, title, header, tuple(rows), notes)


def scored(column: Column, runs: Sequence[Record], bold: bool = False) -> Value:
    """Mean and deviation of runs that were done, as their column reads; a dash without any."""
    values = [record.scores[column.metric].value for record in runs]
    if not values:
        return Value(DASH)
    mean, sd = fmean(values), stdev(values) if len(values) > 1 else None
    return Value(column.text(mean, sd), mean, sd, bold)


def optima(found: Sequence[Pivot]) -> list[Frame]:
    """One frame with a row for each data set, task and row of every grid whose columns are numbers; none without."""
    numeric = [pivot for pivot in found if pivot.optimum]
    if not numeric:
        return []
    short = {pivot.group.slug: _data(pivot) for pivot in numeric}
    counts = Counter(short.values())  # tables of one data set
    rows: dict[tuple[str, ...], tuple[Value, ...]] = {}  # one line may stand in grids with several other settings
    for pivot in numeric:
        data = short[pivot.group.slug]
        place = (data if counts[data] == 1 else heading(pivot.group, []), pivot.method, pivot.column.header)
        for value, optimum in zip(pivot.values[0], pivot.optimum):
            told = (*place, ", ".join(sorted([f"{pivot.row}={value}", *pivot.fixed])), pivot.by)
            rows.setdefault(told, (*map(Value, told), *optimum))
    header = ("data", "method", "task", "at", "optimum of", *OPTIMUM)
    return [Frame("optimum", "Where the optimum lies", header, tuple(rows.values()), (SPREAD, *EXPLAINED))]


def _data(pivot: Pivot) -> str:
    spec = pivot.group.records[0].spec
    source = spec.pretraining.data
    return spec.data.name + (f", pretrained on {source.name}" if source != spec.data else "")


def measures(found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each table whose records have measures: rows as in the table, a control only where it has some."""
    return [frame for group in found if (frame := _measures(group, controls)) is not None]


def _measures(group: Group, controls: Mapping[str, str]) -> Frame | None:
    found: dict[Line, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))  # by seed and name
    curves: dict[Line, dict[int, list[float]]] = defaultdict(dict)  # by seed
    for record in sorted(group.shown, key=lambda r: (r.spec.pretraining.seed, r.spec.id)):
        line, seed = group.line(record), record.spec.pretraining.seed
        found[line][seed] = record.measures | found[line][seed]  # the tasks of one seed share them
        if record.loss:
            totals = [sum(value for key, value in point.items() if key != "step") for point in record.loss]
            curves[line].setdefault(seed, totals)
    order = [*lines_of({group.line(record) for record in group.records}, controls)]
    names = dict.fromkeys(name for line, _ in order for of in found.get(line, {}).values() for name in of)
    if not names:
        return None
    rows, seeds = [], set()
    for line, label in order:
        control, has = line.method in controls, any(found.get(line, {}).values())
        if not (has or (line in curves and not control)):
            continue
        values = [[of[name] for of in found[line].values() if name in of] for name in names]
        seeds |= {len(one) for one in values if one}
        loss = Value(DASH) if control or line not in curves else Value(_curve([*curves[line].values()]))
        rows.append((Value(label), *map(_measure, values), loss))
    title = f"{heading(group, sorted(seeds))}: measures of the pretrained encoders"
    return Frame(f"{group.slug}-measures", title, ("method", *names, "loss"), tuple(rows), (SPREAD, LOSS))


def _measure(values: Sequence[float]) -> Value:
    if not values:
        return Value(DASH)
    mean, sd = fmean(values), stdev(values) if len(values) > 1 else None
    return Value(_digits(mean) + (f" ± {_digits(sd)}" if sd is not None else ""), mean, sd)


def _digits(value: float) -> str:
    """Three significant digits, without an exponent where six places do."""
    return f"{float(f'{value:.3g}'):g}"


def _curve(curves: Sequence[Sequence[float]]) -> str:
    """`1.08 → 0.765 █▅▂▁` of one curve a seed. Curves of different lengths are laid over each other end to end."""
    points = min(POINTS, max(map(len, curves)))
    places = np.linspace(0, 1, points)
    mean = np.mean([np.interp(places, np.linspace(0, 1, len(curve)), curve) for curve in curves], 0)
    low, span = mean.min(), float(np.ptp(mean)) or 1.0
    spark = "".join(SPARKS[round((value - low) / span * (len(SPARKS) - 1))] for value in mean)
    first, last = (fmean(curve[end] for curve in curves) for end in (0, -1))
    return f"{_digits(first)} → {_digits(last)} {spark}"
