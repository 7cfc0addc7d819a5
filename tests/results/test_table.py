import json
import random
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from ssbench.errors import UserError
from ssbench.results.marks import BOLD, FEW
from ssbench.results.metrics import score
from ssbench.results.record import Costs, Score
from ssbench.results.render import csv, latex, markdown, readme, screen, write
from ssbench.results.store import Store
from ssbench.results.table import Table, build
from ssbench.spec import Budget, DataRef

from .records import UNTRAINED, failed, spec

SHAPES = DataRef(name="shapes", fingerprint="f0", settings={"image_size": 0})
PHOTOS = DataRef(name="photos", fingerprint="f1", settings={"image_size": 0})
BUDGET = Budget(unit="samples", amount=80_000)
CONTROLS = {"random-init": "floor", "raw-pixels": "floor", "supervised": "ceiling"}
HEADER = "linear-probe top1 % ↑ (protocol 1)"
COSTS = Costs(images=80_000, pretrain_seconds=40, pretrain_gflops=1600, parameters=340_000)


def make(
    store: Store,
    method: str,
    *values: float,
    task: str = "linear-probe",
    status: str = "done",
    reason: str = "",
    seeds: tuple[int, ...] = (),
    first: dict[str, Any] | None = None,
    costs: Costs = COSTS,
    better: Literal["higher", "lower"] = "higher",
    supervised: bool = False,
    **changes: Any,
) -> None:
    """One record a seed, whose accuracy on 200 test samples is the value, in steps of 0.5 %.

    `first` changes the pretraining, `changes` the spec.
    """
    usual: dict[str, Any] = {
        "settings": {"temperature": 0.1, "width": 64},
        "backbone_settings": {"patch": 0},
        "data": changes.get("data", SHAPES),
        **({} if method in UNTRAINED else {"budget": BUDGET}),
    }
    for seed, value in zip(seeds or range(len(values)), values):
        of = spec(method, seed, task, about={"data": SHAPES} | changes, **usual | (first or {}))
        blank = failed(of, reason=reason, supervised=supervised or method == "supervised")
        if status != "done":
            store.write(blank.model_copy(update={"status": status}), {})
            continue
        hits = np.arange(200) < round(2 * value)
        arrays = {"predicted": hits.astype(np.int64), "truth": np.ones(200, np.int64)}
        top1 = Score(
            value=score("accuracy", arrays), low=0, high=0, unit="%", better=better, kind="accuracy", samples=200
        )
        done = {"status": "done", "headline": "top1", "scores": {"top1": top1}, "costs": costs}
        store.write(blank.model_copy(update=done), {"top1": arrays})


def make_controls(store: Store, **options: Any) -> None:
    """All three, well behind any method but the supervised one."""
    untrained = options | {"costs": Costs(parameters=340_000)}
    make(store, "random-init", 20, 21, 22, **untrained)
    make(store, "raw-pixels", 30, 30, 30, **untrained)
    make(store, "supervised", 95, 96, 97, **options)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def only(tables: list[Table]) -> Table:
    (table,) = tables
    return table


def cells(table: Table) -> dict[str, dict[str, str]]:
    """Row -> column -> text, of the Markdown."""
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    header, _, *rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(header, row)) for row in rows}


def bold(table: Table) -> list[str]:
    """The rows with a bold cell."""
    return [row.name for row in table.rows if any(cell.bold for cell in row.cells)]


def notes_on(store: Store, word: str) -> list[str]:
    return [note for note in only(build(store, CONTROLS)).notes if word in note]


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_ten_untrained_networks_are_a_band_and_what_none_is_above_is_noise(store: Store, better: Any) -> None:
    sign, middle = (1, 50) if better == "higher" else (-1, 50)
    untrained = [middle + step / 2 for step in range(-5, 5)]
    make(store, "random-init", *untrained, costs=Costs(parameters=340_000), better=better)
    make(store, "raw-pixels", *[middle + sign * 40] * 3, costs=Costs(), better=better)  # no network: no band
    make(store, "simclr", *[middle + sign * step for step in (1, 2, 3)], better=better)
    ends = "47.5 to 52.0"
    assert notes_on(store, "untrained networks have") == [f"10 untrained networks have: linear-probe {ends}"]
    assert notes_on(store, "noise") == [
        "noise: in linear-probe no row that is trained without labels is above the best of 10 untrained networks"
    ]
    assert only(build(store, CONTROLS)).title.endswith("3 seeds")  # of the rows that are compared
    make(store, "supcon", *[middle + sign * step for step in (30, 31, 32)], better=better, supervised=True)
    assert notes_on(store, "noise"), "what labels teach says nothing of methods without"
    make(store, "swav", *[middle + sign * step for step in (3, 4, 5)], better=better)
    assert not notes_on(store, "noise") and notes_on(store, "untrained networks have")


