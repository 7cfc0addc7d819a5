"""Experiment trackers get each pretraining once, with its curves and the scores of all its tasks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssbench.errors import UserError
from ssbench.results import trackers
from ssbench.results.store import Store
from ssbench.results.trackers import TRACKERS, send, tracked
from ssbench.spec import DataRef

from .test_table import SHAPES, make

HERE = {"data": SHAPES}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two seeds of one method under two tasks, with curves, and one untrained network."""
    made = Store(tmp_path / "results")
    curves = {
        "loss": [{"step": 50, "ntxent": 4.0}, {"step": 100, "ntxent": 3.0}],
        "health": [{"step": 0, "select_knn": 10.0}, {"step": 100, "select_knn": 20.0}],
    }
    for task, lift in (("knn", 0.0), ("linear-probe", 5.0)):
        make(made, "simclr", 50.0 + lift, 51.0 + lift, task=task)
    make(made, "random-init", 20.0, task="knn")
    for record in made.all():
        if record.spec.pretraining.method == "simclr":
            made.update(record.model_copy(update=curves))
    return made


def test_a_pretraining_is_one_run_with_all_its_tasks(store: Store) -> None:
    runs = {one.name.rpartition("-")[0]: one for one in tracked(store.all())}
    assert [*runs][1:] and len(runs) == 3
    first = next(one for name, one in runs.items() if name.startswith("simclr") and name.endswith("seed-0"))
    assert first.scores == pytest.approx({"score/knn 1 top1": 50.0, "score/linear-probe 1 top1": 55.0})
    assert first.curves["loss/ntxent"] == [(50, 4.0), (100, 3.0)]
    assert first.steps[100] == {"loss/ntxent": 3.0, "health/select_knn": 20.0} and [*first.steps] == [0, 50, 100]
    assert first.settings["method"] == "simclr" and first.settings["seed"] == 0


def test_scores_of_one_name_are_all_kept(store: Store) -> None:
    make(store, "simclr", 40.0, task="knn", protocol=2)
    make(store, "simclr", 30.0, task="knn", labels="10%")
    make(store, "simclr", 20.0, task="knn", data=DataRef(name="elsewhere", fingerprint="e", settings={}), first=HERE)
    make(store, "simclr", 10.0, task="knn", trial="space 1, point 1")
    make(store, "byol", 60.0, task="knn", protocol=2)
    found = {one.name.partition("-")[0]: one.scores for one in tracked(store.all()) if "-seed-0-" in one.name}
    assert found["simclr"] == pytest.approx(
        {
            "score/knn 1 [labels=100%] top1": 50.0,
            "score/knn 1 [labels=10%] top1": 30.0,
            "score/knn 1 on elsewhere [labels=100%] top1": 20.0,
            "score/knn 2 top1": 40.0,
            "score/linear-probe 1 top1": 55.0,
        }
    )
    assert found["byol"] == {"score/knn 2 top1": 60.0}, "one name means one thing in every run"


def test_data_at_another_size_keeps_a_score_of_its_own(store: Store) -> None:
    for size, value in ((32, 20.0), (64, 30.0)):
        data = DataRef(name="elsewhere", fingerprint="e", settings={"image_size": size})
        make(store, "simclr", value, task="knn", data=data, first=HERE)
    (scores,) = (one.scores for one in tracked(store.all()) if len(one.scores) == 4)
    assert sorted(scores.values()) == pytest.approx([20.0, 30.0, 50.0, 55.0])


def test_tensorboard_reads_what_was_written_and_twice_is_once(store: Store, tmp_path: Path) -> None:
    board = tmp_path / "board"
    for _ in range(2):
        assert send(store.all(), f"tensorboard:{board}") == 3
    for run in tracked(store.all()):
        found = EventAccumulator(str(board / run.name)).Reload()
        scalars = {key: [(one.step, one.value) for one in found.Scalars(key)] for key in found.Tags()["scalars"]}
        expected = run.curves | {key: [(max(run.steps, default=0), value)] for key, value in run.scores.items()}
        assert scalars.keys() == expected.keys()
        assert all(scalars[key] == [pytest.approx(point) for point in points] for key, points in expected.items())


