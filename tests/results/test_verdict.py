"""What is said of a table is what its tests say: no winner that they do not name, ties said, broken rows named."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from ssbench.results.marks import leaders
from ssbench.results.notes import MACHINES
from ssbench.results.stats import LEVEL, ahead, holm, moderated
from ssbench.results.table import Cell, Row, Table
from ssbench.results.verdict import verdict

from .test_standing import CONTROLS, near, row, side, table

TASKS = ("knn", "linear-probe")


def marked(*rows: Row, tasks: tuple[str, ...] = ("knn",)) -> Table:
    """With bold cells as a table has them."""
    made = table(*rows, tasks=tasks)
    barred = {one.name for one in rows if one.control}
    best = leaders(
        {
            at: {one.name: one.cells[at].runs for one in rows if not one.labels and one.cells[at].runs}
            for at in range(len(tasks))
        },
        barred,
    )
    walls = [one for one in rows if one.role == "floor"]
    worst = {
        (one.name, at): max(2.0 if isnan(p) else p for p in found)
        for one in rows
        for at, cell in enumerate(one.cells)
        if cell.runs and not (one.control or one.labels)
        if (found := [ahead(cell.runs, wall.cells[at].runs) for wall in walls if wall.cells[at].runs])
    }
    known = {key: p for key, p in worst.items() if p <= 1}
    behind = worst.keys() - {key for key, p in zip(known, holm([*known.values()])) if p <= LEVEL}

    def mark(one: Row) -> Row:
        marked = [(best.get(at) == one.name, (one.name, at) in behind) for at in range(len(one.cells))]
        return replace(
            one, cells=tuple(replace(cell, bold=bold, behind=low) for cell, (bold, low) in zip(one.cells, marked))
        )

    return replace(made, rows=tuple(map(mark, rows)))


def both(one: Row) -> Row:
    """The same in two tasks."""
    return replace(one, cells=(*one.cells, *one.cells))


def test_a_row_that_is_ahead_of_all_is_to_be_taken() -> None:
    answer, told = verdict(marked(row("simclr", near(50)), row("byol", near(30, 1)), *CONTROLS))
    assert answer.startswith("Take simclr for this data at this budget (shapes): it is ahead of every other row")
    assert told.startswith("knn: simclr has the best mean but for controls, 50.0 ± 0.2, 20.0 (")
    assert told.endswith(" above byol, and ahead of every other row.")


def test_what_can_not_be_told_apart_is_said_with_its_costs_and_what_would_tell() -> None:
    slow = replace(row("simclr", side(49, 50, 51)), seconds=100.0)
    fast = replace(row("byol", side(48.6, 49.7, 50.6, seed=1)), seconds=20.0)
    answer, told = verdict(marked(slow, fast, row("worse", near(25)), *CONTROLS))
    assert answer.startswith("Take simclr, or at less cost byol (20 s instead of 100 s), for this data at this budget")
    assert "of simclr, byol none is shown to be behind the best of any task" in answer
    assert "can't be told from byol; it is 0.4 (" in told and told.endswith(
        " seeds would show in 4 of 5 tests of these two alone."
    )
    same = verdict(marked(slow, replace(fast, seconds=95.0), *CONTROLS))[0]
    assert same.startswith("Take simclr, for this")  # a tenth is no difference of costs


def test_where_nothing_is_ahead_of_the_controls_nothing_is_to_be_taken() -> None:
    answer, told = verdict(marked(row("simclr", near(20.1)), row("byol", near(12, 1)), *CONTROLS))
    assert answer.startswith("Take none yet") and "ahead of random-init in any task" in answer
    assert told.endswith("20.1 ± 0.2, and is not shown to be ahead of random-init (20.0).")


def test_a_task_in_which_pixels_are_best_is_set_apart() -> None:
    rows = [row("simclr", near(50), near(50)), row("byol", near(30, 1), near(30, 1))]
    high = Cell((70.0,), "done", runs=near(70))
    walls = [replace(one, cells=(one.cells[0], high if one.name == "raw-pixels" else one.cells[0])) for one in CONTROLS]
    answer = verdict(marked(*rows, *walls, tasks=TASKS))[0]
    assert answer.startswith("Take simclr") and answer.endswith(
        ", but in linear-probe, where nothing trained is shown to be ahead of raw-pixels "
        "(at 5 % for all rows and tasks together)."
    )


def test_a_control_that_one_task_does_not_apply_to_counts_in_the_others() -> None:
    """Pixels can't be fine-tuned, and are ahead in k-NN."""
    rows = [row("simclr", near(50), near(50)), row("byol", near(30, 1), near(30, 1))]
    untrained, pixels, ceiling = CONTROLS
    walls = [
        both(untrained),
        replace(pixels, cells=(Cell(runs=near(70)), Cell(status="not-applicable"))),
        both(ceiling),
    ]
    made = marked(*rows, *walls, tasks=("knn", "finetune"))
    answer, knn, finetune = verdict(made)
    assert ", but in knn, where nothing trained is shown to be ahead of raw-pixels (at 5 %" in answer
    assert "is not shown to be ahead of raw-pixels" in knn and finetune.endswith("and ahead of every other row.")


