"""Tables of several data sets -> one order of methods: average rank, Friedman, Nemenyi, Bayesian signed rank. No torch.

A data set is one block, with all tasks of one of its tables: what sees the same images is no independent witness.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, t

from ssbench.results.grid import Frame, Value, largest
from ssbench.results.groups import Line
from ssbench.results.metrics import Array
from ssbench.results.standing import MOST, block, letters, scale
from ssbench.results.table import DASH, Table, lines_of
from ssbench.rng import derive

LEAST = 3  # data sets, and methods in all of them
ROPE = 5.0  # points of skill
DRAWS = 10_000  # of the posterior, which gives probabilities to half a point
HEADER = ("method", "average rank", "letters", "skill %", "win rate %", "ahead of it", "equivalent", "behind it")
NOTES = (
    "a data set is one block, by all tasks of that of its tables which has the most methods; average rank: by skill, 1 "
    "is best, equals share their mean",
    "letters: methods that share one are not told apart by Nemenyi's test at 5 % (Demšar 2006)",
    "skill: from the untrained network, 0 %, to the ceiling, 100 %, mean over a table's columns and then over blocks, "
    "with its 95 % t-interval over blocks; win rate: over blocks and rivals, equals count half",
    "ahead of it, equivalent, behind it: how likely the first row is that in the mean of two other data sets like "
    f"these, equivalent at {ROPE:g} points of skill or less (Bayesian signed-rank test, Benavoli et al. 2014); it was "
    "picked on these, which flatters it: letters hold for all pairs",
)


def across(found: Iterable[tuple[str, Table, Sequence[Line]]], controls: Mapping[str, str]) -> list[Frame]:
    """One frame, of the rows that the most data sets have in common; none where there are too few of either.

    Tables come with what tells their data apart, and with their rows' lines: a row is what it is, whatever a table
    calls it, where the only variant of a method has its bare name.
    """
    by_data: dict[str, tuple[str, dict[str, float]]] = {}
    known: dict[str, Line] = {}
    for data, table, lines in found:
        keys = [line.canonical() for line in lines]
        known |= dict(zip(keys, lines))
        if len(skill := _skill(table, keys)) > len(by_data.get(data, ("", {}))[1]):
            by_data[data] = table.title, skill
    return _common(by_data, known, controls)


def _common(
    found: Mapping[str, tuple[str, dict[str, float]]], known: Mapping[str, Line], controls: Mapping[str, str]
) -> list[Frame]:
    common = largest({slug: frozenset(skill) for slug, (_, skill) in found.items()}) if found else frozenset()
    blocks = [(title, skill) for title, skill in found.values() if common <= skill.keys()]
    if min(len(blocks), len(common)) < LEAST or len(common) > MOST:
        return []
    called = dict(lines_of({known[key] for key in common}, controls))
    keys = sorted(common)
    values = np.array([[skill[key] for key in keys] for _, skill in blocks])
    return [ranked([called[known[key]] for key in keys], values, [of for of, _ in blocks])]


def _skill(table: Table, keys: Sequence[str]) -> dict[str, float]:
    """The skill of the rows without labels, by the keys of all rows; empty where there is no scale."""
    columns, rows = block(table)
    by = scale(rows, columns)
    if by is None or not by.columns:
        return {}
    keyed = {row.name: key for row, key in zip(table.rows, keys, strict=True)}
    return {keyed[row.name]: by.skill(row) for row in rows if not row.labels and row != by.floor}


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
        low, high = float(mean - beyond), float(mean + beyond)
        span = Value(f"{mean:.0f} [{low:.0f}, {high:.0f}]", float(mean), span=(low, high))
        likely = [Value(DASH)] * 3 if name == names[0] else likelihoods(skill[:, 0], own)
        rank_cells = Value(f"{rank:.1f}", float(rank)), Value(told[name])
        rows.append((Value(name), *rank_cells, span, Value(f"{rate:.0f}", float(rate)), *likely))
    p = friedmanchisquare(*skill.T).pvalue
    title = f"{len(names)} rows over {len(skill)} data sets: Friedman's p that none differs is {p:.2g}"
    return Frame("across", title, HEADER, tuple(rows), (*NOTES, *(f"a block: {one}" for one in blocks)))


def likelihoods(one: Array, other: Array) -> list[Value]:
    """How likely `one` is ahead of `other` by more than ROPE, equivalent, and behind: the posterior's mean of each.

    The test's statistic is of means of two blocks, each with itself too (Walsh's averages), so that is what is likely.
    baycomp's own `probs` say in how many draws each is the likeliest, which three data sets drive to 0.99.
    """
    from baycomp import SignedRankTest  # loads matplotlib

    drawn = SignedRankTest.sample(other, one, ROPE, nsamples=DRAWS, random_state=derive(0, "across") % 2**32)
    behind, equal, ahead = np.asarray(drawn).mean(0)
    return [Value(f"{found:.2f}", float(found)) for found in (ahead, equal, behind)]
