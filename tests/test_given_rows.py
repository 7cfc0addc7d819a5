"""Encoders that came with their weights: which rows they make, what identifies them, and in which tables they stand."""

import re
import shutil
from collections.abc import Iterable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from ssbench.encoders.given import Given, of_module
from ssbench.errors import UserError
from ssbench.plan import Cell, cells, request
from ssbench.results.continued import EXPLAINED
from ssbench.results.groups import Group, Head, Line, groups
from ssbench.results.marks import _over, _walls
from ssbench.results.metrics import score
from ssbench.results.record import Costs, Record, Score
from ssbench.results.render import markdown
from ssbench.results.stats import Run, Side
from ssbench.results.store import Store
from ssbench.results.table import Row, Table, build

ROOT = Path(__file__).parent.parent
VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
CONTROLS = {"random-init": "floor", "raw-pixels": "floor", "supervised": "ceiling"}
Planned = tuple[str, str, int]  # method, backbone, image size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.safetensors` for 32 px and `b.safetensors` for 16 px."""
    made = tmp_path_factory.mktemp("weights")
    for name, size in (("a", 32), ("b", 16)):
        torch.manual_seed(size)
        trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=size, **VIT)
        save_file(trunk.state_dict(), made / f"{name}.safetensors")
    return made


def planned(folder: Path, given: Iterable[Given] = (), **words: Any) -> list[Cell]:
    """Cells on digits by k-NN; `a` and `b` stand for the files."""
    known = {name: f"file:{folder / name}.safetensors" for name in ("a", "b")}
    if "encoder" in words:
        words["encoder"] = [known.get(one, one) for one in words["encoder"].split(",")]
    if "init" in words:
        words["init"] = known[words["init"]]
    base: dict[str, Any] = {"task": ["knn"], "dataset": ["digits"], "seeds": [0]}
    base |= {"budget": "steps=2"} if "method" in words else {}
    return cells(request(base | words, "run"), given)


def short(name: str) -> str:
    """`a` of `file:a.safetensors@0123456789abcdef`."""
    found = re.fullmatch(r"file:(\w)\.safetensors@[0-9a-f]{16}", name)
    return found[1] if found else name


def shown(found: Iterable[Cell]) -> list[Planned]:
    return [
        (c.spec.pretraining.method, short(c.spec.pretraining.backbone), c.spec.data.settings["image_size"])
        for c in found
    ]


def test_encoders_alone_come_with_their_twins_and_pixels_once(folder: Path) -> None:
    assert shown(planned(folder, encoder="a,b")) == [
        ("given", "a", 32),
        ("random-init", "a", 32),
        ("given", "b", 16),
        ("random-init", "b", 16),
        ("raw-pixels", "vit-nano", 0),
    ]


def test_beside_a_method_they_add_their_rows_to_its_own(folder: Path) -> None:
    assert shown(planned(folder, encoder="a,b", method=["rotation"])) == [
        ("rotation", "vit-nano", 0),
        ("random-init", "vit-nano", 0),
        ("raw-pixels", "vit-nano", 0),
        ("supervised", "vit-nano", 0),
        ("given", "a", 32),
        ("random-init", "a", 32),
        ("given", "b", 16),
        ("random-init", "b", 16),
    ]


def test_a_method_that_starts_from_an_encoder_is_run_on_its_network_alone(folder: Path) -> None:
    found = planned(folder, init="a", method=["rotation"])
    rows = ("rotation", "random-init", "raw-pixels", "supervised", "given")
    assert shown(found) == [(name, "a", 32) for name in rows]
    starts = {c.spec.pretraining.method: short(c.spec.pretraining.init) for c in found}
    assert starts == {"rotation": "a", "random-init": "", "raw-pixels": "", "supervised": "a", "given": "a"}


def test_what_is_named_twice_is_run_once(folder: Path) -> None:
    twice = planned(folder, init="a", encoder="a,a", method=["rotation"])
    assert [c.spec.id for c in twice] == [c.spec.id for c in planned(folder, init="a", method=["rotation"])]


def test_one_size_for_all_is_one_size_for_all(folder: Path) -> None:
    found = planned(folder, encoder="a,b", method=["rotation"], set=["data.image_size=24"])
    assert {size for _, _, size in shown(found)} == {24}


