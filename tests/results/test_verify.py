"""One digit changed anywhere is found, and named; what is whole passes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ssbench.cli import app
from ssbench.code import RENAMED
from ssbench.errors import UserError
from ssbench.results import metrics, render, verify
from ssbench.results.bootstrap import interval
from ssbench.results.every import every
from ssbench.results.record import Costs, Score
from ssbench.results.renew import renew
from ssbench.results.store import Store
from ssbench.results.verify import check_records, check_tables

from .records import done, failed, spec

CONTROLS = {"random-init": "floor", "raw-pixels": "floor", "supervised": "ceiling"}
README = "# Title\n\n<!-- table:shapes-vit-nano-samples-1000 -->\n<!-- /table:shapes-vit-nano-samples-1000 -->\n"


def write(store: Store, method: str, share: float, seed: int) -> Path:
    """A record of two scores with their predictions."""
    draw = np.random.default_rng([seed, round(100 * share)])
    truth = draw.integers(3, size=60)
    predicted = np.where(draw.random(60) < share, truth, (truth + 1) % 3)
    made = {"top1": ("accuracy", {"predicted": predicted, "truth": truth}), "nll": ("mean", {"value": draw.random(60)})}
    scores: dict[str, Score] = {}
    for name, (kind, arrays) in made.items():
        low, high = interval(kind, arrays)  # type: ignore[arg-type]
        scores[name] = Score(
            value=metrics.score(kind, arrays),  # type: ignore[arg-type]
            low=low,
            high=high,
            unit="%",
            better="higher",
            kind=kind,  # type: ignore[arg-type]
            samples=60,
            floor=metrics.floor(kind, arrays),  # type: ignore[arg-type]
        )
    more: dict[str, Any] = {"loss": [{"step": 50.0, "ntxent": 3.25}], "measures": {"rankme": 12.5}}
    one = done(spec(method, seed), "top1", scores["top1"], costs=Costs(images=1000, parameters=340_000), **more)
    return store.write(one.model_copy(update={"scores": scores}), {name: arrays for name, (_, arrays) in made.items()})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two methods and a control on three seeds, one of them broken; tables and a README."""
    made = Store(tmp_path / "results")
    for seed in range(3):
        for method, share in (("simclr", 0.8), ("byol", 0.6), ("random-init", 0.4)):
            write(made, method, share, seed)
    made.write(failed(spec("swav"), reason="it broke"), {})
    tables = every(made, CONTROLS, made.all())
    render.write(made, tables)
    (tmp_path / "README.md").write_text(render.readme(README, tables))
    return made


def findings(store: Store, readme: Path | None = None) -> list[str]:
    return [
        str(one)
        for one in (
            *check_records(store),
            *check_tables(store, every(store, CONTROLS, store.all()), render.pages([readme] if readme else [])),
        )
    ]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all numbers and texts with a digit in JSON."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, (*path, key))
    elif not isinstance(value, bool) and value is not None and re.search(r"\d", str(value)):
        yield path


def changed(value: Any, more: int) -> Any:
    """The last digit is another one, so that the value is: several of 17 digits may be one float."""
    text = str(value)
    at = max(i for i, letter in enumerate(text) if letter.isdigit())
    others = (type(value)(text[:at] + str((int(text[at]) + by) % 10) + text[at + 1 :]) for by in range(more, more + 10))
    return next(other for other in others if other != value)


def test_what_is_whole_passes(store: Store, tmp_path: Path) -> None:
    assert findings(store, tmp_path / "README.md") == []


@pytest.mark.parametrize("more", [1, 9])  # schema 2 becomes 3, and 1
def test_one_digit_changed_anywhere_in_a_record_is_found_and_its_field_named(tmp_path: Path, more: int) -> None:
    store = Store(tmp_path)
    file = write(store, "simclr", 0.8, 0)
    whole = file.read_text()
    places = [*leaves(json.loads(whole))]
    assert len(places) > 40
    for path in places:
        raw = json.loads(whole)
        inner = raw
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = changed(inner[path[-1]], more)
        file.write_text(json.dumps(raw))
        found = [str(one) for one in check_records(store)]
        named = path[1] if path[0] == "seals" else path[0]
        assert found and all(str(file) in one for one in found), path
        said = [one.removeprefix(str(file)).replace("_", " ") for one in found]
        assert any(str(named).replace("_", " ") in one for one in said), (path, found)