def test_three_untrained_networks_are_no_band(store: Store) -> None:
    make_controls(store)
    make(store, "simclr", 50, 51, 52)
    assert not notes_on(store, "untrained networks have")
    assert notes_on(store, "--untrained-seeds 10") == [
        "how far chance goes is not known from 3 untrained networks: --untrained-seeds 10 judges more, cheaply"
    ]


def test_a_cell_is_mean_and_sample_deviation_over_seeds(store: Store) -> None:
    make(store, "simclr", 50, 51, 55)
    make_controls(store)
    table = only(build(store, CONTROLS))
    assert mean([50, 51, 55]) == 52 and stdev([50, 51, 55]) == pytest.approx(2.6458, abs=1e-4)
    assert cells(table)["simclr"][HEADER] == "**52.0 ± 2.6**"
    assert cells(table)["raw-pixels"][HEADER] == "30.0 ± 0.0"
    assert table.title == "shapes, vit-nano, samples=80000, 3 seeds"


def test_values_stand_in_the_order_of_seeds(store: Store) -> None:
    values = [*range(50, 62)]  # seed 10 comes before seed 2 among the files
    make(store, "simclr", *values)
    assert only(build(store, {})).rows[0].cells[0].values == pytest.approx(values)


def test_one_seed_has_no_deviation(store: Store) -> None:
    make(store, "simclr", 50.5)
    table = only(build(store, {}))
    assert cells(table)["simclr"][HEADER] == "50.5"
    assert table.title.endswith(", 1 seed")


def test_unequal_numbers_of_seeds_have_a_column(store: Store) -> None:
    make(store, "simclr", 50, 52)
    make(store, "simclr", 60, task="knn")
    make(store, "swav", 50, 51, 52)
    make(store, "swav", 60, 61, 62, task="knn")
    make(store, "rotation", 50, 51)
    table = only(build(store, {"raw-pixels": "floor"}))
    assert {name: row["seeds"] for name, row in cells(table).items()} == {
        "simclr": "1/2",  # in the order of the columns: knn, linear-probe
        "swav": "3",
        "rotation": "2",
        "raw-pixels": "–",
    }
    assert table.title.endswith(", 1 to 3 seeds")


def test_costs_are_means_over_seeds_and_an_image(store: Store) -> None:
    make(store, "simclr", 50, costs=COSTS)
    make(store, "simclr", 51, seeds=(1,), costs=COSTS.model_copy(update={"pretrain_seconds": 50.0}))
    make(store, "simclr", 51, seeds=(1,), task="knn", costs=COSTS.model_copy(update={"pretrain_seconds": 50.0}))
    make(store, "random-init", 20, costs=Costs(parameters=340_000))
    found = cells(only(build(store, CONTROLS)))
    columns = ("images seen", "pretraining s", "GFLOPs / image", "parameters M")
    assert [found["simclr"][name] for name in columns] == ["80,000", "45.0", "0.02", "0.34"]
    assert [found["random-init"][name] for name in columns] == ["–", "–", "–", "0.34"]
    assert [found["raw-pixels"][name] for name in columns] == ["–"] * 4


def test_rows_are_methods_by_name_and_then_every_control_run_or_not(store: Store) -> None:
    for method in ("swav", "simclr", "raw-pixels"):
        make(store, method, 50, 51)
    table = only(build(store, CONTROLS))
    assert [row.name for row in table.rows] == ["simclr", "swav", "random-init", "raw-pixels", "supervised"]
    assert [row.control for row in table.rows] == [False, False, True, True, True]
    assert cells(table)["random-init"][HEADER] == "–"
    assert cells(table)["supervised"][HEADER] == "–"


def test_the_winner_is_bold_when_it_is_really_ahead(store: Store) -> None:
    make(store, "simclr", 70, 71, 72)
    make(store, "swav", 50, 51, 52)
    make_controls(store)
    table = only(build(store, CONTROLS))
    assert bold(table) == ["simclr"]
    assert cells(table)["simclr"][HEADER] == "**71.0 ± 1.0**"
    assert BOLD in markdown(table)


def test_nothing_is_bold_in_a_tie(store: Store) -> None:
    make(store, "simclr", 70, 71, 75)
    make(store, "swav", 69, 70, 74)
    make(store, "rotation", 40, 41, 42)
    make_controls(store)
    assert bold(only(build(store, CONTROLS))) == []


def test_nothing_is_bold_with_one_seed(store: Store) -> None:
    make(store, "simclr", 70)
    make(store, "swav", 50, 51, 52)
    make_controls(store)
    assert bold(only(build(store, CONTROLS))) == []


def test_nothing_is_bold_that_a_control_without_labels_beats_or_equals(store: Store) -> None:
    make(store, "simclr", 28, 29, 30)
    make_controls(store)
    assert bold(only(build(store, CONTROLS))) == []
    for seed in (0, 1, 2):
        make(store, "raw-pixels", 0, seeds=(seed,), status="not-applicable", reason="no pixels")
    assert bold(only(build(store, CONTROLS))) == ["simclr"]  # so it was raw-pixels


