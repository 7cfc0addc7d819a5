"""Records -> tables of mean ± deviation over seeds. Only what was made under the same conditions shares one."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal, TypeVar

from ssbench.results import stats
from ssbench.results.groups import Cells, Group, Head, Line, arrange, groups, heading, named
from ssbench.results.record import Record, Score
from ssbench.results.store import Store

K = TypeVar("K")
Status = Literal["done", "not-applicable", "failed", "missing"]
STRONGEST: tuple[Status, ...] = ("done", "failed", "not-applicable")  # which one a cell of several runs shows
BOLD = "bold: ahead of every other row without labels, paired bootstrap over test samples and pooled sd over seeds"
SPREAD = "±: sample standard deviation over seeds"
DASH = "–"


@dataclass(frozen=True)
class Cell:
    """One method on one task: a value a seed, in the order of seeds."""

    values: tuple[float, ...] = ()
    status: Status = "missing"
    bold: bool = False
    notes: tuple[int, ...] = ()  # numbers of the table's footnotes

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (ddof 1); None for fewer than two seeds."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Column:
    """A task's headline. `score` is a record's, for its unit and direction; None where no run was done."""

    task: str  # with the settings that tell it from another column of the same task
    protocol: int
    metric: str
    score: Score | None

    @property
    def header(self) -> str:
        """`linear-probe top1 % ↑ (protocol 1)`."""
        arrow = {"higher": "↑", "lower": "↓"}[self.score.better] if self.score else ""
        unit = self.score.unit if self.score else ""
        return " ".join(part for part in (self.task, self.metric, unit, arrow, f"(protocol {self.protocol})") if part)

    def text(self, mean: float, sd: float | None) -> str:
        """`47.1 ± 0.6`; one decimal in %, three otherwise."""
        digits = 1 if self.score and self.score.unit == "%" else 3
        return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


@dataclass(frozen=True)
class Row:
    """A method with its cells, one a column, and what its pretraining cost (over its seeds; None: not known)."""

    name: str  # with the settings that tell it from another row of the same method
    control: bool
    cells: tuple[Cell, ...]
    images: float | None  # seen in pretraining
    seconds: float | None
    gflops: float | None  # an image, forward and backward
    parameters: float | None


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


def build(store: Store, controls: Mapping[str, bool], chosen: Iterable[Record] | None = None) -> list[Table]:
    """Every table that the records give, by slug. `controls` maps a control's name to whether it uses labels.

    `chosen` are the records to compare, else all of the store. Raises UserError on a record or predictions that can't
    be read.
    """
    found = groups(store.all() if chosen is None else chosen)
    return [_table(store, controls, group) for group in found]


def _table(store: Store, controls: Mapping[str, bool], group: Group) -> Table:
    cells = arrange(group.records)
    columns = columns_of(cells)
    bold = {(_leader(store, controls, cells, head, column), head) for head, column in columns.items()}
    footnotes: list[str] = []
    rows = []
    for line, name in lines_of({line for line, _ in cells}, controls):
        made = tuple(_cell(cells.get((line, head), []), (line, head) in bold, footnotes) for head in columns)
        runs = [record for head in columns for record in cells.get((line, head), [])]
        rows.append(Row(name, line.method in controls, made, *_costs(runs)))
    title = heading(group, _seeds(rows))
    return Table(group.slug, title, (*columns.values(),), tuple(rows), (BOLD, SPREAD), tuple(footnotes))


def lines_of(lines: Iterable[Line], controls: Mapping[str, bool]) -> Iterable[tuple[Line, str]]:
    """Rows and what they are called: methods by name, then every control, run or not."""
    variants: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        variants[line.method].append(line)
    for method in (*sorted(variants.keys() - controls.keys()), *controls):
        for line, label in named(variants.get(method, [Line(method=method)])).items():
            yield line, method + label


def columns_of(cells: Cells) -> dict[Head, Column]:
    """Columns by task, protocol and settings."""
    heads = sorted({head for _, head in cells})
    made = {}
    for head in heads:
        label = named(other for other in heads if (other.task, other.protocol) == (head.task, head.protocol))[head]
        done = [r for (_, at), runs in cells.items() if at == head for r in runs if r.status == "done"]
        metric = done[0].headline if done else ""
        made[head] = Column(head.task + label, head.protocol, metric, done[0].scores[metric] if done else None)
    return made


def _cell(records: list[Record], bold: bool, footnotes: list[str]) -> Cell:
    """Values of the runs that were done; the others leave a footnote each, shared by cells with the same reason."""
    values = tuple(record.scores[record.headline].value for record in records if record.status == "done")
    found = {record.status for record in records}
    texts = sorted({_footnote(record, len(found) > 1) for record in records if record.status != "done"})
    footnotes += [text for text in texts if text not in footnotes]
    status: Status = next((status for status in STRONGEST if status in found), "missing")
    return Cell(values, status, bold, tuple(sorted(footnotes.index(text) + 1 for text in texts)))


def _footnote(record: Record, mixed: bool) -> str:
    seed = f"seed {record.spec.pretraining.seed} " if mixed else ""
    return f"{seed}{record.status.replace('-', ' ')}: {' '.join(record.reason.split())}"


def _costs(records: list[Record]) -> tuple[float, float, float | None, float] | tuple[None, None, None, None]:
    """Means over seeds, of seconds the median, which a busy machine moves less; the tasks of one seed share them."""
    costs = [*{record.spec.pretraining.seed: record.costs for record in records if record.status == "done"}.values()]
    if not costs:
        return None, None, None, None
    images = fmean(cost.images for cost in costs)
    gflops = fmean(cost.pretrain_gflops for cost in costs) / images if images else None
    return images, median(cost.pretrain_seconds for cost in costs), gflops, fmean(cost.parameters for cost in costs)


def _leader(store: Store, controls: Mapping[str, bool], cells: Cells, head: Head, column: Column) -> Line | None:
    """The row that is really ahead of all others without labels, or None. A control never is.

    A control without labels that was not run, or failed, has not been beaten; one that does not apply is left out.
    """
    if column.score is None:
        return None
    runs = {
        line: records for (line, at), records in cells.items() if at == head and not controls.get(line.method, False)
    }
    known = {line.method for line, records in runs.items() if any(r.status != "failed" for r in records)}
    if any(not labels and name not in known for name, labels in controls.items()):
        return None
    done = {line: [r for r in records if r.status == "done"] for line, records in runs.items()}
    return leader(store, column, done, {line for line in done if line.method in controls})


def leader(store: Store, column: Column, done: Mapping[K, list[Record]], barred: Container[K] = ()) -> K | None:
    """The one whose done runs are really ahead of all others', or None. What is barred is a rival, but never leads."""
    if column.score is None:
        return None
    kind, better = column.score.kind, column.score.better
    means = {key: fmean(r.scores[column.metric].value for r in records) for key, records in done.items() if records}
    order = sorted(means, key=lambda key: means[key], reverse=better == "higher")
    best = next((key for key in order if key not in barred), None)
    rivals = [key for key in order if key != best]  # the hardest to beat first
    if best is None or not rivals:
        return None
    arrays = [store.arrays(record, column.metric) for record in done[best]]
    others = ([store.arrays(record, column.metric) for record in done[key]] for key in rivals)
    return best if all(stats.ahead(kind, better, arrays, other).real for other in others) else None