def test_what_can_not_be_compared_is_not_beaten() -> None:
    """A rival of one seed, and one of other test samples."""
    other = {at: replace(run, samples=77) for at, run in near(10).items()}
    told = verdict(marked(row("simclr", near(50)), row("byol", side(20)), row("dino", other), *CONTROLS))[1]
    assert "can't be told from byol, dino" in told and "ahead of every other row" not in told


def test_tasks_that_disagree_are_said_to() -> None:
    rows = [row("simclr", near(50), near(30)), row("byol", near(30, 1), near(50, 1))]
    answer = verdict(marked(*rows, *map(both, CONTROLS), tasks=TASKS))[0]
    assert answer.startswith("It depends on the task") and "no row is among the best of each" in answer


def test_what_sees_labels_is_never_taken() -> None:
    answer = verdict(marked(row("supcon (labels)", near(70), labels=True), row("simclr", near(50)), *CONTROLS))[0]
    assert answer.startswith("Take simclr")


def test_broken_rows_are_named_whatever_the_answer() -> None:
    cell = Cell((9.0,), "done", notes=(1,), runs=side(9, 9.1, 9.2))
    bad = replace(row("swav", near(9)), cells=(cell,))
    gone = replace(row("dino", near(9)), cells=(Cell(status="failed", notes=(2,)),))
    made = marked(row("simclr", near(50)), bad, gone, *CONTROLS)
    made = replace(made, footnotes=("seed 0: collapsed or hardly trained: its loss", "failed: out of memory"))
    assert verdict(made)[-1] == (
        "Broken: swav (seed 0: collapsed or hardly trained: its loss); dino (failed: out of memory)."
    )


def test_a_row_that_looks_broken_is_not_recommended_without_a_word() -> None:
    best = row("simclr", near(50))
    best = replace(best, cells=tuple(replace(cell, notes=(1,)) for cell in best.cells))
    made = replace(marked(best, row("byol", near(30, 1)), *CONTROLS), footnotes=("collapsed or hardly trained",))
    answer, caution, *_ = verdict(made)
    slow, fast = (
        replace(row("dino", side(49, 50, 51)), seconds=100.0),
        replace(row("byol", side(48.6, 49.7, 50.6)), seconds=20.0),
    )
    fast = replace(fast, cells=tuple(replace(cell, notes=(1,)) for cell in fast.cells))
    other = replace(marked(slow, fast, *CONTROLS), footnotes=("collapsed or hardly trained",))
    assert verdict(other)[1] == "But the training of byol looks collapsed or has failed; see below."  # which costs less
    assert (
        answer.startswith("Take simclr")
        and caution == "But the training of simclr looks collapsed or has failed; see below."
    )


def test_what_looks_collapsed_and_is_ahead_of_the_controls_is_odd_not_broken() -> None:
    rows = [row("simclr", near(50)), row("byol", near(30, 1)), row("swav", near(9, 2))]
    noted = [replace(one, cells=tuple(replace(cell, notes=(1,)) for cell in one.cells)) for one in rows[1:]]
    made = replace(marked(rows[0], *noted, *CONTROLS), footnotes=("seed 0: collapsed or hardly trained",))
    *_, broken, odd = verdict(made)
    assert broken == "Broken: swav (seed 0: collapsed or hardly trained)."
    assert odd == "Odd: these look collapsed by their losses, yet are ahead of the controls: byol (in knn)."


