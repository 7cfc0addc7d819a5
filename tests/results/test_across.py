from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, rankdata

from ssbench.results.across import LEAST, across, likelihoods, ranked
from ssbench.results.groups import Line
from ssbench.results.table import Table

from .test_standing import CONTROLS, near, row, table

# Areas of four variants of C4.5 on 14 data sets: Demšar 2006, table 6
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # ranked 2 and 3 there, before they were rounded
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_ranks_and_tests_are_those_of_the_paper() -> None:
    """Average ranks of its table 6; 1.25 is the critical difference at 5 %, which none of these pairs reaches."""
    frame = ranked(["c4.5", "m", "cf", "m+cf"], 100 * DEMSAR, [""] * 14)
    found = {of[0].text: of[1] for of in frame.rows}
    expected = {"c4.5": 3.143, "m": 2.000, "cf": 2.893, "m+cf": 1.964}
    assert {name: round(of.mean or 0, 3) for name, of in found.items()} == expected
    assert {of[2].text for of in frame.rows} == {"a"}
    ranks = rankdata(-DEMSAR, axis=1)
    statistic = 12 * 14 / (4 * 5) * (float((ranks.mean(0) ** 2).sum()) - 4 * 25 / 4)
    assert statistic == pytest.approx(9.28, abs=0.01)
    ties = sum(float((counts**3 - counts).sum()) for row in ranks for counts in [np.unique(row, return_counts=True)[1]])
    p = chi2.sf(statistic / (1 - ties / (14 * (4**3 - 4))), 3)  # the paper does not correct for equals
    assert f"is {p:.2g}" in frame.title


def test_beyond_the_critical_difference_letters_differ() -> None:
    rising = np.tile([30.0, 20.0, 10.0], (8, 1)) + np.arange(8.0)[:, None]
    rows = ranked(["a", "b", "c"], rising, [""] * 8).rows  # a difference of 1.17 at 5 %: one apart is not told
    assert [(of[1].text, of[2].text) for of in rows] == [("1.0", "a"), ("2.0", "ab"), ("3.0", "b")]
    assert [of[4].text for of in rows] == ["100", "50", "0"]
    assert rows[0][3].text.startswith("34 [31,") and 0.85 < (rows[1][-3].mean or 0) < 0.97


def test_likelihoods_are_those_of_the_signed_rank() -> None:
    """Seven data sets, each 10 points ahead: all sums of two are above twice the region but those with the prior's."""
    one, other = np.full(7, 30.0), np.full(7, 20.0)
    ahead, equal, behind = (value.mean or 0.0 for value in likelihoods(one, other))
    assert 0.85 < ahead < 0.95 and behind == 0 and ahead + equal == pytest.approx(1)  # (1 - 1 / 8) and a bit
    three = likelihoods(one[:3], other[:3])[0].mean or 0.0
    assert 0.6 < three < ahead - 0.05, "three data sets are no certainty"
    assert [value.text for value in likelihoods(one, one)] == ["0.00", "1.00", "0.00"]
    assert [value.mean for value in likelihoods(other, one)] == pytest.approx([behind, equal, ahead])


Found = tuple[str, Table, list[Line]]
ROLES = {one.name: one.role for one in CONTROLS}


def found(data: str, made: Table) -> Found:
    return data, made, [Line(method=one.name) for one in made.rows]


def tables(count: int) -> list[Found]:
    """Each of another data set."""
    made = []
    for at in range(count):
        rows = (row("a", near(50 + at)), row("b", near(40 + at)), row(f"only-{at}", near(45)), *CONTROLS)
        made.append(found(f"f{at}", replace(table(*rows), slug=f"t{at}", title=f"data {at}")))
    return made


def test_methods_in_common_are_ranked_by_skill() -> None:
    (frame,) = across(tables(3), ROLES)
    assert [of[0].text for of in frame.rows] == ["a", "b", "raw-pixels"]  # the ends of the scale have no skill
    assert frame.rows[0][3].text.startswith("78 [")  # 75, 77.5 and 80
    assert frame.notes[-3:] == ("a block: data 0", "a block: data 1", "a block: data 2")
    assert not across(tables(LEAST - 1), ROLES) and not across([], ROLES)


def test_a_row_is_one_of_several_data_sets_by_what_it_is_not_by_its_name() -> None:
    """`a` of the third table has other settings: there are two methods in common left, and pixels."""
    *others, (data, made, lines) = tables(4)
    lines = [line.model_copy(update={"settings": {"ratio": 0.5}}) if line.method == "a" else line for line in lines]
    (frame,) = across([*others, (data, made, lines)], ROLES)
    assert frame.notes[-3:] == ("a block: data 0", "a block: data 1", "a block: data 2")


def test_tables_without_a_scale_are_no_blocks() -> None:
    made = tables(3)
    rows = tuple(one for one in made[0][1].rows if one.role != "ceiling")
    bare = found("other", replace(made[0][1], rows=rows, slug="bare"))
    assert across([*made, bare], ROLES) == across(made, ROLES)
    assert not across([*made[:2], bare], ROLES)


def test_tables_of_one_data_set_are_one_block_that_with_the_most_methods() -> None:
    (a, first, _), (b, second, _), (c, third, _) = tables(3)
    few = replace(third, rows=tuple(one for one in third.rows if one.name != "only-2"), title="few")
    assert not across([found(a, first), found(b, second), found(b, third)], ROLES)
    all_of_them = [found(*one) for one in ((c, few), (a, first), (b, second), (c, third), (c, few))]
    assert across(all_of_them, ROLES)[0].notes[-3:] == ("a block: data 2", "a block: data 0", "a block: data 1")
