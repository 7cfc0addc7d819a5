"""Which code records were made by: one for each mean, and what has changed since. No torch.

A recipe's rates are code: `own` says whose they are, and a method may name others tomorrow.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from ssbench import code
from ssbench.results.naming import canonical
from ssbench.results.record import Record
from ssbench.results.store import Store
from ssbench.spec import Spec

UNKNOWN = "{count} of its {all} records hold no digest of their code, being older: today's may score otherwise"
SETTLED = (
    "{count} of its {all} records are of earlier code, which is taken for today's: some of their kind were run again,"
    " on {where}, and the same came out to the bit"
)
LEFT = "{count} of its records are in no mean: they are of other code or rates than those that are beside them"


def changed(record: Record) -> list[str]:
    """The parts of the code that are not what made this record any more; none where that is not known."""
    today = code.now(record.spec) if record.digests else {}
    return [part for part, digest in record.digests.items() if today.get(part, digest) != digest]


Known = tuple[str, str, str]  # part, scope in which running again shows something, digest
Alike = tuple[set[Known], set[str]]  # codes that gave the same, and the devices on which they did


def settled(records: Sequence[Record], known: Iterable[Record] = ()) -> list[Record]:
    """Records with the digests of today's code, where running some again has shown that it gives what theirs gave.

    Those that were run again are looked for among them and `known`: all codes that one of them had count as one, within
    what `scope_of` says. Records that were settled so say `by` which devices.
    """
    old = [record for record in records if changed(record)]
    if not old:
        return [*records]
    alike = _alike(record for record in (*records, *known) if record.earlier)
    made = {one.id: as_today for one in old if not changed(as_today := _as_today(one, alike))}
    return [made.get(record.id, record) for record in records]


def again(store: Store) -> Store:
    """A results folder's `again`, itself one: short runs made to be run again by later code."""
    return Store(store.folder / "again")


def witnesses(store: Store) -> list[Record]:
    """Their records, see `again`."""
    return again(store).all()


def of_store(store: Store) -> list[Record]:
    """Every record of a results folder, as the others there settle it."""
    return settled(store.all(), witnesses(store))


def _as_today(record: Record, alike: Collection[Alike]) -> Record:
    today, digests, by = code.now(record.spec), dict(record.digests), set[str]()
    for part in changed(record):
        scope = scope_of(part, record.spec)
        both = {(part, scope, digests[part]), (part, scope, today[part])}
        for devices in [where for codes, where in alike if both <= codes]:
            digests[part] = today[part]
            by |= devices
    return record.model_copy(update={"digests": digests, "confirmed": {"by": ", ".join(sorted(by))}})


def _alike(again: Iterable[Record]) -> list[Alike]:
    """The codes of each part and scope that gave the same, to the bit, each set of them once, and on which devices."""
    found: list[Alike] = []
    for record in again:
        device = record.environment.get("device", "")
        for part in record.digests:
            scope = scope_of(part, record.spec)
            new = {(part, scope, one[part]) for one in (record.digests, *record.earlier) if part in one}
            near = [one for one in found if one[0] & new]
            whole = new.union(*(codes for codes, _ in near)), {device}.union(*(devices for _, devices in near))
            found = [one for one in found if one not in near] + [whole]
    return found


def scope_of(part: str, spec: Spec) -> str:
    """At what a part of the code was at work: what running it there again shows holds there, whatever the seed.

    Amounts (of a budget, a share, labels, rates) do not tell scopes apart, nor does the device.
    """
    p, train = spec.pretraining, spec.pretraining.train or {}
    ways = [train.get("optimiser"), train.get("scaling"), bool(train.get("weight_decay_end")), bool(train.get("clip"))]
    how = [p.budget and p.budget.unit, bool(p.share), bool(p.init), p.precision, *ways]
    method = [p.owner, p.method, p.version, p.settings, p.backbone, p.backbone_settings, p.preset, *how]
    asked = [
        bool(spec.labels),
        spec.labels.endswith("%"),
        spec.test_on and spec.test_on.digest(),
        bool(spec.trial),
        spec.reading,
    ]
    task = [spec.task_owner, spec.task, spec.protocol, spec.task_settings, *asked]
    data = [p.data.digest(), spec.data.digest(), *task]
    scopes = {"training": method, "method": method, "network": method + task, "data": data}
    return canonical(scopes.get(part, method + task))


def fewest(records: Iterable[Record], runs: Callable[[Record], bool] = lambda record: True) -> list[Record]:
    """Of records whose code has changed few and quick ones that settle the others, if they come out the same again.

    `runs`: whether one can be run at all.
    """
    picked: list[Record] = []
    met: set[Known] = set()
    for one in sorted(records, key=lambda one: (one.costs.pretrain_seconds + one.costs.task_seconds, one.id)):
        left = {(part, scope_of(part, one.spec), one.digests[part]) for part in changed(one)} - met
        if left and runs(one):
            picked.append(one)
            met |= left
    return picked


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
    by_others = [record.confirmed["by"] for record in done if "by" in record.confirmed]
    where = ", ".join(sorted({*by_others}))
    said += [SETTLED.format(count=len(by_others), all=len(done), where=where)] if by_others else []
    return said + ([LEFT.format(count=left)] if left else [])


def _code(record: Record) -> tuple[tuple[str, str], ...]:
    train = record.spec.pretraining.train or {}
    return tuple(sorted((record.digests | {key: str(value) for key, value in train.items()}).items()))
