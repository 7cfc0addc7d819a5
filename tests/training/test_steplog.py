"""What is read along a training can be followed while it goes on, and changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ssbench import api
from ssbench.errors import UserError
from ssbench.results.exchange import readings
from ssbench.training import steplog

DIGITS = {"tasks": "knn", "dataset": "digits", "seeds": 0, "budget": "steps=60", "set": {"train.batch": 16}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> api.Results:
    return api.run("rotation", results=tmp_path_factory.mktemp("plain"), device="cpu", **DIGITS)  # type: ignore[arg-type]


def test_the_log_holds_what_the_record_will_a_line_each(plain: api.Results) -> None:
    record = next(one for one in plain.records if one.spec.pretraining.method == "rotation")
    file = steplog.file_of(plain.store.cache, record.spec.pretraining)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(lines, key=str) == sorted(readings([record]), key=str)
    assert [line["step"] for line in lines] == [0, 15, 30, 45, 50, 60, 60]  # as they came
    assert file.name.startswith("rotation-seed0-")


def test_a_closer_look_is_said_and_changes_no_score(
    plain: api.Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = api.run("rotation", results=tmp_path, device="cpu", judge_every=20, **DIGITS)  # type: ignore[arg-type]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rotation, seed 0: step ")]
    assert len(said) == 7 and said[2].startswith("rotation, seed 0: step 20: neighbours tell the class of ")
    first, second = (
        next(one for one in results.records if one.spec.pretraining.method == "rotation") for results in (plain, found)
    )
    assert first.scores == second.scores and first.predictions_sha256 == second.predictions_sha256
    assert [row["step"] for row in second.health] == [0, 15, 20, 30, 40, 45, 60]
    with pytest.raises(UserError, match=r"--judge-every -1: a number of steps"):
        api.run("rotation", results=tmp_path / "n", device="cpu", judge_every=-1, **DIGITS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--judge-every 9: nothing is trained"):
        api.run("raw-pixels", results=tmp_path / "n", device="cpu", judge_every=9, **DIGITS)  # type: ignore[arg-type]


def test_a_plan_refuses_looks_that_can_not_be(tmp_path: Path, ssbench: Callable[..., "CompletedProcess[str]"]) -> None:
    ran = ssbench("run", "--method", "rotation", "--judge-every", "-1", "--dry-run", "--results", tmp_path / "r")
    assert ran.returncode == 2 and "judge-every" in ran.stderr and not (tmp_path / "r").exists()
