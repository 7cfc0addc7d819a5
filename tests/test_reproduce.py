"""A record run again is confirmed where the same comes out, and shown where it does not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssbench import api
from ssbench.errors import UserError
from ssbench.line import execute
from ssbench.plan import Cell
from ssbench.reproduce import Again, few, pick, reproduce
from ssbench.results.record import Record
from ssbench.results.store import Store
from ssbench.results.table import build
from ssbench.workshop import Workshop

DIGITS = {"tasks": "knn", "dataset": "digits", "seeds": 0, "budget": "steps=3", "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of rotation on digits, with the controls."""
    folder = tmp_path_factory.mktemp("results")
    api.run("rotation", results=folder, **DIGITS)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of it."""
    for file in (made / "records").iterdir():
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / "records" / file.name).write_bytes(file.read_bytes())
    yield Store(tmp_path)


def rotation(store: Store) -> Record:
    return next(one for one in store.all() if one.spec.pretraining.method == "rotation")


def again(store: Store, *records: Record) -> list[Again]:
    return [*reproduce(store, records, (), (), "cpu")]


def test_what_comes_out_the_same_is_confirmed_under_todays_code(store: Store) -> None:
    record = rotation(store)
    digests = record.digests
    older = record.model_copy(update={"digests": digests | {"training": "older"}})
    store.update(older)
    assert [one.id for one in pick(store, stale=True, sample=0)] == [record.id]
    (found,) = again(store, rotation(store))
    assert found.verdict == "confirmed"
    written = rotation(store)
    assert written.digests == digests and written.confirmed["version"] == record.code["version"]
    assert found.said == ""
    assert written.earlier == [older.digests]
    bare = written.model_copy(update={"confirmed": {}, "earlier": [], "seals": {}})
    assert bare == record.model_copy(update={"seals": {}})
    assert not pick(store, stale=True, sample=0)


def test_other_predictions_and_other_scores_are_shown_and_change_no_record(store: Store) -> None:
    record = rotation(store)
    arrays = {name: dict(store.arrays(record, name)) for name in record.scores}
    arrays["top1"]["predicted"] = np.roll(arrays["top1"]["predicted"], 1)
    store.write(record, arrays)
    (found,) = again(store, rotation(store))
    assert found.verdict == "differs" and "(predicted differ)" in found.said
    score = record.scores["top1"].model_copy(update={"value": 99.0})
    store.update(rotation(store).model_copy(update={"scores": record.scores | {"top1": score}}))
    before = store.file(record.spec).read_bytes()
    (found,) = again(store, rotation(store))
    assert found.verdict == "differs" and found.said.startswith("top1 99 -> ")
    assert store.file(record.spec).read_bytes() == before


def test_a_record_that_was_changed_by_hand_is_not_sealed_again(store: Store) -> None:
    file = store.file(rotation(store).spec)
    raw = json.loads(file.read_text())
    raw["costs"]["steps"] += 1
    file.write_text(json.dumps(raw))
    (found,) = again(store, rotation(store))
    assert found.verdict == "differs" and "not what was written" in found.said
    assert json.loads(file.read_text())["costs"]["steps"] == 4


def test_another_number_of_threads_is_named_where_scores_differ(store: Store) -> None:
    record = rotation(store)
    score = record.scores["top1"].model_copy(update={"value": 99.0})
    environment = record.environment | {"threads": "64"}
    store.update(record.model_copy(update={"scores": record.scores | {"top1": score}, "environment": environment}))
    (found,) = again(store, rotation(store))
    assert "threads 64 -> " in found.said


def test_what_todays_code_can_not_run_says_why(store: Store) -> None:
    record = rotation(store)
    p = record.spec.pretraining
    for change, said in (
        ({"pretraining": p.model_copy(update={"version": 0})}, r"of version 0 of rotation, and today's is \d"),
        ({"protocol": 99}, r"of protocol 99 of knn"),
        ({"task": "knnn"}, r"unknown task 'knnn'"),
        ({"data": record.spec.data.model_copy(update={"fingerprint": "0"})}, r"digits of this content is not at hand"),
        ({"pretraining": p.model_copy(update={"backbone": "file:vit.pth@0123456789abcdef"})}, r"came with its weights"),
    ):
        other = record.model_copy(update={"spec": record.spec.model_copy(update=change)})
        (found,) = again(store, other)
        assert found.verdict == "not run" and re.search(said, found.said), found.said


def test_a_sample_is_always_the_same_and_those_of_one_pretraining_stand_together(store: Store) -> None:
    some = [record.id for record in pick(store, stale=False, sample=2)]
    assert len(some) == 2 and some == [record.id for record in pick(Store(store.folder), stale=False, sample=2)]
    assert len(pick(store, stale=False, sample=0)) == 4


def test_what_was_run_again_elsewhere_is_a_witness(store: Store) -> None:
    record = rotation(store)
    older = record.digests | {"training": "older"}
    store.update(record.model_copy(update={"digests": older}))
    assert len(pick(store, stale=True, sample=0)) == 1
    spec = record.spec.model_copy(update={"pretraining": record.spec.pretraining.model_copy(update={"seed": 9})})
    witness = record.model_copy(update={"id": spec.id, "spec": spec, "earlier": [older]})
    Store(store.folder / "again").update(witness)
    assert not pick(store, stale=True, sample=0)
    (told,) = (one for one in api.Results((rotation(store),), store, {}).settled())
    assert told.digests == record.digests and told.confirmed == {"by": record.environment["device"]}
    (table,) = build(store, {"random-init": "floor"})
    assert any("were run again, on cpu, and the same came out" in note for note in table.notes)


def test_few_are_run_again_and_settle_the_others(store: Store) -> None:
    from typer.testing import CliRunner

    from ssbench.cli import app

    record = rotation(store)
    older = record.digests | {"training": "older"}
    p = record.spec.pretraining
    twin = record.spec.model_copy(update={"pretraining": p.model_copy(update={"seed": 7})})
    lost = {"data": p.data.model_copy(update={"fingerprint": "0"})}
    gone = record.spec.model_copy(update={"pretraining": p.model_copy(update=lost | {"precision": "bf16"})})
    for spec, costs in ((record.spec, {}), (twin, {"pretrain_seconds": 1e6}), (gone, {"pretrain_seconds": 0})):
        told = {"id": spec.id, "spec": spec, "digests": older, "costs": record.costs.model_copy(update=costs)}
        store.update(record.model_copy(update=told))
    assert [one.id for one in few(store, (), (), "cpu")] == [record.id]
    ran = CliRunner().invoke(app, ["reproduce", "--fewest", "--results", str(store.folder), "--device", "cpu"])
    assert ran.exit_code == 0 and "1 records: 1 confirmed" in ran.output
    assert "of 6 records 1 are still of changed code, 0 of code that is not known" in ran.output
    assert {one.id for one in pick(store, stale=True, sample=0)} == {gone.id}


def refused(cells: list[Cell], shop: Workshop) -> Iterator[Record]:
    raise UserError("not here")


def test_the_command_says_what_came_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from ssbench.cli import app

    where, command = ["--results", str(store.folder), "--device", "cpu"], CliRunner().invoke
    ran = command(app, ["reproduce", rotation(store).id, *where])
    assert ran.exit_code == 0 and "confirmed: knn, " in ran.output and "1 records: 1 confirmed" in ran.output
    assert "nothing to run again" in command(app, ["reproduce", "--stale", *where]).output
    file = store.file(rotation(store).spec)
    raw = json.loads(file.read_text())
    raw["scores"]["top1"]["value"] += 1
    file.write_text(json.dumps(raw))
    assert command(app, ["reproduce", "rotation", *where]).exit_code == 1
    monkeypatch.setattr("ssbench.line.execute", refused)
    ran = command(app, ["reproduce", "rotation", *where])
    assert ran.exit_code == 1 and "1 not run" in ran.output, "nothing was confirmed"
    with pytest.raises(UserError, match="name a record, or say --stale, --fewest"):
        command(app, ["reproduce", *where], catch_exceptions=False)


def test_a_source_that_is_not_there_is_named_and_stops_no_record_of_another(store: Store) -> None:
    record = rotation(store)
    (found,) = reproduce(store, [record], ["folder:nowhere"], (), "cpu")
    assert found.verdict == "confirmed"  # its data is drawn
    other = {"data": record.spec.data.model_copy(update={"fingerprint": "0"})}
    (found,) = reproduce(
        store, [record.model_copy(update={"spec": record.spec.model_copy(update=other)})], ["folder:nowhere"], (), "cpu"
    )
    assert found.verdict == "not run" and "not at hand" in found.said and "nowhere" in found.said


def test_what_one_record_can_not_be_run_for_stops_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = store.all()

    def half(cells: list[Cell], shop: Workshop) -> Iterator[Record]:
        if cells[0].spec.id == first.id:
            raise UserError("not this one")
        return execute(cells, shop)

    monkeypatch.setattr("ssbench.line.execute", half)
    assert [one.verdict for one in again(store, first, second)] == ["not run", "confirmed"]


def test_data_that_was_allowed_then_is_read_again(photos: Path, tmp_path: Path) -> None:
    """`data.allow` is in no identity."""
    for part, count in (("train", 60), ("test", 30)):  # the test is a half of the training images
        for file in sorted(photos.glob("*/*.png")):
            if int(file.stem) < count:
                (there := tmp_path / "d" / part / file.parent.name).mkdir(parents=True, exist_ok=True)
                (there / file.name).write_bytes(file.read_bytes())
    source = f"folder:{tmp_path / 'd'}"
    asked = {"tasks": "knn", "seeds": 0, "set": {"data.allow": "copies"}, "device": "cpu"}
    found = api.run("random-init", dataset=source, results=tmp_path / "r", **asked)  # type: ignore[arg-type]
    made = [*reproduce(found.store, found.records, ["folder:nowhere", source], (), "cpu")]
    assert {one.verdict for one in made} == {"confirmed"}, made[0].said
