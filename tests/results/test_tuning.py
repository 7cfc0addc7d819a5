"""Tuning is equal: as many trials at the same points for every method, chosen without the test split."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from ssbench import code, tuning
from ssbench.api import ready
from ssbench.data import Dataset
from ssbench.data.inner import inner
from ssbench.errors import UserError
from ssbench.line import execute
from ssbench.plan import Cell, Suite
from ssbench.results.groups import Line, Recipe, groups
from ssbench.results.record import Record, Score
from ssbench.results.store import Store
from ssbench.results.tuned import best, edges, expected_best, tunings
from ssbench.spec import Space, Spec
from ssbench.workshop import Workshop

from .records import done, failed, spec

Command = Callable[..., CompletedProcess[str]]
POINTS = [{"lr": 1e-3, "weight_decay": 0.01}, {"lr": 5e-3, "weight_decay": 0.1}]


def planned(*methods: str, **keys: Any) -> list[Cell]:
    asked = {"method": methods, "task": ("knn",), "dataset": ("digits",), "seeds": (0, 1), "budget": "steps=2"}
    return tuning.planned(Suite(**asked | {"set": ("train.batch=16",)} | keys))


def trial(method: str, number: int, value: float | None, better: Any = "higher", **more: Any) -> Record:
    about = {"trial": f"space 1, point {number}", "recipe": "own"}
    made = spec(method, about=about, train={"lr": 1e-3 * number, "weight_decay": 0.01}, **more)
    if value is None:
        return failed(made, reason="diverged")
    one = Score(value=value, low=value, high=value, unit="%", better=better, kind="accuracy", samples=9)
    return done(made, "top1", one)


def test_points_are_inside_the_space_and_more_of_them_begin_with_the_same() -> None:
    pytest.importorskip("optuna")
    found = tuning.points(16)
    assert found[:4] == tuning.points(4) and len({tuple(one.values()) for one in found}) == 16
    for key, (low, high) in Space():
        values = [one[key] for one in found]
        assert all(low <= value <= high for value in values)
        assert min(values) < (low * high) ** 0.5 < max(values)  # both halves of the logarithm


def test_no_optuna_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install ssbench\[tune\]"):
        tuning.points(2)


def test_every_trained_method_has_the_same_points_and_one_seed() -> None:
    made = tuning.trial_cells(planned("simclr", "rotation", task=("knn", "ridge")), POINTS)
    by_method: dict[str, list[Spec]] = {}
    for cell in made:
        by_method.setdefault(cell.method.name, []).append(cell.spec)
    assert by_method.keys() == {"simclr", "rotation", "supervised"}
    for specs in by_method.values():
        trains = [one.pretraining.train or {} for one in specs]
        assert [{key: train[key] for key in Space.model_fields} for train in trains] == POINTS
        assert {train["batch"] for train in trains} == {16}
        assert {(one.task, one.pretraining.seed) for one in specs} == {("knn", 0)}


def test_an_ordinary_specs_identity_knows_no_trial() -> None:
    cell = planned("simclr")[0]
    assert "trial" not in cell.spec.model_dump(mode="json")
    assert tuning.trial_cells([cell], POINTS)[0].spec.id != cell.spec.id


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset": ("digits", "shapes")}, "dataset=digits,shapes: a tuning is of one"),
        ({"budget": ("steps=2", "steps=3")}, "budget=steps=2,steps=3: a tuning is of one"),
        ({"share": ("10%", "100%")}, "share=10%,100%: a tuning is of one"),
        ({"set": ("train.lr=0.1",)}, "train.lr: that is what is tuned"),
        ({"recipe": "shared"}, "recipe=shared: tuning starts from each method's own"),
        ({"method": ("random-init",)}, "nothing is trained"),
        ({"vary": {"simclr.temperature": ("0.1", "0.2")}}, "vary: a tuning has none"),
    ],
)
def test_what_can_not_be_tuned_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned(**{"method": ("simclr",), **keys} if "method" not in keys else keys)


@pytest.mark.parametrize("draws", [1, 2, 3, 5])
def test_the_expected_best_is_the_mean_over_all_draws(draws: int) -> None:
    scores = [3.0, 1.0, 4.0, 1.0, 5.0]
    assert expected_best(scores, draws) == pytest.approx(fmean(map(max, combinations(scores, draws))))


def test_the_best_is_by_the_metrics_direction_and_the_first_of_equals() -> None:
    found = best([trial("a", 3, 2.0), trial("a", 2, 2.0), trial("a", 1, None)])
    assert found and found.spec.trial.endswith("point 2")
    lowest = best([trial("a", 1, 2.0, "lower"), trial("a", 2, 1.0, "lower")])
    assert lowest and lowest.spec.trial.endswith("point 2")
    assert best([trial("a", 1, None)]) is None


def test_an_edge_is_the_outer_tenth_of_the_logarithm() -> None:
    assert edges({"lr": 1.5e-4, "weight_decay": 0.02}) == ["low lr"]
    assert edges({"lr": 1.7e-4, "weight_decay": 0.4}) == ["high weight_decay"]


def test_a_failed_trial_counts_as_the_worst_and_unequal_numbers_are_said() -> None:
    trials = [trial("a", 1, 50.0), trial("a", 2, None), trial("b", 1, 30.0)]
    (frame,) = tunings(trials, {})
    rows = {row[0].text: [value.text for value in row[1:]] for row in frame.rows}
    assert rows["a"] == ["2 (1 failed)", "50.0", "0.001", "0.01", "no", "40.0", "50.0"]
    assert rows["b"][-2:] == ["30.0", "–"] and any("unequal" in note for note in frame.notes)


def test_lower_scores_that_are_better_stay_as_they_are() -> None:
    (frame,) = tunings([trial("a", 1, 2.0, "lower"), trial("a", 2, 4.0, "lower")], {})
    assert [value.text for value in frame.rows[0]][-2:] == ["3.0", "2.0"]


def test_tables_keep_trials_out_and_a_tuned_row_stands_beside_the_own_one() -> None:
    about = {"recipe": "own; train.batch=16"}
    tuned = {"recipe": "tuned (16 trials); train.batch=16"}
    records = [failed(spec("simclr", about=about)), failed(spec("simclr", about=tuned)), trial("simclr", 1, 9.0)]
    assert Recipe.of(records[0].spec) == Recipe.of(records[1].spec)
    (group,) = groups(records)
    assert [*group.records] == records[:2]
    assert [group.line(record).title for record in group.records] == ["simclr", "simclr, tuned (16 trials)"]


def test_rows_tuned_to_other_values_are_never_averaged() -> None:
    lines = {
        Line.of(spec("a", train={"lr": lr, "weight_decay": 0.1}).pretraining, recipe="tuned (2 trials)")
        for lr in (1e-3, 2e-3)
    }
    assert len(lines) == 2


def test_a_trials_data_lie_in_the_training_data_and_are_parted_by_class(tiny: Dataset) -> None:
    found = inner(tiny)
    assert found.test is tiny.select and not {*found.fit.keys} & {*found.select.keys}
    assert {*found.fit.keys, *found.select.keys} == {*tiny.fit.keys}
    for label, count in enumerate(tiny.fit.targets["label"].bincount().tolist()):
        share = int((found.select.targets["label"] == label).sum())
        assert abs(share - count / 10) < 1
    assert torch.equal(inner(tiny).select.images, found.select.images)


def test_a_fit_that_can_not_be_split_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match="too small to be tuned on"):
        inner(replace(tiny, fit=tiny.fit.take([0])))


def test_the_labels_and_images_of_the_test_split_can_not_change_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssbench import data

    load, found = data.load, []
    cells = tuning.trial_cells(planned("rotation", seeds=(0,)), POINTS)[:2]

    def flipped(*words: Any) -> Dataset:
        made = load(*words)
        label = made.test.targets["label"]
        images = 255 - made.test.images
        return replace(made, test=replace(made.test, images=images, targets={**made.test.targets, "label": 9 - label}))

    for reader in (load, flipped):
        monkeypatch.setattr(data, "load", reader)
        store = Store(tmp_path / reader.__name__)
        assert {record.status for record in execute(cells, Workshop(store, torch.device("cpu")))} == {"done"}
        records = store.all()
        found.append([(one.scores, one.selected, store.arrays(one, "top1")["truth"].tolist()) for one in records])
    assert found[0] == found[1]


def test_a_failed_trial_is_not_tried_again(tmp_path: Path) -> None:
    own = planned("rotation", seeds=(0,))
    cells = [*tuning.trial_cells(own, POINTS)[:1], own[0]]
    store = Store(tmp_path)
    for cell in cells:
        store.write(failed(cell.spec), {})
    assert [cell.spec.trial for cell in ready(cells, (), tmp_path, False).todo] == [""]


def test_the_command_tunes_goes_on_and_computes_nothing_twice(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["tune", "--method", "rotation", "--trials", "2", "--budget", "steps=3", "--task", "knn", "--seeds", "0"]
    more = ["--dataset", f"folder:{photos}", "--device", "cpu", "--results", tmp_path]
    first = ssbench(*words, *more)
    assert first.returncode == 0, first.stderr
    assert "rotation, tuned (2 trials)" in first.stdout and "(10 new)" in first.stdout
    records = Store(tmp_path).all()
    trials = [record for record in records if record.spec.trial]
    assert len(trials) == 4 and all(record.data["test"] == 12 for record in trials)  # select has 12 of 120
    lost = next(file for file in (tmp_path / "records").glob(f"*{trials[1].id}.json"))
    lost.unlink()
    again = ssbench(*words, *more)
    assert "(1 new)" in again.stdout and again.stdout.replace("(1 new)", "(10 new)") == first.stdout
    assert "(0 new)" in ssbench(*words, *more).stdout
    assert ssbench("tables", "--results", tmp_path).returncode == 0
    (file,) = (tmp_path / "tables").glob("*-knn-1-tuning.md")
    written = file.read_text()
    assert "best of 2" in written and "| rotation" in written and "| supervised" in written


def test_trials_of_earlier_code_choose_nothing_and_are_said_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "now", lambda spec: {"method": "new"})
    old, *new = trial("simclr", 1, 90), trial("simclr", 2, 40), trial("simclr", 3, 50)
    trials = [old.model_copy(update={"digests": {"method": "old"}})]
    trials += [one.model_copy(update={"digests": {"method": "new"}}) for one in new]
    assert tuning.choices(trials)["simclr"]["lr"] == 3e-3
    (frame,) = tunings(trials, {})
    assert [value.text for value in frame.rows[0][:3]] == ["simclr", "2", "50.0"]
    assert "1 trials are of earlier code and left out" in frame.notes
    (frame,) = tunings(trials[:1], {})
    assert frame.rows[0][2].text == "90.0", "where there are no others, they are shown"


def test_other_draws_of_the_task_are_no_trials() -> None:
    own = planned("simclr", probe_seeds=3)
    assert {cell.spec.probe for cell in own} == {0, 1, 2}
    found = [cell for cell in tuning.trial_cells(own, POINTS) if cell.method.name == "simclr"]
    assert len(found) == len(POINTS)