def test_a_module_has_no_twin(folder: Path) -> None:
    given = of_module(nn.Conv2d(3, 8, 4, 4), "module:net")
    rows = [(method, re.sub("@.*", "", name), size) for method, name, size in shown(planned(folder, [given]))]
    assert rows == [("given", "module:net", 224), ("raw-pixels", "vit-nano", 0)]


def test_an_encoder_is_known_by_its_name_and_content_and_not_by_its_path(folder: Path, tmp_path: Path) -> None:
    first = planned(folder, encoder="a")
    shutil.copy(folder / "a.safetensors", tmp_path / "a.safetensors")
    assert [c.spec.id for c in planned(tmp_path, encoder="a")] == [c.spec.id for c in first]
    shutil.copy(folder / "b.safetensors", tmp_path / "a.safetensors")
    assert not {c.spec.id for c in planned(tmp_path, encoder="a")} & {c.spec.id for c in first[:2]}
    assert str(folder) not in "".join(c.spec.canonical() for c in first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"init": "a"}, r"--init file:\S+: no method starts from it"),
        ({}, "no method: name one with --method"),
        ({"init": "a", "method": ["rotation"], "backbone": ["vit-micro"]}, "unknown backbone 'vit-micro'"),
        ({"encoder": "a", "pretrain_on": "shapes"}, "--pretrain-on shapes: no method is trained"),
        ({"encoder": "a", "precision": "bf16"}, "--precision bf16: no method is trained"),
        ({"encoder": "a", "recipe": "shared"}, "--recipe shared: no method is trained"),
        ({"encoder": "a", "set": ["train.lr=0.1"]}, "--set train.lr=0.1: no method is trained"),
        ({"encoder": "a", "vary": {"train.lr": ["0.1", "0.2"]}}, "--vary train.lr: no method is trained"),
    ],
)
def test_words_that_do_not_go_together_are_said(words: dict[str, Any], said: str, folder: Path) -> None:
    with pytest.raises(UserError, match=said):
        planned(folder, **words)


def test_identities_of_results_from_before_given_encoders_are_the_same() -> None:
    records = Store(ROOT / "results").all()
    assert len(records) > 300
    assert all(record.spec.id == record.id for record in records)
    texts = [record.spec.canonical() for record in records if not record.spec.pretraining.init]
    assert texts and not any('"init":' in text for text in texts)


def put(store: Store, found: Iterable[Cell], hits: Mapping[str, float], status: str = "done", commit: str = "") -> None:
    """A record of each cell whose accuracy on 200 test samples is that of its method, or of its network, in %."""
    for cell in found:
        p = cell.spec.pretraining
        value = hits.get(short(p.backbone) if p.method == "given" else p.method, 50) + p.seed
        correct = np.arange(200) < round(2 * value)
        arrays = {"predicted": correct.astype(np.int64), "truth": np.ones(200, np.int64)}
        top1 = Score(
            value=score("accuracy", arrays), low=0, high=0, unit="%", better="higher", kind="accuracy", samples=200
        )
        done: dict[str, Any] = {
            "headline": "top1",
            "scores": {"top1": top1},
            "costs": Costs(parameters=0 if p.method == "raw-pixels" else 1000, images=128 if p.budget else 0),
            "data": {"size": cell.spec.data.settings["image_size"] or 32},
        }
        blank: dict[str, Any] = {
            "id": cell.spec.id,
            "status": status,
            "spec": cell.spec,
            "created": "2025-01-01T00:00:00+00:00",
        }
        record = Record(**blank, supervised=p.method == "supervised", **done if status == "done" else {"reason": "no"})
        store.write(record, {"top1": arrays} if status == "done" else {})


SEEDS: dict[str, Any] = {"seeds": [0, 1, 2]}
HITS = {"a": 80, "b": 30, "random-init": 40, "raw-pixels": 20, "rotation": 60, "supervised": 90}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def rows(table: Table) -> dict[str, Row]:
    return {row.name: row for row in table.rows}


def only(store: Store) -> tuple[Group, Table]:
    (group,), (table,) = groups(store.all()), build(store, CONTROLS)
    return group, table


