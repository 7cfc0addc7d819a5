"""Which code records were made by: one for each mean, and what has changed since. No torch.

A recipe's rates are code: `own` says whose they are, and a method may name others tomorrow.
"""

from collections.abc import Collection, Sequence

from ssbench import code
from ssbench.results.record import Record

UNKNOWN = "{count} of its {all} records hold no digest of their code, being older: today's may score otherwise"
LEFT = "{count} of its records are in no mean: they are of other code or rates than those that are beside them"


def changed(record: Record) -> list[str]:
    """The parts of the code that are not what made this record any more; none where that is not known."""
    today = code.now(record.spec) if record.digests else {}
    return [part for part, digest in record.digests.items() if today.get(part, digest) != digest]


def of_one_code(records: Sequence[Record]) -> list[Record]:
    """The records of a cell that a mean may have: those of today's code where there are, else of the latest code.

    Records that were not done follow from no code.
    """
    done = [record for record in records if record.status == "done"]
    if len({_code(record) for record in done}) < 2:
        return [*records]
    known = [record for record in done if record.digests and not changed(record)]
    kept = _code(max(known or done, key=lambda record: (record.created, record.id)))
    return [record for record in records if record.status != "done" or _code(record) == kept]


def for_a_mean(records: Sequence[Record]) -> list[Record]:
    """Those of one code, the first of each seed."""
    found: dict[int, Record] = {}
    for record in of_one_code(records):
        found.setdefault(record.spec.pretraining.seed, record)
    return [*found.values()]


def notes(records: Collection[Record], left: int) -> list[str]:
    """What a table says of the code of its records, of which so many are `left` out of its means for theirs."""
    done = [record for record in records if record.status == "done"]
    unknown = sum(not record.digests for record in done)
    said = [UNKNOWN.format(count=unknown, all=len(done))] if unknown else []
    return said + ([LEFT.format(count=left)] if left else [])


def _code(record: Record) -> tuple[tuple[str, str], ...]:
    train = record.spec.pretraining.train or {}
    return tuple(sorted((record.digests | {key: str(value) for key, value in train.items()}).items()))
