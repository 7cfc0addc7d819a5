"""Trials of tuning -> which was the best, and what fewer trials would have found. No torch.

Trials are scored on `select`. The expected best of n is that of n of them drawn without replacement, whatever the order
in which they were run. Dodge et al. (2019, arXiv:1909.03004) draw with replacement, which is too low (Tang et al. 2020,
arXiv:2004.13705); both need trials that are independent of each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import comb, log
from typing import Any

from ssbench.results.codes import changed
from ssbench.results.grid import Frame, Value
from ssbench.results.groups import Cells, Group, Head, Line, groups, heading
from ssbench.results.naming import slugged
from ssbench.results.record import Record, Score
from ssbench.results.table import DASH, Column, columns_of, lines_of
from ssbench.spec import Space

EDGE = 0.1  # of a range, in its logarithm, at either end
EXPECTED = (
    "best of n: the best score on select of n of the trials drawn without replacement, expected (the mean over all "
    "such draws); a trial that failed counts as the worst score of the table"
)
NOTES = (
    "trials: points drawn independently, the same for every method; scored on select, one seed, the test unopened",
    EXPECTED,
    f"at the edge: in the outer tenth of the range ({', '.join(f'{k} {v[0]:g} to {v[1]:g}' for k, v in Space())}), "
    "so that better values may lie beyond",
)


def point(record: Record) -> int:
    """The number of a trial's point, from 1."""
    return int(record.spec.trial.rpartition(" ")[2])


def of_today(trials: Sequence[Record]) -> list[Record]:
    """Those of today's code, where there are any: a choice, and what it took, is of one code."""
    return [one for one in trials if not changed(one)] or [*trials]


def best(trials: Iterable[Record]) -> Record | None:
    """The trial that is ahead on its headline, the first of equals; None where none was done."""
    done = sorted((one for one in trials if one.status == "done"), key=point)
    return max(done, key=lambda one: _signed(_score(one)), default=None)


def edges(values: Mapping[str, Any]) -> list[str]:
    """Which values lie in the outer tenth of their range: `high lr`."""
    found = []
    for key, (low, high) in Space():
        place = log(values[key] / low) / log(high / low)
        found += [f"low {key}"] * (place < EDGE) + [f"high {key}"] * (place > 1 - EDGE)
    return found


def expected_best(scores: Sequence[float], draws: int) -> float:
    """The expected largest of `draws` of these scores, drawn without replacement: each weighted by how often it is.

    The i-th smallest of B is the largest in C(i - 1, draws - 1) of the C(B, draws) draws.
    """
    total = comb(len(scores), draws)
    return sum(comb(at, draws - 1) * score for at, score in enumerate(sorted(scores))) / total


def tunings(records: Iterable[Record], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each tuning, a row for each method: what was chosen, and the expected best of fewer trials."""
    made = []
    for group in groups(records, trials=True):
        parts: dict[tuple[int, str], dict[tuple[Line, Head], list[Record]]] = defaultdict(lambda: defaultdict(list))
        tried = (r for r in group.records if r.status != "not-applicable" and r.spec.pretraining.train)
        for record in sorted(tried, key=point):
            spec = record.spec
            drawn = spec.pretraining.seed, spec.trial.rpartition(",")[0]
            parts[drawn][group.line(record), Head.of(spec)].append(record)
        for (seed, space), cells in sorted(parts.items()):
            name = f"tuning seed {seed} {space}" if len(parts) > 1 else "tuning"
            made += [_frame(group, head, column, name, cells, controls) for head, column in columns_of(cells).items()]
    return made


def _frame(group: Group, head: Head, column: Column, name: str, cells: Cells, controls: Mapping[str, str]) -> Frame:
    called = lines_of({line for line, _ in cells}, controls)
    tried = {label: cells[line, head] for line, label in called if (line, head) in cells}
    found = {label: of_today(trials) for label, trials in tried.items()}
    left = sum(map(len, tried.values())) - sum(map(len, found.values()))
    most = max(map(len, found.values()))
    draws = [2**power for power in range(most.bit_length())]
    worst = min((_signed(_score(one)) for each in found.values() for one in each if one.status == "done"), default=0.0)
    rows = [(Value(label), *_row(trials, column, draws, worst)) for label, trials in found.items()]
    header = ("method", "trials", "best", *Space.model_fields, "at the edge", *(f"best of {n}" for n in draws))
    counts = {len(trials) for trials in found.values()}
    unequal = ("tuning is unequal: methods differ in their numbers of trials",) * (len(counts) > 1)
    older = (f"{left} trials are of earlier code and left out",) * bool(left)
    slug = f"{group.slug}-{slugged(f'{column.task} {column.protocol} {name}')}"
    title = f"{heading(group, [1])}: {column.header} on select, {name}"
    return Frame(slug, title, header, tuple(rows), (*unequal, *older, *NOTES))


def _row(trials: Sequence[Record], column: Column, draws: Sequence[int], worst: float) -> list[Value]:
    failed = sum(one.status == "failed" for one in trials)
    count = Value(f"{len(trials)}" + f" ({failed} failed)" * bool(failed))
    ahead = best(trials)
    if ahead is None:
        return [count, *[Value(DASH)] * (len(draws) + len(Space.model_fields) + 2)]
    values = ahead.spec.pretraining.train or {}
    chosen = [Value(f"{values[key]:g}") for key in Space.model_fields]
    scores = [_signed(_score(one)) if one.status == "done" else worst for one in trials]
    sign = 1 if _score(ahead).better == "higher" else -1
    expected = [expected_best(scores, n) * sign if n <= len(scores) else None for n in draws]
    of = [Value(DASH) if one is None else Value(column.text(one, None), one) for one in expected]
    top = _score(ahead).value
    return [count, Value(column.text(top, None), top), *chosen, Value(", ".join(edges(values)) or "no"), *of]


def _score(record: Record) -> Score:
    return record.scores[record.headline]


def _signed(score: Score) -> float:
    """Higher is better."""
    return score.value if score.better == "higher" else -score.value