def test_given_rows_join_the_table_of_trained_rows_of_the_same_data(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a,b", method=["rotation"], **SEEDS), HITS)
    _, table = only(store)
    assert table.title.startswith("digits, 32 px, vit-nano, steps=2, recipe own, 3 seeds")
    assert [row.name for row in table.rows] == [
        "rotation",
        "file:a.safetensors (32 px)",
        "file:b.safetensors (16 px)",
        "random-init",
        "random-init of file:a.safetensors (32 px)",
        "random-init of file:b.safetensors (16 px)",
        "raw-pixels",
        "supervised",
    ]
    assert rows(table)["file:a.safetensors (32 px)"].cells[0].values == (80, 81, 82)
    assert not any(EXPLAINED in note for note in table.notes)


def test_trained_rows_may_come_later(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", **SEEDS), HITS)
    group, table = only(store)
    assert group.place is None and table.title == "digits, given encoders, 3 seeds"
    names = ["file:a.safetensors (32 px)", "random-init of file:a.safetensors (32 px)", "raw-pixels (32 px)"]
    assert [row.name for row in table.rows] == names
    put(store, planned(folder, method=["rotation"], **SEEDS), HITS)
    _, table = only(store)
    assert table.title.startswith("digits, 32 px, vit-nano") and names[0] in rows(table)


def test_the_cost_column_says_given(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", method=["rotation"], **SEEDS), HITS)
    lines = markdown(only(store)[1]).splitlines()
    (given,) = [line for line in lines if line.startswith("| file:a.safetensors")]
    (trained,) = [line for line in lines if line.startswith("| rotation")]
    assert re.search(r"\| +given \|", given) and "given" not in trained and re.search(r"\| +128 \|", trained)


def test_an_encoder_must_be_ahead_of_its_own_twin_and_a_method_of_the_tables(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a,b", method=["rotation"], **SEEDS), HITS)
    group, table = only(store)
    lines = {line for line, _ in group.cells}
    walls = {
        short(line.encoder) or line.method: [(short(w.encoder), w.size) for w in _walls(lines, "random-init", line)]
        for line in lines
        if line.method not in CONTROLS
    }
    assert walls == {"a": [("a", 32)], "b": [("b", 16)], "rotation": [("", 0)]}
    behind = {name for name, row in rows(table).items() if row.cells[0].behind}
    assert behind == {"file:b.safetensors (16 px)"}  # 30 beside 40 of random weights
    assert rows(table)["file:a.safetensors (32 px)"].cells[0].bold


def test_the_twin_of_a_given_encoder_is_no_floor_of_the_tables_own_rows(folder: Path, store: Store) -> None:
    found = planned(folder, encoder="a", method=["rotation"], **SEEDS)
    own = [cell for cell in found if cell.spec.pretraining.method == "random-init" and not cell.given]
    put(store, [cell for cell in found if cell not in own], HITS)
    put(store, own, HITS, status="failed")
    _, table = only(store)
    assert not any(cell.bold for row in table.rows for cell in row.cells)
    assert all(cell.behind for row in table.rows if not row.control for cell in row.cells if row.given)
    assert any("random-init failed or was not run" in note for note in table.notes)


def test_methods_that_start_from_weights_share_a_table_with_them_as_given(folder: Path, store: Store) -> None:
    put(store, planned(folder, init="a", method=["rotation"], **SEEDS), HITS)
    _, table = only(store)
    assert table.title.startswith("digits, 32 px, from file:a.safetensors, steps=2, recipe own, 3 seeds")
    assert [row.name for row in table.rows] == ["rotation", "as given", "random-init", "raw-pixels", "supervised"]
    assert EXPLAINED in table.notes


def test_the_column_says_which_block_and_pooling_were_read(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", **SEEDS), HITS)
    (plain,) = only(store)[1].columns
    assert plain.task == "knn"
    for name, value in (("block", "-2"), ("pooling", "mean")):
        put(store, planned(folder, encoder="a", set=[f"encoder.{name}={value}"], **SEEDS), HITS)
    said = {column.task for column in only(store)[1].columns}
    assert len(said) == 3 and any("encoder.block=-2" in task for task in said)
    assert any("encoder.pooling=mean" in task for task in said)


def test_pixels_stand_once_whatever_they_came_with(folder: Path, store: Store) -> None:
    put(store, planned(folder, init="a", method=["rotation"], **SEEDS), HITS)
    put(store, planned(folder, init="a", method=["rotation"], set=["backbone.patch=4"], **SEEDS), HITS)
    put(store, planned(folder, encoder="b", method=["rotation"], backbone=["vit-micro"], **SEEDS), HITS)
    tables = build(store, CONTROLS)
    assert len(tables) == 3
    for table in tables:
        pixels = {name: row.cells[0].values for name, row in rows(table).items() if name.startswith("raw-pixels")}
        assert set(pixels.values()) == {(20, 21, 22)} and table.seeds == [3]


def test_pixels_stand_under_the_tasks_of_the_encoders_alone(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", task=["knn", "linear-probe"], **SEEDS), HITS)
    put(store, planned(folder, init="b", method=["rotation"], **SEEDS), HITS)  # whose table k-NN then goes to
    tables = {table.slug: [column.task for column in table.columns] for table in build(store, CONTROLS)}
    assert tables["digits-given-encoders"] == ["linear-probe"] and tables["digits-file-b-safetensors-steps-2"] == [
        "knn"
    ]


def test_pixels_of_two_sizes_are_two_rows(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", **SEEDS), HITS)
    put(store, planned(folder, encoder="a", set=["data.image_size=16"], **SEEDS), HITS | {"raw-pixels": 25})
    table = only(store)[1]
    found = {name: row.cells[0].values for name, row in rows(table).items() if name.startswith("raw-pixels")}
    assert found == {"raw-pixels (32 px)": (20, 21, 22), "raw-pixels (16 px)": (25, 26, 27)}


def test_one_encoder_with_two_patches_is_two_rows_with_their_own_twins(folder: Path, store: Store) -> None:
    put(store, planned(folder, encoder="a", **SEEDS), HITS | {"a": 90})
    put(store, planned(folder, encoder="a", set=["backbone.patch=4"], **SEEDS), {"a": 70, "random-init": 75})
    group, table = only(store)
    name = "file:a.safetensors (32 px)"
    found = {row.name: (row.cells[0].values, row.cells[0].behind) for row in table.rows if row.given}
    assert found == {
        f"{name} [backbone.patch=0]": ((90, 91, 92), False),
        f"{name} [backbone.patch=4]": ((70, 71, 72), True),
    }
    given = [line for line, _ in group.cells if line.given]
    assert all(len(_walls({one for one, _ in group.cells}, "random-init", line)) == 1 for line in given)


def test_a_given_row_that_failed_keeps_its_name(folder: Path, store: Store) -> None:
    found = planned(folder, encoder="a", method=["rotation"])
    put(store, [c for c in found if c.method.name != "given"], HITS)
    put(store, [c for c in found if c.method.name == "given"], HITS, status="failed")
    assert "file:a.safetensors" in rows(only(store)[1]) and "as given" not in rows(only(store)[1])


def test_a_line_of_a_given_encoder_is_called_by_its_source() -> None:
    assert (
        Line(method="given", given=True, encoder="timm:resnet18.a1_in1k", size=224).title
        == "timm:resnet18.a1_in1k (224 px)"
    )
    assert Line(method="given", given=True).title == "as given"
    twin = Line(method="random-init", encoder="python:m:f@0123456789abcdef")
    assert twin.title == "random-init of python:m:f"


def test_a_given_encoder_without_a_floor_of_its_own_is_shown_to_be_ahead_of_none() -> None:
    """Such as a `python:` source, which has no twin, beside a file whose twin ran, where pixels do not apply."""
    head, draws = Head(task="finetune", protocol=2, settings={}, owner="ssbench"), np.zeros(2000)
    lines = {
        Line(method="given", given=True, encoder="python:mine"): 90,
        Line(method="given", given=True, encoder="file:b"): 80,
        Line(method="random-init", encoder="file:b"): 40,
    }
    sides: dict[Line, Side] = {
        line: {s: Run(at + s, at + s + draws, 100) for s in range(3)} for line, at in lines.items()
    }
    roles = {"random-init": "floor", "raw-pixels": "floor"}
    over = _over(roles, [*roles], {head: sides})
    assert {line.encoder: isnan(p) for (line, _), p in over.items()} == {"python:mine": True, "file:b": False}