def test_a_control_is_never_bold_and_supervised_need_not_be_beaten(store: Store) -> None:
    make(store, "simclr", 50, 51, 52)
    make_controls(store)
    assert bold(only(build(store, CONTROLS))) == ["simclr"]
    for record in store.all():  # as if the control had not seen labels
        if record.supervised:
            store.write(record.model_copy(update={"supervised": False}), {"top1": store.arrays(record, "top1")})
    assert bold(only(build(store, CONTROLS))) == []


def test_nothing_is_bold_while_a_control_without_labels_is_missing_or_failed(store: Store) -> None:
    make(store, "simclr", 50, 51, 52)
    make(store, "random-init", 20, 21, 22)
    assert bold(only(build(store, CONTROLS))) == []
    make(store, "raw-pixels", 0, 0, status="failed", reason="out of memory")
    assert bold(only(build(store, CONTROLS))) == []
    make(store, "raw-pixels", 30, 30, 30)
    assert bold(only(build(store, CONTROLS))) == ["simclr"]


def test_a_control_that_does_not_apply_need_not_be_beaten(store: Store) -> None:
    make(store, "simclr", 50, 51, 52)
    make(store, "random-init", 20, 21, 22)
    make(store, "raw-pixels", 0, 0, 0, status="not-applicable", reason="raw pixels have no weights to train")
    table = only(build(store, CONTROLS))
    assert bold(table) == ["simclr"]
    assert cells(table)["raw-pixels"][HEADER] == "– [1]"
    assert "[1] not applicable: raw pixels have no weights to train" in markdown(table)


def test_nothing_is_bold_or_marked_with_two_seeds_and_the_table_says_so(store: Store) -> None:
    make(store, "simclr", 70, 71)
    make(store, "random-init", 20, 21)
    table = only(build(store, {"random-init": "floor"}))
    assert bold(table) == [] and "°" not in markdown(table) and FEW in table.notes


def test_a_row_with_a_failed_seed_is_never_bold_and_says_so(store: Store) -> None:
    make(store, "simclr", 70, 71, 72)
    make(store, "swav", 50, 51, 52)
    make_controls(store)
    assert bold(only(build(store, CONTROLS))) == ["simclr"]
    make(store, "simclr", 0, seeds=(3,), status="failed", reason="the loss is not finite")
    table = only(build(store, CONTROLS))
    assert bold(table) == [] and "never bold, since a seed of it failed: simclr" in table.notes


def test_a_rival_without_spread_does_not_lower_the_bar(store: Store) -> None:
    make(store, "simclr", 55, 61, 64)
    make(store, "swav", 50, 50, 50)
    assert bold(only(build(store, {}))) == []  # 10 ahead, 4.6 of deviation: t = 3.8 with two degrees of freedom


def test_a_plugin_that_trains_on_labels_is_not_bold_and_no_rival_of_those_that_do_not(store: Store) -> None:
    make(store, "supcon", 80, 81, 82, supervised=True)
    make(store, "simclr", 60, 61, 62)
    make_controls(store)
    table = only(build(store, CONTROLS))
    assert bold(table) == ["simclr"]
    assert [row.name for row in table.rows][1] == "supcon (labels)"


def test_rows_that_are_not_ahead_of_both_floors_are_marked(store: Store) -> None:
    make(store, "simclr", 60, 61, 62)
    make(store, "swav", 25, 26, 27)  # ahead of random-init alone
    make(store, "rotation", 20, 21, 22)
    make_controls(store)
    table = only(build(store, CONTROLS))
    assert {row.name: row.cells[0].behind for row in table.rows if row.name not in CONTROLS} == {
        "rotation": True,
        "simclr": False,
        "swav": True,
    }
    assert cells(table)["swav"][HEADER] == "26.0 ± 1.0 °"
    assert r"26.0 $\pm$ 1.0 $^\circ$" in latex(table)
    assert any(note.startswith("°: not shown to be ahead of random-init and raw-pixels") for note in table.notes)
    assert not any(note.startswith("no row without labels") for note in table.notes)
    frame = pd.read_csv(StringIO(csv(table)), index_col="method")
    assert [*frame[f"{HEADER} behind"]] == [True, False, True, False, False, False]


def test_a_column_in_which_no_row_is_ahead_of_both_says_so(store: Store) -> None:
    for task in ("knn", "linear-probe"):
        make(store, "simclr", *((60, 61, 62) if task == "knn" else (24, 25, 26)), task=task)
        make_controls(store, task=task)
    notes = only(build(store, CONTROLS)).notes
    assert "no row without labels is ahead of random-init and raw-pixels in linear-probe" in notes


def test_what_a_constant_answer_scores_stands_under_the_table(store: Store) -> None:
    make(store, "simclr", 60, 61, 62)
    assert "the best constant answer scores: linear-probe 100.0" in only(build(store, {})).notes
    for record in store.all():
        found = record.scores["top1"].model_copy(update={"floor": 12.5})
        store.write(record.model_copy(update={"scores": {"top1": found}}), {"top1": store.arrays(record, "top1")})
    assert "the best constant answer scores: linear-probe 12.5" in only(build(store, {})).notes


