"""Budgets that grow: the law of their scores, which methods cross, and whether small tables order as the largest."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau

from ssbench.results.foretell import alike, foretelling
from ssbench.results.groups import groups
from ssbench.results.ladders import Ladder, Rung, ladders
from ssbench.results.laws import EXPONENTS, fitted
from ssbench.results.record import Record, Score
from ssbench.results.scaling import scaling
from ssbench.results.table import Row, Table
from ssbench.spec import Budget

from .records import done, spec
from .test_standing import row, side, table

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
    return Rung(table(*made), 0, trunk, "samples", amount)


def ladder(*rungs: Rung) -> Ladder:
    return Ladder("shapes", "k", rungs)


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
    assert "3 of 3 scores lie in the interval" in frame.notes[-2] and "no two methods" in frame.notes[-1]


def test_few_budgets_have_scores_and_no_law_and_two_have_neither() -> None:
    rungs = [rung(n, {"a": 20.0, "b": 30.0}) for n in SIZES]
    (frame,) = scaling([ladder(*rungs[:4])])
    assert frame.header[1:] == ("1,000 samples", "2,000 samples", "4,000 samples", "8,000 samples", "GFLOPs / image")
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
    assert alike(one, other) == pytest.approx(expected)
    assert alike(np.array([[1.0, 1.0]]), np.array([[1.0, 2.0]]))[0] == 0.5


def test_what_orders_as_the_largest_is_told_from_what_does_not() -> None:
    order = {name: 20.0 + 5 * place for place, name in enumerate("abcd")}
    backwards = {name: 60 - score for name, score in order.items()}
    close = {name: 30 + score / 100 for name, score in order.items()}
    rungs = rung(100, backwards), rung(200, close, apart=1.0), rung(400, order, "vit-micro"), rung(1000, order)
    (frame,) = foretelling([ladder(*rungs)])
    told = [dict(zip(frame.header, (value.text for value in of))) for of in frame.rows]
    assert [one["budget"] for one in told] == ["100 samples", "200 samples", "400 samples", "1,000 samples"]
    assert [one["trunk"] for one in told] == ["vit-nano", "vit-nano", "vit-micro", "vit-nano"]
    assert [one["same order %"] for one in (told[0], *told[2:])] == ["0 [0, 0]", "100 [100, 100]", "100 [100, 100]"]
    low, high = frame.rows[1][3].span or (0, 0)
    assert low < 50 < high, "an order that seeds do not tell is none"
    assert [one["tau"] for one in told] == ["-1.00", "1.00", "1.00", "1.00"]
    assert [one["told apart"] for one in told] == ["6 of 6", "0 of 6", "6 of 6", "6 of 6"]
    assert [one["told there"] for one in told] == ["0 of 6", "6 of 6", "6 of 6", "6 of 6"]
    assert told[3]["signal"] == "15.0" and told[3]["noise"] == "0.2" and told[3]["s / n"] == "75.0"


def test_few_methods_and_single_tables_foretell_nothing() -> None:
    three = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert not foretelling([ladder(rung(1, three), rung(2, three))])
    assert not foretelling([ladder(rung(1, three), rung(2, three | {"d": 4.0}))])


def record(method: str, amount: int, backbone: str = "vit-nano", **about: object) -> Record:
    score = Score(value=1, low=0, high=2, unit="%", better="higher", kind="mean", samples=9)
    budget = Budget(unit="samples", amount=amount)
    return done(spec(method, backbone=backbone, budget=budget, about=about or None), "top1", score)


def test_tables_of_one_data_set_and_recipe_are_a_ladder_and_no_others() -> None:
    kin = [record("a", 1000), record("a", 4000), record("a", 1000, "vit-micro")]
    other = record("a", 9000, recipe="own")
    found = groups([*kin, other])

    def blank() -> Table:
        return table(near(1, 0))

    (made,) = ladders(found, [blank() for _ in found])
    assert [(one.amount, one.trunk) for one in made.rungs] == [
        (1000, "vit-micro"),
        (1000, "vit-nano"),
        (4000, "vit-nano"),
    ]
    assert made.title == "shapes" and made.column.task == "knn"
    assert not ladders(found[:1], [blank()])
