"""Rank correlations between what stands in the rows of a table, with intervals from resampling rows. No torch.

The study: how well RankMe, the final loss and each score of the task `diagnostics` order runs as each task does. The
agreement: whether two tasks order methods alike. Rows that are controls are left out of both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import DIAGNOSTICS, Group, Line, heading
from ssbench.results.metrics import Array
from ssbench.results.naming import canonical
from ssbench.results.table import DASH, columns_of, short
from ssbench.rng import derive

LEAST, DRAWS = 6, 2000  # rows that a table needs; resamples
ALIKE = 1e-9  # correlations that differ by rounding alone
Run = tuple[Line, int]  # a row and a seed
ROWS = (
    "rows: methods with their settings, without controls; in brackets the 95 % interval of 2,000 resamples of rows, "
    "where these differ: one order in all of them is no certainty"
)
LOSS = (
    "loss: the last logged training loss; within masked models of one target alone, since others have other scales; "
    "their masks and ratios differ, and with these how hard it is to make small"
)


def kendall(x: Array, y: Array, weights: Array) -> Array:
    """Kendall's tau-b of x and y (N,) under each set of weights (B, N), such as counts of a resample; NaN: no order."""
    one, other = (np.sign(values[:, None] - values[None]) for values in (x, y))

    def total(pairs: Array) -> Array:
        return np.asarray(((weights @ pairs) * weights).sum(1))

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total(one * other) / np.sqrt(total(one**2) * total(other**2)))


def spearman(x: Array, y: Array, weights: Array) -> Array:
    """Spearman's correlation of x and y (N,) under each set of weights (B, N); equals share their mean rank."""
    ranks = [weights @ ((v[:, None] < v[None]) + (v[:, None] == v[None]) / 2) for v in (x, y)]  # (B, N)
    count = weights.sum(1, keepdims=True)
    one, other = (rank - (weights * rank).sum(1, keepdims=True) / count for rank in ranks)

    def total(products: Array) -> Array:
        return np.asarray((weights * products).sum(1))

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total(one * other) / np.sqrt(total(one**2) * total(other**2)))


def resamples(rows: Sequence[Line], purpose: str) -> Array:
    """How often each entry is drawn, (1 + DRAWS, N): once each first, then whole rows with replacement."""
    order = {line: place for place, line in enumerate(dict.fromkeys(rows))}
    index = np.array([order[line] for line in rows])
    generator = np.random.default_rng(derive(0, purpose))
    drawn = generator.integers(len(order), size=(DRAWS, len(order)))
    counts = np.stack([np.bincount(draw, minlength=len(order)) for draw in drawn])
    return np.concatenate([np.ones((1, len(rows))), counts[:, index]])