@pytest.mark.parametrize(
    ("seen", "equal", "note"),
    [
        (3, 3, "3 of 200 test images look like copies of training images (3 equal in pixels)"),
        (3, 1, "3 of 200 test images look like copies of training images (1 equal in pixels)"),
        (0, 0, "none of 200 test images looks like a copy of a training image"),
        (3, None, "3 of 200 test images are equal in pixels to training images; not looked: other copies"),
        (0, None, "none of 200 test images is equal in pixels to training images; not looked: other copies"),
        (
            None,
            None,
            "not looked: whether test images are also in the training data, in older records or of other sizes",
        ),
    ],
)
def test_test_images_in_the_training_data_are_told_and_not_looked_is_not_none(
    store: Store, seen: int | None, equal: int | None, note: str
) -> None:
    make(store, "simclr", 60)
    (record,) = store.all()
    data = {"test": 200, "test_images_seen_in_pretraining": seen, "of_them_equal_in_pixels": equal}
    store.write(record.model_copy(update={"data": data}), {"top1": store.arrays(record, "top1")})
    assert [one for one in only(build(store, {})).notes if "test images" in one] == [note]


def test_copies_between_select_and_fit_are_told(store: Store) -> None:
    make(store, "simclr", 60)
    (record,) = store.all()
    data = {"test": 200, "test_images_seen_in_pretraining": 3, "of_them_equal_in_pixels": 1}
    data |= {"select": 100, "select_images_seen_in_fit": 5}
    store.write(record.model_copy(update={"data": data}), {"top1": store.arrays(record, "top1")})
    notes = only(build(store, {})).notes
    assert "5 of 100 images of select look like copies of images of fit" in notes


@pytest.mark.parametrize(("floor", "shown"), [(95.0, True), (55.0, False)])
def test_mean_per_class_accuracy_stands_in_brackets_where_classes_are_unequal(
    store: Store, floor: float, shown: bool
) -> None:
    make(store, "simclr", 95)
    (record,) = store.all()
    found = record.scores["top1"].model_copy(update={"floor": floor})
    beside = found.model_copy(update={"value": 50.0, "kind": "class-accuracy"})
    changed = {"scores": {"top1": found, "mean-class": beside}, "data": {"classes": 2}}
    store.write(record.model_copy(update=changed), {"top1": store.arrays(record, "top1")})
    table = only(build(store, {}))
    assert ("95.0 (50.0)" in markdown(table)) == shown and ("top1 (mean-class)" in markdown(table)) == shown
    assert (",50.0," in csv(table)) == shown


def test_a_table_of_several_commits_and_losses_says_so(store: Store) -> None:
    make(store, "simclr", 60, 61)
    make(store, "simclr", 60, first={"version": 2})
    assert not any("commit" in note for note in only(build(store, {})).notes)
    for at, record in enumerate(store.all()):
        code = {"commit": f"{at}" * 40}
        store.write(record.model_copy(update={"code": code}), {"top1": store.arrays(record, "top1")})
    notes = only(build(store, {})).notes
    assert any(note.startswith("its records were made by 3 commits of ssbench: ") for note in notes)
    assert "rows of an older loss beside a newer one: simclr" in notes


def test_each_column_has_a_winner_of_its_own(store: Store) -> None:
    for task, best, other in (("knn", "simclr", "swav"), ("linear-probe", "swav", "simclr")):
        make(store, best, 70, 71, 72, task=task)
        make(store, other, 50, 51, 52, task=task)
    table = only(build(store, {}))
    won = {row.name: [cell.bold for cell in row.cells] for row in table.rows}
    assert won == {"simclr": [True, False], "swav": [False, True]}


def test_where_lower_is_better_the_lowest_wins(store: Store) -> None:
    make(store, "simclr", 70, 71, 72, better="lower")
    make(store, "swav", 50, 51, 52, better="lower")
    table = only(build(store, {}))
    assert bold(table) == ["swav"]
    assert table.columns[0].header == "linear-probe top1 % ↓ (protocol 1)"


def test_a_row_alone_is_not_ahead_of_anything(store: Store) -> None:
    make(store, "simclr", 50, 51, 52)
    assert bold(only(build(store, {}))) == []


def test_a_failed_cell_says_so_and_why(store: Store) -> None:
    make(store, "simclr", 0, 0, status="failed", reason="RuntimeError: the loss\nis not finite")
    make(store, "swav", 50, 51, 52)
    table = only(build(store, {}))
    assert cells(table)["simclr"][HEADER] == "failed [1]"
    assert table.footnotes == ("failed: RuntimeError: the loss is not finite",)


def test_a_failed_seed_is_named_beside_the_others_mean(store: Store) -> None:
    make(store, "simclr", 50, 52)
    make(store, "simclr", 0, seeds=(2,), status="failed", reason="out of memory")
    table = only(build(store, {}))
    assert cells(table)["simclr"][HEADER] == "51.0 ± 1.4 [1]"
    assert table.footnotes == ("seed 2 failed: out of memory",)


