"""Records -> tables of mean ± deviation over seeds. Only what was made under the same conditions shares one."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Literal

from scipy.special import stdtrit

from ssbench.results import codes, notes
from ssbench.results.continued import verdicts
from ssbench.results.groups import Cells, Group, Head, Line, groups, heading, named
from ssbench.results.marks import marks, sides
from ssbench.results.record import Record, Score
from ssbench.results.stats import Side
from ssbench.results.store import Store

Status = Literal["done", "not-applicable", "failed", "missing"]
STRONGEST: tuple[Status, ...] = ("done", "failed", "not-applicable")  # which one a cell of several runs shows
SPREAD = "±: sample standard deviation over seeds"
DASH = "–"
NUMBER = re.compile(r"\d+(?:\.\d+)?")
OLD = "made by older code: {parts} changed since"
PER_CLASS, UNEQUAL = "mean-class", 1.2  # what stands beside top-1, where the largest class has so many equal shares


@dataclass(frozen=True)
class Cell:
    """One method on one task: a value a seed, in the order of seeds."""

    values: tuple[float, ...] = ()
    status: Status = "missing"
    bold: bool = False
    behind: bool = False  # not shown to be ahead of the floors, at 5 % for the whole table
    notes: tuple[int, ...] = ()  # numbers of the table's footnotes
    beside: float | None = None  # mean over seeds of what stands in brackets
    ids: tuple[str, ...] = ()  # of the records, those that were done first, in the order of their values
    runs: Side = field(default_factory=dict, compare=False, repr=False)  # what tests need

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (ddof 1); None for fewer than two seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t-interval of the mean over seeds; None for fewer than two."""
        if self.mean is None or self.sd is None:
            return None
        count = len(self.values)
        reach = float(stdtrit(count - 1, 0.975)) * self.sd / count**0.5
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class Column:
    """A task's headline. `score` is a record's, for its unit and direction; None where no run was done."""

    task: str  # with the settings that tell it from another column of the same task
    protocol: int
    metric: str
    score: Score | None
    beside: str = ""  # the metric in brackets

    @property
    def header(self) -> str:
        """`linear-probe top1 % ↑ (protocol 1)`, or `knn top1 (mean-class) % ↑ (protocol 1)`."""
        arrow = {"higher": "↑", "lower": "↓"}[self.score.better] if self.score else ""
        unit = self.score.unit if self.score else ""
        return " ".join(
            part
            for part in (
                self.task,
                self.metric,
                self.beside and f"({self.beside})",
                unit,
                arrow,
                f"(protocol {self.protocol})",
            )
            if part
        )

    def text(self, mean: float, sd: float | None) -> str:
        """`47.1 ± 0.6`; one decimal in %, three otherwise."""
        digits = 1 if self.score and self.score.unit == "%" else 3
        return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


@dataclass(frozen=True)
class Row:
    """A method with its cells, one a column, and what its pretraining cost (over its seeds; None: not known)."""

    name: str  # with the settings that tell it from another row of the same method
    role: str  # `floor` or `ceiling` of a control, else empty
    labels: bool  # it saw some
    cells: tuple[Cell, ...]
    given: bool  # it came with its weights: what they cost is not known
    images: float | None  # seen in pretraining
    seconds: float | None
    gflops: float | None  # an image, forward and backward
    parameters: float | None

    @property
    def control(self) -> bool:
        return bool(self.role)


@dataclass(frozen=True)
class Table:
    """What stands between the records and the files. Footnote n is the n-th of `footnotes`."""

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    footnotes: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        """The numbers of seeds that its cells have."""
        return _seeds(self.rows)


def _seeds(rows: Iterable[Row]) -> list[int]:
    return sorted({len(cell.values) for row in rows for cell in row.cells if cell.values})


def build(store: Store, controls: Mapping[str, str], chosen: Iterable[Record] | None = None) -> list[Table]:
    """Every table that the records give, by slug. `controls` says what each control is: a `floor` or a `ceiling`.

    `chosen` are the records to compare, else all of the store. Raises UserError on a record or predictions that can't
    be read.
    """
    return tables(store, controls, groups(codes.of_store(store) if chosen is None else chosen))


def tables(store: Store, controls: Mapping[str, str], found: Iterable[Group]) -> list[Table]:
    """The table of each group, in their order; raises UserError on predictions that can't be read."""
    return [_table(store, controls, group) for group in found]


def _table(store: Store, controls: Mapping[str, str], group: Group) -> Table:
    cells = group.cells
    columns = columns_of(cells)
    names = short(columns)
    judged = {
        head: sides(store, {line: _done(runs) for (line, at), runs in cells.items() if at == head}) for head in columns
    }
    marked = marks(judged, controls, cells, names)
    footnotes: list[str] = []
    rows = []
    called = dict(lines_of({line for line, _ in cells}, controls))
    for line, name in called.items():
        made = tuple(
            _cell(
                cells.get((line, head), []),
                column,
                ((line, head) in marked.bold, (line, head) in marked.behind),
                footnotes,
                judged[head].get(line, {}),
            )
            for head, column in columns.items()
        )
        runs = [record for head in columns for record in cells.get((line, head), [])]
        role, taught = controls.get(line.method, ""), any(record.supervised for record in runs)
        called_so = name + " (labels)" * (taught and not role)
        rows.append(Row(called_so, role, taught, made, line.given, *_costs(runs)))
    title = heading(group, _seeds([row for row in rows if row.role != "floor"] or rows))
    went_on = verdicts(judged, cells, names, called, controls)
    below = (
        *went_on,
        *marked.notes,
        SPREAD,
        *notes.band(rows, columns, names),
        *notes.fineness(group, columns, names, judged),
        *notes.optimism(group, columns, names),
        *notes.told(store, group, cells, columns, names),
    )
    return Table(group.slug, title, (*columns.values(),), tuple(rows), below, tuple(footnotes))


