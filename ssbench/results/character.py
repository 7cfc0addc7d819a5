"""Tables -> what each method learns from, what it costs and what comes out, side by side. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from ssbench.registry import entries
from ssbench.results.grid import Frame, Value
from ssbench.results.record import Record
from ssbench.results.standing import judging
from ssbench.results.table import DASH, SPREAD, Row, Table

LEAST = 3  # methods: fewer are no comparison of kinds
RANK = "rankme"  # every pretraining has it
NOTES = (
    "views: made of each image; time: seconds of training over those of the ceiling, both on one kind of device",
    "RankMe: the effective rank of the embeddings of held-out images (Garrido et al. 2023); no judgement by itself",
    SPREAD,
)


def character(tables: Iterable[Table], records: Iterable[Record]) -> list[Frame]:
    """A frame for each table with LEAST methods or more that were trained: kind, signal, cost, representation."""
    known, methods = {record.id: record for record in records}, entries("methods")
    made = []
    for table in tables:
        runs = {row.name: [known[one] for cell in row.cells for one in cell.ids if one in known] for row in table.rows}
        rows = [row for row in table.rows if runs[row.name] and not row.given]
        trained = {_method(runs[row.name]) for row in rows if row.gflops and not row.control} & methods.keys()
        if len(trained) < LEAST:
            continue
        columns = judging(table)
        ceiling = next((row for row in rows if row.role == "ceiling"), None)
        header = ("method", "kind", "signal", "views", "GFLOPs / image", "time", "RankMe")
        shown = []
        for row in rows:
            entry = methods.get(_method(runs[row.name]))
            words = (row.name, entry.family, entry.summary) if entry else (row.name, DASH, DASH)
            cost = (_views(runs[row.name]), _number(row.gflops), _time(row, ceiling, runs))
            scores = [_score(row, at, table) for at in columns]
            shown.append((*map(Value, words), *cost, _rank(runs[row.name]), *scores))
        heads = (*header, *(table.columns[at].header for at in columns))
        title = f"{table.title}: what methods learn from, cost and give"
        made.append(Frame(f"{table.slug}-methods", title, heads, tuple(shown), NOTES))
    return made


def _method(runs: Sequence[Record]) -> str:
    return runs[0].spec.pretraining.method


def _views(runs: Sequence[Record]) -> Value:
    views = runs[0].costs.views
    return Value(f"{views:g}", views) if views else Value(DASH)


def _number(value: float | None) -> Value:
    return Value(DASH) if value is None else Value(f"{value:.3g}", value)


def _time(row: Row, ceiling: Row | None, runs: Mapping[str, Sequence[Record]]) -> Value:
    """Of two rows that were trained on other machines, or on several, it says nothing."""
    if ceiling is None or not (row.seconds and ceiling.seconds):
        return Value(DASH)
    of = (record.environment for name in (row.name, ceiling.name) for record in runs[name])
    if len({where.get("accelerator", where.get("device")) for where in of}) > 1:
        return Value(DASH)
    return Value(f"{row.seconds / ceiling.seconds:.1f}", row.seconds / ceiling.seconds)


def _rank(runs: Sequence[Record]) -> Value:
    """The mean over seeds; the tasks of one seed share it."""
    ranks = [*{r.spec.pretraining.seed: r.measures[RANK] for r in runs if RANK in r.measures}.values()]
    if not ranks:
        return Value(DASH)
    mean, sd = fmean(ranks), stdev(ranks) if len(ranks) > 1 else None
    return Value(f"{mean:.1f}" + ("" if sd is None else f" ± {sd:.1f}"), mean, sd)


def _score(row: Row, at: int, table: Table) -> Value:
    cell = row.cells[at]
    if cell.mean is None:
        return Value(DASH)
    return Value(table.columns[at].text(cell.mean, cell.sd), cell.mean, cell.sd, cell.bold)
