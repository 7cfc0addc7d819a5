"""Where data names groups, records hold them and intervals are over them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssbench import api
from ssbench.results.bootstrap import GROUP, interval
from ssbench.results.verify import check_records


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty patients with eight images each, light or dark, with a table beside them."""
    root, draw = tmp_path_factory.mktemp("patients"), np.random.default_rng(0)
    rows = []
    for patient in range(30):
        for image in range(8):
            name, label = f"{patient:02}-{image}.png", image % 2
            level = 90 + 60 * label + 3 * patient
            Image.fromarray(draw.integers(level - 60, level, (16, 16, 3), dtype=np.uint8)).save(root / name)
            rows.append({"file_name": name, "label": ("dark", "light")[label], "patient": f"p{patient}"})
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return root


def test_a_record_of_grouped_data_holds_groups_and_its_interval_is_over_them(patients: Path, tmp_path: Path) -> None:
    found = api.run(
        "random-init",
        "knn",
        f"folder:{patients}",
        set={"data.group": "patient"},
        seeds=0,
        device="cpu",
        results=tmp_path,
    )
    record = next(one for one in found.records if one.spec.pretraining.method == "random-init")
    arrays = found.store.arrays(record, "top1")
    assert len(np.unique(arrays[GROUP])) == record.data["test"] / 8 > 2
    score = record.scores["top1"]
    assert interval("accuracy", arrays) == (score.low, score.high)
    assert interval("accuracy", {name: arrays[name] for name in ("predicted", "truth")}) != (score.low, score.high)
    assert not [*check_records(found.store)]
    (table,) = found.tables()
    assert f"intervals and tests are over {record.data['test_groups']} groups of {record.data['test']} test images" in (
        table.notes
    )
