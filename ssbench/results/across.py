"""Tables of several data sets -> one order of methods: average rank, Friedman, Nemenyi, Bayesian signed rank. No torch.

A table is one block, with all its tasks: tasks that see the same images are no independent witnesses.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, t

from ssbench.results.grid import Frame, Value, largest
from ssbench.results.metrics import Array
from ssbench.results.standing import MOST, block, letters, scale
from ssbench.results.table import DASH, Table
from ssbench.rng import derive

LEAST = 3  # tables, and methods in all of them
ROPE = 5.0  # points of skill
DRAWS = 10_000  # of the posterior, which gives probabilities to half a point
HEADER = ("method", "average rank", "skill %", "win rate %", "ahead of it", "equivalent", "behind it")
NOTES = (
    "a table, with all its tasks, is one block; average rank: by skill, 1 is best, equals share their mean",
    "letters: methods that share one are not told apart by Nemenyi's test at 5 % (Demšar 2006)",
    "skill: from the untrained network, 0 %, to the ceiling, 100 %, mean over a table's columns and then over tables, "
    "with its 95 % t-interval over tables; win rate: over tables and rivals, equals count half",
    "ahead of it, equivalent, behind it: how likely the first row is that on another data set like these, equivalent "
    f"at {ROPE:g} points of skill or less (Bayesian signed-rank test, Benavoli et al. 2014)",
)


def across(tables: Iterable[Table]) -> list[Frame]:
    """One frame, of the methods that the most tables have in common; none where there are too few of either."""
    found = {one.slug: (one.title, known) for one in tables if (known := _skill(one))}
    common = largest({slug: frozenset(known) for slug, (_, known) in found.items()}) if found else frozenset()
    blocks = [(title, known) for title, known in found.values() if common <= known.keys()]
    if min(len(blocks), len(common)) < LEAST or len(common) > MOST:
        return []
    names = sorted(common)
    return [ranked(names, np.array([[known[name] for name in names] for _, known in blocks]), [of for of, _ in blocks])]


def _skill(table: Table) -> dict[str, float]:
    """The skill of the rows without labels; empty where there is no scale."""
    columns, rows = block(table)
    by = scale(rows, columns)
    if by is None or not by.columns:
        return {}
    return {row.name: by.skill(row) for row in rows if not row.labels and row != by.floor}


def ranked(names: Sequence[str], skill: Array, blocks: Sequence[str]) -> Frame:
    """The frame of methods, from their skill in each block, (blocks, methods), and what blocks are called."""
    from scikit_posthocs import posthoc_nemenyi_friedman  # loads seaborn

    ranks = rankdata(-skill, axis=1)
    order = np.lexsort((-skill.mean(0), ranks.mean(0)))
    names, skill, ranks = [names[at] for at in order], skill[:, order], ranks[:, order].mean(0)
    told = letters(names, posthoc_nemenyi_friedman(skill).to_numpy())
    reach = t.ppf(0.975, len(skill) - 1) * skill.std(0, ddof=1) / len(skill) ** 0.5
    rates = 100 * (len(names) - ranks) / (len(names) - 1)
    rows = []
    for name, own, rank, beyond, rate in zip(names, skill.T, ranks, reach, rates):
        mean = own.mean()
        span = Value(f"{mean:.0f} [{mean - beyond:.0f}, {mean + beyond:.0f}]", float(mean))
        likely = [Value(DASH)] * 3 if name == names[0] else likelihoods(skill[:, 0], own)
        rank_cell = Value(f"{rank:.1f} {told[name]}", float(rank))
        rows.append((Value(name), rank_cell, span, Value(f"{rate:.0f}", float(rate)), *likely))
    p = friedmanchisquare(*skill.T).pvalue
    title = f"{len(names)} methods over {len(skill)} tables: Friedman's p that none differs is {p:.2g}"
    return Frame("across", title, HEADER, tuple(rows), (*NOTES, *(f"a block: {one}" for one in blocks)))


def likelihoods(one: Array, other: Array) -> list[Value]:
    """How likely `one` is ahead of `other` by more than ROPE, equivalent, and behind."""
    from baycomp import SignedRankTest  # loads matplotlib

    behind, equal, ahead = SignedRankTest.probs(
        other, one, ROPE, nsamples=DRAWS, random_state=derive(0, "across") % 2**32
    )
    return [Value(f"{found:.2f}", float(found)) for found in (ahead, equal, behind)]
