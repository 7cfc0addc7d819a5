"""Records -> tables of mean ± deviation over seeds. Only what was made under the same conditions shares one. No torch.

A table has one evaluation data set, pretraining data, backbone, budget, recipe and precision; its rows are methods and
then controls, its columns the headlines of tasks. What still differs is shown in brackets, never averaged away.
"""

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean, median, stdev
from typing import Any, Literal, TypeVar

from ssbench.results import stats
from ssbench.results.record import Record, Score
from ssbench.results.store import Store
from ssbench.spec import Pretraining, Spec

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


@dataclass(frozen=True)
class Group:
    """Records that were made under the same conditions: one table's. `label` tells its title from that of another."""

    slug: str
    label: str
    records: tuple[Record, ...]


def build(store: Store, controls: Mapping[str, bool], chosen: Iterable[Record] | None = None) -> list[Table]:
    """Every table that the records give, by slug. `controls` maps a control's name to whether it uses labels.

    `chosen` are the records to compare, else all of the store. Raises UserError on a record or predictions that can't
    be read.
    """
    found = groups(store.all() if chosen is None else chosen)
    return [_table(store, controls, group) for group in found]


def groups(records: Iterable[Record]) -> list[Group]:
    """The records of each table, by slug; of two with the same spec the last one counts."""
    by_slug = defaultdict(list)
    for group in _groups({record.spec.id: record for record in records}.values()):
        by_slug[_slug(group[0].spec)].append(group)
    made = []
    for slug, found in by_slug.items():
        conditions = [_place(group[0].spec) | _recipe(group[0].spec.pretraining) for group in found]
        for group, condition, label in zip(found, conditions, labels(conditions)):
            suffix = f"-{digest(condition)}" if len(found) > 1 else ""
            made.append(Group(slug + suffix, label, tuple(group)))
    return sorted(made, key=lambda group: group.slug)


def _place(spec: Spec) -> dict[str, Any]:
    """The conditions that every row of a table shares, whether it was trained or not."""
    p = spec.pretraining
    return {
        "data": spec.data.name,
        "data.fingerprint": spec.data.fingerprint,
        **_scoped("data", spec.data.settings),
        "pretraining": p.data.name,
        "pretraining.fingerprint": p.data.fingerprint,
        **_scoped("pretraining", p.data.settings),
        "backbone": p.backbone,
        **_scoped("backbone", p.backbone_settings),
        "precision": p.precision,
    }


def _recipe(p: Pretraining) -> dict[str, Any]:
    """The conditions of those that were trained."""
    budget = p.budget and f"{p.budget.unit}={p.budget.amount!r}"
    return {"budget": budget, **_scoped("train", p.train or {})}


def _scoped(scope: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{scope}.{key}": value for key, value in values.items()}


def canonical(value: Any) -> str:
    """One spelling for one value that JSON has."""
    return json.dumps(value, sort_keys=True)


def digest(value: Any) -> str:
    """Six hexadecimal digits that tell slugs apart."""
    return sha256(canonical(value).encode()).hexdigest()[:6]


def slugged(text: str) -> str:
    """Lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:150].strip("-")  # it becomes a file's name


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Records of one table each. What was not trained has no budget and stands in every table of its place."""
    trained: dict[tuple[str, str], list[Record]] = defaultdict(list)
    untrained: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        p, place = record.spec.pretraining, canonical(_place(record.spec))
        if p.budget is None:
            untrained[place].append(record)
        else:
            trained[place, canonical(_recipe(p))].append(record)
    places = {place for place, _ in trained}
    alone = [group for place, group in untrained.items() if place not in places]
    return [group + untrained.get(place, []) for (place, _), group in trained.items()] + alone


def _slug(spec: Spec) -> str:
    p = spec.pretraining
    source = f" from {p.data.name}" if p.data != spec.data else ""
    return slugged(f"{spec.data.name} {p.backbone} {p.budget or 'untrained'}{source}")


def differing(variants: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys that every variant has and in which they are not all alike, by name."""
    found = [*variants]
    shared = sorted(set.intersection(*({*variant} for variant in found))) if found else []
    return [key for key in shared if len({canonical(variant[key]) for variant in found}) > 1]


def labels(variants: list[dict[str, Any]]) -> list[str]:
    """` [key=value, ...]` for each variant, with what tells it from the others. Empty when there is one.

    The keys that all have and that differ do where they can: what only some have follows from those as a rule. Else
    each shows every key that is not alike in all, but none that it lacks; the last resort names that too, as unset.
    """
    known = sorted({key for variant in variants for key in variant})
    unlike = [key for key in known if len({canonical(variant.get(key)) for variant in variants}) > 1]
    shared = differing(variants)
    tries = (
        [[f"{key}={variant[key]}" for key in shared] for variant in variants],
        [[f"{key}={variant[key]}" for key in unlike if key in variant] for variant in variants],
        [[f"{key}={variant.get(key, 'unset')}" for key in unlike] for variant in variants],
    )
    texts = [[", ".join(parts) for parts in one] for one in tries]
    best = next((one for one in texts if len({*one}) == len(one)), texts[-1])
    return [f" [{text}]" if text else "" for text in best]


def settings_of(record: Record) -> dict[str, Any]:
    """What tells a row from another one of the same method."""
    p = record.spec.pretraining
    return {**p.settings, "loss version": p.version, "owner": p.owner}


def _task(record: Record) -> dict[str, Any]:
    return {**record.spec.task_settings, "owner": record.spec.task_owner}


def named(variants: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Key -> label, for the variants of one method or task, in the order of their keys."""
    keys = sorted(variants)
    return dict(zip(keys, labels([variants[key] for key in keys])))


Line = tuple[str, str]  # a row: method and key of its settings
Head = tuple[str, int, str]  # a column: task, protocol and key of its settings
Cells = dict[tuple[Line, Head], list[Record]]  # in the order of seeds


def line_of(record: Record) -> Line:
    """The row that a record belongs to."""
    return record.spec.pretraining.method, canonical(settings_of(record))


def _head(record: Record) -> Head:
    return record.spec.task, record.spec.protocol, canonical(_task(record))


def arrange(records: Iterable[Record]) -> Cells:
    """The records of one table by row and column."""
    cells: Cells = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.spec.pretraining.seed, r.spec.id)):
        cells[line_of(record), _head(record)].append(record)
    return cells


