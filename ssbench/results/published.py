"""Rows that others published, beside those measured here: never averaged, each with its protocol. No torch."""

from collections import defaultdict
from collections.abc import Iterable
from csv import DictReader, writer
from io import StringIO
from pathlib import Path
from statistics import fmean

from pydantic import ValidationError, model_validator

from ssbench.errors import UserError
from ssbench.results.exchange import seeds_of
from ssbench.results.grid import Frame, Value
from ssbench.results.naming import digest, slugged
from ssbench.results.record import Record
from ssbench.results.store import Store, write_bytes
from ssbench.results.table import DASH
from ssbench.spec import Frozen

Scores = dict[tuple[str, str], list[float]]  # by budget with recipe, and by what else was set
FILE = "published.csv"
HEADER = ("method", "backbone", "task", "published", "its protocol", "source", "measured here")
NOTE = (
    "published: as its authors have it, by another protocol and on other files; measured here: the mean over seeds of "
    "records of that name, each budget and setting by itself; neither enters the other's mean"
)


class Published(Frozen):
    """One published score; a line of a CSV file with these columns."""

    method: str  # as it is called here, if it is here
    data: str  # the name of the data set, as records have it
    backbone: str
    task: str
    metric: str  # as records call it
    value: float
    unit: str = "%"
    protocol: str  # epochs, batch, how it was chosen and judged
    source: str  # where it stands

    @model_validator(mode="after")
    def _possible(self) -> "Published":
        if self.unit == "%" and not 0 <= self.value <= 100:
            raise ValueError(f"{self.value:g} % is no score; expected 0 to 100, or another unit")
        return self


def read(file: Path) -> list[Published]:
    """The rows of a CSV file; raises UserError naming file and line."""
    try:
        lines = [*DictReader(StringIO(file.read_text("utf-8-sig")), restkey="a column too many")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error.__class__.__name__}; name a CSV file") from None
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(Published.model_validate({key: text for key, text in line.items() if text}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "value"
            said, wanted = first["msg"].lower().removeprefix("value error, "), ", ".join(Published.model_fields)
            raise UserError(f"{file}, line {number}: {where}: {said}; columns: {wanted}") from None
    if not rows:
        raise UserError(f"{file}: no rows; columns: {', '.join(Published.model_fields)}")
    return rows


def add(store: Store, rows: Iterable[Published]) -> list[Published]:
    """Put rows beside those that a results folder has, equal ones once, and give all of them."""
    file = store.folder / FILE
    all_rows = [*dict.fromkeys([*(read(file) if file.exists() else []), *rows])]
    out = StringIO()
    written = writer(out, lineterminator="\n")
    written.writerows([[*Published.model_fields], *([*row.model_dump().values()] for row in all_rows)])
    write_bytes(file, out.getvalue().encode())
    return all_rows


def published(store: Store, records: Iterable[Record]) -> list[Frame]:
    """A frame for each data set of which rows were imported."""
    file = store.folder / FILE
    by_data: dict[str, list[Published]] = defaultdict(list)
    for row in read(file) if file.exists() else []:
        by_data[row.data].append(row)
    measured = _measured(records)
    frames = []
    for data, rows in sorted(by_data.items()):
        rows.sort(key=lambda row: (row.backbone, row.task, row.metric, -row.value, row.method))
        shown = tuple(
            _row(row, measured.get((row.data, row.backbone, row.method, row.task, row.metric), {})) for row in rows
        )
        slug = f"published-{slugged(data)}" + f"-{digest(data)}" * (slugged(data) != data)
        frames.append(Frame(slug, f"{data}: published, and measured here", HEADER, shown, (NOTE,)))
    return frames


def _row(row: Published, here: Scores) -> tuple[Value, ...]:
    to = ".1f" if row.unit == "%" else ".3f"
    ours = "; ".join(f"{fmean(of):{to}} ({how}, {len(of)} seeds)" for (how, _), of in sorted(here.items())) or DASH
    words = (row.method, row.backbone, f"{row.task} {row.metric} {row.unit}")
    return (*map(Value, words), Value(f"{row.value:{to}}", row.value), *map(Value, (row.protocol, row.source, ours)))


def _measured(records: Iterable[Record]) -> dict[tuple[str, str, str, str, str], Scores]:
    """Values by data, backbone, method, task and metric, and by budget, recipe, protocol and settings."""
    found: dict[tuple[str, str, str, str, str], Scores] = defaultdict(lambda: defaultdict(list))
    told = (one for one in records if not (one.spec.trial or one.spec.probe or one.spec.labels or one.spec.test_on))
    for kind, seeds in seeds_of(told).items():
        spec, p = seeds[0].spec, seeds[0].spec.pretraining
        elsewhere = f"pretrained on {p.data.name}" if p.data.name != spec.data.name else ""
        how = ", ".join(filter(None, (p.effort, spec.recipe, elsewhere, f"protocol {spec.protocol}")))
        for metric in seeds[0].scores:
            values = [record.scores[metric].value for record in seeds if metric in record.scores]
            found[spec.data.name, p.backbone, p.method, spec.task, metric][how, kind] = values
    return found