def test_a_row_of_one_seed_is_not_taken_for_being_untested() -> None:
    answer, caution, told = verdict(marked(row("simclr", near(41)), row("byol", side(99.0)), *CONTROLS))
    assert answer.startswith("Take simclr") and "can't be told from byol" in told
    assert caution == "Not tested, since it has fewer than 3 seeds, and higher: byol (99.0 in knn)."
    assert told.startswith("knn: simclr has the best mean of what has 3 seeds, 41.0")


def test_what_is_ahead_but_lost_a_seed_is_said_to_have() -> None:
    made = marked(row("simclr", near(60)), row("byol", near(30, 1)), *CONTROLS)
    lead, *others = made.rows
    cell = replace(lead.cells[0], bold=False, ids=("a", "b", "c", "d"), notes=(1,))
    lost = replace(made, rows=(replace(lead, cells=(cell,)), *others), footnotes=("seed 3 failed: loss is nan",))
    answer, caution, told, broken = verdict(lost)
    assert answer.startswith("Take simclr")
    assert caution == "But the training of simclr looks collapsed or has failed; see below."
    assert broken == "Broken: simclr (seed 3 failed: loss is nan)."  # a lost seed is no matter of its loss
    assert told.endswith("above byol, and ahead of every other row; nothing is bold there, since a seed of it failed.")


def test_a_note_about_old_code_is_not_what_is_broken_and_rows_with_labels_are_not_odd() -> None:
    noted = replace(row("supcon (labels)", near(11), labels=True))
    noted = replace(noted, cells=tuple(replace(cell, notes=(1, 2)) for cell in noted.cells))
    made = replace(marked(row("simclr", near(50)), noted, *CONTROLS), footnotes=("older code", "seed 0: collapsed"))
    assert verdict(made)[-1] == "Broken: supcon (labels) (seed 0: collapsed)."


def test_without_three_seeds_or_anything_trained_there_is_no_answer() -> None:
    assert verdict(marked(row("simclr", side(1, 2)), *CONTROLS)) == [
        "No answer yet: a test needs 3 seeds of each row in a task, and there are 2; say --seeds 0-2."
    ]
    (said,) = verdict(marked(*CONTROLS))
    assert said.startswith("There are controls")


@pytest.mark.parametrize("seed", range(40))
def test_no_winner_is_named_that_the_test_does_not(seed: int) -> None:
    draw = np.random.default_rng(seed)
    gap = draw.choice([0.0, 1.0, 4.0])
    rows = [
        row(f"m{at}", *(side(*draw.normal(40 + gap * at, 1, 3), seed=int(draw.integers(99))) for _ in TASKS))
        for at in range(4)
    ]
    made = marked(*rows, *map(both, CONTROLS), tasks=TASKS)
    answer, *told = verdict(made)
    bold = {one.name for one in made.rows if any(cell.bold for cell in one.cells)}
    ahead = [line for line in (answer, *told) if "ahead of every other row" in line]
    assert all(any(name in line for name in bold) for line in ahead)
    each = [all(cell.bold for cell in one.cells) for one in made.rows]
    assert ("it is ahead of every other row" in answer) == any(each)
    for at, line in enumerate(told[: len(TASKS)]):
        assert ("and ahead of every other row" in line) == any(one.cells[at].bold for one in made.rows)


def test_what_is_not_shown_to_be_ahead_of_the_floors_is_not_taken_for_being_tied() -> None:
    """Not even at less cost: byol's seeds lie far apart."""
    rows = [
        replace(row("simclr", side(39, 40, 41)), seconds=100.0),
        replace(row("byol", side(10, 33, 60, seed=1)), seconds=9.0),
    ]
    made = marked(*rows, *CONTROLS)
    assert made.rows[1].cells[0].behind and not made.rows[0].cells[0].behind
    answer, told = verdict(made)
    assert answer.startswith("Take simclr for this data") and "byol" not in answer
    assert "it alone is ahead of the controls and not shown to be behind the best" in answer
    assert "can't be told from byol" in told