def test_equal_reasons_share_a_footnote_and_others_have_their_own(store: Store) -> None:
    for method in ("a", "b"):
        make(store, method, 0, task="finetune", status="not-applicable", reason="no weights")
    make(store, "c", 0, task="finetune", status="failed", reason="no memory")
    table = only(build(store, {}))
    assert [row.cells[0].notes for row in table.rows] == [(1,), (1,), (2,)]
    assert table.footnotes == ("not applicable: no weights", "failed: no memory")
    assert table.columns[0].header == "finetune (protocol 1)"


def test_settings_that_differ_keep_rows_apart_and_are_named(store: Store) -> None:
    make(store, "simclr", 50, 51, 52)
    make(store, "simclr", 60, 61, 62, first={"settings": {"temperature": 0.5, "width": 64}})
    make(store, "swav", 40, 41, 42)
    found = cells(only(build(store, {})))
    assert {name: row[HEADER] for name, row in found.items()} == {
        "simclr [temperature=0.1]": "51.0 ± 1.0",
        "simclr [temperature=0.5]": "**61.0 ± 1.0**",
        "swav": "41.0 ± 1.0",
    }


def variants(store: Store, *settings: dict[str, Any]) -> list[str]:
    """What the rows of one method with these settings are called."""
    for one in settings:
        make(store, "mim", 50, first={"settings": one})
    return [row.name for row in only(build(store, {})).rows]


def test_settings_that_only_some_variants_have_are_not_named_where_the_others_suffice(store: Store) -> None:
    names = variants(
        store,
        {"mask": "adaptive", "target": "hog", "tau": 1.0, "bins": 9},
        {"mask": "random", "target": "hog", "bins": 9},
        {"mask": "random", "target": "pixels"},
    )
    assert names == [
        "mim [mask=adaptive, target=hog]",
        "mim [mask=random, target=hog]",
        "mim [mask=random, target=pixels]",
    ]


def test_settings_that_only_some_variants_have_are_named_where_the_others_do_not_suffice(store: Store) -> None:
    names = variants(
        store,
        {"mask": "adaptive", "p": 2, "tau": 1.0},
        {"mask": "adaptive", "p": 2, "tau": 2.0},
        {"mask": "random", "p": 2},
    )
    assert names == ["mim [mask=adaptive, tau=1.0]", "mim [mask=adaptive, tau=2.0]", "mim [mask=random]"]


def test_a_variant_without_what_tells_the_other_has_the_plain_name(store: Store) -> None:
    assert variants(store, {"p": 2}, {"p": 2, "tau": 1.0}) == ["mim [tau=1.0]", "mim"]


def test_what_reads_alike_without_them_shows_what_is_unset(store: Store) -> None:
    names = variants(store, {"p": 2}, {"p": "2"}, {"p": 2, "tau": 1.0})
    assert sorted(names) == ["mim [p=2, tau=1.0]", "mim [p=2, tau=unset]", "mim [p=2, tau=unset]"]


def test_versions_and_owners_of_a_method_are_never_merged(store: Store) -> None:
    make(store, "simclr", 50)
    make(store, "simclr", 60, first={"version": 2})
    assert [*cells(only(build(store, {})))] == ["simclr [loss version=1]", "simclr [loss version=2]"]


def test_protocols_and_settings_of_a_task_have_columns_of_their_own(store: Store) -> None:
    make(store, "simclr", 50, task="knn", task_settings={"k": 5, "t": 1})
    make(store, "simclr", 60, task="knn", task_settings={"k": 20, "t": 1})
    make(store, "simclr", 70, task="knn", task_settings={"k": 20, "t": 1}, protocol=2)
    table = only(build(store, {}))
    assert sorted(column.header for column in table.columns) == [
        "knn [k=20] top1 % ↑ (protocol 1)",
        "knn [k=5] top1 % ↑ (protocol 1)",
        "knn top1 % ↑ (protocol 2)",
    ]
    assert cells(table)["simclr"]["knn [k=5] top1 % ↑ (protocol 1)"] == "50.0"


@pytest.mark.parametrize(
    "change",
    [
        {"first": {"backbone": "resnet18"}},
        {"first": {"backbone_settings": {"patch": 8}}},
        {"first": {"budget": Budget(unit="seconds", amount=60)}},
        {"first": {"budget": Budget(unit="samples", amount=80_000.04)}},
        {"first": {"train": {"lr": 3e-3}}},
        {"first": {"precision": "bf16"}},
        {"first": {"data": PHOTOS}},
        {"data": PHOTOS},
        {"data": SHAPES.model_copy(update={"fingerprint": "other"})},
        {"data": SHAPES.model_copy(update={"settings": {"image_size": 64}})},
        {"data": SHAPES.model_copy(update={"fingerprint": "other"}), "first": {"data": SHAPES}},
        {"data": SHAPES.model_copy(update={"settings": {"image_size": 64}}), "first": {"data": SHAPES}},
    ],
    ids=str,
)
def test_what_was_made_under_other_conditions_is_in_another_table(store: Store, change: dict[str, Any]) -> None:
    make(store, "simclr", 50, 51)
    make(store, "swav", 60, 61, **change)
    one, two = build(store, CONTROLS)
    assert one.slug != two.slug
    assert one.title != two.title
    assert sorted(row.name for table in (one, two) for row in table.rows if not row.control) == ["simclr", "swav"]


