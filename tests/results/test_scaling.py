"""Budgets that grow: the law of their scores, which methods cross, and whether small tables order as the largest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau

from ssbench.results.foretell import foretelling, same_order
from ssbench.results.groups import groups
from ssbench.results.ladders import Ladder, Rung, common, ladders
from ssbench.results.laws import EXPONENTS, fitted
from ssbench.results.record import Costs, Score
from ssbench.results.scaling import scaling
from ssbench.results.stats import difference
from ssbench.results.store import Store
from ssbench.results.table import Column, Row, tables
from ssbench.spec import Budget

from .test_standing import row, side, table
from .test_table import CONTROLS, make

SIZES = np.array([1000.0, 2000, 4000, 8000, 16000])
EVERY = (-np.inf, np.inf)


def near(mean: float, seed: int, apart: float = 0.2) -> Row:
    return row("", side(mean - apart, mean, mean + apart, seed=seed))


def rung(amount: float, scores: dict[str, float], trunk: str = "vit-nano", apart: float = 0.2) -> Rung:
    """A table with so many images seen; names begin the seeds of the noise, so that no two are alike."""
    made = []
    for at, (name, score) in enumerate(scores.items()):
        cells = near(score, at + int(amount), apart).cells
        made.append(Row(name, "", False, cells, False, amount, 1.0, 1.0, 1e5))
    return Rung(table(*made), 0, trunk, "samples", amount, {one.name: one for one in made})


def ladder(*rungs: Rung) -> Ladder:
    return Ladder("shapes", "k", rungs[0].table.columns[0], rungs)


@pytest.mark.parametrize("exponent", [*EXPONENTS[[10, 75, 140]]])
def test_a_law_is_found_again_and_goes_on(exponent: float) -> None:
    true = 60 - 30 * (SIZES / SIZES[0]) ** -exponent
    law = fitted(SIZES[:-1], true[None, :-1], EVERY)
    assert law.limit[0] == pytest.approx(60) and law.exponent[0] == exponent
    assert law.at(16000.0)[0] == pytest.approx(true[-1])


def test_no_other_fit_is_clearly_closer() -> None:
    draw = np.random.default_rng(0)
    scores = 55 - 25 * (SIZES / SIZES[0]) ** -0.6 + draw.normal(size=(20, len(SIZES)))
    law = fitted(SIZES, scores, EVERY)
    ours = sum((law.at(size) - scores[:, at]) ** 2 for at, size in enumerate(SIZES))

    def power(x: np.ndarray, limit: float, slope: float, exponent: float) -> np.ndarray:
        return limit + slope * x**-exponent

    for one, own in zip(scores, ours):
        edges = ([-np.inf, -np.inf, 0.05], [np.inf, np.inf, 2.0])
        best, _ = curve_fit(power, SIZES / SIZES[0], one, p0=(50, -20, 0.5), bounds=edges, max_nfev=20_000)
        assert own <= ((power(SIZES / SIZES[0], *best) - one) ** 2).sum() + 0.01  # of points, squared


def test_a_limit_stays_within_its_bounds_and_the_slope_follows() -> None:
    straight = 20 + 18 * np.log2(SIZES / SIZES[0])[None]  # 92 at the end, on to far beyond 100 %
    law = fitted(SIZES, straight, (0.0, 100.0))
    assert law.limit[0] == 100 and law.slope[0] < 0 and law.at(1e9)[0] <= 100
    assert fitted(SIZES, straight, EVERY).limit[0] > 150


def test_scores_by_budget_say_what_the_law_of_the_smaller_ones_foretells() -> None:
    def score(top: float, amount: float) -> float:
        return top - 20 * (amount / 1000) ** -0.5

    rungs = [rung(n, {"slow": score(50, n), "fast": score(60, n), "flat": 30.0}) for n in SIZES]
    (frame,) = scaling([ladder(*rungs)])
    assert frame.title == "shapes, vit-nano: knn top1 % ↑ (protocol 1) by budget"
    assert frame.header[1] == "1,000 samples" and frame.header[-5:] == ("limit", "exponent", "foretold", "off", "gain")
    told = {of[0].text: dict(zip(frame.header, of)) for of in frame.rows}
    assert told["slow"]["16,000 samples"].text == "45.0 ± 0.2"
    assert told["slow"]["limit"].mean == pytest.approx(50, abs=0.5) and abs(told["slow"]["off"].mean or 9) < 0.2
    assert told["slow"]["gain"].text == "+2.1" and told["flat"]["gain"].text == "+0.0"
    low, high = told["fast"]["foretold"].span or (0, 0)
    assert low < 55 < high and high - low < 4
    assert "3 of 3 scores are what was foretold" in frame.notes[-2] and "no two methods" in frame.notes[-1]


def test_few_budgets_have_scores_and_no_law_and_two_have_neither() -> None:
    rungs = [rung(n, {"a": 20.0, "b": 30.0}) for n in SIZES]
    (frame,) = scaling([ladder(*rungs[:4])])
    budgets = "1,000 samples", "2,000 samples", "4,000 samples", "8,000 samples"
    assert frame.header[1:] == (*budgets, "GFLOPs / image", "more")
    assert not scaling([ladder(*rungs[:2])])
    assert not scaling([ladder(*rungs[:2], rung(9e3, {"c": 1.0, "d": 2.0}))]), "other methods are no larger budget"


def test_methods_that_cross_are_named_with_where() -> None:
    early = {"first": 40.0, "later": 30.0, "third": 10.0}
    rungs = [rung(1000, early), rung(10_000, early | {"later": 40.2}), rung(100_000, early | {"later": 50.0})]
    _, crossed = scaling([ladder(*rungs)])
    ((ahead, behind, at, also, where),) = crossed.rows
    assert (ahead.text, behind.text, at.text, also.text) == ("first", "later", "1,000 samples", "100,000 samples")
    assert where.mean == pytest.approx(1000 * 10 ** (10 / 10.2), rel=0.01)
    low, high = where.span or (0, 0)
    assert 5000 < low < 9500 < high < 30_000


def test_equal_methods_do_not_cross() -> None:
    draw = np.random.default_rng(3)
    tables = [[rung(n, {name: 40 + draw.normal() for name in "abcd"}, apart=1.0) for n in SIZES] for _ in range(20)]
    assert sum(len(scaling([ladder(*rungs)])) > 1 for rungs in tables) <= 1


def test_orders_agree_as_kendall_says() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 50, 6))
    expected = [(1 + kendalltau(a, b).statistic) / 2 for a, b in zip(one, other)]
    assert same_order(one, other) == pytest.approx(expected)
    assert same_order(np.array([[1.0, 1.0]]), np.array([[1.0, 2.0]]))[0] == 0.5


def test_what_orders_as_the_largest_is_told_from_what_does_not() -> None:
    order = {name: 20.0 + 5 * place for place, name in enumerate("abcd")}
    backwards = {name: 60 - score for name, score in order.items()}
    close = {name: 30 + score / 100 for name, score in order.items()}
    rungs = rung(100, backwards), rung(200, close, apart=1.0), rung(400, order, "vit-micro"), rung(1000, order)
    frame, alone = foretelling([ladder(*rungs)])
    assert alone.title == f"shapes, vit-nano{frame.title.removeprefix('shapes')}" and alone.slug != frame.slug
    assert [row[1].text for row in alone.rows] == ["100 samples", "200 samples", "1,000 samples, the largest"]
    told = [dict(zip(frame.header, (value.text for value in of))) for of in frame.rows]
    budgets = ["100 samples", "200 samples", "400 samples", "1,000 samples, the largest"]
    assert [one["budget"] for one in told] == budgets
    assert [one["trunk"] for one in told] == ["vit-nano", "vit-nano", "vit-micro", "vit-nano"]
    assert [one["same order %"] for one in (told[0], *told[2:])] == ["0 [0, 0]", "100 [100, 100]", "100 [100, 100]"]
    low, high = frame.rows[1][3].span or (0, 0)
    assert low < 50 < high, "an order that seeds do not tell is none"
    assert [one["tau"] for one in told] == ["-1.00", "1.00", "1.00", "1.00"]
    assert [one["pairs told apart"] for one in told] == ["6 of 6", "0 of 6", "6 of 6", "6 of 6"]
    assert [one["the largest's that agree"] for one in told] == ["0 of 6", "6 of 6", "6 of 6", "6 of 6"]
    assert told[3]["signal"] == "15.0" and told[3]["noise"] == "0.2" and told[3]["signal / noise"] == "75.0"


def test_few_methods_and_single_tables_foretell_nothing() -> None:
    three = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert not foretelling([ladder(rung(1, three), rung(2, three))])
    assert not foretelling([ladder(rung(1, three), rung(2, three | {"d": 4.0}))])


def test_saturating_methods_that_are_equal_at_last_do_not_cross() -> None:
    draw = np.random.default_rng(5)
    falls = 0
    for _ in range(60):
        first = rung(1000, {"a": 40.0, "b": 30.0})
        later = [rung(n, {"a": 50 + 0.8 * draw.normal(), "b": 50 + 0.8 * draw.normal()}, apart=0.8) for n in SIZES[1:]]
        falls += len(scaling([ladder(first, *later)])) > 1
    assert falls <= 5, "a test for each budget by itself crosses more than 5 % of these"


def climb(store: Store, method: str, *amounts: int, lift: float = 0.0, **more: Any) -> None:
    """Three seeds of a method at each budget, better with more."""
    for place, amount in enumerate(amounts):
        first = {"budget": Budget(unit="samples", amount=amount), **more.get("first", {})}
        rest = {key: value for key, value in more.items() if key != "first"}
        values = [20 + 5 * place + lift + seed for seed in range(3)]
        make(store, method, *values, task="knn", **rest | {"first": first, "costs": Costs(images=amount, **COSTS)})


COSTS: dict[str, Any] = {"parameters": 9, "pretrain_gflops": 100.0, "steps": 5}


def found(store: Store) -> list[Ladder]:
    parted = groups(store.all())
    return ladders(parted, tables(store, CONTROLS, parted), CONTROLS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    for lift, method in enumerate(("a", "b")):
        climb(made, method, 1000, 4000, 16000, lift=lift)
    return made


def test_tables_of_one_data_set_and_recipe_are_a_ladder(store: Store) -> None:
    climb(store, "a", 2000, first={"backbone": "vit-micro"})
    climb(store, "a", 9000, recipe="own")
    (made,) = found(store)
    assert [(one.amount, one.trunk) for one in made.rungs] == [
        *((1000, "vit-nano"), (2000, "vit-micro"), (4000, "vit-nano"), (16000, "vit-nano"))
    ]
    assert made.title == "shapes" and [*made.rungs[0].rows] == ["a", "b"]


@pytest.mark.parametrize("other", [{"task_settings": {"k": 5}}, {"labels": "10%"}, {"protocol": 2}])
def test_another_task_is_no_rung_nor_are_slugs_shared(store: Store, other: dict[str, Any]) -> None:
    climb(store, "a", 32000, **other)
    (made,) = found(store)
    assert [one.amount for one in made.rungs] == [1000, 4000, 16000]
    for lift, method in enumerate(("a", "b")):
        climb(store, method, 1000, 4000, 16000, lift=lift, **other)
    frames = scaling(found(store))
    assert len(frames) == len({one.slug for one in frames}) == len({one.title for one in frames}) == 2


def test_a_method_of_other_settings_is_another_row(store: Store) -> None:
    climb(store, "a", 1000, 4000, 16000, first={"settings": {"temperature": 0.5, "width": 64}})
    climb(store, "a", 32000, first={"settings": {"temperature": 0.9, "width": 64}})
    climb(store, "b", 32000)
    (frame,) = scaling(found(store))
    assert [row[0].text for row in frame.rows] == ["a [temperature=0.1]", "a [temperature=0.5]", "b"]
    assert "left out, since they have fewer than 3 seeds in a row or column: a [temperature=0.9]" in frame.notes


def test_two_networks_of_one_name_have_a_curve_each(store: Store) -> None:
    for lift, method in enumerate(("a", "b")):
        climb(store, method, 1000, 4000, 16000, lift=lift, first={"preset": {"depth": 9}})
        climb(store, method, 1000, 4000, 16000, lift=lift, first={"preset": {"depth": 3}})
    trunks = [trunk for one in found(store) for trunk in dict.fromkeys(rung.trunk for rung in one.rungs)]
    assert len(trunks) == 3 and {"vit-nano [depth=3]", "vit-nano [depth=9]"} < {*trunks}
    assert all(len(frame.header) == 1 + 3 + 2 for frame in scaling(found(store)))


def test_twins_of_another_precision_are_told_by_their_titles(store: Store) -> None:
    for lift, method in enumerate(("a", "b")):
        climb(store, method, 1000, 4000, 16000, lift=lift, first={"precision": "bf16"})
    assert [one.title for one in found(store)] == ["shapes [precision=bf16]", "shapes [precision=float32]"]


def test_one_budget_of_few_methods_takes_nothing_from_the_rest(store: Store) -> None:
    climb(store, "a", 64000)
    (frame,) = scaling(found(store))
    assert [row[0].text for row in frame.rows] == ["a", "b"] and len(frame.header) == 1 + 3 + 2
    assert "without 64,000 samples, which not all of these methods have" in frame.notes


def test_what_is_left_out_is_named_with_its_trunk_where_there_are_several() -> None:
    same = {"a": 10.0, "b": 20.0}
    kept, names, notes = common([rung(1000, same), rung(4000, same), rung(4000, {"c": 5.0}, "vit-micro")])
    assert len(kept) == 2 and names == ["a", "b"]
    assert "without 4,000 samples on vit-micro, which not all of these methods have" in notes


def test_intervals_of_agreement_hold_what_is_true() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        small, large = np.linspace(30, 35, 8), np.linspace(40, 45, 8)
        small[[2, 3]], small[[5, 6]] = small[[3, 2]], small[[6, 5]]  # 26 of 28 pairs are alike
        noisy = [
            rung(n, {f"m{at}": one + 0.4 * draw.normal() for at, one in enumerate(of)}, apart=0.7)
            for n, of in ((100, small), (1000, large))
        ]
        (frame,) = foretelling([ladder(*noisy)])
        low, high = frame.rows[0][3].span or (0, 0)
        held += low <= 100 * 26 / 28 <= high
    assert held >= 36


def test_errors_have_digits_and_no_limit_below_nothing() -> None:
    rows = [rung(n, {"a": -0.3 - 0.2 * (n / 1000) ** -0.5, "b": -0.5}, apart=0.001) for n in SIZES]
    error = Score(value=0, low=0, high=0, unit="", better="lower", kind="mean", samples=100)
    turned = [replace(one, table=replace(one.table, columns=(Column("d", 1, "rmse", error),))) for one in rows]
    (frame,) = scaling([Ladder("shapes", "k", turned[0].table.columns[0], tuple(turned))])
    told = dict(zip(frame.header, frame.rows[0]))
    low, high = told["foretold"].span or (0, 0)
    assert low < 0.35 < high and told["foretold"].text.startswith("0.350 [") and told["off"].text == "+0.000"
    assert (told["limit"].span or (-1,))[0] >= 0 and told["limit"].text.startswith("0.300 [")


def test_shares_of_the_images_are_a_ladder_of_their_own(store: Store) -> None:
    for lift, (method, share) in enumerate((m, s) for s in ("25%", "50%") for m in ("a", "b")):
        climb(store, method, 4000, lift=2.0 * lift, first={"share": share})
    by_budget, by_share = found(store)
    assert [one.amount for one in by_budget.rungs] == [1000, 4000, 16000] and by_budget.title == "shapes"
    assert [one.said for one in by_share.rungs] == [f"{share} % of the images" for share in (25, 50, 100)]
    assert by_share.title == "shapes, samples=4000" and by_share.by == "share"
    _, frame = scaling([by_budget, by_share])
    assert frame.title == "shapes, samples=4000, vit-nano: knn top1 % ↑ (protocol 1) by share of the images"
    assert [value.text for value in frame.rows[0][1:4]] == ["21.0 ± 1.0", "25.0 ± 1.0", "26.0 ± 1.0"]
    assert frame.notes[-1].startswith("no two methods") and "at one share and" in frame.notes[-1]


def test_few_budgets_say_what_the_largest_has_more_than_the_smallest() -> None:
    rungs = [rung(n, {"slow": 30.0, "fast": 30 + at * 5, "less": 30 - at * 4}) for at, n in enumerate(SIZES[:3])]
    (frame, *_) = scaling([ladder(*rungs)])
    more = {one[0].text: one[-1] for one in frame.rows}
    first, last = (one.rows["fast"].cells[0].runs for one in (rungs[0], rungs[-1]))
    gap = difference(last, first)
    assert frame.header[-1] == "more" and gap is not None
    assert more["fast"].mean == pytest.approx(10) and more["fast"].span == gap.interval()
    assert more["fast"].text.startswith("+10.0 [") and more["less"].mean == pytest.approx(-8)
    assert "told from 0: fast, less (two-sided at 5 % for all rows, Holm)" in frame.notes[1]
    (flat, *_) = scaling([ladder(*(rung(n, {"slow": 30.0, "fast": 30.1}) for n in SIZES[:3]))])
    assert "none is told from 0" in flat.notes[1]


def test_does_a_smaller_share_order_as_all_images_do() -> None:
    order = {name: 20.0 + 5 * place for place, name in enumerate("abcd")}
    some, whole = (replace(rung(n, order), unit="% of the images") for n in (10.0, 100.0))
    (frame,) = foretelling([ladder(replace(some, rows={**whole.rows}), whole)])
    assert [row[1].text for row in frame.rows] == ["10 % of the images", "100 % of the images, the largest"]
    assert "have the largest share" in frame.notes[0] and frame.header[:2] == ("trunk", "share")
    wide = replace(whole, trunk="vit-micro")
    (alone,) = foretelling([ladder(replace(some, rows={**whole.rows}), whole, wide)])
    assert "vit-nano" in alone.title and alone.rows == frame.rows, "another trunk has no larger share"
