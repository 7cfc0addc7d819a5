"""Which code a mean is of, and what is said of rows whose code has changed."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssbench import code
from ssbench.results import codes
from ssbench.results.record import Costs, Record, Score
from ssbench.results.store import Store
from ssbench.results.table import Table, build
from ssbench.spec import Budget

from .records import done, spec

CONTROLS = {"random-init": "floor"}
TOP1 = Score(value=50, low=40, high=60, unit="%", better="higher", kind="accuracy", samples=200)
TODAY, OTHER = {"method": "m1", "scores": "s1"}, {"method": "m0", "scores": "s1"}


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "now", lambda spec: TODAY)


def record(seed: int, digests: dict[str, str], value: float = 50, created: str = "2025-01-01") -> Record:
    score = TOP1.model_copy(update={"value": value})
    return done(spec("simclr", seed), "top1", score, digests=digests).model_copy(update={"created": created})


def table(folder: Path, *records: Record) -> Table:
    store = Store(folder)
    for one in records:
        hits = np.arange(200) < 2 * one.scores["top1"].value
        store.write(one, {"top1": {"predicted": hits.astype(np.int64), "truth": np.ones(200, np.int64)}})
    (made,) = build(store, CONTROLS)
    return made


def test_the_changed_parts_are_named_and_what_is_not_known_is_not() -> None:
    assert codes.changed(record(0, TODAY)) == []
    assert codes.changed(record(0, OTHER)) == ["method"]
    assert codes.changed(record(0, {})) == []
    assert codes.changed(record(0, TODAY | {"task": "t0"})) == []  # a task that is not at hand


def test_a_mean_is_of_todays_code_where_there_is_some_else_of_the_latest() -> None:
    of_today, older = record(0, TODAY, created="2025-01-01"), record(1, OTHER, created="2025-01-02")
    assert codes.of_one_code([of_today, older]) == [of_today]
    assert codes.of_one_code([record(0, {}), older]) == [older]
    assert codes.of_one_code([older, record(2, OTHER)]) == [older, record(2, OTHER)]
    broken = record(3, {}).model_copy(update={"status": "failed"})
    assert codes.of_one_code([of_today, older, broken]) == [of_today, broken]


def test_a_row_of_older_code_has_a_footnote_and_stays(tmp_path: Path) -> None:
    made = table(tmp_path, record(0, OTHER), record(1, OTHER))
    assert [cell.values for row in made.rows for cell in row.cells if row.name == "simclr"] == [(50, 50)]
    assert made.footnotes == ("made by older code: method changed since",)


def test_two_codes_are_never_in_one_mean(tmp_path: Path) -> None:
    made = table(tmp_path, record(0, OTHER, 10), record(1, TODAY, 50), record(2, TODAY, 60))
    assert [cell.values for row in made.rows for cell in row.cells if row.name == "simclr"] == [(50, 60)]
    assert made.footnotes == () and codes.LEFT.format(count=1) in made.notes


def test_a_method_whose_own_rate_has_changed_is_one_row_of_its_latest_rate(tmp_path: Path) -> None:
    def at(rate: float, seed: int, value: float, created: str) -> Record:
        of = spec("simclr", seed, about={"recipe": "own"}, train={"lr": rate})
        return done(of, "top1", TOP1.model_copy(update={"value": value}), digests=TODAY).model_copy(
            update={"created": created}
        )

    older = [at(1e-3, seed, 40, "2025-01-01") for seed in range(4)]
    newer = [at(3e-3, seed, 60, "2025-01-02") for seed in (0, 1, 2)]
    made = table(tmp_path, *older, *newer)
    assert [cell.values for row in made.rows for cell in row.cells if row.name == "simclr"] == [(60, 60, 60)]
    assert codes.LEFT.format(count=1) in made.notes  # seed 3, which has no other


def test_records_from_before_digests_are_said_to_be_so(tmp_path: Path) -> None:
    made = table(tmp_path, record(0, {}), record(1, {}))
    assert codes.UNKNOWN.format(count=2, all=2) in made.notes and made.footnotes == ()
    assert table(tmp_path / "new", record(0, TODAY)).notes == tuple(note for note in made.notes if "digest" not in note)


NOT_TODAY = {"training": "t0", "scores": "s1"}


def again(one: Record, *earlier: dict[str, str]) -> Record:
    """Run again under the code that its digests say, with what it had before."""
    told = {"confirmed": {"created": "2025-01-02"}, "earlier": [*earlier], "environment": {"device": "cpu"}}
    return one.model_copy(update=told)


@pytest.fixture
def retrained(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Today's digests after the training loop was changed."""
    today = {"training": "t2", "scores": "s1"}
    monkeypatch.setattr(code, "now", lambda spec: today)
    return today


def test_what_was_run_again_settles_its_method_on_its_backbone_and_no_other(retrained: dict[str, str]) -> None:
    shown = again(record(0, retrained), NOT_TODAY)
    own, other = record(1, NOT_TODAY), done(spec("byol"), "top1", TOP1, digests=NOT_TODAY)
    wider = done(spec("simclr", 2, backbone="vit-micro"), "top1", TOP1, digests=NOT_TODAY)
    judged = done(spec("simclr", 3, task="linear-probe"), "top1", TOP1, digests=NOT_TODAY)
    found = codes.settled([shown, own, other, wider, judged])
    assert [codes.changed(one) for one in found] == [[], [], ["training"], ["training"], []]
    assert [one.confirmed.get("by") for one in found] == [None, "cpu", None, None, "cpu"]
    assert found[0] == shown and found[2] == other
    assert codes.settled([own, other], [shown]) == [found[1], other]
    assert codes.settled([own, other]) == [own, other]


