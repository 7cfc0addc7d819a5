"""Records -> tables of mean ± deviation over seeds. Only what was made under the same conditions shares one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any, Literal

from ssbench.results import codes, metrics
from ssbench.results.continued import verdicts
from ssbench.results.groups import Cells, Group, Head, Line, groups, heading, named
from ssbench.results.marks import marks, sides
from ssbench.results.precision import precision
from ssbench.results.record import Record, Score
from ssbench.results.stats import Side
from ssbench.results.store import Store

Status = Literal["done", "not-applicable", "failed", "missing"]
STRONGEST: tuple[Status, ...] = ("done", "failed", "not-applicable")  # which one a cell of several runs shows
SPREAD = "±: sample standard deviation over seeds"
DASH = "–"
BAND = 10  # untrained networks that show how far chance goes
OLD = "made by older code: {parts} changed since"
PER_CLASS, UNEQUAL = "mean-class", 1.2  # what stands beside top-1, where the largest class has so many equal shares


@dataclass(frozen=True)
class Cell:
    """One method on one task: a value a seed, in the order of seeds."""

    values: tuple[float, ...] = ()
    status: Status = "missing"
    bold: bool = False
    behind: bool = False  # not shown to be ahead of the controls
    notes: tuple[int, ...] = ()  # numbers of the table's footnotes
    beside: float | None = None  # mean over seeds of what stands in brackets
    runs: Side = field(default_factory=dict, compare=False, repr=False)  # what tests need

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
    return tables(store, controls, groups(store.all() if chosen is None else chosen))


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
                (line, head) in marked.bold,
                (line, head) in marked.behind,
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
    went_on = verdicts(store, cells, names, called, controls)
    notes = (
        *went_on,
        *marked.notes,
        SPREAD,
        *_band(rows, columns, names),
        *_fine(group, columns, names, judged),
        *told(store, group, cells, columns, names),
    )
    return Table(group.slug, title, (*columns.values(),), tuple(rows), notes, tuple(footnotes))


def _band(rows: Sequence[Row], columns: Mapping[Head, Column], names: Mapping[Head, str]) -> list[str]:
    """Where untrained networks lie, if many were judged, and the columns in which nothing trained is above them all."""
    untrained = [row for row in rows if row.role == "floor" and row.parameters and not row.given]
    trained = [row for row in rows if row.role != "floor" and not row.given]
    spans, noise, most = [], [], 0
    for at, (head, column) in enumerate(columns.items()):
        found = max((row.cells[at].runs for row in untrained), key=len, default={})
        if len(found) < BAND or column.score is None:
            continue
        most, sign = max(most, len(found)), 1 if column.score.better == "higher" else -1
        low, high = (end(run.value for run in found.values()) for end in (min, max))
        spans.append(f"{names[head]} {' to '.join(column.text(sign * one, None) for one in (low, high)[::sign])}")
        means = [sign * mean for row in trained if (mean := row.cells[at].mean) is not None]
        noise += [names[head]] * (bool(means) and max(means) <= high)
    notes = [f"{most} untrained networks have: {', '.join(spans)}"] if spans else []
    where = ", ".join(noise)
    return notes + [f"noise: in {where} no trained row is above the best of {most} untrained networks"] * bool(noise)


def _fine(
    group: Group,
    columns: Mapping[Head, Column],
    names: Mapping[Head, str],
    judged: Mapping[Head, Mapping[Line, Side]],
) -> list[str]:
    """What a score's deviation is made of, and the smallest difference that each column could have seen."""
    probed, parts, least = group.probed(), [], []
    for head, column in columns.items():
        again = [[run.scores[column.metric].value for run in runs] for runs in probed.get(head, []) if len(runs) > 1]
        one = precision([*judged[head].values()], again)
        if one is None:
            continue

        def text(value: float, column: Column = column) -> str:
            return column.text(value, None)

        probes = "" if one.probes is None else f"{text(one.probes)} over probe seeds, "
        parts.append(f"{names[head]} {text(one.seeds)} over seeds, {probes}{text(one.samples)} over test samples")
        more = f"{one.halving} seeds" if one.halving else "more test samples, not seeds,"
        least.append(f"{names[head]} {text(one.least)} with {one.count} seeds ({more} would halve it)")
    hoped = {
        names[head]: column.text(fmean(run.details["optimism"] for run in runs), None)
        for head, column in columns.items()
        if (runs := [r for (_, at), of in group.cells.items() if at == head for r in of if "optimism" in r.details])
    }
    told = ", ".join(f"{name} {of}" for name, of in hoped.items())
    notes = [f"a choice on the test split instead of select would have added, on average: {told}"] if hoped else []
    if not parts:
        return notes
    return [
        *notes,
        f"standard deviation of one run's score: {'; '.join(parts)}",
        f"smallest difference of two rows that one test at 5 % sees in 4 of 5 cases: {'; '.join(least)}",
    ]


