"""`ssbench export` after a run, and its lines as a user runs them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from ssbench.cli import app
from ssbench.encoders.build import build
from ssbench.encoders.export import described
from ssbench.errors import UserError
from ssbench.results.store import Store, read_tensors


def command(*words: str | Path) -> None:
    app([*map(str, words)], standalone_mode=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps on digits, and the controls."""
    folder = tmp_path_factory.mktemp("results")
    words = ("--method", "mim-block", "--task", "knn", "--dataset", "digits", "--budget", "steps=5", "--seeds", "3")
    command("run", *words, "--device", "cpu", "--results", folder)
    for record in Store(folder).all():
        name = f"{record.spec.pretraining.digest()}.{record.pretrained['code']}.safetensors"
        weights = folder / "cache" / "encoders" / name
        mean = (read_tensors(weights) or {})["mean"].flatten()
        encoder = build("vit-nano", size=record.data["size"], channels=len(mean), mean=mean, std=mean)
        assert encoder.architecture is not None
        trunk = None if record.spec.pretraining.method == "raw-pixels" else asdict(encoder.architecture)
        story = weights.with_suffix(".json")
        story.write_text(json.dumps({"architecture": trunk} | json.loads(story.read_text())))
    return folder


def test_a_row_is_written_and_the_lines_run_in_plain_timm(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = ""
    for out, format in (("one.safetensors", "safetensors"), ("folder", "hf-folder")):
        command("export", "mim-block", "--out", tmp_path / out, "--format", format, "--results", results)
        said = capsys.readouterr().out
        found = described(tmp_path / out if format == "safetensors" else tmp_path / out / "model.safetensors")
        assert found is not None and (found.method, found.seed, found.budget) == ("mim-block", 3, "steps=5")
        record = next(one for one in Store(results).all() if one.id == found.record)
        assert f"record {record.id} (mim-block on digits, vit-nano, steps=5, seed 3)" in said
        assert {one.metric: one.value for one in found.scores} == {name: s.value for name, s in record.scores.items()}
        assert all(str(file) in said for file in (tmp_path / out).rglob("*"))
        load, vectors = said[said.index("import ") :].split("vectors =")
        code += f"{load}x = torch.ones(2, {len(found.mean)}, 8, 8)\nvectors ={vectors}found.append(vectors)\n"
    code = f"import sys, torch; found = []\n{code}\nassert 'ssbench' not in sys.modules and found[0].shape == (2, 96)\n"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}assert torch.equal(*found)"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_a_seed_and_an_id_name_the_encoder_too(results: Path, tmp_path: Path) -> None:
    common = ("--results", results, "--out")
    command("export", "mim-block", "--seed", "3", *common, tmp_path / "one.safetensors")
    found = described(tmp_path / "one.safetensors")
    assert found is not None and found.seed == 3
    command("export", found.record[:12], *common, tmp_path / "two.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()
    assert f"record `{found.record}`" in (tmp_path / "two.md").read_text()


def test_the_pages_commands_run(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "encoders.md").read_text()
    record = next(one for one in Store(results).all() if one.spec.pretraining.method == "mim-block")
    lines = [line for line in page.splitlines() if line.startswith("ssbench export")]
    monkeypatch.chdir(tmp_path)
    for line in lines:
        command(*line.replace("1b3a94dee28b9e39", record.id).split()[1:], "--results", results)
    made = {"mine.safetensors", "mine.json", "mine.md", "mine"}
    assert {file.name for file in tmp_path.iterdir()} == made


def test_an_encoder_without_training_is_exported_too(results: Path, tmp_path: Path) -> None:
    command("export", "random-init", "--results", results, "--out", tmp_path / "one.safetensors")
    found = described(tmp_path / "one.safetensors")
    assert found is not None and found.budget is None and found.method == "random-init"
    assert "not trained (`random-init`)" in (tmp_path / "one.md").read_text()


WRONG = [
    (("raw-pixels", "--out", "one.safetensors"), "raw-pixels can't be exported: timm builds no such network"),
    (("mim-blok", "--out", "one.safetensors"), "did you mean mim-block"),
    (("mim-block", "--out", "one"), "ends in .safetensors"),
    (("mim-block", "--out", "one", "--format", "hf"), "--format hf; known: hf-folder, safetensors"),
    (("mim-block", "--out", "one.safetensors", "--results", "nowhere"), "--results nowhere: no records there"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_gets_one_clear_line(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        command("export", *words, *(() if "--results" in words else ("--results", results)))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_place_that_can_not_be_written_is_one_line(
    tmp_path: Path, ssbench: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    (tmp_path / "out.csv").mkdir()
    ran = ssbench("export-results", tmp_path / "out.csv", "--results", "results/tasks")
    assert ran.returncode == 2 and ran.stderr.startswith("ssbench: ") and "Traceback" not in ran.stderr
    assert "out.csv" in ran.stderr and len(ran.stderr.splitlines()) == 1
