from itertools import combinations

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import rankdata, t

from ssbench.results.bootstrap import DRAWS
from ssbench.results.record import Score
from ssbench.results.standing import compared, lettered, standing
from ssbench.results.stats import Run, Side, ahead, beliefs, holm, smallest
from ssbench.results.table import Cell, Column, Row, Table

TOP1 = Score(value=0, low=0, high=0, unit="%", better="higher", kind="accuracy", samples=100)


def side(*values: float, spread: float = 0.3, seed: int = 0) -> Side:
    """Runs with these scores; the noise of test samples is their own."""
    draw = np.random.default_rng(seed)
    return {at: Run(value, value + spread * draw.normal(size=DRAWS), 100) for at, value in enumerate(values)}


def row(name: str, *sides: Side, role: str = "", labels: bool = False, parameters: float = 1e5) -> Row:
    cells = tuple(Cell(tuple(run.value for run in one.values()), "done", runs=one) for one in sides)
    return Row(name, role, labels, cells, False, 100.0, 1.0, 1.0, parameters)


def table(*rows: Row, tasks: tuple[str, ...] = ("knn",)) -> Table:
    return Table("t", "shapes", tuple(Column(task, 1, "top1", TOP1) for task in tasks), rows, (), ())


def near(mean: float, seed: int = 0) -> Side:
    return side(mean - 0.2, mean, mean + 0.2, seed=seed)


CONTROLS = (
    row("random-init", near(20), role="floor"),
    row("raw-pixels", near(10), role="floor", parameters=0),
    row("supervised", near(60), role="ceiling", labels=True),
)


def shown(one: Table) -> dict[str, dict[str, str]]:
    (frame,) = standing([one])
    return {of[0].text: dict(zip(frame.header, (value.text for value in of))) for of in frame.rows}


def test_rows_stand_by_average_rank_with_letters_wins_and_skill() -> None:
    found = shown(table(row("best", near(50)), row("twin", near(49.9, 5)), row("worse", near(30)), *CONTROLS))
    assert [*found] == ["best", "twin", "worse", "random-init", "raw-pixels"]  # what sees labels has no rank
    header = "knn top1 % ↑ (protocol 1)"
    assert [of[header].split()[1] for of in found.values()] == ["a", "a", "b", "c", "d"]
    assert found["best"]["wins–ties–losses"] == "3–1–0" and found["best"]["win rate %"] == "88"
    assert found["raw-pixels"]["wins–ties–losses"] == "0–0–4"
    assert found["best"]["skill %"].startswith("75 [") and found["worse"]["skill %"].startswith("25 [")
    assert found["random-init"]["skill %"] == "–" and found["raw-pixels"]["skill %"].startswith("-25 [")
    assert found["best"]["average rank"].startswith("1.0 [1.0,") and found["best"]["average rank"].endswith("2.0]")


def test_letters_say_what_the_tests_say() -> None:
    """Two rows share a letter where their p is above 5 %, and only there; as statsmodels' Holm has it."""
    from statsmodels.stats.multitest import multipletests

    draw = np.random.default_rng(1)
    rows = [row(str(at), side(*draw.normal(3 * at, 0.8, 4), seed=at), side(*draw.normal(at, 1, 4))) for at in range(7)]
    one, two = compared(rows, [0, 1])
    plain, both = [], []
    for at, pairs in ((0, one), (1, two)):
        for a, b in combinations(rows, 2):
            ways = ahead(a.cells[at].runs, b.cells[at].runs), ahead(b.cells[at].runs, a.cells[at].runs)
            plain.append(min(2 * min(ways), 1.0))
            both.append(pairs[(a.name, b.name) if (a.name, b.name) in pairs else (b.name, a.name)])
    slow = multipletests(plain, method="holm")[1]
    np.testing.assert_allclose(both, slow, atol=1e-6)
    for at, pairs in ((0, one), (1, two)):
        letters = lettered(rows, at, pairs)
        for (better, worse), p in pairs.items():
            assert bool({*letters[better]} & {*letters[worse]}) == (p > 0.05)
    assert {p <= 0.05 for p in one.values()} == {True, False}


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    found = np.random.default_rng(0).random(30) ** 3
    np.testing.assert_allclose(holm(found.tolist()), multipletests(found, method="holm")[1])


def test_too_few_seeds_are_compared_with_nothing() -> None:
    rows = [row("a", side(1, 2, 3)), row("b", side(9, 9, 9)), row("c", side(5, 5))]
    assert not standing([table(*rows)])  # two rows are no order
    (pairs,) = compared(rows, [0])
    assert [*pairs] == [("b", "a")]


def test_without_a_ceiling_that_is_ahead_there_is_no_skill() -> None:
    low = row("supervised", near(20.1, 3), role="ceiling", labels=True)
    (frame,) = standing([table(row("simclr", near(30)), *CONTROLS[:2], low)])
    assert "there is no skill: supervised is not shown to be ahead of random-init" in frame.notes
    assert all(of[2].text == "–" for of in frame.rows)
    (frame,) = standing([table(row("simclr", near(30), near(30)), *(
        row(one.name, one.cells[0].runs, other, role=one.role, labels=one.labels, parameters=one.parameters or 0)
        for one, other in zip(CONTROLS, (near(20), near(10), near(20, 3)))), tasks=("knn", "finetune"))])  # fmt: skip
    (note,) = [one for one in frame.notes if one.startswith("skill")]
    assert "(not finetune, where it is not shown to be)" in note
    assert frame.rows[0][3].text.startswith("25 [")  # of knn alone


