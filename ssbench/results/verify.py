"""What follows from something else, made again: identities, seals, scores, intervals, tables, the README. No torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from math import isclose
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from types import MappingProxyType
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from ssbench.errors import UserError
from ssbench.results import metrics, render
from ssbench.results.bootstrap import Arrays, intervals, units
from ssbench.results.metrics import Array
from ssbench.results.record import SCHEMA, Record, Score, seals
from ssbench.results.store import Store, schema

PART = 250  # records that one process checks before it takes others
AT_ONCE = 4_000_000  # numbers that are resampled together, 32 MB
CLOSE = 1e-9  # relative; another machine's sums differ in their last digits


class Finding(NamedTuple):
    """What is not as it should be, and where."""

    file: Path
    key: str  # of a record, such as scores.top1.value; empty: the file as a whole
    said: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key + ': ' * bool(self.key)}{self.said}"


class Pending(NamedTuple):
    """A score whose interval is still to be made, and its statistics a unit of resampling, (U, k)."""

    file: Path
    name: str
    score: Score
    statistics: Array


def check_records(store: Store) -> Iterator[Finding]:
    """Of every record: its name, its identity, its fields' seals, the digest of its predictions, its scores."""
    files = store.files()
    parts = [files[at : at + PART] for at in range(0, len(files), PART)]
    if len(parts) > 1:
        count, apart = min(cpu_count() or 1, len(parts)), get_context("spawn")
        # an interrupt is the first process's to tell
        with ProcessPoolExecutor(count, apart, initializer=signal, initargs=(SIGINT, SIG_IGN)) as pool:
            for found in pool.map(_checked, repeat(store.folder), parts):
                yield from found
    else:
        yield from _checked(store.folder, files)
    named = {file.with_suffix(".npz").name for file in files}
    for left in sorted({one.name for one in store.records.glob("*.npz")} - named):
        yield Finding(store.records / left, "", "predictions of no record")


def _checked(folder: Path, files: Sequence[Path]) -> list[Finding]:
    """What is wrong with some records, on one thread."""
    store, made = Store(folder), list[Finding]()
    waiting: dict[int, list[Pending]] = {}  # by their number of units
    with threadpool_limits(1):
        for file in files:
            try:
                record, version = store.read(file), schema(file)
            except (UserError, OSError) as error:
                made.append(Finding(file, "", str(error).removeprefix(f"{file} ")))
                continue
            if version < SCHEMA:
                made.append(Finding(file, "schema_version", f"{version} is not {SCHEMA}; ssbench migrate writes it"))
                continue
            made += _itself(store, file, record)
            for one in _scores(store, file, record):
                if isinstance(one, Finding):
                    made.append(one)
                    continue
                alike = waiting.setdefault(len(one.statistics), [])
                alike.append(one)
                if sum(each.statistics.size for each in alike) >= AT_ONCE:
                    made += _intervals(waiting.pop(len(one.statistics)))
        return made + [one for found in waiting.values() for one in _intervals(found)]


def check_tables(
    store: Store, tables: Sequence[render.Shown], pages: Mapping[Path, str] = MappingProxyType({})
) -> Iterator[Finding]:
    """Of every table file, and of the tables in Markdown files: whether it is what the records give, to the byte."""
    made = render.files(tables)
    for name, content in made.items():
        file = store.tables / name
        if not file.is_file():
            yield Finding(file, "", "is not there")
        elif (found := file.read_bytes()) != content:
            yield Finding(file, "", _unlike(found, content))
    yield from (Finding(store.tables / name, "", "no record stands behind it") for name in render.stray(store, made))
    for page, text in pages.items():
        try:
            wanted = render.readme(text, tables)
        except UserError as error:
            yield Finding(page, "", str(error))
            continue
        if not render.MARKER.search(text):
            yield Finding(page, "", "has no <!-- table:NAME --> marks")
        elif text != wanted:
            yield Finding(page, "", _unlike(text.encode(), wanted.encode()))


def _itself(store: Store, file: Path, record: Record) -> Iterator[Finding]:
    if record.id != record.spec.id:
        yield Finding(file, "id", f"{record.id} is not {record.spec.id}, which follows from the spec")
    if store.file(record.spec) != file:
        yield Finding(file, "", f"should be called {store.file(record.spec).name}, after its spec")
    today = seals(record)
    for name in sorted(today.keys() | record.seals.keys()):
        if today.get(name) != record.seals.get(name):
            yield Finding(file, name, "is not what was written")


def _scores(store: Store, file: Path, record: Record) -> Iterator[Finding | Pending]:
    """What follows from the predictions: values and floors here, intervals later, many at once."""
    if record.status != "done":
        return
    if record.headline not in record.scores:
        yield Finding(file, "headline", f"{record.headline} has no score")
    try:
        predictions = store.predictions(record, record.scores)
    except UserError as error:
        yield Finding(file, "predictions_sha256", str(error))
        return
    for name, score in record.scores.items():
        if not (arrays := predictions[name]):
            yield Finding(file, f"scores.{name}", "there are no predictions of it")
            continue
        try:
            again, statistics = _again(score, arrays), units(score.kind, arrays)
        except (LookupError, ValueError):
            yield Finding(file, f"scores.{name}.kind", f"its predictions are not those of {score.kind}")
            continue
        yield from _compared(file, f"scores.{name}", score, again)
        yield Pending(file, name, score, statistics)


def _again(score: Score, arrays: Arrays) -> dict[str, float | None]:
    made: dict[str, float | None] = {"value": metrics.score(score.kind, arrays)}
    made["samples"] = len(next(iter(arrays.values())))
    return made | ({"floor": metrics.floor(score.kind, arrays)} if score.floor is not None else {})


def _intervals(found: list[Pending]) -> Iterator[Finding]:
    ends = intervals([(one.score.kind, one.statistics) for one in found])
    for one, (low, high) in zip(found, ends):
        again = {"low": float(low), "high": float(high)}
        yield from _compared(one.file, f"scores.{one.name}", one.score, again, "; ssbench migrate writes it")


def _compared(
    file: Path, key: str, score: Score, again: Mapping[str, float | None], cure: str = ""
) -> Iterator[Finding]:
    for name, value in again.items():
        said = getattr(score, name)
        if value is None or not close(said, value):
            yield Finding(file, f"{key}.{name}", f"{said} is not {value}, which follows from the predictions{cure}")


def close(said: float, value: float) -> bool:
    """Whether they are one number, but for how it was summed."""
    return isclose(said, value, rel_tol=CLOSE, abs_tol=CLOSE)


def _unlike(found: bytes, wanted: bytes) -> str:
    lines = zip([*found.splitlines(), b""], [*wanted.splitlines(), b""])
    at = next((number for number, (one, other) in enumerate(lines, 1) if one != other), None)
    return f"line {at} is not what the records give" if at else "its lines end otherwise than what the records give"


def listed(findings: Iterable[Finding]) -> list[str]:
    """By file, once each."""
    return [str(one) for one in sorted({*findings})]
