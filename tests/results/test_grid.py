from io import StringIO
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import mean, stdev
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ssbench.results import stats
from ssbench.results.grid import Frame, Pivot, Value, _whole, grids, measures, optima, pivots, selection
from ssbench.results.groups import groups
from ssbench.results.metrics import score
from ssbench.results.naming import canonical
from ssbench.results.record import Record, Score
from ssbench.results.render import Shown, csv, latex, markdown, readme, write
from ssbench.results.store import Store
from ssbench.results.table import build
from ssbench.spec import DataRef

from .records import CREATED, SHAPES, spec

PHOTOS = DataRef(name="photos", fingerprint="f1", settings={})
CONTROLS = {"random-init": "floor", "supervised": "ceiling"}
SLUG = "shapes-vit-nano-samples-1000"
Hits = NDArray[np.bool_]


def hits(value: float) -> Hits:
    """200 test samples of which `value` % are right, in steps of 0.5; better ones are right where worse ones are."""
    return np.arange(200) < round(2 * value)


def make(
    store: Store,
    settings: dict[str, Any],
    *values: float | Hits,
    method: str = "mim",
    task: str = "knn",
    data: DataRef = SHAPES,
    better: Literal["higher", "lower"] = "higher",
    status: Literal["done", "failed"] = "done",
    select: float | None = None,
    seeds: tuple[int, ...] = (),
    version: int = 1,
    own: float = 0,
    **record: Any,
) -> None:
    """One record a seed, from its accuracy or its hits on the test samples; `select` is its score on the held-out,
    `own` a rate of its own."""
    for seed, value in zip(seeds or range(len(values)), values):
        rate: dict[str, Any] = {"train": {"lr": own}, "about": {"recipe": "own"}} if own else {}
        of = spec(method, seed, task, data, settings=settings, version=version, **rate)
        arrays = {
            "predicted": (value if isinstance(value, np.ndarray) else hits(value)).astype(np.int64),
            "truth": np.ones(200, np.int64),
        }
        accuracy = score("accuracy", arrays)
        top1 = Score(value=accuracy, low=0, high=0, unit="%", better=better, kind="accuracy", samples=200)
        chosen = {} if select is None else {"selected": {"lr": 0.1, "select_top1": select}}
        told: dict[str, Any] = {"headline": "top1", "scores": {"top1": top1}} if status == "done" else {}
        told = told | chosen | record
        blank = Record(id=of.id, status=status, spec=of, created=CREATED)
        store.write(blank.model_copy(update=told), {"top1": arrays} if status == "done" else {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def found(store: Store) -> list[Pivot]:
    return pivots(store, groups(store.all()))


def only(store: Store) -> Frame:
    (frame,) = grids(found(store))
    return frame


def texts(frame: Frame) -> list[list[str]]:
    return [[value.text for value in row] for row in frame.rows]


def bold(frame: Frame) -> list[tuple[int, int]]:
    return [(r, c) for r, row in enumerate(frame.rows) for c, value in enumerate(row) if value.bold]


def square(store: Store, **options: Any) -> dict[tuple[str, str], list[float]]:
    """Two masks by two targets, three seeds; the values by mask and target."""
    values = {
        (mask, target): [40.0 + 8 * i + 2 * j + seed / 2 for seed in range(3)]
        for i, mask in enumerate(("block", "random"))
        for j, target in enumerate(("hog", "pixels"))
    }
    for (mask, target), scores in values.items():
        make(store, {"mask": mask, "target": target, "p": 2.0}, *scores, **options)
    return values


def test_a_cell_is_the_mean_and_deviation_of_the_runs_with_its_two_settings(store: Store) -> None:
    values = square(store)
    frame = only(store)
    assert frame.slug == f"{SLUG}-grid-knn-mim-mask-by-target"
    assert frame.title == "shapes, vit-nano, samples=1000, 3 seeds: mim, knn top1 % ↑ (protocol 1), mask by target"
    assert frame.header == ("mask", "target=hog", "target=pixels")
    for row in frame.rows:
        for name, value in zip(("hog", "pixels"), row[1:]):
            runs = [
                record.scores["top1"].value
                for record in store.all()
                if (record.spec.pretraining.settings["mask"], record.spec.pretraining.settings["target"])
                == (row[0].text, name)
            ]
            assert sorted(runs) == values[row[0].text, name]
            assert value.mean == pytest.approx(sum(runs) / 3) and value.sd == pytest.approx(stdev(runs))
            assert value.text == f"{mean(runs):.1f} ± 0.5"


def test_only_the_cell_that_is_really_ahead_of_all_others_is_bold(store: Store) -> None:
    square(store)
    assert bold(only(store)) == [(1, 2)]
    make(store, {"mask": "random", "target": "pixels", "p": 2.0}, 30, 50, 70)  # as good, but its seeds disagree
    assert bold(only(store)) == []


def test_one_seed_has_no_deviation_and_no_leader(store: Store) -> None:
    for mask in "ab":
        for target in "cd":
            make(store, {"mask": mask, "target": target}, 50 if mask == "a" else 90)
    assert bold(only(store)) == [] and texts(only(store))[0] == ["a", "50.0", "50.0"]


def test_numbers_are_columns_and_stand_by_size(store: Store) -> None:
    for ratio in (0.5, 0.25, 0.125, 1.0):
        for mask in ("block", "random"):
            make(store, {"mask": mask, "ratio": ratio}, 50)
    assert only(store).header[:5] == ("mask", "ratio=0.125", "ratio=0.25", "ratio=0.5", "ratio=1.0")


def test_of_two_names_that_with_more_values_is_rows_and_of_two_numbers_that_with_more_is_columns(store: Store) -> None:
    for many in (2, 10, 9):
        for few in (1, 2):
            make(store, {"a": few, "b": many}, 50, method="numbers")
            make(store, {"a": str(few), "b": str(many)}, 50, method="texts")
    names, numbers = sorted(grids(found(store)), key=lambda frame: "numbers" in frame.slug)
    assert names.header == ("b", "a=1", "a=2") and [row[0].text for row in names.rows] == ["10", "2", "9"]
    assert numbers.header[:4] == ("a", "b=2", "b=9", "b=10")


def test_what_only_some_variants_have_is_a_consequence(store: Store) -> None:
    for target in ("hog", "pixels"):
        make(store, {"mask": "random", "target": target}, 50)
        make(store, {"mask": "adaptive", "target": target, "tau": 1.0}, 60)
    assert only(store).slug.endswith("mask-by-target")


def test_variants_that_would_share_a_cell_make_no_grid(store: Store) -> None:
    square(store)
    make(store, {"mask": "block", "target": "hog", "p": 2.0, "tau": 1.0}, 50)
    assert found(store) == []


@pytest.mark.parametrize(
    "variants",
    [
        [{"a": 1}, {"a": 2}],
        [{"a": 1, "b": 1}, {"a": 1, "b": 2}],
        [{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 1}, {"a": 2, "b": 1, "c": 2}],
        [{"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 1}, {"a": 1, "b": 1, "c": 2}],
        [{"a": 1, "b": 1}, {"a": 2, "c": 1}],
        [{}],
    ],
    ids=str,
)
def test_what_is_no_product_of_two_settings_makes_no_grid(store: Store, variants: list[dict[str, Any]]) -> None:
    for settings in variants:
        make(store, settings, 50)
    assert found(store) == []


def two_suites(store: Store) -> None:
    """Masks by ratio at one target, and masks by target at one ratio; one cell of the latter failed."""
    for mask in ("block", "random"):
        for ratio in (0.25, 0.5, 0.75):
            make(store, {"mask": mask, "ratio": ratio, "target": "pixels"}, 50)
        make(store, {"mask": mask, "ratio": 0.75, "target": "hog"}, 50)
        make(store, {"mask": mask, "ratio": 0.75, "target": "vit"}, 60, status="done" if mask == "block" else "failed")


def test_two_suites_in_one_folder_make_the_grids_of_each(store: Store) -> None:
    two_suites(store)
    frames = {frame.slug.partition("-grid-knn-mim-")[2]: frame for frame in grids(found(store))}
    assert [*frames] == ["mask-by-ratio-at-target-pixels", "target-by-mask-at-ratio-0-75"]
    assert [frame.title.partition("1), ")[2] for frame in frames.values()] == [
        "mask by ratio at target=pixels",
        "target by mask at ratio=0.75",
    ]
    assert texts([*frames.values()][1]) == [["hog", "50.0", "50.0"], ["pixels", "50.0", "50.0"], ["vit", "60.0", "–"]]
    (frame,) = optima(found(store))
    assert [row[3] for row in texts(frame)] == [f"mask={mask}, target=pixels" for mask in ("block", "random")]


def test_a_row_that_another_suite_ran_in_part_is_left_out(store: Store) -> None:
    two_suites(store)
    make(store, {"mask": "object", "target": "pixels", "ratio": 0.75}, 40, 41)
    make(store, {"mask": "object", "target": "hog", "ratio": 0.75}, 40, 41)
    rows = {frame.slug.partition("-mim-")[2]: [row[0].text for row in frame.rows] for frame in grids(found(store))}
    assert "object" not in rows["mask-by-ratio-at-target-pixels"] and len(rows["mask-by-ratio-at-target-pixels"]) == 2


def test_a_column_that_another_suite_ran_in_part_is_left_out(store: Store) -> None:
    two_suites(store)
    (before,) = [f for f in grids(found(store)) if "target-by-mask" in f.slug or "mask-by-target" in f.slug]
    for ratio in (0.25, 0.5, 0.75):
        make(store, {"mask": "window", "target": "pixels", "ratio": ratio}, 40, 41)
    frames = {frame.slug.partition("-mim-")[2]: frame for frame in grids(found(store))}
    assert frames[before.slug.partition("-mim-")[2]] == before
    assert "window" in [row[0].text for row in frames["mask-by-ratio-at-target-pixels"].rows]


def test_of_a_grid_with_holes_the_largest_whole_part_by_its_shorter_side_is_shown() -> None:
    random = Random(3)
    for _ in range(200):
        rows, columns = tuple(range(random.randint(1, 5))), tuple("abcde"[: random.randint(1, 5)])
        there: set[tuple[str, ...]] = {
            (canonical(r), canonical(c)) for r in rows for c in columns if random.random() < 0.7
        }
        kept = _whole({"row": rows, "by": columns}, there)
        assert {(canonical(r), canonical(c)) for r in kept["row"] for c in kept["by"]} <= there
        sizes = [
            (min(len(some), len(part)), len(some) * len(part))
            for part in _subsets(columns)
            for some in _subsets(rows)
            if {(canonical(r), canonical(c)) for r in some for c in part} <= there
        ]
        assert (min(map(len, kept.values())), len(kept["row"]) * len(kept["by"])) == max(sizes)


def _subsets(values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [part for count in range(len(values) + 1) for part in combinations(values, count)]


def test_a_whole_grid_is_not_given_up_for_a_longer_and_thinner_one(store: Store) -> None:
    for mask in "abcd":
        for ratio in (0.25, 0.5, 0.75, 0.875):
            make(store, {"mask": mask, "ratio": ratio, "target": "pixels"}, 50)
    for mask in "efghij":
        for ratio in (0.5, 0.75):
            make(store, {"mask": mask, "ratio": ratio, "target": "pixels"}, 50)
    make(store, {"mask": "a", "ratio": 0.5, "target": "hog"}, 50)
    assert [row[0].text for row in only(store).rows] == [*"abcd"]


def test_a_line_in_grids_with_several_other_settings_has_one_optimum(store: Store) -> None:
    for mask in ("block", "random"):
        for target in ("hog", "pixels"):
            for ratio in (0.25, 0.5):
                make(store, {"mask": mask, "ratio": ratio, "target": target}, 50)
    assert len(found(store)) == 6
    (frame,) = optima(found(store))
    assert sorted(row[3] for row in texts(frame)) == [
        f"mask={mask}, target={target}" for mask in ("block", "random") for target in ("hog", "pixels")
    ]


def test_versions_of_a_loss_make_no_grid(store: Store) -> None:
    for setting in (1, 2):
        for version in (1, 2):
            make(store, {"a": setting}, 50, version=version)
    assert found(store) == []


def test_a_cell_that_was_not_done_is_a_dash(store: Store) -> None:
    for a, b in ("xu", "xv", "yu"):
        make(store, {"a": a, "b": b}, 50)
    make(store, {"a": "y", "b": "v"}, 50, status="failed")
    assert texts(only(store)) == [["x", "50.0", "50.0"], ["y", "50.0", "–"]]


def test_each_task_and_each_table_has_grids_of_its_own(store: Store) -> None:
    for task in ("knn", "linear-probe"):
        for data in (SHAPES, PHOTOS):
            square(store, task=task, data=data)
    assert [frame.slug for frame in grids(found(store))] == [
        f"{data}-vit-nano-samples-1000-grid-{task}-mim-mask-by-target"
        for data in ("photos", "shapes")
        for task in ("knn", "linear-probe")
    ]


def test_slugs_that_collide_get_a_hash(store: Store) -> None:
    square(store, method="m.a")
    square(store, method="m-a")
    slugs = {frame.slug for frame in grids(found(store))}
    assert len(slugs) == 2 and all(slug.startswith(f"{SLUG}-grid-knn-m-a-mask-by-target-") for slug in slugs)


def line(store: Store, mask: str, points: dict[float, tuple[float | None, Any]], **options: Any) -> None:
    """Ratios of one mask: the score on the held-out part, and what each seed gives on the test split."""
    for ratio, (select, runs) in points.items():
        make(store, {"mask": mask, "ratio": ratio}, *runs, select=select, **options)


def test_the_best_on_select_is_chosen_without_the_test_split_and_its_test_score_shown(store: Store) -> None:
    line(store, "block", {0.25: (70, [50, 52]), 0.5: (60, [80, 82]), 0.75: (50, [20, 22])})
    line(store, "random", {0.25: (50, [20, 22]), 0.5: (50, [80, 82]), 0.75: (None, [50, 52])})
    frame = only(store)
    assert frame.header[4:] == ("best on select", "its test score", "optimum 95 %")
    assert [row[4:] for row in texts(frame)] == [
        ["0.25", "51.0 ± 1.4", "0.5"],
        ["0.25", "21.0 ± 1.4", "0.5"],  # the smallest of equals
    ]
    assert any(note.startswith("best on select:") for note in frame.notes)


def test_without_scores_on_the_held_out_part_only_the_interval_is_known(store: Store) -> None:
    for mask in ("block", "random"):
        line(store, mask, {0.25: (None, [50]), 0.5: (None, [90])})
    assert [row[3:] for row in texts(only(store))] == [["–", "–", "0.5"]] * 2


def test_where_lower_is_better_the_lowest_is_best_and_the_optimum(store: Store) -> None:
    for mask in ("block", "random"):
        line(store, mask, {0.25: (2, [20]), 0.5: (1, [90])}, better="lower")
    assert [row[3:] for row in texts(only(store))] == [["0.5", "90.0", "0.25"]] * 2


def test_a_value_without_a_rival_has_no_optimum(store: Store) -> None:
    line(store, "block", {0.25: (50, [20]), 0.5: (50, [80])})
    line(store, "random", {0.25: (50, [20])})
    assert texts(only(store))[1] == ["random", "20.0", "–", "–", "–", "–"]


def test_values_that_are_the_same_on_every_sample_all_may_be_the_optimum(store: Store) -> None:
    for mask in ("block", "random"):
        line(store, mask, {ratio: (50, [70, 71]) for ratio in (0.25, 0.5, 0.75)})
    assert [row[6].text for row in only(store).rows] == ["0.25 to 0.75"] * 2


def test_seeds_that_disagree_widen_the_optimum(store: Store) -> None:
    line(store, "block", {0.25: (50, [20, 20, 80]), 0.5: (50, [60, 60, 60])})  # worse, but not where seed 2 is drawn
    line(store, "random", {0.25: (50, [40, 40, 40]), 0.5: (50, [60, 60, 60])})
    assert [row[5].text for row in only(store).rows] == ["0.25 to 0.5", "0.5"]


def test_how_often_a_side_leads_is_what_a_slow_loop_over_other_draws_finds() -> None:
    draw = np.random.default_rng(0)
    sides = [draw.random((runs, 150)) < share for runs, share in ((3, 0.6), (3, 0.62), (2, 0.58))]
    arrays = [[{"predicted": run.astype(np.int64), "truth": np.ones(150, np.int64)} for run in side] for side in sides]
    seeds = [[0, 1, 2], [0, 1, 2], [0, 3]]
    leads = stats.leads([stats.runs("accuracy", "higher", dict(zip(at, of))) for at, of in zip(seeds, arrays)])
    assert leads is not None and leads.shape == (2000, 3)
    slow = np.zeros(3)
    for _ in range(3000):
        samples = draw.integers(150, size=150)
        three, two = draw.integers(3, size=3), draw.integers(2, size=2)
        scores = [
            mean(float(side[seed][samples].mean()) for seed in picks) for side, picks in zip(sides, (three, three, two))
        ]
        slow += np.isclose(scores, max(scores), rtol=0, atol=1e-12)
    np.testing.assert_allclose(leads.mean(0), slow / 3000, atol=0.05)  # three standard errors of each, about


def test_the_interval_is_the_middle_of_the_values_that_lead_in_resamples(store: Store) -> None:
    draw = np.random.default_rng(1)
    ratios = (0.2, 0.4, 0.6, 0.8)
    runs = {ratio: [draw.random(200) < 0.5 for _ in range(2)] for ratio in ratios}
    for mask in ("block", "random"):
        line(store, mask, {ratio: (50, found) for ratio, found in runs.items()})
    arrays = [[store.arrays(r, "top1") for r in found] for found in _by_ratio(store, "block")]
    leads = stats.leads([stats.runs("accuracy", "higher", dict(enumerate(of))) for of in arrays])
    assert leads is not None
    lows = sorted(next(ratio for ratio, is_best in zip(ratios, row) if is_best) for row in leads)
    highs = sorted(next(ratio for ratio, is_best in zip(ratios[::-1], row[::-1]) if is_best) for row in leads)
    ends = dict.fromkeys((lows[49], highs[1949]))  # the 50th and the 1950th of 2,000
    assert only(store).rows[0][-1].text == " to ".join(map(str, ends))


def _by_ratio(store: Store, mask: str) -> list[list[Record]]:
    kept = [r for r in store.all() if r.spec.pretraining.settings["mask"] == mask]
    ratios = sorted({r.spec.pretraining.settings["ratio"] for r in kept})
    of = [[r for r in kept if r.spec.pretraining.settings["ratio"] == ratio] for ratio in ratios]
    return [sorted(runs, key=lambda r: r.spec.pretraining.seed) for runs in of]


def test_runs_on_other_numbers_of_test_samples_have_no_common_optimum() -> None:
    one, other = (stats.runs("mean", "higher", {0: {"value": np.ones(count)}}) for count in (10, 11))
    assert stats.leads([one, other]) is None


@pytest.mark.parametrize(
    ("selected", "sweep", "expected"),
    [
        ({"lr": 1, "select_top1": 40}, [{"lr": 1, "select_top1": 50}], 40),
        ({"k": 20}, [{"k": 10, "select_top1": 60}, {"k": 20, "select_top1": 50}], 50),  # what was fixed, not the best
        ({"k": 20}, [{"j": 1, "select_top1": 60}, {"j": 2, "select_top1": 50}], 60),
        ({"k": 20}, [{"k": 10, "select_top1": 60}], 60),
        ({"select_other": 5, "select_top1": 4, "select_miou": 9}, [], 4),
        ({"select_other": 5, "select_b": 4}, [], 5),
        ({"distance": "cosine"}, [{"distance": "cosine", "select": 3}, {"distance": "l2", "select": 4}], 3),
        ({"k": 20, "select_top1": None}, [], None),
        ({}, [], None),
    ],
)
def test_the_score_on_the_held_out_part_is_that_of_the_choice(
    store: Store, selected: dict[str, Any], sweep: list[dict[str, Any]], expected: float | None
) -> None:
    make(store, {}, 50, selected=selected, sweep=sweep)
    assert selection(store.all()[0]) == expected


def test_the_optima_of_all_grids_stand_in_one_table(store: Store) -> None:
    for data in (SHAPES, PHOTOS):
        for mask in ("block", "random"):
            line(store, mask, {0.25: (70, [50]), 0.5: (60, [80])}, data=data)
    square(store, task="linear-probe", method="other")  # no numbers: not among them
    (frame,) = optima(found(store))
    assert frame.slug == "optimum"
    assert frame.header == (
        "data", "method", "task", "at", "optimum of", "best on select", "its test score", "optimum 95 %"
    )  # fmt: skip
    assert texts(frame) == [
        [data, "mim", "knn top1 % ↑ (protocol 1)", f"mask={mask}", "ratio", "0.25", "50.0", "0.5"]
        for data in ("photos", "shapes")
        for mask in ("block", "random")
    ]
    assert optima([pivot for pivot in found(store) if not pivot.optimum]) == []


CURVES: list[list[float]] = [[8.0, 4, 2, 1], [10.0, 4, 2, 3]]


def measured(store: Store) -> None:
    """A method of two variants with two seeds, a control with measures and one without, and a method without."""
    for at, temperature in enumerate((0.1, 0.5)):
        for seed, curve in enumerate(CURVES):
            log = [{"step": 100.0 * (i + 1), "a": total / 4, "b": total * 3 / 4} for i, total in enumerate(curve)]
            named = {"rank": 10.0 + at + seed, "alignment": 0.123456} if at == 0 else {"rank": 11.5 + seed}
            for task in ("knn", "linear-probe"):
                settings = {"temperature": temperature, "width": 1}
                make(
                    store, settings, 50, method="simclr", task=task, seeds=(seed,), measures=named, loss=log
                )  # fmt: skip
    make(store, {}, 50, 50, method="random-init", measures={"rank": 1234.5})
    make(store, {}, 50, 50, method="supervised", loss=[{"step": 1.0, "a": 1.0}])
    make(store, {}, 50, 50, method="plain", loss=[{"step": 1.0, "a": 0.5}, {"step": 2.0, "a": 0.5}])


def test_measures_are_those_of_each_seed_once_whatever_the_tasks(store: Store) -> None:
    measured(store)
    (frame,) = measures(groups(store.all()), CONTROLS)
    assert frame.slug == f"{SLUG}-measures" and ", 2 seeds" in frame.title
    assert frame.header == ("method", "rank", "alignment", "loss")
    assert texts(frame) == [
        ["plain", "–", "–", "0.5 → 0.5 ▁▁"],
        ["simclr [temperature=0.1]", "10.5 ± 0.707", "0.123 ± 0", "9 → 2 █▃▁▁"],  # totals 9, 4, 2, 2
        ["simclr [temperature=0.5]", "12 ± 0.707", "–", "9 → 2 █▃▁▁"],
        ["random-init", "1230 ± 0", "–", "–"],
    ]
    rows = [row.name for row in build(store, CONTROLS)[0].rows]
    assert [name for name in rows if name != "supervised"] == [row[0].text for row in frame.rows]


def test_measures_are_of_the_records_that_the_table_shows(store: Store) -> None:
    """A run of older code beside today's is in no mean, whatever its id."""
    for at, rate in enumerate((1e-3, 2e-3)):
        for seed in (0, 1, 2):
            more: dict[str, Any] = {"measures": {"rank": 10.0 + 100 * at}, "digests": {"method": f"code {at}"}}
            make(store, {}, 50, method="simclr", seeds=(seed,), own=rate, created=f"2025-01-0{2 - at}", **more)
    (group,) = groups(store.all())
    (frame,) = measures([group], CONTROLS)
    assert len(group.records) == 6 and len(group.shown) == 3
    assert [row[0] for row in texts(frame)] == ["simclr"] and frame.rows[0][1].mean == 10.0


def test_curves_of_different_lengths_are_laid_over_each_other(store: Store) -> None:
    for seed, count in enumerate((3, 41)):
        log = [{"step": i, "a": float(value)} for i, value in enumerate(np.linspace(8, 1, count))]
        make(store, {}, 50, method="simclr", seeds=(seed,), measures={"rank": 1.0}, loss=log)
    text = measures(groups(store.all()), {})[0].rows[0][-1].text
    assert text == "8 → 1 ██▇▇▇▆▆▅▅▅▄▄▄▃▃▂▂▂▁▁"


def test_records_without_measures_give_no_table_of_them(store: Store) -> None:
    make(store, {}, 50, loss=[{"step": 1.0, "a": 1.0}])
    assert measures(groups(store.all()), {}) == []


def everything(store: Store) -> list[Shown]:
    records = store.all()
    pivoted = pivots(store, groups(records))
    frames = [*grids(pivoted), *optima(pivoted), *measures(groups(records), CONTROLS)]
    return [*build(store, CONTROLS, records), *frames]


def fill(store: Store, order: list[int]) -> None:
    jobs = [(mask, ratio, seed) for mask in ("block", "random") for ratio in (0.25, 0.5, 0.75) for seed in (0, 1)]
    for at in order:
        mask, ratio, seed = jobs[at]
        named: dict[str, Any] = {
            "measures": {"rank": ratio, mask: 1.0},
            "loss": [{"step": 1.0, "b": 2.0, "a": 0.1 * at}],
        }
        make(store, {"mask": mask, "ratio": ratio}, 40 + at, seeds=(seed,), select=50 + at % 5, **named)


def test_the_same_records_give_the_same_bytes_whatever_their_order_and_file_names(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    fill(one, [*range(12)])
    fill(two, [*reversed(range(12))])
    for file in [*two.records.glob("*.json")]:
        file.rename(two.records / f"{file.name[::-1]}.json")
    written = write(one, everything(one))
    assert [file.name for file in written] == [file.name for file in write(two, everything(two))]
    assert [file.name for file in written if file.suffix == ".md"] == [
        "index.md", "optimum.md", f"{SLUG}-grid-knn-mim-mask-by-ratio.md", f"{SLUG}-measures.md", f"{SLUG}.md"
    ]  # fmt: skip
    for file in written:
        assert file.read_bytes() == (two.tables / file.name).read_bytes()
    index = (one.tables / "index.md").read_text()
    assert all(markdown(table) in index for table in everything(one))


def test_a_mark_can_name_any_of_them(store: Store) -> None:
    fill(store, [*range(12)])
    tables = everything(store)
    for table in tables:
        filled = readme(f"<!-- table:{table.slug} -->\n<!-- /table:{table.slug} -->", tables)
        assert filled.splitlines()[1] == f"**{table.title}**"


FRAME = Frame(
    "s", "50 % of a|b", ("name", "x ↑", "loss"),
    ((Value("a_b"), Value("1.0 ± 0.1", 1.00000049, 0.1234567, True), Value("2 → 1 █▁")),
     (Value("c"), Value("–"), Value("–"))),
    ("note < 1",),
)  # fmt: skip


def test_csv_has_mean_and_deviation_in_columns_of_their_own(store: Store) -> None:
    frame = pd.read_csv(StringIO(csv(FRAME)))
    assert [*frame.columns] == ["name", "x ↑ mean", "x ↑ sd", "loss"]
    assert frame.iloc[0].tolist() == ["a_b", 1.0, 0.123457, "2 → 1 █▁"]
    assert frame.isna().iloc[1].tolist() == [False, True, True, False]


def test_csv_and_latex_keep_intervals_and_what_latex_takes_for_something_else() -> None:
    rows = ((Value("[a]"), Value("1 [0, 2]", 1.0, span=(0.0, 2.0))), (Value("≤ b"), Value("–")))
    frame = Frame("s", "t", ("name", "x"), rows, ())
    assert csv(frame).splitlines() == ["name,x mean,x low,x high", "[a],1.0,0.0,2.0", "≤ b,,,"]
    assert "\n{}[a] & " in latex(frame) and r"$\leq$ b & --" in latex(frame)


def test_markdown_and_latex_show_texts_bold_and_notes() -> None:
    assert markdown(FRAME).splitlines() == [
        r"**50 % of a\|b**",
        "",
        "| name   |           x ↑ |     loss |",
        "|:-------|--------------:|---------:|",
        "| a_b    | **1.0 ± 0.1** | 2 → 1 █▁ |",
        "| c      |             – |        – |",
        "",
        "note &lt; 1",
    ]
    text = latex(FRAME)
    assert r"a\_b & \textbf{1.0 $\pm$ 0.1} & 2 $\rightarrow$ 1 \\" in text and text.count(r"\midrule") == 1
    assert r"\begin{tabular}{lrr}" in text and r"\label{tab:s}" in text and "note \\textless{} 1" in text