class Client:
    """MLflow's, as far as it is used: what is logged is kept by run, and what it would refuse is refused."""

    kept: dict[str, dict[str, Any]] = {}

    def __init__(self, tracking_uri: str) -> None:
        assert tracking_uri == "sqlite:///x"

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        return [SimpleNamespace(info=SimpleNamespace(run_id=one)) for one in self.kept if f"'{one}'" in query]

    def delete_run(self, run: str) -> None:
        del self.kept[run]

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
        self.kept[tags["ssbench.id"]] = {"metrics": [], "params": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=tags["ssbench.id"]))

    def log_batch(self, run: str, metrics: list[Any], params: list[Any]) -> None:
        self.kept[run]["metrics"] += metrics
        self.kept[run]["params"] += params

    def set_terminated(self, run: str) -> None:
        self.kept[run]["ended"] = True


def test_mlflow_gets_every_metric_and_parameter_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entities, tracking = ModuleType("mlflow.entities"), ModuleType("mlflow.tracking")
    entities.Metric = entities.Param = lambda *parts: parts  # type: ignore[attr-defined]
    tracking.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    for name, module in (
        ("mlflow", ModuleType("mlflow")),
        ("mlflow.entities", entities),
        ("mlflow.tracking", tracking),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    for _ in range(2):
        assert send(store.all(), "mlflow:sqlite:///x") == 3
    for run in tracked(store.all()):
        kept = Client.kept[run.id]
        metrics = [(name, value, step) for name, value, _, step in kept["metrics"]]
        points = [(name, value, step) for name, of in run.curves.items() for step, value in of]
        assert sorted(metrics) == sorted([*points, *((name, value, 0) for name, value in run.scores.items())])
        assert kept["params"] == [(key, str(value)) for key, value in run.settings.items()] and kept["ended"]


def test_wandb_gets_steps_in_order_and_scores_as_a_summary(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}

    class Live:
        def __init__(self, id: str, config: dict[str, Any], **more: Any) -> None:
            self.steps: list[int] = []
            self.summary: dict[str, float] = {}
            self.config = config
            kept[id] = self

        def __enter__(self) -> "Live":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def log(self, values: dict[str, float], step: int) -> None:
            self.steps.append(step)

    module = ModuleType("wandb")
    module.init = Live  # type: ignore[attr-defined]
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "wandb", module)
    assert send(store.all(), "wandb:mine") == 3
    for run in tracked(store.all()):
        (live,) = (live for id, live in kept.items() if id.startswith(run.id))
        assert live.steps == [*run.steps] and live.summary == run.scores and live.config == run.settings


def test_what_can_not_be_sent_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(UserError, match="wandb is not installed: pip install wandb"):
        send(store.all(), "wandb:mine")
    with pytest.raises(UserError, match="mlflow: says no place"):
        send(store.all(), "mlflow:")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="tensorboard fails: "):
        send(store.all(), f"tensorboard:{tmp_path / 'file'}")
    assert set(TRACKERS) == {"tensorboard", "mlflow", "wandb"}


def test_the_command_takes_files_and_trackers(ssbench: Command, store: Store, tmp_path: Path) -> None:
    words = ("export-results", "--results", store.folder)
    ran = ssbench(*words, f"tensorboard:{tmp_path / 'v1.0'}")
    assert ran.returncode == 0 and "3 runs, one a pretraining" in ran.stdout
    ran = ssbench(*words, tmp_path / "log.jsonl")
    assert ran.returncode == 0 and "8 lines, one a reading of a training" in ran.stdout
    ran = ssbench(*words, "comet:mine")
    assert ran.returncode == 2 and "or a tracker, such as tensorboard:FOLDER" in ran.stderr