@pytest.mark.parametrize("key", ["value", "low", "high", "floor"])
def test_a_score_that_its_predictions_do_not_give_is_named_though_it_is_sealed(store: Store, key: str) -> None:
    record = next(one for one in store.all() if one.status == "done")
    score = record.scores["top1"]
    wrong = score.model_copy(update={key: getattr(score, key) + 0.1})
    arrays = {name: store.arrays(record, name) for name in record.scores}
    store.write(record.model_copy(update={"scores": record.scores | {"top1": wrong}}), arrays)
    (found,) = check_records(store)
    assert found.key == f"scores.top1.{key}" and "follows from the predictions" in found.said


def test_many_records_are_checked_by_several_processes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in store.files()[::4]:
        file.write_text(file.read_text().replace('"low": ', '"low": 1'))
    alone = {(one.file, one.key) for one in check_records(store)}
    monkeypatch.setattr(verify, "PART", 4)
    assert alone and {(one.file, one.key) for one in check_records(store)} == alone


def test_an_interval_of_other_code_is_made_again_but_not_what_is_not_what_was_written(store: Store) -> None:
    record = next(one for one in store.all() if one.status == "done")
    other = record.scores["top1"].model_copy(update={"low": 1.0})
    store.update(record.model_copy(update={"scores": record.scores | {"top1": other}}))
    (found,) = check_records(store)
    assert "ssbench migrate writes it" in found.said
    assert renew(store) == 1 and not [*check_records(store)] and renew(store) == 0
    assert store.find(record.spec) == record
    (old, new), *_ = RENAMED.items()
    store.update(record.model_copy(update={"digests": {"scores": old}, "earlier": [{"method": "m", "scores": old}]}))
    assert renew(store) == 1 and (known := store.find(record.spec))
    assert known.digests == {"scores": new} and known.earlier == [{"method": "m", "scores": new}]
    file = store.file(record.spec)
    file.write_text(file.read_text().replace(f'"low": {record.scores["top1"].low}', '"low": 1.5'))
    with pytest.raises(UserError, match="is not what was written; see ssbench verify"):
        renew(store)


