import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ssbench
from ssbench.errors import UserError
from ssbench.results.record import Costs, Record, Score
from ssbench.results.store import Store
from ssbench.spec import DataRef

from .records import failed, spec

DATA = DataRef(name="shapes", fingerprint="f0", settings={"image_size": 32})


def record(method: str, seed: int, **more: object) -> Record:
    first: dict[str, Any] = {"version": 2, "settings": {"temperature": 0.1}, "backbone_settings": {"patch": 4}}
    blank = failed(spec(method, seed, data=DATA, about={"task_settings": {"k": 20}}, **first))
    return blank.model_copy(update=more)


def test_a_frame_has_a_row_for_each_record_and_metric(tmp_path: Path) -> None:
    score = Score(value=61, low=58, high=64, unit="%", better="higher", kind="accuracy", samples=200, floor=12.5)
    scores = {"top1": score, "top1@10": score.model_copy(update={"value": 60.0})}
    store = Store(tmp_path)
    done = {"status": "done", "headline": "top1", "scores": scores, "costs": Costs(images=1000)}
    store.write(record("simclr", 0, **done, measures={"rankme": 9.5}), {"top1": {"value": np.ones(3)}})
    store.write(record("swav", 1, reason="out of memory"), {})
    found = ssbench.frame(tmp_path)
    assert [*zip(found.method, found.metric.fillna("none"), found.status)] == [
        ("simclr", "top1", "done"),
        ("simclr", "top1@10", "done"),
        ("swav", "none", "failed"),
    ]
    first = found.iloc[0]
    assert (first.value, first.low, first.high, first.floor, first.samples) == (61, 58, 64, 12.5, 200)
    assert first.headline and not found.iloc[1].headline
    assert first["set.temperature"] == 0.1 and first["task.k"] == 20 and first["train.lr"] == 1e-3
    assert first["data.image_size"] == 32 and first["backbone.patch"] == 4
    assert first["cost.images"] == 1000 and first["measure.rankme"] == 9.5
    assert (first.budget, first.seed, first.version, first.supervised) == ("samples=1000", 0, 2, False)
    assert found.iloc[2].reason == "out of memory" and found.iloc[2].seed == 1


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records there"):
        ssbench.frame(tmp_path)


def test_pandas_is_imported_only_when_a_frame_is_made() -> None:
    code = "import sys, ssbench; ssbench.frame; assert 'pandas' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
