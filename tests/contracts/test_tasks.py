"""What every registered task must do, run on real features of a small encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssbench.contracts import Promise, bench, of_tasks
from ssbench.data import Dataset
from ssbench.registry import entries

SHORT: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 1, "batch": 32},
    "peft": {"epochs": 1, "batch": 32, "lrs": (1e-3,)},
    "segmentation": {"iterations": 5},
    "segmentation-finetune": {"epochs": 1, "lrs": (1e-3,)},
    "linear-probe": {"epochs": 2},
    "attentive-probe": {"epochs": 2},
    "detection": {"steps": 3},
}
TASKS = {
    name: replace(entry, preset={**entry.preset, **SHORT.get(name, {})})
    for name, entry in entries("tasks").items()
    if entry.owner == "ssbench"
}
PROMISES = [(name, promise) for name, entry in TASKS.items() for promise in of_tasks(entry)]


@pytest.mark.parametrize(
    ("name", "promise"), PROMISES, ids=[f"{name}-{promise.__name__}" for name, promise in PROMISES]
)
def test_it_keeps_its_promises(name: str, promise: Promise, tiny: Dataset) -> None:
    promise(TASKS[name], tiny)


def test_the_test_split_opens_once_and_only_after_choosing(tiny: Dataset, tmp_path: Path) -> None:
    table = bench(tiny, tmp_path)
    table.test({"k": 1})
    with pytest.raises(RuntimeError, match="opened twice"):
        table.test({})
