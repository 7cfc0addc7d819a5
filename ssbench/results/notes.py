"""What stands under a table besides marks: how far chance goes, what it could see, what its records are. No torch."""

from collections.abc import Mapping, Sequence
from math import comb
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ssbench.results import codes, metrics
from ssbench.results.groups import DIAGNOSTICS, Cells, Group, Head, Line
from ssbench.results.precision import precision
from ssbench.results.stats import SEEDS, Side
from ssbench.results.store import Store

if TYPE_CHECKING:
    from ssbench.results.table import Column, Row

FEW = 5  # groups of test images: with fewer, intervals are wide and tests tell little
BAND = 10  # untrained networks that show how far chance goes
NOISE = "noise: in"  # how the note on columns begins in which nothing trained is above them
MACHINES = "seconds of one do not compare with the other's"


def band(rows: "Sequence[Row]", columns: Mapping[Head, "Column"], names: Mapping[Head, str]) -> list[str]:
    """Where untrained networks lie, if many were judged, and the columns in which nothing trained is above them all."""
    untrained = [row for row in rows if row.role == "floor" and row.parameters and not row.given]
    trained = [row for row in rows if not (row.control or row.labels or row.given)]
    spans, noise, most, few = [], [], 0, set[int]()
    for at, (head, column) in enumerate(columns.items()):
        found = max((row.cells[at].runs for row in untrained), key=len, default={})
        if len(found) < BAND or column.score is None:
            few |= {len(found)} if found else set()
            continue
        most, sign = max(most, len(found)), 1 if column.score.better == "higher" else -1
        low, high = (end(run.value for run in found.values()) for end in (min, max))
        spans.append(f"{names[head]} {' to '.join(column.text(sign * one, None) for one in (low, high)[::sign])}")
        means = [sign * mean for row in trained if (mean := row.cells[at].mean) is not None]
        noise += [names[head]] * (bool(means) and max(means) <= high)
    notes = [f"{most} untrained networks have: {', '.join(spans)}"] if spans else []
    if few and not spans:
        said = f"{max(few)} untrained network{'s' * (max(few) > 1)}"
        notes = [f"how far chance goes is not known from {said}: --untrained-seeds {BAND} judges more, cheaply"]
    where = ", ".join(noise)
    return notes + [
        f"{NOISE} {where} no row that is trained without labels is above the best of {most} untrained networks"
    ] * bool(noise)


def fineness(
    group: Group,
    columns: Mapping[Head, "Column"],
    names: Mapping[Head, str],
    judged: Mapping[Head, Mapping[Line, Side]],
) -> list[str]:
    """What a score's deviation is made of, and the smallest difference that each column could have seen."""
    probed, parts, least = group.probed(), [], []
    pairs = _pairs(group, judged)
    for head, column in columns.items():
        again = [[run.scores[column.metric].value for run in runs] for runs in probed.get(head, []) if len(runs) > 1]
        one = precision([*judged[head].values()], again, pairs)
        if one is None:
            continue

        def text(value: float, column: "Column" = column) -> str:
            return column.text(value, None)

        probes = "" if one.probes is None else f"{text(one.probes)} over probe seeds, "
        parts.append(f"{names[head]} {text(one.seeds)} over seeds, {probes}{text(one.samples)} over test samples")
        more = f"{one.halving} seeds" if one.halving else "more test samples, not seeds,"
        seen = f"{text(one.least)} / {text(one.among)}" if pairs > 1 else text(one.least)
        least.append(f"{names[head]} {seen} with {one.count} seeds ({more} would halve the first)")
    if not parts:
        return []
    among = f" / as the first of all {pairs} pairs of the table" * (pairs > 1)
    return [
        f"standard deviation of one run's score: {'; '.join(parts)}",
        *_shared(judged, columns, names),
        f"smallest difference of two rows that is seen in 4 of 5 cases by one test at 5 %{among}: {'; '.join(least)}",
    ]


def _pairs(group: Group, judged: Mapping[Head, Mapping[Line, Side]]) -> int:
    """How many pairs the letters correct for: of rows without labels, in the columns that judge."""
    labelled = {line for (line, _), runs in group.cells.items() if any(run.supervised for run in runs)}
    rows = [of for head, of in judged.items() if head.task != DIAGNOSTICS]
    tried = (sum(len(side) >= SEEDS for line, side in of.items() if line not in labelled) for of in rows)
    return max(sum(comb(count, 2) for count in tried), 1)


def _shared(
    judged: Mapping[Head, Mapping[Line, Side]], columns: Mapping[Head, "Column"], names: Mapping[Head, str]
) -> list[str]:
    """How much the rows of a column say of one another's variance over seeds."""
    found = {
        names[head]: next((prior for side in judged[head].values() if (prior := getattr(side, "prior", None))), None)
        for head in columns
    }
    said = ", ".join(f"{name} {prior.freedom:.2g}" for name, prior in found.items() if prior)
    what = "in tests a row's variance over seeds counts together with its column's, worth so many degrees of freedom"
    return [f"{what}: {said}"] * bool(said)


def optimism(group: Group, columns: Mapping[Head, "Column"], names: Mapping[Head, str]) -> list[str]:
    """What choosing on the test split would have added, of tasks that say it."""
    found = {
        names[head]: column.text(fmean(run.details["optimism"] for run in runs), None)
        for head, column in columns.items()
        if (runs := [r for (_, at), of in group.cells.items() if at == head for r in of if "optimism" in r.details])
    }
    said = ", ".join(f"{name} {of}" for name, of in found.items())
    return [f"a choice on the test split instead of select would have added, on average: {said}"] * bool(found)


def told(
    store: Store,
    group: Group,
    cells: Cells,
    columns: Mapping[Head, "Column"],
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
    notes += sorted({_copies(one) for one in data})
    if any(record.spec.pretraining.init and record.spec.pretraining.budget is None for record in records):
        notes.append("not looked: whether encoders that came with weights have seen test images")
    clustered = {(one["test_groups"], one["test"]) for one in data if "test_groups" in one}
    for some, of in sorted(clustered):
        little = "; so few leave most open, and a single one all" * (some < FEW)
        notes.append(f"intervals and tests are over {some} groups of {of} test images{little}")
    chosen = {(one["select_images_seen_in_fit"], one["select"]) for one in data if one.get("select_images_seen_in_fit")}
    notes += [f"{count} of {of} images of select look like copies of images of fit" for count, of in sorted(chosen)]
    made = sorted(records, key=lambda r: (r.created, r.id))
    commits = [*dict.fromkeys(r.code["commit"][:7] for r in made if r.code.get("commit"))]
    if len(commits) > 1:
        shown = ", ".join(commits) if len(commits) <= 3 else f"{commits[0]} to {commits[-1]}"
        notes.append(f"its records were made by {len(commits)} commits of ssbench: {shown}")
    where = dict.fromkeys(r.environment.get("accelerator", r.environment.get("device", "")) for r in made)
    if len(machines := [one for one in where if one]) > 1:
        notes.append(f"its records were made on {', '.join(machines)}: {MACHINES}")
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
    """What a record knows of test images in the training data; older ones looked for equal pixels alone."""
    count, equal = data.get("test_images_seen_in_pretraining"), data.get("of_them_equal_in_pixels")
    if count is None:
        return "not looked: whether test images are also in the training data, in older records or of other sizes"
    of = f"{count or 'none'} of {data['test']} test images"
    if equal is None:
        return f"{of} {'are' if count else 'is'} equal in pixels to training images; not looked: other copies"
    alike = f"look like copies of training images ({equal} equal in pixels)"
    return f"{of} {alike if count else 'looks like a copy of a training image'}"
