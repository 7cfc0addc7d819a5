"""Each part of benchmarks/gpu at a tiny size, on whichever device there is, so that it can't rot between two GPUs."""

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

HERE = Path(__file__).parents[2] / "benchmarks" / "gpu"
PARTS = ("shared", "correctness", "speed", "results", "run")

pytestmark = pytest.mark.gpu


class Here(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


@pytest.fixture(scope="module")
def parts() -> Iterator[dict[str, ModuleType]]:
    """The scripts' modules, which find one another as they do beside each other."""
    sys.path.insert(0, str(HERE))
    others = {name: sys.modules.pop(name) for name in PARTS if name in sys.modules}  # tests' folders are called so too
    try:
        yield {name: import_module(name) for name in PARTS}
    finally:
        sys.path.remove(str(HERE))
        for name in PARTS:
            sys.modules.pop(name, None)
        sys.modules.update(others)


@pytest.fixture(scope="module")
def data(parts: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parts["shared"].drawn(tmp_path_factory.mktemp("gpu") / "drawn", 64, 32)


def test_steps_features_and_tasks_are_the_cpus(parts: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    a = parts["correctness"]
    first, judged = a.references(Here(), data, tmp_path, [("mim-random", "vit-nano")], ["knn"])
    rows = [
        *a.steps(data, tmp_path, first),
        *a.features(data, tmp_path, ("vit-nano",)),
        *a.tasks(data, tmp_path, judged),
    ]
    assert [row["check"] for row in rows] == [
        *("float32 loss", "float32 gradient", "bf16 loss", "features", "task as on the CPU", "task twice")
    ]
    assert all(row["ok"] for row in rows), rows


def test_every_method_that_trains_is_checked(parts: dict[str, ModuleType]) -> None:
    names = {name for name, _ in parts["correctness"].trained_methods()}
    assert {"simclr", "swav", "rotation", "supervised", "mim-random", "ibot", "beit"} <= names
    assert not {"random-init", "raw-pixels"} & names


def test_a_step_that_fails_is_a_row(parts: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    (row,) = parts["correctness"].steps(data, tmp_path, {("simclr", "no-such-net"): Future()})
    assert not row["ok"] and "no-such-net" in row["note"]


def test_two_runs_are_equal_and_a_killed_one_goes_on(
    parts: dict[str, ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = parts["correctness"]
    (twice,) = a.repeated(data, tmp_path, ["mim-random"])
    assert twice["ok"], twice

    def pull_the_plug(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.kill", pull_the_plug)
        a.short("mim-random", data, tmp_path, tmp_path / "killed", killed=True)
    assert (tmp_path / "killed").exists()
    one, whole = (a.short("mim-random", data, tmp_path, tmp_path / name) for name in ("killed", "whole"))
    assert all((one[key] - whole[key]).abs().max() <= a.RESUMED for key in whole)
    assert not torch.are_deterministic_algorithms_enabled()


def test_speed_has_all_its_figures(parts: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    b = parts["speed"]
    row = b.measure(b.Case("simclr", "resnet18", 32, 2), "channels-last", data, tmp_path)
    assert b.profiled(lambda number: torch.ones(1) + number, 2)[0] == 0
    assert row["images/s"] > 0 and row["MFU %"] > 0 and row["batch"] == 2
    assert sum(row[name] for name in ("views", "forward", "backward", "optimiser")) == pytest.approx(100, abs=0.3)
    assert "images/s" in parts["run"].speed(row)
    assert len(b.variants(b.CASES)) == 11 and len(b.variants(b.TINY)) == 4


def test_the_published_patch_is_built(parts: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    b = parts["speed"]
    for case in b.CASES[1:3]:
        assert "backbone.patch=16" in case.settings
    run = b.made(b.TINY[1], data, tmp_path, 2)
    assert run.method.encoder.patch == 16 and run.images.shape[-1] == 64


def test_results_are_ordinary_records(
    parts: dict[str, ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = parts["results"]
    monkeypatch.setitem(c.ASKED, "drawn", {"suite": "families", "dataset": data.name})
    (cells,) = [of for of in c.groups("drawn", data.parent, True) if of[0].method.name == "simclr"]
    rows = [*c.rows(cells, tmp_path / "results")]
    assert [row["task"] for row in rows] == ["knn", "linear-probe"]
    assert all(row["score"] is not None for row in rows), rows
    assert [*c.rows(cells, tmp_path / "results")] == []  # what has a record is not run again
    assert len(list((tmp_path / "results" / "records").glob("simclr.*.json"))) == 2
    parts["run"].pack(tmp_path, tmp_path)
    assert (tmp_path / "records.tar.gz").stat().st_size > 1000


def test_conv_nets_are_not_asked_what_needs_patches(parts: dict[str, ModuleType], data: Path) -> None:
    names = {cells[0].method.name for cells in parts["results"].groups("shapes, conv", data)}
    assert {"simclr", "supervised", "random-init"} < names and not names & {"mim-random", "msn", "dinov2"}


def test_a_table_is_made_of_what_there_is(parts: dict[str, ModuleType], tmp_path: Path) -> None:
    write, table = parts["shared"].write, parts["run"].table
    assert table(tmp_path).count("\n") == 3
    write(tmp_path / "correctness.jsonl", parts["correctness"].row("features", "vit-nano", 2e-3, 1e-4))
    write(tmp_path / "speed.jsonl", {"case": "simclr", "variant": "compiled", "note": "TimeoutExpired"})
    write(tmp_path / "results.jsonl", {"method": "swav", "backbone": "resnet18", "note": "left out: 90 s"})
    row = {"method": "byol", "backbone": "resnet18", "data": "cifar10", "task": "knn", "budget": "epochs=50"}
    write(tmp_path / "results.jsonl", {**row, "score": 38.45, "seconds": 100.8, "MB": 3152.0, "note": ""})
    text = table(tmp_path)
    assert "byol, resnet18, cifar10, knn | 38.45 % (published 86.8)" in text and "3152 MB" in text
    assert "0 of 1" in text and "**not: vit-nano 0.002**" in text
    assert "TimeoutExpired" in text and "left out" in text