def test_codes_are_one_by_way_of_a_third_and_never_across_parts(retrained: dict[str, str]) -> None:
    first = again(record(0, {"training": "t1", "scores": "s1"}), NOT_TODAY)
    second = again(record(1, retrained), {"training": "t1", "scores": "s1"})
    assert not any(map(codes.changed, codes.settled([first, second, record(2, NOT_TODAY)])))
    assert codes.changed(codes.settled([second, record(2, NOT_TODAY)])[1]) == ["training"]
    scored = record(3, {"training": "t0", "scores": "t1"})  # the digest of another part is no evidence
    assert codes.changed(codes.settled([first, second, scored])[2]) == ["training", "scores"]


@pytest.mark.parametrize(
    "other",
    [
        {"first": {"share": "10%"}},
        {"first": {"precision": "bf16"}},
        {"first": {"train": {"lr": 1e-3, "optimiser": "lars"}}},
        {"first": {"train": {"lr": 1e-3, "weight_decay_end": 0.4}}},
        {"first": {"train": {"lr": 1e-3, "scaling": "sqrt"}}},
        {"first": {"backbone_settings": {"patch": 8}}},
        {"first": {"settings": {"temperature": 0.5}}},
        {"first": {"budget": Budget(unit="seconds", amount=9)}},
        {"first": {"init": "file:vit.pth@0123456789abcdef"}},
    ],
    ids=str,
)
def test_a_training_of_another_kind_is_not_settled(retrained: dict[str, str], other: dict[str, Any]) -> None:
    kind = done(spec("simclr", 1, **other["first"]), "top1", TOP1, digests=NOT_TODAY)
    assert codes.changed(codes.settled([again(record(0, retrained), NOT_TODAY), kind])[1]) == ["training"]


@pytest.mark.parametrize(
    "other",
    [
        {"labels": "10%"},
        {"labels": "4"},
        {"trial": "space 1, point 1"},
        {"task_settings": {"k": 5}},
        {"reading": {"block": 2}},
    ],
)
def test_scores_are_settled_by_method_and_task_as_they_were_asked(
    retrained: dict[str, str], other: dict[str, Any]
) -> None:
    older = {"training": "t2", "scores": "s0"}
    shown = again(record(0, retrained), older)
    probed = done(spec("simclr", task="linear-probe"), "top1", TOP1, digests=older)
    pixels = done(spec("byol"), "top1", TOP1, digests=older)
    asked = done(spec("simclr", 1, about=other), "top1", TOP1, digests=older)
    found = codes.settled([shown, record(1, older), probed, pixels, asked])
    assert [codes.changed(one) for one in found] == [[], [], ["scores"], ["scores"], ["scores"]]


def test_the_fewest_are_one_of_each_kind_the_quickest(retrained: dict[str, str]) -> None:
    older = {"training": "t0", "scores": "s0"}

    def took(method: str, task: str, seed: int, seconds: float) -> Record:
        costs = Costs(pretrain_seconds=seconds)
        return done(spec(method, seed, task), "top1", TOP1, digests=older, costs=costs)

    each = product(("byol", "simclr"), ("knn", "probe"), (0, 1))
    rows = [took(method, task, seed, 10 + seed + (task == "probe")) for method, task, seed in each]
    picked = codes.fewest(rows)
    names = {(one.spec.pretraining.method, one.spec.task, one.spec.pretraining.seed) for one in picked}
    assert names == {(method, task, 0) for method in ("byol", "simclr") for task in ("knn", "probe")}
    shown = {one.id: again(one.model_copy(update={"digests": retrained}), older) for one in picked}
    assert not any(map(codes.changed, codes.settled([shown.get(one.id, one) for one in rows])))
    assert codes.fewest(codes.settled([shown.get(one.id, one) for one in rows])) == []


def test_seeds_of_a_settled_code_share_a_mean_and_the_table_says_so(tmp_path: Path, retrained: dict[str, str]) -> None:
    shown = again(record(0, retrained, 10), NOT_TODAY)
    made = table(tmp_path, shown, record(1, NOT_TODAY, 50))
    assert [cell.values for row in made.rows for cell in row.cells if row.name == "simclr"] == [(10, 50)]
    assert made.footnotes == () and codes.SETTLED.format(count=1, all=2, where="cpu") in made.notes


def test_labels_a_class_and_a_share_of_them_are_two_scopes() -> None:
    asked = [spec("simclr", about={"labels": labels}) for labels in ("4", "8", "10%", "30%")]
    scopes = [codes.scope_of("data", one) for one in asked]
    assert scopes[0] == scopes[1] != scopes[2] == scopes[3]


def test_the_devices_named_are_those_that_settled_the_row(retrained: dict[str, str]) -> None:
    shown = again(record(0, retrained), NOT_TODAY).model_copy(update={"environment": {"device": "cpu"}})
    other = done(spec("byol"), "top1", TOP1, digests=retrained, environment={"device": "cuda"})
    found = codes.settled([shown, record(1, NOT_TODAY), again(other, NOT_TODAY)])
    assert found[1].confirmed == {"by": "cpu"}