def test_a_column_of_few_labels_says_so_though_it_stands_alone(store: Store) -> None:
    make(store, "simclr", 50, 51, labels="30%")
    assert [column.task for column in only(build(store, CONTROLS)).columns] == ["linear-probe [labels=30%]"]
    make(store, "simclr", 50, 51)
    wanted = ["linear-probe [labels=30%]", "linear-probe [labels=100%]"]
    assert [column.task for column in only(build(store, CONTROLS)).columns] == wanted


def test_the_slug_names_data_backbone_budget_and_where_it_comes_from(store: Store) -> None:
    make(store, "simclr", 50)
    make(store, "simclr", 50, first={"data": PHOTOS, "budget": Budget(unit="flops", amount=2e12)})
    assert {table.slug: table.title for table in build(store, {})} == {
        "shapes-vit-nano-flops-2000000000000-from-photos": (
            "shapes, pretrained on photos, vit-nano, flops=2000000000000, 1 seed"
        ),
        "shapes-vit-nano-samples-80000": "shapes, vit-nano, samples=80000, 1 seed",
    }


def test_slugs_that_collide_get_a_hash_and_their_titles_say_what_differs(store: Store) -> None:
    make(store, "simclr", 50)
    make(store, "simclr", 50, first={"train": {"lr": 3e-3}})
    tables = build(store, {})
    assert all(table.slug.startswith("shapes-vit-nano-samples-80000-") for table in tables)
    assert {table.title.partition(" [")[2] for table in tables} == {"train.lr=0.001]", "train.lr=0.003]"}


def test_tables_come_in_the_order_of_their_slugs(store: Store) -> None:
    for backbone in "dbeca":
        make(store, "simclr", 50, first={"backbone": backbone})
    assert [table.slug for table in build(store, {})] == [f"shapes-{backbone}-samples-80000" for backbone in "abcde"]


def test_untrained_controls_stand_in_every_table_of_their_place_and_only_there(store: Store) -> None:
    make(store, "simclr", 50, 51)
    make(store, "simclr", 60, 61, first={"budget": Budget(unit="samples", amount=1000)})
    make(store, "simclr", 60, 61, first={"backbone": "resnet18"})
    make(store, "random-init", 20, 22)
    found = {table.slug: cells(table)["random-init"][HEADER] for table in build(store, CONTROLS)}
    assert found == {
        "shapes-resnet18-samples-80000": "–",
        "shapes-vit-nano-samples-1000": "21.0 ± 1.4",
        "shapes-vit-nano-samples-80000": "21.0 ± 1.4",
    }


def test_untrained_controls_alone_make_a_table(store: Store) -> None:
    make(store, "random-init", 20, 22)
    table = only(build(store, CONTROLS))
    assert (table.slug, table.title) == ("shapes-vit-nano-untrained", "shapes, vit-nano, untrained, 2 seeds")


def test_a_copied_record_file_is_not_another_seed(store: Store) -> None:
    make(store, "simclr", 50)
    (file,) = store.records.glob("*.json")
    (store.records / "copy.json").write_bytes(file.read_bytes())
    assert cells(only(build(store, {})))["simclr"][HEADER] == "50.0"


def test_only_the_records_asked_for_are_shown(store: Store) -> None:
    make(store, "simclr", 50, 51)
    make(store, "swav", 60, 61)
    kept = [record for record in store.all() if record.spec.pretraining.method == "swav"]
    assert [row.name for row in only(build(store, {}, kept)).rows] == ["swav"]


def test_no_records_give_no_table(store: Store) -> None:
    assert build(store, CONTROLS) == []
    assert write(store, build(store, CONTROLS)) == [store.tables / "index.md"]


def test_csv_parses_back_with_its_numbers(store: Store) -> None:
    make(store, "simclr", 50, 51, 55)
    make(store, "swav", 0, status="failed", reason="why")
    make_controls(store)
    text = csv(only(build(store, CONTROLS)))
    assert "\r" not in text
    frame = pd.read_csv(StringIO(text), index_col="method")
    assert [*frame.index] == ["simclr", "swav", *CONTROLS]
    assert frame.loc["simclr", f"{HEADER} mean"] == 52
    assert frame.loc["simclr", f"{HEADER} sd"] == 2.6458
    ends = [frame.loc["simclr", f"{HEADER} {end}"] for end in ("low", "high")]
    assert ends == pytest.approx(t.interval(0.95, 2, 52, 7**0.5 / 3**0.5), abs=1e-4)
    assert frame.loc["simclr", f"{HEADER} n"] == 3
    assert frame.loc["simclr", f"{HEADER} ahead"]
    assert frame.loc["swav", f"{HEADER} status"] == "failed"
    assert frame.isna().loc["swav", f"{HEADER} mean"]
    assert [*frame["control"]] == [False, False, True, True, True]
    assert frame.loc["simclr", "images seen"] == 80_000
    assert frame.loc["simclr", "parameters M"] == 0.34