def test_what_is_left_out_and_how_much_letters_tell_is_said() -> None:
    half = row("half", near(30), side(30))
    (frame,) = standing([table(*(row(name, near(at), near(at)) for name, at in (("a", 50), ("b", 50), ("c", 20))), half,
                               tasks=("knn", "linear-probe"))])  # fmt: skip
    assert "skill and average rank: over knn alone, which the most rows have" not in frame.notes
    assert "without skill and rank, since they lack 3 seeds in a column of these: half" in frame.notes
    assert "7 of 9 pairs are told apart" in frame.notes
    assert [of[0].text for of in frame.rows][-1] == "half"
    assert [of.text for of in frame.rows[-1]][1:4] == ["30.0 b", "–", "–"] and frame.rows[-1][-1].text == "–"


def test_a_task_that_few_rows_have_takes_nothing_from_the_order_of_all() -> None:
    few = [row(name, near(at), near(at + 5)) for name, at in (("a", 50), ("b", 40))]
    many = [row(name, near(at), side()) for name, at in (("c", 45), ("d", 30), ("e", 20))]
    (frame,) = standing([table(*few, *many, tasks=("knn", "finetune"))])
    assert [of[0].text for of in frame.rows] == ["a", "c", "b", "d", "e"]
    assert [of[2].text for of in frame.rows] == ["55.0 a", "–", "45.0 b", "–", "–"]
    assert "skill and average rank: over knn alone, which the most rows have" in frame.notes
    assert "11 of 11 pairs are told apart" in frame.notes
    (frame,) = standing([table(*many, row("alone", side(), near(9)), tasks=("knn", "finetune"))])
    assert [of.text for of in frame.rows[-1]] == ["alone", "–", "9.0 a", "–", "–", "–", "–"]


def test_diagnostics_have_no_say() -> None:
    rows = (row("a", near(1), near(9)), row("b", near(5), near(2)), row("c", near(9), near(1)))
    assert [*shown(table(*rows, tasks=("knn", "diagnostics")))] == ["c", "b", "a"]


def test_a_rank_is_the_mean_of_ranks_over_columns() -> None:
    rows = [row("a", near(9), near(1)), row("b", near(5), near(5)), row("c", near(1), near(3))]
    found = shown(table(*rows, tasks=("knn", "linear-probe")))
    slow = np.mean([rankdata([-9, -5, -1]), rankdata([-1, -5, -3])], 0)
    assert {name: float(of["average rank"].split()[0]) for name, of in found.items()} == dict(zip("abc", slow))


def covered(draw: Generator, seeds: int, samples: float) -> bool:
    """Whether the middle 95 % of what a mean may be holds the truth, 0."""
    common = samples * draw.normal()  # what these test samples do to all seeds
    noise = samples * draw.normal(size=DRAWS)
    values = common + draw.normal(size=seeds)
    (found,) = beliefs([{at: Run(v, v + noise, 100) for at, v in enumerate(values)}], str(draw.integers(2**31)))
    low, high = np.percentile(found, [2.5, 97.5])
    return bool(low <= 0 <= high)


@pytest.mark.parametrize(("seeds", "samples"), [(3, 0.0), (3, 1.0), (5, 0.5)])
def test_what_a_mean_may_be_holds_the_truth_in_95_of_100(seeds: int, samples: float) -> None:
    draw = np.random.default_rng(0)
    assert 0.93 <= np.mean([covered(draw, seeds, samples) for _ in range(2000)]) <= 0.985


def test_without_noise_of_test_samples_it_is_students_t() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    (found,) = beliefs([{at: Run(v, np.full(DRAWS, v), 9) for at, v in enumerate(values)}], "a row")
    expected = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    np.testing.assert_allclose(np.percentile(found, [2.5, 97.5]), expected, atol=0.35)  # three errors of 2,000 draws


def test_columns_of_a_row_move_together_as_their_seeds_do() -> None:
    one, other, still = side(1, 2, 3, 4), side(10, 20, 30, 40), side(4, 3, 2, 1)
    up, high, down = beliefs([one, other, still], "a row")
    assert np.corrcoef(up, high)[0, 1] > 0.9 and np.corrcoef(up, down)[0, 1] < -0.8


@pytest.mark.parametrize(("error", "seeds", "shared"), [(1.0, 3, 0.0), (0.5, 3, 0.7), (0.3, 8, 0.1)])
def test_the_smallest_difference_is_seen_in_4_of_5_cases(error: float, seeds: int, shared: float) -> None:
    """Errors are of the difference of two rows; each has half of the variance."""
    draw, seen, tries = np.random.default_rng(0), 0, 600
    true = smallest(error, 2 * (seeds - 1), shared)
    for _ in range(tries):
        common, noise = shared * draw.normal(), shared * draw.normal(size=DRAWS)
        each = error * np.sqrt(seeds / 2)
        one = {at: Run(v, v + noise, 9) for at, v in enumerate(true + common + each * draw.normal(size=seeds))}
        other = {at: Run(v, np.full(DRAWS, v), 9) for at, v in enumerate(each * draw.normal(size=seeds))}
        seen += ahead(one, other) <= 0.05
    assert 0.74 <= seen / tries <= 0.87
