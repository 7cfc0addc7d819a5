"""Records run again under today's code: what comes out the same is confirmed, what does not is shown."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from ssbench.data import EMBEDDED, identify
from ssbench.data.sources.shapes import GRADES
from ssbench.data.splits import VERSION
from ssbench.data.suspicion import NAMES
from ssbench.errors import UserError
from ssbench.plan import Cell
from ssbench.registry import Entry, find, load
from ssbench.results.codes import changed, fewest, settled, witnesses
from ssbench.results.record import Record, seals
from ssbench.results.store import Store
from ssbench.settings import make
from ssbench.spec import DataRef, DataSettings

DRAWN = ("digits", *(f"shapes:{grade}" for grade in GRADES))


@dataclass(frozen=True)
class Again:
    """What came of running a record again."""

    record: Record
    verdict: Literal["confirmed", "differs", "not run"]
    said: str = ""


def pick(store: Store, stale: bool, sample: int) -> list[Record]:
    """Records that were done; `stale`: of code that has changed or is not known, and not settled by others (`codes`).

    `sample`: so many, by the id's hash.
    """
    found = [one for one, known in _known(store) if not stale or not one.digests or changed(known)]
    if sample:
        found = sorted(found, key=lambda one: sha256(one.id.encode()).digest())[:sample]
    return _together(found)


def few(store: Store, sources: Sequence[str], plugins: tuple[str, ...], device: str) -> list[Record]:
    """Of records whose code has changed few that settle the others, out of what can be run on this device."""

    from ssbench.workshop import device as find_device

    def runs(record: Record) -> bool:
        with suppress(UserError):
            return bool(_cell(record, sources, plugins))
        return False

    here = find_device(device).type
    left = [one for one, known in _known(store) if changed(known) and one.environment.get("device") == here]
    return _together(fewest(left, runs))


def _known(store: Store) -> list[tuple[Record, Record]]:
    """What was done, and each as what has been run again settles it."""
    done = [one for one in store.all() if one.status == "done"]
    return [*zip(done, settled(done, witnesses(store)))]


def _together(records: Iterable[Record]) -> list[Record]:
    """Those of one pretraining in a row."""
    return sorted(records, key=lambda one: (one.spec.pretraining.digest(), one.spec.id))


def reproduce(
    store: Store, records: Sequence[Record], sources: Sequence[str], plugins: tuple[str, ...], device: str
) -> Iterator[Again]:
    """Run each record's cell again, from nothing, and compare scores and predictions; a confirmed one is written.

    `sources` are where data is that is not drawn. What can't be run, such as for its data, says why.
    """
    from ssbench.line import execute
    from ssbench.workshop import Workshop
    from ssbench.workshop import device as find_device

    with TemporaryDirectory() as folder:  # nothing that is cached is taken for a result
        shop = Workshop(Store(Path(folder)), find_device(device))
        for record in records:
            try:
                (one,) = execute([_cell(record, sources, plugins)], shop)
            except UserError as error:
                yield Again(record, "not run", str(error))
                continue
            yield _compared(store, record, shop.store, shop.store.read(shop.store.file(one.spec)))


def _cell(record: Record, sources: Sequence[str], plugins: tuple[str, ...]) -> Cell:
    """Raises UserError where today's code can't run it."""
    spec, p = record.spec, record.spec.pretraining
    method, task = find("methods", p.method, plugins), find("tasks", spec.task, plugins)
    _same_version(p.method, "version", p.version, method)
    for part in method.members:
        _same_version(part.name, "version", p.settings["parts"][part.name]["version"], part)
    _same_version(spec.task, "protocol", spec.protocol, task)
    if p.init or ":" in p.backbone:
        raise UserError(f"{p.backbone} came with its weights; judge it again with ssbench run --encoder and --rerun")
    where, origin = (_source(ref, tuple(sources)) for ref in (spec.data, p.data))
    other = _source(spec.test_on, tuple(sources)) if spec.test_on else ""
    read = {"allow": NAMES, "on_bad_image": "skip"}  # what it was read with is in no identity, and it was read
    return Cell(spec, method, task, where, origin, _settings(spec.data).model_copy(update=read), test_on=other)


def _same_version(name: str, what: str, was: int, entry: Entry) -> None:
    if (now := int(load(entry).version)) != was:
        raise UserError(f"it is of {what} {was} of {name}, and today's is {now}")


def _settings(ref: DataRef) -> DataSettings:
    """Of drawn data the size alone: the rest of its identity is older than settings."""
    kept = ref.settings if ref.version > 1 else {"image_size": ref.settings.get("image_size", 0)}
    return make(DataSettings, kept, "data")


def _source(ref: DataRef, sources: tuple[str, ...]) -> str:
    wrong = ""
    for source in (*DRAWN, *sources):
        try:
            found = _identified(source, _settings(ref).model_dump_json())
        except UserError as error:  # with this record's settings: another source may be the one
            wrong = f" ({error})"
            continue
        if (found.name, found.fingerprint) == (ref.name, ref.fingerprint):
            if source.partition(":")[0] not in EMBEDDED and ref.version != VERSION:
                raise UserError(f"{ref.name} was read by rules of version {ref.version}, and today's are {VERSION}")
            return source
    raise UserError(f"{ref.name} of this content is not at hand; say where it is with --dataset{wrong}")


@cache
def _identified(source: str, settings: str) -> DataRef:
    return identify(source, DataSettings.model_validate_json(settings))


def _compared(store: Store, record: Record, other: Store, made: Record) -> Again:
    if seals(record) != record.seals:
        return Again(record, "differs", "it is not what was written; see ssbench verify")
    if made.status != "done":
        return Again(record, "differs", f"{made.status} now: {made.reason}")
    said = []
    for name in sorted(record.scores.keys() | made.scores.keys()):
        if name not in record.scores or name not in made.scores:
            said.append(f"{name} is {'new' if name in made.scores else 'not there any more'}")
            continue
        was, now = record.scores[name].value, made.scores[name].value
        try:
            one, two = store.arrays(record, name), other.arrays(made, name)
        except UserError as error:
            return Again(record, "differs", str(error))
        unlike = [key for key in sorted({*one, *two}) if not (key in one and key in two and _equal(one[key], two[key]))]
        if unlike or was != now:
            said.append(f"{name} {was:g} -> {now:g}" + f" ({', '.join(unlike)} differ)" * bool(unlike))
    if said:
        other_world = [
            f"{key} {was} -> {made.environment.get(key, 'none')}"
            for key, was in record.environment.items()
            if made.environment.get(key) != was
        ]
        return Again(record, "differs", "; ".join(said + other_world))
    confirmed = {"created": made.created, **made.code}
    earlier = [one for one in (*record.earlier, record.digests) if one and one != made.digests]
    store.update(record.model_copy(update={"digests": made.digests, "confirmed": confirmed, "earlier": earlier}))
    return Again(record, "confirmed", "")


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    return one.dtype == two.dtype and bool(np.array_equal(one, two, equal_nan=one.dtype.kind == "f"))
