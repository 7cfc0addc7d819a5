"""Records -> tables of mean ± deviation over seeds. Only what was made under the same conditions shares one. No torch.

A table has one evaluation data set, pretraining data, backbone, budget, recipe and precision; its rows are methods and
then controls, its columns the headlines of tasks. What still differs is shown in brackets, never averaged away.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean, median, stdev
from typing import Any, Literal

from ssbench import stats
from ssbench.record import Record, Score
from ssbench.spec import Pretraining, Spec
from ssbench.store import Store

Status = Literal["done", "not-applicable", "failed", "missing"]
STRONGEST: tuple[Status, ...] = ("done", "failed", "not-applicable")  # which one a cell of several runs shows
BOLD = "bold: ahead of every other row without labels, paired bootstrap over test samples and pooled sd over seeds"
SPREAD = "±: sample standard deviation over seeds"


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
    records = {record.spec.id: record for record in (store.all() if chosen is None else chosen)}
    by_slug = defaultdict(list)
    for group in _groups(records.values()):
        by_slug[_slug(group[0].spec)].append(group)
    tables = []
    for slug, groups in by_slug.items():
        conditions = [_place(group[0].spec) | _recipe(group[0].spec.pretraining) for group in groups]
        for group, condition, label in zip(groups, conditions, _labels(conditions)):
            suffix = f"-{sha256(_key(condition).encode()).hexdigest()[:6]}" if len(groups) > 1 else ""
            tables.append(_table(store, controls, group, slug + suffix, label))
    return sorted(tables, key=lambda table: table.slug)


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


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Records of one table each. What was not trained has no budget and stands in every table of its place."""
    trained: dict[tuple[str, str], list[Record]] = defaultdict(list)
    untrained: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        p, place = record.spec.pretraining, _key(_place(record.spec))
        if p.budget is None:
            untrained[place].append(record)
        else:
            trained[place, _key(_recipe(p))].append(record)
    places = {place for place, _ in trained}
    alone = [group for place, group in untrained.items() if place not in places]
    return [group + untrained.get(place, []) for (place, _), group in trained.items()] + alone


def _slug(spec: Spec) -> str:
    p = spec.pretraining
    source = f" from {p.data.name}" if p.data != spec.data else ""
    return re.sub(r"[^a-z0-9]+", "-", f"{spec.data.name} {p.backbone} {p.budget or 'untrained'}{source}".lower()).strip(
        "-"
    )


def _labels(variants: list[dict[str, Any]]) -> list[str]:
    """` [key=value, ...]` for each variant: the keys in which they are not all alike. Empty when there is one."""
    keys = sorted({key for variant in variants for key in variant})
    differing = [key for key in keys if len({_key(variant.get(key)) for variant in variants}) > 1]
    texts = [", ".join(f"{key}={variant.get(key, 'unset')}" for key in differing) for variant in variants]
    return [f" [{text}]" if text else "" for text in texts]


def _method(record: Record) -> dict[str, Any]:
    p = record.spec.pretraining
    return {**p.settings, "loss version": p.version, "owner": p.owner}


def _task(record: Record) -> dict[str, Any]:
    return {**record.spec.task_settings, "owner": record.spec.task_owner}


def _named(variants: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Key -> label, for the variants of one method or task, in the order of their keys."""
    keys = sorted(variants)
    return dict(zip(keys, _labels([variants[key] for key in keys])))


Line = tuple[str, str]  # a row: method and key of its settings
Head = tuple[str, int, str]  # a column: task, protocol and key of its settings
Cells = dict[tuple[Line, Head], list[Record]]  # in the order of seeds


def _line(record: Record) -> Line:
    return record.spec.pretraining.method, _key(_method(record))


def _head(record: Record) -> Head:
    return record.spec.task, record.spec.protocol, _key(_task(record))


def _table(store: Store, controls: Mapping[str, bool], group: list[Record], slug: str, label: str) -> Table:
    cells: Cells = defaultdict(list)
    for record in sorted(group, key=lambda r: r.spec.pretraining.seed):
        cells[_line(record), _head(record)].append(record)
    heads = sorted({head for _, head in cells})
    columns = tuple(_columns(cells, heads))
    bold = {(_leader(store, controls, cells, head, column), head) for head, column in zip(heads, columns)}
    footnotes: list[str] = []
    rows = []
    for line, name in _lines(cells, controls):
        made = tuple(_cell(cells.get((line, head), []), (line, head) in bold, footnotes) for head in heads)
        runs = [record for head in heads for record in cells.get((line, head), [])]
        rows.append(Row(name, line[0] in controls, made, *_costs(runs)))
    title = _title(group[0].spec, _seeds(rows)) + label
    return Table(slug, title, columns, tuple(rows), (BOLD, SPREAD), tuple(footnotes))


def _title(spec: Spec, seeds: list[int]) -> str:
    p = spec.pretraining
    source = f"pretrained on {p.data.name}" if p.data != spec.data else ""
    span = " to ".join(str(count) for count in sorted({*seeds[:1], *seeds[-1:]}))
    count = f"{span} seed{'s' * (seeds[-1] > 1)}" if seeds else ""
    return ", ".join(part for part in (spec.data.name, source, p.backbone, str(p.budget or "untrained"), count) if part)


def _lines(cells: Cells, controls: Mapping[str, bool]) -> Iterable[tuple[Line, str]]:
    """Rows and what they are called: methods by name, then every control, run or not."""
    variants: dict[str, dict[str, Any]] = defaultdict(dict)
    for method, key in {line for line, _ in cells}:
        variants[method][key] = json.loads(key)
    for method in (*sorted(variants.keys() - controls.keys()), *controls):
        for key, label in _named(variants.get(method, {"": {}})).items():
            yield (method, key), method + label


def _columns(cells: Cells, heads: list[Head]) -> Iterable[Column]:
    for head in heads:
        task, protocol, key = head
        label = _named({other[2]: json.loads(other[2]) for other in heads if other[:2] == head[:2]})[key]
        done = [r for (_, at), runs in cells.items() if at == head for r in runs if r.status == "done"]
        metric = done[0].headline if done else ""
        yield Column(task + label, protocol, metric, done[0].scores[metric] if done else None)


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
    kind, better = column.score.kind, column.score.better
    runs = {line: records for (line, at), records in cells.items() if at == head and not controls.get(line[0], False)}
    known = {line[0] for line, records in runs.items() if any(r.status != "failed" for r in records)}
    if any(not labels and name not in known for name, labels in controls.items()):
        return None
    done = {line: [r for r in records if r.status == "done"] for line, records in runs.items()}
    means = {line: fmean(r.scores[column.metric].value for r in records) for line, records in done.items() if records}
    order = sorted(means, key=lambda line: means[line], reverse=better == "higher")
    best = next((line for line in order if line[0] not in controls), None)
    rivals = [line for line in order if line != best]  # the hardest to beat first
    if best is None or not rivals:
        return None
    arrays = [store.arrays(record, column.metric) for record in done[best]]
    others = ([store.arrays(record, column.metric) for record in done[line]] for line in rivals)
    return best if all(stats.ahead(kind, better, arrays, other).real for other in others) else None