def _table(store: Store, controls: Mapping[str, bool], group: Group) -> Table:
    cells = arrange(group.records)
    columns = columns_of(cells)
    bold = {(_leader(store, controls, cells, head, column), head) for head, column in columns.items()}
    footnotes: list[str] = []
    rows = []
    for line, name in lines_of({line for line, _ in cells}, controls):
        made = tuple(_cell(cells.get((line, head), []), (line, head) in bold, footnotes) for head in columns)
        runs = [record for head in columns for record in cells.get((line, head), [])]
        rows.append(Row(name, line[0] in controls, made, *_costs(runs)))
    title = heading(group, _seeds(rows))
    return Table(group.slug, title, (*columns.values(),), tuple(rows), (BOLD, SPREAD), tuple(footnotes))


def heading(group: Group, seeds: list[int]) -> str:
    """`shapes, vit-nano, samples=64000, 3 seeds`, from the numbers of seeds by size; none: the conditions alone."""
    return _title(group.records[0].spec, seeds) + group.label


def _title(spec: Spec, seeds: list[int]) -> str:
    p = spec.pretraining
    source = f"pretrained on {p.data.name}" if p.data != spec.data else ""
    span = " to ".join(str(count) for count in sorted({*seeds[:1], *seeds[-1:]}))
    count = f"{span} seed{'s' * (seeds[-1] > 1)}" if seeds else ""
    return ", ".join(part for part in (spec.data.name, source, p.backbone, str(p.budget or "untrained"), count) if part)


def lines_of(lines: Iterable[Line], controls: Mapping[str, bool]) -> Iterable[tuple[Line, str]]:
    """Rows and what they are called: methods by name, then every control, run or not."""
    variants: dict[str, dict[str, Any]] = defaultdict(dict)
    for method, key in lines:
        variants[method][key] = json.loads(key)
    for method in (*sorted(variants.keys() - controls.keys()), *controls):
        for key, label in named(variants.get(method, {"": {}})).items():
            yield (method, key), method + label


def columns_of(cells: Cells) -> dict[Head, Column]:
    """Columns by task, protocol and settings."""
    heads = sorted({head for _, head in cells})
    made = {}
    for head in heads:
        task, protocol, key = head
        label = named({other[2]: json.loads(other[2]) for other in heads if other[:2] == head[:2]})[key]
        done = [r for (_, at), runs in cells.items() if at == head for r in runs if r.status == "done"]
        metric = done[0].headline if done else ""
        made[head] = Column(task + label, protocol, metric, done[0].scores[metric] if done else None)
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
    runs = {line: records for (line, at), records in cells.items() if at == head and not controls.get(line[0], False)}
    known = {line[0] for line, records in runs.items() if any(r.status != "failed" for r in records)}
    if any(not labels and name not in known for name, labels in controls.items()):
        return None
    done = {line: [r for r in records if r.status == "done"] for line, records in runs.items()}
    return leader(store, column, done, {line for line in done if line[0] in controls})


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
