"""Records out to other programs, and other people's rows in, which never enter a mean."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ssbench.errors import UserError
from ssbench.results.every import every
from ssbench.results.exchange import model_index, write_results
from ssbench.results.frame import framed
from ssbench.results.published import FILE, Published, add, published, read
from ssbench.results.record import Record, Score
from ssbench.results.store import Store
from ssbench.spec import DataRef

from .records import done, spec
from .test_table import CONTROLS, make

Command = Callable[..., "subprocess.CompletedProcess[str]"]
LINES = """method,data,backbone,task,metric,value,protocol,source
simclr,shapes,vit-nano,knn,top1,84.8,"200 epochs, best on test","lightly, benchmarks.rst"
byol,shapes,vit-nano,knn,top1,86.8,200 epochs,lightly
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    for task in ("knn", "linear-probe"):
        make(made, "simclr", 50.0, 52.0, task=task)
        make(made, "random-init", 20.0, 21.0, task=task)
    make(made, "simclr", 30.0, task="knn", first={"settings": {"temperature": 0.5, "width": 64}})
    return made


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_file_has_the_frames_rows(store: Store, tmp_path: Path, end: str) -> None:
    records = store.all()
    out = tmp_path / f"all.{end}"
    count = write_results(records, out)
    back = pd.read_csv(out) if end == "csv" else pd.read_parquet(out)
    frame = framed(records)
    assert count == len(back) == len(frame) and list(back) == list(frame)
    assert back["value"].tolist() == frame["value"].tolist() and back["id"].tolist() == frame["id"].tolist()


def test_columns_of_several_types_are_json_in_parquet(store: Store, tmp_path: Path) -> None:
    make(store, "byol", 9.0, first={"settings": {"temperature": "low", "width": [1, 2]}})
    write_results(store.all(), tmp_path / "all.parquet")
    back = pd.read_parquet(tmp_path / "all.parquet").set_index("method")
    assert back.loc["byol", "set.temperature"] == '"low"' and back.loc["byol", "set.width"] == "[1, 2]"
    assert {*back["set.temperature"].dropna()} == {"0.1", "0.5", '"low"'}
    assert framed(store.all())["set.width"].notna().tolist() == (back["set.width"].notna()).tolist()


def test_the_hubs_index_has_a_model_for_each_pretraining(store: Store, tmp_path: Path) -> None:
    assert write_results(store.all(), tmp_path / "all.yaml") == 3
    models = {one["name"]: one for one in yaml.safe_load((tmp_path / "all.yaml").read_text())["model-index"]}
    assert models.keys() == {one["name"] for one in model_index(store.all())}
    assert sum(name.startswith("simclr vit-nano on shapes samples=80000 (") for name in models) == 2
    scores = {
        metric["name"]: metric["value"]
        for name, one in models.items()
        if name.startswith("simclr")
        for result in one["results"]
        for metric in result["metrics"]
    }
    assert scores["linear-probe, protocol 1: top1, mean of 2"] == 51.0
    assert scores["knn, protocol 1: top1, mean of 1"] == 30.0  # other settings are another model


def test_published_rows_stand_beside_measured_ones_and_in_no_mean(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text(LINES)
    before = every(store, CONTROLS, store.all())
    assert len(add(store, read(file))) == 2 and len(add(store, read(file))) == 2  # equal rows once
    (frame,) = published(store, store.all())
    best, simclr = ([value.text for value in row] for row in frame.rows)
    assert best == ["byol", "vit-nano", "knn top1 %", "86.8", "200 epochs", "lightly", "–"]
    assert simclr[3:5] == ["84.8", "200 epochs, best on test"]
    assert sorted(simclr[6].split("; ")) == [
        "30.0 (samples=80000, protocol 1, 1 seeds)",
        "51.0 (samples=80000, protocol 1, 2 seeds)",
    ]
    after = every(store, CONTROLS, store.all())
    assert [one for one in after if one.slug != frame.slug] == before and after[-1] == frame


def test_other_metrics_and_names_that_are_no_file_names(store: Store, tmp_path: Path) -> None:
    """A published top-5 is beside no top-1, and a data set called ../../x writes no file elsewhere."""
    file = tmp_path / "theirs.csv"
    file.write_text("\ufeff" + LINES.replace("top1", "top5").replace("byol,shapes", "byol,../../x"))
    add(store, read(file))
    away, shapes = published(store, store.all())
    assert shapes.rows[0][6].text == "–" and shapes.slug == "published-shapes"
    assert "/" not in away.slug and ".." not in away.slug


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINES.replace("86.8", "high"), "line 3: value: input should be a valid number"),
        (LINES.replace("86.8", "868"), "line 3: value: 868 % is no score; expected 0 to 100, or another unit"),
        (LINES.replace(",source", ",page"), "line 2: source: field required"),
        ("", "no rows; columns: method, data"),
        (LINES.replace("200 epochs,lightly", "200 epochs,lightly,more"), "line 3: a column too many"),
    ],
)
def test_a_file_that_is_not_such_rows_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "bad.csv")


def test_the_commands(store: Store, tmp_path: Path, ssbench: Command) -> None:
    ran = ssbench("export-results", tmp_path / "all.csv", "--results", store.folder)
    assert (
        ran.returncode == 0 and "9 rows, one a record and metric" in ran.stdout and (tmp_path / "all.csv").exists()
    ), ran.stderr
    ran = ssbench("export-results", tmp_path / "all.xls", "--results", store.folder)
    assert ran.returncode == 2 and "ends in .csv, .parquet, .jsonl, .yaml, or a tracker" in ran.stderr
    (tmp_path / "theirs.csv").write_text(LINES)
    ran = ssbench("import-published", tmp_path / "theirs.csv", "--results", store.folder)
    assert ran.returncode == 0 and "2 published rows" in ran.stdout
    assert read(store.folder / FILE)[0] == Published(
        method="simclr",
        data="shapes",
        backbone="vit-nano",
        task="knn",
        metric="top1",
        value=84.8,
        protocol="200 epochs, best on test",
        source="lightly, benchmarks.rst",
    )
    ran = ssbench("import-published", tmp_path / "nothing.csv", "--results", store.folder)
    assert ran.returncode == 2 and "name a CSV file" in ran.stderr


def test_seeds_of_two_data_sets_of_one_name_or_of_two_codes_are_in_no_mean() -> None:
    def one(seed: int, value: float, site: str, code: str) -> Record:
        data = DataRef(name="test", fingerprint=site, settings={})
        score = Score(value=value, low=value, high=value, unit="%", better="higher", kind="accuracy", samples=9)
        digests = {"scores": code, "method": "0"}
        return done(spec("simclr", seed, about={"data": data}), "top1", score, digests=digests)

    records = [one(0, 10, "a", "1"), one(0, 90, "b", "1"), one(1, 30, "a", "1"), one(2, 80, "a", "2")]
    newest = records[3].model_copy(update={"created": "2026-01-01T00:00:00+00:00"})
    (model,) = model_index(records[:3])
    assert sorted(one["metrics"][0]["value"] for one in model["results"]) == [20, 90]
    (model,) = model_index([*records[:3], newest])
    assert sorted(one["metrics"][0]["value"] for one in model["results"]) == [80, 90]