def test_of_rows_of_which_the_highest_is_uncertain_the_best_that_is_ahead_of_the_floors_is_taken() -> None:
    made = marked(row("byol", side(14, 45, 70, seed=1)), row("simclr", side(39, 40, 41)), *CONTROLS)
    assert made.rows[0].cells[0].behind and not made.rows[1].cells[0].behind
    answer, told = verdict(made)
    assert answer.startswith("Take simclr for this data") and "byol" not in answer
    assert told == (
        "knn: simclr has the best mean of what is shown to be ahead of the controls, 40.0 ± 1.0, "
        "and can't be told from byol; byol has 43.0 ± 28.1."
    )


def test_a_floor_that_was_not_run_has_not_been_beaten() -> None:
    rows = [row("simclr", side(49, 50, 51)), row("byol", side(48.6, 49.7, 50.6, seed=1))]
    untrained, *others = CONTROLS
    gone = replace(untrained, cells=(Cell(),))
    answer, told = verdict(marked(*rows, gone, *others))
    assert answer.startswith("Take none yet")
    assert "nothing is shown to be ahead of random-init, which failed or was not run in any task" in answer
    assert told.endswith("is not shown to be ahead of random-init, which failed or was not run.")


def test_of_other_machines_work_is_compared_and_not_seconds() -> None:
    slow = replace(row("simclr", side(49, 50, 51)), seconds=6.0, gflops=2.0)
    fast = replace(row("byol", side(48.6, 49.7, 50.6, seed=1)), seconds=32.0, gflops=1.0)
    made = replace(marked(slow, fast, *CONTROLS), notes=(f"its records were made on cpu, cuda: {MACHINES}",))
    assert verdict(made)[0].startswith("Take simclr, or at less cost byol (100 GFLOPs instead of 200 GFLOPs)")


def test_what_two_rows_alone_would_show_is_not_promised_of_more_seeds() -> None:
    rivals = [row(f"m{at}", side(*(45 + draw for draw in (-0.6, 0.1, 0.5)), seed=at)) for at in range(1, 25)]
    best = row("simclr", side(45.9, 46.1, 46.6))
    found = verdict(marked(best, *rivals, *CONTROLS))
    (told,) = [line for line in found if line.startswith("knn: ")]
    low = float(told.split(" (")[-1].split(" to ")[0])
    assert "can't be told from" in told and low > 0
    assert told.endswith("which a test of these two alone shows, and one beside all rivals does not.")


def test_where_every_run_failed_no_seeds_are_asked_for() -> None:
    made = marked(*CONTROLS)
    lost = replace(row("simclr", side()), cells=(Cell(status="failed", notes=(1,)),))
    answer, broken = verdict(replace(made, rows=(lost, *made.rows), footnotes=("failed: out of memory",)))
    assert answer == "No answer: none of the runs that judge was done; see below, or ssbench run again."
    assert broken == "Broken: simclr (failed: out of memory)."


@pytest.mark.parametrize("methods", [1, 6, 20])
def test_rows_that_equal_the_floor_are_seldom_to_be_taken(methods: int) -> None:
    """Of 200 tables without any difference at most one in twenty, and what chance adds to that."""
    draw, taken = np.random.default_rng(methods), 0
    for _ in range(200):
        columns = []
        for _ in TASKS:  # variances of a column's rows count together, as in a table
            many = {f"m{at}": draw.normal(30, 1, 3) for at in range(methods)} | {"random-init": draw.normal(30, 1, 10)}
            columns.append(moderated({k: side(*v, seed=int(draw.integers(10**9))) for k, v in many.items()}))
        names = [*columns[0]]
        rows = [row(k, *(of[k] for of in columns), role="floor" * (k == "random-init")) for k in names]
        taken += not verdict(marked(*rows, tasks=TASKS))[0].startswith("Take none yet")
    assert taken <= 10 + 2 * 3.1  # two deviations of 5 % of 200


def test_a_task_of_few_rows_has_no_say_over_all_of_them() -> None:
    few = [row(name, near(at), near(at + 5)) for name, at in (("a", 40), ("b", 30))]
    many = [row(name, near(at), side()) for name, at in (("c", 60), ("d", 25), ("e", 20))]
    answer, caution, *_ = verdict(marked(*few, *many, *map(both, CONTROLS), tasks=("knn", "finetune")))
    assert answer.startswith("Take c for this data")
    assert caution == "Only some rows were judged by finetune: no part of this answer."