def study(found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each table with LEAST rows or more: predictors by tasks, Spearman's and Kendall's correlation."""
    return [frame for group in found if (frame := _study(group, controls)) is not None]


def agreement(found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each table with LEAST rows and two tasks or more: tasks by tasks, Kendall's tau-b of row means."""
    return [frame for group in found if (frame := _agreement(group, controls)) is not None]


def _scores(group: Group, controls: Mapping[str, str]) -> tuple[dict[str, dict[Run, float]], set[str]]:
    """The headline of each run, higher is better, by what its task is called; and the names of diagnostics."""
    cells = group.cells
    columns = columns_of(cells)
    names = short(columns)
    found: dict[str, dict[Run, float]] = {names[head]: {} for head in columns}
    for (line, head), runs in cells.items():
        for record in runs if line.method not in controls else []:
            if record.status == "done":
                score = record.scores[record.headline]
                sign = 1 if score.better == "higher" else -1
                found[names[head]][line, record.spec.pretraining.seed] = sign * score.value
    return found, {names[head] for head in columns if head.task == DIAGNOSTICS}


def _predictors(group: Group, controls: Mapping[str, str]) -> dict[str, dict[Run, float]]:
    """RankMe, the scores of `diagnostics`, and the loss of the most runs that share an objective, as recorded."""
    found: dict[str, dict[Run, float]] = defaultdict(dict)
    losses: dict[str, dict[Run, float]] = defaultdict(dict)
    for record in sorted(group.shown, key=lambda r: r.spec.id):
        line, p = group.line(record), record.spec.pretraining
        run = line, p.seed
        if line.method in controls or record.status != "done":
            continue
        if "rankme" in record.measures:
            found["rankme"][run] = record.measures["rankme"]
        if record.spec.task == DIAGNOSTICS:
            for name, score in record.scores.items():
                found[f"{DIAGNOSTICS} {name}"][run] = score.value
        if record.loss and "target" in p.settings:
            terms = {name: value for name, value in record.loss[-1].items() if name != "step"}
            losses[canonical([p.settings["target"], p.version, sorted(terms)])][run] = sum(terms.values())
    if losses:
        found["loss"] = max(losses.values(), key=len)
    return found


def _study(group: Group, controls: Mapping[str, str]) -> Frame | None:
    scores, judged = _scores(group, controls)
    rows = []
    for predictor, given in _predictors(group, controls).items():
        for task, values in scores.items():
            runs = sorted(given.keys() & values.keys())
            if task in judged or len({line for line, _ in runs}) < LEAST:
                continue
            x, y = (np.array([of[run] for run in runs]) for of in (given, values))
            weights = resamples([line for line, _ in runs], f"study {group.slug}")
            both = (_value(of(x, y, weights)) for of in (spearman, kendall))
            count = len({line for line, _ in runs})
            rows.append((Value(predictor), Value(task), *both, Value(str(count)), Value(str(len(runs)))))
    if not rows:
        return None
    header = ("predictor", "task", "Spearman", "Kendall", "rows", "runs")
    title = f"{heading(group, [])}: what predicts the scores"
    return Frame(f"{group.slug}-study", title, header, tuple(rows), (ROWS, LOSS, "runs: rows by seeds"))


def _agreement(group: Group, controls: Mapping[str, str]) -> Frame | None:
    scores, judged = _scores(group, controls)
    means = {}
    for task, values in scores.items():
        by_line: dict[Line, list[float]] = defaultdict(list)
        for (line, _), value in values.items():
            by_line[line].append(value)
        means[task] = {line: float(np.mean(found)) for line, found in by_line.items()}
    tasks = [task for task, found in means.items() if len(found) >= LEAST and task not in judged]
    if len(tasks) < 2:
        return None
    rows = []
    for task in tasks:
        cells = [paired(means[task], means[other], group.slug) if other != task else Value(DASH) for other in tasks]
        rows.append((Value(task), *cells))
    notes = (
        ROWS,
        "Kendall's tau-b of the means over seeds; 1: the same order, 0: none in common; n: rows of both tasks",
    )
    title = f"{heading(group, [])}: do tasks agree"
    return Frame(f"{group.slug}-agreement", title, ("task", *tasks), tuple(rows), notes)


def paired(one: Mapping[Line, float], other: Mapping[Line, float], slug: str) -> Value:
    """Kendall's tau-b of two scores of the same rows, with its interval; a dash where fewer than LEAST have both."""
    lines = sorted(one.keys() & other.keys())
    if len(lines) < LEAST:
        return Value(DASH)
    x, y = (np.array([of[line] for line in lines]) for of in (one, other))
    found = _value(kendall(x, y, resamples(lines, f"agreement {slug}")))
    return Value(f"{found.text} n={len(lines)}", found.mean)


def _value(found: Array) -> Value:
    """The first of values, and the percentiles of the others that are numbers, unless these are all one."""
    if np.isnan(found[0]):
        return Value(DASH)
    low, high = np.nanpercentile(found[1:], [2.5, 97.5])
    if high - low < ALIKE:
        return Value(f"{found[0]:.2f}", float(found[0]))
    return Value(f"{found[0]:.2f} [{low:.2f}, {high:.2f}]", float(found[0]), span=(float(low), float(high)))