def test_latex_escapes_names_and_sets_the_winner_in_bold(store: Store) -> None:
    make(store, "my_method&co", 70, 71, 72)
    make(store, "swav", 0, status="failed", reason=r"50% of {all} #1 in C:\data cost $5 ~ x^2")
    make_controls(store)
    text = latex(only(build(store, CONTROLS)))
    assert r"my\_method\&co & \textbf{71.0 $\pm$ 1.0} & 80,000" in text
    assert r"linear-probe top1 \% $\uparrow$ (protocol 1)" in text
    note = r"50\% of \{all\} \#1 in C:\textbackslash{}data cost \$5 \textasciitilde{} x\textasciicircum{}2"
    assert note in text
    assert text.count(r"\midrule") == 2  # under the header, and between methods and controls
    body = text.partition(r"\begin{tabular}{lrrrrr}")[2].partition(r"\end{tabular}")[0]
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {5}


def test_markdown_is_not_broken_by_what_names_and_reasons_contain(store: Store) -> None:
    make(store, "simclr", 50, first={"settings": {"a": "x|y"}})
    make(store, "simclr", 50, first={"settings": {"a": "z"}})
    make(store, "swav", 0, status="failed", reason="<b>|")
    text = markdown(only(build(store, {})))
    assert r"simclr [a=x\|y]" in text
    assert r"failed: &lt;b>\|" in text