def short(columns: Mapping[Head, Column]) -> dict[Head, str]:
    """What notes call a column: its task, with the protocol where there are several."""
    counts = Counter(column.task for column in columns.values())
    return {head: one.task + f" (protocol {one.protocol})" * (counts[one.task] > 1) for head, one in columns.items()}


def lines_of(lines: Iterable[Line], controls: Mapping[str, str]) -> Iterable[tuple[Line, str]]:
    """Rows and what they are called: methods by name, given encoders, then every control, run or not.

    A ceiling that was not run has no row where nothing was trained.
    """
    found = {*lines}
    trained = any(not line.given and line.method not in controls for line in found)
    missing = [name for name, role in controls.items() if role == "floor" or trained]
    order = [*sorted({line.method for line in found if not line.given} - controls.keys()), "", *controls]
    for method in order:
        titles: dict[str, list[Line]] = defaultdict(list)
        for line in sorted(found):
            if line.given if method == "" else line.method == method and not line.given:
                titles[line.title].append(line)
        if not titles and method in missing:
            titles[method] = [Line(method=method)]
        for title, variants in titles.items():
            for line, label in named(variants).items():
                yield line, title + label


def rows_of(group: Group, controls: Mapping[str, str]) -> list[Line]:
    """The lines of a group's table, in the order of its rows."""
    return [line for line, _ in lines_of({line for line, _ in group.cells}, controls)]


def columns_of(cells: Cells) -> dict[Head, Column]:
    """Columns by task, protocol and settings."""
    heads = sorted({head for _, head in cells})
    made = {}
    for head in heads:
        label = named(other for other in heads if (other.task, other.protocol) == (head.task, head.protocol))[head]
        if "labels" in head.settings and "labels=" not in label:
            label += f" [labels={head.settings['labels']}]"  # never to be taken for all of them
        done = [r for (_, at), runs in cells.items() if at == head for r in runs if r.status == "done"]
        metric = done[0].headline if done else ""
        score = done[0].scores[metric] if done else None
        made[head] = Column(head.task + label, head.protocol, metric, score, _beside(done))
    return made


def _beside(records: list[Record]) -> str:
    """Mean per-class accuracy, where a constant answer gets more than an equal share and a fifth."""
    known = [record for record in records if PER_CLASS in record.scores and record.data.get("classes")]
    unequal = any((r.scores[r.headline].floor or 0) > UNEQUAL * 100 / r.data["classes"] for r in known)
    return PER_CLASS if unequal else ""


def _done(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "done"]


def _cell(records: list[Record], column: Column, marked: tuple[bool, bool], footnotes: list[str], side: Side) -> Cell:
    """Values of the runs that were done; the others and warnings leave a footnote each, which cells share."""
    done = _done(records)
    values = tuple(record.scores[record.headline].value for record in done)
    found = {record.status for record in records}
    lacking = {_footnote(record, len(found) > 1) for record in records if record.status != "done"}
    warned = {*_together({r.spec.pretraining.seed: r.warning for r in done if r.warning})}
    warned |= {OLD.format(parts=", ".join(parts)) for r in done if (parts := codes.changed(r))}
    texts = sorted(lacking | warned)
    footnotes += [text for text in texts if text not in footnotes]
    status: Status = next((status for status in STRONGEST if status in found), "missing")
    near = [r.scores[column.beside].value for r in done if column.beside in r.scores]
    numbers = tuple(sorted(footnotes.index(text) + 1 for text in texts))
    ids = tuple(r.id for r in (*done, *(r for r in records if r.status != "done")))
    return Cell(values, status, *marked, numbers, fmean(near) if near else None, ids, side)


def _together(warnings: Mapping[int, str]) -> list[str]:
    """Warnings by seed, those that differ in numbers alone as one: `seeds 0, 1: its loss ended at 3.01 to 3.06`."""
    alike: dict[str, list[int]] = defaultdict(list)
    for seed, text in warnings.items():
        alike[NUMBER.sub("\0", text)].append(seed)
    found = []
    for text, seeds in alike.items():
        values = zip(*(NUMBER.findall(warnings[seed]) for seed in seeds))
        for value in [dict.fromkeys(sorted(of, key=float)) for of in values]:
            text = text.replace("\0", " to ".join([*value][:: max(len(value) - 1, 1)]), 1)
        found.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {text}")
    return found


def _footnote(record: Record, mixed: bool) -> str:
    seed = f"seed {record.spec.pretraining.seed} " if mixed else ""
    return f"{seed}{record.status.replace('-', ' ')}: {' '.join(record.reason.split())}"


def _costs(
    records: list[Record],
) -> tuple[float | None, float | None, float | None, float] | tuple[None, None, None, None]:
    """Means over seeds, of seconds the median, which a busy machine moves less; the tasks of one seed share them.

    What was not trained has no images and no seconds: what an encoder that came with weights took is not known.
    """
    done = {record.spec.pretraining.seed: record for record in records if record.status == "done"}
    costs = [record.costs for record in done.values()]
    if not costs:
        return None, None, None, None
    parameters = fmean(cost.parameters for cost in costs)
    if next(iter(done.values())).spec.pretraining.budget is None:
        return None, None, None, parameters
    images = fmean(cost.images for cost in costs)
    gflops = fmean(cost.pretrain_gflops for cost in costs) / images if images else None
    return images, median(cost.pretrain_seconds for cost in costs), gflops, parameters