def test_a_changed_prediction_is_found(store: Store) -> None:
    file = sorted(store.records.glob("*.npz"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (found,) = check_records(store)
    assert found.key == "predictions_sha256" and file.name in found.said


def test_a_record_under_another_name_and_predictions_of_none_are_found(store: Store) -> None:
    file = sorted(store.records.glob("byol*.json"))[0]
    file.rename(file.with_name("byol.knn.shapes.s0.0123456789abcdef.json"))
    found = [str(one) for one in check_records(store)]
    assert len(found) == 2 and any(f"should be called {file.name}" in one for one in found)
    assert any("predictions of no record" in one for one in found)


def test_a_record_that_can_not_be_read_is_named_and_the_rest_is_checked(store: Store) -> None:
    file = sorted(store.files())[0]
    file.write_text("{")
    (store.files()[1]).write_text("{")
    assert len({one.file for one in check_records(store) if not one.key and one.file.suffix == ".json"}) == 2


@pytest.mark.parametrize("ending", [".md", ".csv", ".tex"])
def test_one_digit_of_a_table_is_found(store: Store, ending: str) -> None:
    for file in store.tables.glob(f"*{ending}"):
        whole = file.read_text()
        for at in [i for i, letter in enumerate(whole) if letter.isdigit()][::7]:
            file.write_text(whole[:at] + str((int(whole[at]) + 1) % 10) + whole[at + 1 :])
            (found,) = check_tables(store, every(store, CONTROLS, store.all()))
            line = whole[:at].count("\n") + 1
            assert found.file == file and found.said == f"line {line} is not what the records give"
            break
        file.write_text(whole)


def test_a_table_of_no_record_and_one_that_is_missing_are_found(store: Store) -> None:
    gone = next(store.tables.glob("*.csv"))
    gone.rename(store.tables / "other.csv")
    found = {one.file.name: one.said for one in check_tables(store, every(store, CONTROLS, store.all()))}
    assert found == {gone.name: "is not there", "other.csv": "no record stands behind it"}


def test_one_digit_of_the_readme_is_found_and_the_command_says_so(store: Store, tmp_path: Path) -> None:
    readme, command = tmp_path / "README.md", CliRunner().invoke
    words = ["verify", "--results", str(store.folder), "--readme", str(readme)]
    ran = command(app, words)
    assert ran.exit_code == 0 and "10 records and their tables are what they follow from" in ran.output
    checked = command(app, ["tables", "--check", *words[1:]])
    assert checked.exit_code == 0 and "are what the records give" in checked.output
    readme.write_text(re.sub(r"\| simclr +\| +\**\d", lambda found: found[0][:-1] + "0", readme.read_text()))
    ran = command(app, words)
    assert ran.exit_code == 1 and f"{readme}: line" in ran.output
    assert command(app, ["tables", "--check", *words[1:]]).exit_code == 1
    assert f"{readme}: line" in command(app, ["tables", "--check", *words[1:]]).output


def test_an_older_schema_is_named_and_one_that_has_seals_is_not_migrated(store: Store) -> None:
    file = sorted(store.files())[0]
    whole = file.read_text()
    file.write_text(whole.replace('"schema_version": 2', '"schema_version": 1'))
    (found,) = check_records(store)
    assert found.file == file and "schema version 1 had no seals" in found.said
    with pytest.raises(UserError, match="is not what was written"):
        store.upgrade()
    raw = json.loads(whole) | {"schema_version": 1}
    del raw["seals"], raw["digests"]
    file.write_text(json.dumps(raw))
    (found,) = [one for one in check_records(store) if one.file == file]
    assert found.key == "schema_version" and "ssbench migrate writes it" in found.said


def test_predictions_of_another_kind_and_what_is_no_file_are_named_and_the_rest_is_checked(store: Store) -> None:
    file = store.file(next(one for one in store.all() if one.status == "done").spec)
    file.write_text(file.read_text().replace('"kind": "accuracy"', '"kind": "iou"'))
    (store.records / "x.json").mkdir()
    found = {(one.file.name, one.key): one.said for one in check_records(store)}
    assert found[file.name, "scores.top1.kind"] == "its predictions are not those of iou"
    assert ("x.json", "") in found and (file.name, "scores") in found


def test_a_page_that_names_no_table_or_one_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    whole = page.read_text()
    for text, said in (
        (whole.replace("samples-1000 -->", "samples-1001 -->"), "there is no table"),
        ("no marks", "has no <!-- table:NAME --> marks"),
    ):
        page.write_text(text)
        (found,) = findings(store, page)
        assert found.startswith(f"{page}: ") and said in found
    page.write_bytes(b"\xff")
    with pytest.raises(UserError, match="can't be read"):
        findings(store, page)


def test_short_runs_that_settle_others_are_checked_with_them(store: Store) -> None:
    short = Store(store.folder / "again")
    file = write(short, "simclr", 0.7, 9)
    command, words = CliRunner().invoke, ["verify", "--results", str(store.folder)]
    assert command(app, words).exit_code == 0
    file.write_text(file.read_text().replace('"images": 1000', '"images": 1001'))
    ran = command(app, words)
    assert ran.exit_code == 1 and f"{file}: costs" in ran.output


def test_a_page_whose_lines_end_as_on_windows_keeps_them(store: Store, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_bytes(page.read_bytes().replace(b"\n", b"\r\n"))
    assert findings(store, page) == []
    page.write_bytes(README.replace("\n", "\r\n").encode())
    words = ["tables", "--results", str(store.folder), "--readme", str(page)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert page.read_bytes().count(b"\n") == page.read_bytes().count(b"\r\n") > 10 and findings(store, page) == []
