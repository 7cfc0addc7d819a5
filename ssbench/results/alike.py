"""Records -> tables of how alike what rows see is: linear CKA between the features that they kept. No torch."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import fmean

import numpy as np

from ssbench.results.grid import Frame, Value
from ssbench.results.groups import DIAGNOSTICS, Group, Head, Line, heading
from ssbench.results.metrics import Array
from ssbench.results.naming import slugged
from ssbench.results.record import Record
from ssbench.results.store import Store
from ssbench.results.table import DASH, columns_of, lines_of

EXPLAINED = (
    "linear CKA of the features of the same test images, debiased: 1 is the same up to rotation and scale, 0 nothing "
    "in common; mean over seeds that both rows have, a seed with the same seed"
)
DIAGONAL = "on the diagonal: between different seeds of a row"
Seeds = dict[int, Array]  # the kept features of one row


def cka(one: Array, other: Array) -> float:
    """Linear CKA of features (N, D) and (N, D') of the same samples, from the unbiased HSIC; NaN where undefined.

    Kornblith et al. 2019, arXiv:1905.00414; with HSIC_1 of Song et al. 2012 as in Nguyen et al. 2021,
    arXiv:2010.15327. Independent features have 0 on average whatever N and D, so that it may be below 0.
    """
    if len(one) < 4:
        return float("nan")
    k, m = _gram(one), _gram(other)
    own = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / own**0.5 if own > 0 else float("nan")


def _gram(x: Array) -> Array:
    """Products of centred features, 0 on the diagonal; the features at a mean square of 1, as far as they vary."""
    x = x.astype(np.float64)
    centred = x - x.mean(0)
    size = np.sqrt((centred**2).mean())
    centred = centred / size if size > 1e-6 * np.sqrt((x**2).mean()) else 0 * centred
    found = centred @ centred.T
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def _hsic(k: Array, m: Array) -> float:
    n, one, other = len(k), k.sum(0), m.sum(0)
    total = (k * m).sum() + one.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * one @ other / (n - 2)
    return float(total) / (n * (n - 3))


def alike(store: Store, found: Iterable[Group], controls: Mapping[str, str]) -> list[Frame]:
    """A frame for each table of which two rows, or two seeds of one, kept features: rows by rows.

    Raises UserError on predictions that can't be read.
    """
    return [frame for group in found for frame in _of(store, group, controls)]


def _of(store: Store, group: Group, controls: Mapping[str, str]) -> Iterable[Frame]:
    cells = group.cells
    columns = {head: column for head, column in columns_of(cells).items() if head.task == DIAGNOSTICS}
    for head, column in columns.items():
        kept: dict[Line, Seeds] = {}
        for (line, at), runs in cells.items():
            found = _kept(store, runs) if at == head else {}
            if found:
                kept[line] = found
        suffix = f"-{slugged(f'{column.task} {column.protocol}')}" if len(columns) > 1 else ""
        if len(kept) > 1 or any(len(seeds) > 1 for seeds in kept.values()):
            yield _frame(group, suffix, head, kept, controls)


def _kept(store: Store, runs: Iterable[Record]) -> Seeds:
    found = {r.spec.pretraining.seed: store.arrays(r, "kept") for r in runs if r.status == "done" and r.predictions}
    return {seed: np.asarray(arrays["features"], float) for seed, arrays in found.items() if "features" in arrays}


def _frame(group: Group, suffix: str, head: Head, kept: Mapping[Line, Seeds], controls: Mapping[str, str]) -> Frame:
    order = [(line, label) for line, label in lines_of(kept, controls) if line in kept]
    cells = {pair: _pair(kept[pair[0]], kept[pair[1]]) for pair in combinations([line for line, _ in order], 2)}
    cells |= {(other, one): value for (one, other), value in cells.items()}
    cells |= {(line, line): _mean(cka(*pair) for pair in combinations(kept[line].values(), 2)) for line in kept}
    rows = tuple((Value(label), *(cells[line, other] for other, _ in order)) for line, label in order)
    title = f"{heading(group, sorted({len(seeds) for seeds in kept.values()}))}: how alike features are (CKA)"
    header = ("method", *(label for _, label in order))
    return Frame(f"{group.slug}-cka{suffix}", title, header, rows, (EXPLAINED, DIAGONAL))


def _pair(one: Seeds, other: Seeds) -> Value:
    both = sorted(seed for seed in one.keys() & other.keys() if len(one[seed]) == len(other[seed]))
    return _mean(cka(one[seed], other[seed]) for seed in both)


def _mean(found: Iterable[float]) -> Value:
    known = [value for value in found if value == value]
    return Value(f"{round(fmean(known), 2) + 0:.2f}", fmean(known)) if known else Value(DASH)