@pytest.mark.parametrize("width", [200, 100, 60, 45])
def test_a_screen_shows_what_fits_and_names_the_rest(store: Store, width: int) -> None:
    for task in ("knn", "linear-probe"):
        make(store, "simclr", 70, 71, 72, task=task)
        make_controls(store, task=task)
    text = screen(only(build(store, CONTROLS)), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert "*71.0 ± 1.0*" in words and "*bold*: ahead of every other row" in words
    assert ("only in the files" in words) == (width < 100)
    if width == 60:
        assert "only in the files: pretrain s, GFLOPs / image, params M" in words
    for name in ("knn", "images", "params"):
        assert name in words


def test_numbers_of_markdown_keep_their_trailing_zeros(store: Store) -> None:
    make(store, "simclr", 50, costs=COSTS.model_copy(update={"parameters": 1_100_000}))
    assert "| 1.10 |" in " ".join(markdown(only(build(store, {}))).split())


def fill(store: Store, order: list[int]) -> None:
    jobs: list[tuple[str, dict[str, Any]]] = [
        (method, {"task": task, "first": {"backbone": backbone}, "seeds": (seed,)})
        for method in ("simclr", "swav", "random-init", "supervised")
        for task in ("knn", "linear-probe")
        for backbone in ("vit-nano", "resnet18")
        for seed in (0, 1)
    ]
    jobs += [("b", {"status": "failed", "reason": "r1"}), ("a", {"status": "failed", "reason": "r2"})]
    for at in order or range(len(jobs)):
        make(store, jobs[at][0], 40 + 7 * (at % 5), **jobs[at][1])


def test_the_same_records_give_the_same_bytes_whatever_their_order_and_file_names(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    fill(one, [])
    order = [*range(34)]
    random.Random(0).shuffle(order)
    fill(two, order)
    for file in [*two.records.glob("*.json")]:
        file.rename(two.records / f"{file.name[::-1]}.json")
    written = write(one, build(one, CONTROLS))
    assert [file.name for file in written] == [file.name for file in write(two, build(two, CONTROLS))]
    assert len(written) == 7
    for file in written:
        assert file.read_bytes() == (two.tables / file.name).read_bytes()


def test_writing_again_changes_nothing_and_removes_only_stale_tables(store: Store) -> None:
    make(store, "simclr", 50, 51)
    before = {file: file.read_bytes() for file in write(store, build(store, CONTROLS))}
    for name in ("stale.md", "stale.csv", "stale.tex", "kept.txt"):
        (store.tables / name).write_text("old")
    assert {file: file.read_bytes() for file in write(store, build(store, CONTROLS))} == before
    found = sorted(file.name for file in store.tables.iterdir())
    slug = "shapes-vit-nano-samples-80000"
    assert found == ["index.md", "kept.txt", f"{slug}.csv", f"{slug}.md", f"{slug}.tex"]


def test_the_index_holds_every_table(store: Store) -> None:
    make(store, "simclr", 50)
    make(store, "simclr", 50, first={"backbone": "resnet18"})
    write(store, build(store, CONTROLS))
    index = (store.tables / "index.md").read_text()
    assert all(markdown(table) in index for table in build(store, CONTROLS))


def test_a_changed_record_is_seen_in_the_table(store: Store) -> None:
    make(store, "simclr", 50)
    (file,) = store.records.glob("*.json")
    value = json.loads(file.read_text())
    value["scores"]["top1"]["value"] = 59.0
    file.write_text(json.dumps(value))
    assert cells(only(build(store, {})))["simclr"][HEADER] == "59.0"


SLUG = "shapes-vit-nano-samples-80000"


def test_the_readme_gets_its_table_between_the_marks_and_nothing_else_changes(store: Store) -> None:
    make(store, "simclr", 50)
    tables = build(store, {})
    text = f"before\n<!-- table:{SLUG} -->\nold | table\n<!-- /table:{SLUG} -->\nafter\n"
    filled = readme(text, tables)
    assert filled == f"before\n<!-- table:{SLUG} -->\n{markdown(only(tables))}<!-- /table:{SLUG} -->\nafter\n"
    assert readme(filled, tables) == filled
    assert readme("no marks", tables) == "no marks"


@pytest.mark.parametrize(
    "text",
    [
        f"<!-- table:{SLUG} -->",
        f"<!-- /table:{SLUG} -->",
        f"<!-- /table:{SLUG} --> <!-- table:{SLUG} -->",
        f"<!-- table:{SLUG} --> <!-- table:{SLUG} --> <!-- /table:{SLUG} -->",
        f"<!-- table:{SLUG} --> <!-- /table:other -->",
    ],
)
def test_a_mark_without_its_partner_is_an_error(store: Store, text: str) -> None:
    make(store, "simclr", 50)
    with pytest.raises(UserError, match="has no partner"):
        readme(text, build(store, {}))


def test_a_mark_of_an_unknown_table_is_an_error_with_a_near_miss(store: Store) -> None:
    make(store, "simclr", 50)
    with pytest.raises(UserError, match=f"did you mean {SLUG}"):
        readme("<!-- table:shapes-vit-nano -->\n<!-- /table:shapes-vit-nano -->", build(store, {}))


def test_warnings_that_differ_in_numbers_alone_are_one_footnote(store: Store) -> None:
    make(store, "simclr", 40.0, 41.0, 42.0, 43.0)
    said = ("its loss ended at 3.01 (# 1)", "its loss ended at 3.06 (# 1)", "its loss ended at 3.02 (# 1)", "no loss")
    for record, warning in zip(store.all(), said, strict=True):
        store.write(record.model_copy(update={"warning": warning}), {"top1": store.arrays(record, "top1")})
    table = only(build(store, {}))
    assert table.footnotes == ("seed 3: no loss", "seeds 0, 1, 2: its loss ended at 3.01 to 3.06 (# 1)")
    assert table.rows[0].cells[0].notes == (1, 2)


def test_a_warning_of_a_training_is_a_footnote_of_its_cells(store: Store) -> None:
    make(store, "swav", 40, 41, 42)
    (first, *_) = store.all()
    store.write(first.model_copy(update={"warning": "collapsed: its loss"}), {"top1": store.arrays(first, "top1")})
    table = only(build(store, {}))
    assert table.footnotes == ("seed 0: collapsed: its loss",) and table.rows[0].cells[0].notes == (1,)
    assert table.rows[0].cells[0].values == (40, 41, 42)


def test_the_title_says_what_the_backbones_name_stood_for(store: Store) -> None:
    make(store, "simclr", 50, 51, 52, costs=Costs(parameters=340_000))
    make(store, "raw-pixels", 30, 30, 30)
    for record in store.all():
        built = "patch 8, 4 x 4, width 96" if record.costs.parameters else "8 x 8, width 256"
        told = record.model_copy(update={"pretrained": {"built": built}})
        store.write(told, {"top1": store.arrays(record, "top1")})
    assert only(build(store, {})).title.startswith("shapes, vit-nano (patch 8, 4 x 4, width 96), ")


def test_a_control_stands_beside_those_that_were_judged_as_it_was(store: Store) -> None:
    make(store, "simclr", 50, 51, 52, protocol=2)
    make(store, "random-init", 20, 21, 22, protocol=1)
    make(store, "random-init", 30, 31, 32, protocol=2)
    trained, alone = build(store, {})
    assert [column.protocol for column in trained.columns] == [2]
    assert [row.cells[0].values for row in trained.rows] == [(30, 31, 32), (50, 51, 52)]
    assert [row.cells[0].values for row in alone.rows] == [(20, 21, 22)]


def test_what_too_few_seeds_can_not_show_is_marked_and_said(store: Store) -> None:
    make(store, "simclr", 70, 71, 72)
    make(store, "swav", 5)
    make_controls(store)
    table = only(build(store, CONTROLS))
    assert [row.name for row in table.rows if row.cells[0].behind] == ["swav"]  # one seed shows nothing
    assert bold(table) == []
    assert any(
        "nothing is bold in linear-probe: fewer than 3 seeds, or one group of test images, in the best row" in note
        for note in table.notes
    )
