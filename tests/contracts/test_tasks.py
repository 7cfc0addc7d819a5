"""What every registered task must do, run on real features of a small encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssbench.data import Dataset
from ssbench.encoders.encoder import Encoder, build
from ssbench.features import Part
from ssbench.registry import entries, load
from ssbench.results import metrics
from ssbench.rng import derive
from ssbench.task import Bench, Outcome

TASKS = {name: entry for name, entry in entries("tasks").items() if entry.owner == "ssbench"}
SHORT = {"finetune": {"epochs": 1, "batch": 32}, "segmentation": {"iterations": 5}, "linear-probe": {"epochs": 2}}


def encoder() -> Encoder:
    torch.manual_seed(0)
    return build("vit-nano", size=16, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))


def bench(data: Dataset, cache: Path) -> Bench:
    trunk = encoder()

    def copy(drop_path: float) -> Encoder:
        fresh = encoder()
        fresh.load_state_dict(trunk.state_dict())
        return fresh

    parts = tuple(
        Part(trunk, split, cache, role) for role, split in (("f", data.fit), ("s", data.select), ("t", data.test))
    )
    return Bench(data.facts, parts, copy, lambda name: derive(0, name), torch.device("cpu"), lambda text: None)  # type: ignore[arg-type]


def outcome(name: str, data: Dataset, cache: Path) -> Outcome:
    task = load(TASKS[name])
    return task(task.Settings(**SHORT.get(name, {}))).evaluate(bench(data, cache))


@pytest.mark.parametrize("name", TASKS)
def test_settings_say_what_they_are_and_metrics_have_a_direction(name: str) -> None:
    task = load(TASKS[name])
    for key, field in task.Settings.model_fields.items():
        assert field.description and isinstance(field.json_schema_extra, dict) and field.json_schema_extra["source"], (
            key
        )
    assert task.metrics and all(m.better in ("higher", "lower") and m.kind in metrics.KINDS for m in task.metrics)
    assert TASKS[name].paper and TASKS[name].summary


@pytest.mark.parametrize("name", TASKS)
def test_it_hands_in_a_prediction_for_each_test_sample_and_its_whole_sweep(
    name: str, tiny: Dataset, tmp_path: Path
) -> None:
    found = outcome(name, tiny, tmp_path)
    task = load(TASKS[name])
    assert task.metrics[0].name in found.arrays
    for metric in task.metrics:
        if metric.name not in found.arrays:
            continue  # not of this encoder
        arrays = found.arrays[metric.name]
        assert all(len(value) == len(tiny.test) for value in arrays.values())
        assert 0 <= metrics.score(metric.kind, arrays) <= 100
    assert found.selected and found.sweep


@pytest.mark.parametrize("name", TASKS)
def test_it_opens_the_test_split_once_and_only_after_choosing(name: str, tiny: Dataset, tmp_path: Path) -> None:
    table = bench(tiny, tmp_path)
    opened: list[dict[str, Any]] = []
    original = table.test

    def watched(selected: dict[str, Any]) -> Part:
        opened.append(selected)
        return original(selected)

    table.test = watched  # type: ignore[method-assign]
    task = load(TASKS[name])
    found = task(task.Settings(**SHORT.get(name, {}))).evaluate(table)
    assert opened == [found.selected]
    with pytest.raises(RuntimeError, match="opened twice"):
        table.test({})


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_predictions(name: str, tiny: Dataset, tmp_path: Path) -> None:
    first, second = outcome(name, tiny, tmp_path / "a"), outcome(name, tiny, tmp_path / "b")
    for metric, arrays in first.arrays.items():
        for key, value in arrays.items():
            np.testing.assert_array_equal(value, second.arrays[metric][key])


@pytest.mark.parametrize("name", TASKS)
def test_the_choice_does_not_depend_on_the_test_split(name: str, tiny: Dataset, tmp_path: Path) -> None:
    from dataclasses import replace

    targets = {key: value.flip(0) for key, value in tiny.test.targets.items()}
    other = replace(tiny, test=replace(tiny.test, targets=targets))
    first, second = outcome(name, tiny, tmp_path / "a"), outcome(name, other, tmp_path / "b")
    assert first.selected == second.selected and first.sweep == second.sweep