def short(columns: Mapping[Head, Column]) -> dict[Head, str]:
    """What notes call a column: its task, with the protocol where there are several."""
    counts = Counter(column.task for column in columns.values())
    return {head: one.task + f" (protocol {one.protocol})" * (counts[one.task] > 1) for head, one in columns.items()}


def told(
    store: Store,
    group: Group,
    cells: Cells,
    columns: Mapping[Head, Column],
    names: Mapping[Head, str],
) -> list[str]:
    """What a reader should know of the records of a table: constant answers, repeated images, mixed code."""
    records = group.records
    floors = []
    for head, column in columns.items():
        done = next((r for (_, at), runs in cells.items() if at == head for r in runs if r.status == "done"), None)
        if done is not None:
            score = done.scores[done.headline]
            value = metrics.floor(score.kind, store.arrays(done, done.headline)) if score.floor is None else score.floor
            floors += [] if value is None else [f"{names[head]} {column.text(value, None)}"]
    notes = [f"the best constant answer scores: {', '.join(floors)}"] if floors else []
    data = [record.data for record in records if record.data]
    notes += sorted({_copies(one) for one in data if one.get("test_images_seen_in_pretraining")})
    clustered = {(one["test_groups"], one["test"]) for one in data if "test_groups" in one}
    notes += [f"intervals and tests are over {some} groups of {of} test images" for some, of in sorted(clustered)]
    chosen = {(one["select_images_seen_in_fit"], one["select"]) for one in data if one.get("select_images_seen_in_fit")}
    notes += [f"{count} of {of} images of select look like copies of images of fit" for count, of in sorted(chosen)]
    if any(one.get("test_images_seen_in_pretraining", 0) is None for one in data):  # in older records
        notes.append("whether test images are also in the training data is not comparable: their sizes differ")
    made = sorted(records, key=lambda r: (r.created, r.id))
    commits = [*dict.fromkeys(r.code["commit"][:7] for r in made if r.code.get("commit"))]
    if len(commits) > 1:
        shown = ", ".join(commits) if len(commits) <= 3 else f"{commits[0]} to {commits[-1]}"
        notes.append(f"its records were made by {len(commits)} commits of ssbench: {shown}")
    newest: dict[str, int] = {}
    for record in made:
        p = record.spec.pretraining
        newest[p.method] = max(newest.get(p.method, 0), p.version)
    old = {r.spec.pretraining.method for r in made if r.spec.pretraining.version < newest[r.spec.pretraining.method]}
    notes += codes.notes(made, _left_out(group, cells))
    return notes + [f"rows of an older loss beside a newer one: {', '.join(sorted(old))}"] * bool(old)


def _left_out(group: Group, cells: Cells) -> int:
    """How many seeds have no place in their cell, being of other code than the rest of it."""
    shown = {(at, record.spec.pretraining.seed) for at, runs in cells.items() for record in runs}
    done = {
        ((group.line(record), Head.of(record.spec)), record.spec.pretraining.seed)
        for record in group.records
        if record.status == "done"
    }
    return len(done - shown)


def _copies(data: Mapping[str, Any]) -> str:
    """Older records counted equal pixels alone."""
    count, equal = data["test_images_seen_in_pretraining"], data.get("of_them_equal_in_pixels")
    if equal is None or equal == count:
        return f"{count} of {data['test']} test images are also in the training data"
    return f"{count} of {data['test']} test images look like copies of training images ({equal} equal in pixels)"


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


def columns_of(cells: Cells) -> dict[Head, Column]:
    """Columns by task, protocol and settings."""
    heads = sorted({head for _, head in cells})
    made = {}
    for head in heads:
        label = named(other for other in heads if (other.task, other.protocol) == (head.task, head.protocol))[head]
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


def _cell(records: list[Record], column: Column, bold: bool, behind: bool, footnotes: list[str], side: Side) -> Cell:
    """Values of the runs that were done; the others and warnings leave a footnote each, which cells share."""
    done = _done(records)
    values = tuple(record.scores[record.headline].value for record in done)
    found = {record.status for record in records}
    lacking = {_footnote(record, len(found) > 1) for record in records if record.status != "done"}
    warned = {f"seed {r.spec.pretraining.seed}: {r.warning}" for r in done if r.warning}
    warned |= {OLD.format(parts=", ".join(parts)) for r in done if (parts := codes.changed(r))}
    texts = sorted(lacking | warned)
    footnotes += [text for text in texts if text not in footnotes]
    status: Status = next((status for status in STRONGEST if status in found), "missing")
    near = [r.scores[column.beside].value for r in done if column.beside in r.scores]
    notes = tuple(sorted(footnotes.index(text) + 1 for text in texts))
    return Cell(values, status, bold, behind, notes, fmean(near) if near else None, side)


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
