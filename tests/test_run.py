"""The whole line, as a user types it: real commands, small budgets, real files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

from ssbench.results.metrics import score
from ssbench.results.store import Store
from ssbench.workshop import Workshop, device

ROOT = Path(__file__).parent.parent
Command = Callable[..., CompletedProcess[str]]
QUICK = ("--budget", "steps=3", "--seeds", "0,1", "--set", "train.batch=16", "--device", "cpu")


def asked(method: str, task: str, photos: Path, results: Path, *more: str | Path) -> list[str | Path]:
    """The words of a short run on a folder of photos."""
    words = ["run", "--method", method, "--task", task, "--dataset", f"folder:{photos}", *QUICK]
    return [*words, *more, "--results", results]


@pytest.fixture(scope="module")
def done(ssbench: Command, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with rotation and its controls on the photos, k-NN and linear probe."""
    results = tmp_path_factory.mktemp("run") / "results"
    ran = ssbench(*asked("rotation", "knn,linear-probe", photos, results, "--set", "linear-probe.epochs=2"))
    assert ran.returncode == 0, ran.stderr
    assert "\nrotation " in ran.stdout and "random-init" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 200  # titles of what stands in files; the table itself has 120
    assert "[16/16]" in ran.stderr
    return results


def test_every_cell_has_a_whole_record_with_its_predictions(done: Path) -> None:
    store = Store(done)
    records = store.all()
    assert len(records) == 4 * 2 * 2  # rotation and three controls, two tasks, two seeds
    for record in records:
        assert record.status == "done" and record.id == record.spec.id
        headline = record.scores[record.headline]
        arrays = store.arrays(record, record.headline)
        assert score(headline.kind, arrays) == pytest.approx(headline.value)
        assert headline.low <= headline.value <= headline.high
        assert record.data["test"] == headline.samples == len(arrays["truth"])
        assert record.sweep and record.environment["torch"] and record.code["version"]
        assert next(iter(record.measures)) == "rankme" and record.measures["rankme"] > 1
    trained = next(r for r in records if r.spec.pretraining.method == "rotation")
    assert {r.pretrained["built"] for r in records} == {"patch 4, 4 x 4, width 96", "8 x 8, width 83"}
    assert (trained.costs.steps, trained.costs.images) == (3, 48) and trained.costs.pretrain_gflops > 0 and trained.loss


def test_a_planted_leak_is_counted(done: Path, ssbench: Command, photos: Path, tmp_path: Path) -> None:
    assert {record.data["test_images_seen_in_pretraining"] for record in Store(done).all()} == {0}
    for name in ("bright", "dark"):
        for role, files in (("train", slice(0, 60)), ("test", slice(0, 5))):
            place = tmp_path / "leaky" / role / name
            place.mkdir(parents=True)
            for file in sorted((photos / name).iterdir())[files]:
                (place / file.name).write_bytes(file.read_bytes())
    ran = ssbench(*asked("random-init", "knn", tmp_path / "leaky", tmp_path / "r", "--set", "data.allow=copies"))
    assert ran.returncode == 0, ran.stderr
    found = Store(tmp_path / "r").all()[0].data
    assert found["test_images_seen_in_pretraining"] == 10  # those that the hash put into select too
    assert "10 of 10 test images look like copies of training images (10 equal in pixels)" in " ".join(
        ran.stdout.split()
    )


def test_no_record_holds_a_path(done: Path, photos: Path) -> None:
    for file in (done / "records").glob("*.json"):
        assert str(photos.parent) not in file.read_text()


def test_bright_and_dark_are_told_apart(done: Path) -> None:
    for record in Store(done).all():
        if record.spec.task == "knn" and record.spec.pretraining.method == "raw-pixels":
            assert record.scores["top1"].value == 100


def test_a_second_run_computes_nothing_and_prints_the_same_table(done: Path, ssbench: Command, photos: Path) -> None:
    before = {file: file.read_bytes() for file in done.rglob("*") if file.is_file()}
    again = ssbench(*asked("rotation", "knn,linear-probe", photos, done, "--set", "linear-probe.epochs=2"))
    assert again.returncode == 0 and "(0 new)" in again.stdout
    assert {file: file.read_bytes() for file in done.rglob("*") if file.is_file()} == before


def test_one_pretraining_serves_all_tasks_and_the_same_command_gives_the_same_scores(
    done: Path, ssbench: Command, photos: Path, tmp_path: Path
) -> None:
    assert len(list((done / "cache" / "encoders").glob("*.safetensors"))) == 8
    ran = ssbench(*asked("rotation", "knn", photos, tmp_path))
    assert ran.returncode == 0, ran.stderr
    other = {record.id: record.scores for record in Store(tmp_path).all()}
    for record in Store(done).all():
        if record.id in other:
            assert record.scores == other[record.id]
    assert len(other) == 8


def test_tables_are_the_same_bytes_each_time_wherever(done: Path, ssbench: Command) -> None:
    """In a process of its own, under another locale, time zone and order of sets."""
    assert ssbench("tables", "--results", done).returncode == 0
    first = {file.name: file.read_bytes() for file in (done / "tables").iterdir()}
    elsewhere = {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "ssbench", "tables", "--results", str(done)]
    subprocess.run(command, env=os.environ | elsewhere | {"PYTHONUTF8": "0"}, cwd=ROOT, check=True, capture_output=True)
    assert {file.name: file.read_bytes() for file in (done / "tables").iterdir()} == first
    assert {Path(name).suffix for name in first} == {".md", ".csv", ".tex"}


def test_a_dry_run_plans_and_writes_nothing(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench(
        "run",
        "--method",
        "simclr,mim-block",
        "--dataset",
        f"folder:{photos}",
        *QUICK,
        "--dry-run",
        "--results",
        tmp_path / "r",
    )
    assert ran.returncode == 0, ran.stderr
    assert "10 cells to run, 0 already recorded; 10 pretrainings" in ran.stdout
    assert "simclr on photos" in ran.stdout.replace(photos.name, "photos") and "no training" in ran.stdout
    assert not (tmp_path / "r").exists()


def test_transfer_pretrains_on_other_data(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench(
        *asked("mim-random", "knn", photos, tmp_path, "--pretrain-on", "digits", "--seeds", "0", "--budget", "steps=2")
    )
    assert ran.returncode == 2 and "3 channels and digits has 1" in ran.stderr


def test_probe_seeds_judge_the_same_encoder_again_and_change_no_mean(
    ssbench: Command, photos: Path, tmp_path: Path
) -> None:
    words = asked("rotation", "linear-probe", photos, tmp_path, "--seeds", "0-2", "--set", "linear-probe.epochs=2")
    first = ssbench(*words)
    again = ssbench(*words, "--probe-seeds", "3")
    assert first.returncode == again.returncode == 0, again.stderr
    assert "(24 new)" in again.stdout and "seed 2, probe seed 2" in again.stderr
    assert "step 3/3" not in again.stderr  # the encoders are there
    rows = ("rotation ", "random-init ", "supervised ")
    table, more = ([line for line in ran.stdout.splitlines() if line.startswith(rows)] for ran in (first, again))
    assert table == more and "over probe seeds" not in first.stdout
    assert " over probe seeds," in again.stdout
    records = [r for r in Store(tmp_path).all() if r.spec.pretraining.method == "random-init"]
    assert sorted((r.spec.pretraining.seed, r.spec.probe) for r in records) == [
        (s, p) for s in range(3) for p in range(3)
    ]
    assert len({r.predictions_sha256 for r in records}) > 3


def test_a_rerun_trains_again(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    command = ("run", "--method", "rotation", "--task", "knn", "--dataset", f"folder:{photos}", *QUICK)
    assert ssbench(*command, "--results", tmp_path).returncode == 0
    encoders = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "encoders").glob("*.safetensors")}
    scores = {record.id: record.scores for record in Store(tmp_path).all()}
    ran = ssbench(*command, "--rerun", "--results", tmp_path)
    assert ran.returncode == 0 and "(8 new)" in ran.stdout
    assert all(file.stat().st_mtime_ns > before for file, before in encoders.items())
    assert {record.id: record.scores for record in Store(tmp_path).all()} == scores


def test_a_failing_method_is_a_record_and_exit_status_1(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from ssbench import Entry, Method\n"
        "class Bad(Method):\n"
        "    def loss(self, batch):\n"
        "        return {'bad': batch.views[0].sum() * (1 / len([]))}\n"
        "METHODS = {'bad': Entry('Bad', 'test', 'fails', 'none')}\n"
    )
    command = (
        "run",
        "--plugin",
        plugin,
        "--method",
        "bad",
        "--task",
        "knn",
        "--dataset",
        f"folder:{photos}",
        *QUICK,
        "--results",
        tmp_path / "r",
    )
    ran = ssbench(*command)
    assert ran.returncode == 1, ran.stderr
    assert "2 of 8 cells failed" in ran.stdout
    failed = [record for record in Store(tmp_path / "r").all() if record.status == "failed"]
    assert len(failed) == 2 and all(
        "ZeroDivisionError: division by zero (bad.py, line 4)" in record.reason for record in failed
    )
    assert {record.spec.pretraining.owner for record in failed} == {
        f"bad.py@{hashlib.sha256(plugin.read_bytes()).hexdigest()[:8]}"
    }
    assert "2 new" in ssbench(*command).stdout  # a failed cell is tried again, the others are not


def test_methods_that_break_fail_alone_and_each_says_where(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "from ssbench import Entry, Method\n"
        "class Good(Method):\n"
        "    def loss(self, batch):\n"
        "        return {'a': self.encoder.pooled(batch.views[0]).square().mean()}\n"
        "    def measures(self, images, objects):\n"
        "        return {'x': 1 / 0}\n"
        "    def picture(self, images):\n"
        "        return images\n"
        "class Built(Good):\n"
        "    def build(self):\n"
        "        self.width = self.encoder.dimm\n"
        "class Listed(Good):\n"
        "    def loss(self, batch):\n"
        "        return list(super().loss(batch).values())\n"
        "class Unjudged(Good):\n"
        "    def judged(self):\n"
        "        pass\n"
        "NAMES = ('Good', 'Built', 'Listed', 'Unjudged')\n"
        "METHODS = {name.lower(): Entry(name, 'test', 'fails', 'none') for name in NAMES}\n"
    )
    words = ("--plugin", plugin, "--seeds", "0")
    ran = ssbench(*asked("built,listed,unjudged,good", "knn", photos, tmp_path / "r", *words))
    assert ran.returncode == 1 and "Traceback" not in ran.stderr and "3 of 7 cells failed" in ran.stdout
    found = {record.spec.pretraining.method: record for record in Store(tmp_path / "r").all()}
    assert {name: record.reason for name, record in found.items() if record.status == "failed"} == {
        "built": "AttributeError: 'Encoder' object has no attribute 'dimm' (bad.py, line 11)",
        "listed": "Listed.loss gives a list, not a dict of named scalar tensors (bad.py)",
        "unjudged": "Unjudged.judged() gives NoneType, not an Encoder (bad.py)",
    }
    assert found["good"].status == "done" and [*found["good"].measures] == ["rankme"]
    assert ran.stderr.count("Good.measures is left out: ZeroDivisionError: division by zero") == 1
    assert ran.stderr.count("Good.picture is left out: ValueError: a picture is (B, K, C, H, W)") == 1
    dry = ssbench(*asked("built,listed,good", "knn", photos, tmp_path / "r2", *words, "--dry-run"))
    assert dry.returncode == 0 and "would fail: Listed.loss gives a list" in dry.stdout
    assert "would fail: AttributeError: 'Encoder' object has no attribute 'dimm' (bad.py, line 11)" in dry.stdout


def test_raw_pixels_can_not_be_fine_tuned_and_the_table_says_so(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench(*asked("raw-pixels", "finetune", photos, tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert {record.status for record in Store(tmp_path).all()} == {"not-applicable"}
    assert "no weights to train" in ran.stdout


def test_a_preset_is_what_its_name_says(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    command = ("run", "--method", "mim-block", "--task", "knn", "--dataset", f"folder:{photos}", *QUICK)
    ran = ssbench(*command, "--set", "mim.decoder_width=32", "--results", tmp_path)
    assert ran.returncode == 0, ran.stderr
    record = next(r for r in Store(tmp_path).all() if r.spec.pretraining.method == "mim-block")
    settings = record.spec.pretraining.settings
    assert settings["mask"] == "block" and settings["decoder_width"] == 32


def test_a_results_folder_that_can_not_be_written_to_is_refused_at_once(ssbench: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = ssbench("run", "--method", "rotation", "--results", tmp_path / "file")
    assert ran.returncode == 2 and "is not a folder that can be written to" in ran.stderr


def test_a_foreign_record_does_not_stop_a_run_and_stops_the_tables_by_name(
    ssbench: Command, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "other.json").write_text('{"schema_version": 99}')
    ran = ssbench(*asked("random-init", "knn", photos, tmp_path))
    assert ran.returncode == 0 and "random-init" in ran.stdout
    ran = ssbench("tables", "--results", tmp_path)
    assert ran.returncode == 2 and "other.json has schema version 99; this ssbench reads 1" in ran.stderr


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_says_how_to_go_on_and_does(photos: Path, tmp_path: Path, ssbench: Command) -> None:
    words = ["run", "--method", "rotation", "--task", "knn", "--dataset", f"folder:{photos}", "--seeds", "0"]
    words += ["--set", "train.batch=16", "--device", "cpu", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "ssbench", *words, "--budget", "seconds=120"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # a background job inherits deafness to it
    )
    assert running.stderr is not None
    line = running.stderr.readline()  # the first plain line comes while it trains
    running.send_signal(signal.SIGINT)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == 130 and "interrupted; the same command goes on from here" in rest, line + rest
    assert not (tmp_path / "records").exists()
    assert ssbench(*words, "--budget", "steps=2").returncode == 0


WRONG = [
    (("--method", "simclrr"), "unknown method 'simclrr'; did you mean simclr"),
    (("--method", "simclr", "--task", "kn"), "unknown task 'kn'; did you mean knn"),
    (("--method", "simclr", "--dataset", "shape"), "unknown dataset 'shape'; did you mean shapes"),
    (("--method", "simclr", "--dataset", "shapes:hardest"), "unknown grade shapes:hardest; did you mean hard"),
    (("--method", "simclr", "--backbone", "vit-nona"), "unknown backbone 'vit-nona'; did you mean vit-nano"),
    (
        ("--method", "raw-pixels", "--dataset", "digits", "--backbone", "vit_tiny_patch16_224.augreg_in21k"),
        "vit_tiny_patch16_224.augreg_in21k names trained weights",
    ),
    (
        ("--method", "simclr", "--dataset", "digits", "--set", "data.image_size=13"),
        "vit-nano has no patch that divides images of 13 px; set data.image_size=12 or 14",
    ),
    (("--method", "simclr", "--budget", "sampels=10"), "did you mean samples"),
    (("--method", "simclr", "--seeds", "one"), "seeds=['one']: one is no seed"),
    (("--method", "simclr", "--seeds", "0,-4"), "-4 is no seed: a seed is a whole number from 0"),
    (("--method", "simclr", "--seeds", "0-4-5"), "0-4-5 is no seed"),
    (("--method", "simclr", "--seeds", "4-0"), "4-0 is no range: it goes upwards"),
    (("--method", "simclr", "--seeds", "0-99999999999"), "at most 1000 seeds"),
    (("--method", "simclr", "--set", "train.lrr=1"), "unknown setting train.lrr; did you mean lr"),
    (("--method", "simclr", "--set", "train.lr=fast"), "train.lr=fast"),
    (("--method", "simclr", "--set", "trian.lr=1"), "nothing called 'trian' in this run; did you mean train"),
    (("--method", "simclr", "--set", "lr=1"), "expected scope.key=value"),
    (("--method", "mim-block", "--set", "mim.mask=random"), "mim-block fixes that setting"),
    (("--method", "simclr", "--suite", "quik"), "unknown suite 'quik'; did you mean quick"),
    (("--method", "simclr", "--suite", "none.yaml"), "there is no such file"),
    (("--method", "simclr", "--dataset", "folder:nowhere"), "nowhere"),
    (("--method", "simclr", "--dataset", "folder:"), "needs an argument"),
    (("--method", "simclr", "--plugin", "nowhere.py"), "nowhere.py"),
    (("--method", "simclr", "--device", "tpu9"), "--device tpu9"),
    (("--method", "simclr", "--precision", "int8"), "--precision int8"),
    (("--method", "mim-block", "--backbone", "resnet18"), "patch tokens"),
    (
        ("--method", "simclr", "--task", "segmentation", "--dataset", "digits"),
        "segmentation needs mask, which digits does not have",
    ),
    ((), "no method"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_bad_input_gets_one_clear_line_exit_2_and_nothing_written(
    ssbench: Command, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ran = ssbench("run", *words, "--results", tmp_path / "r")
    assert ran.returncode == 2, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("ssbench:")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in ran.stderr and not (tmp_path / "r").exists()


def test_an_empty_class_is_named(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    for name in ("bright", "dark"):
        (tmp_path / "p" / name).mkdir(parents=True)
    for file in (photos / "dark").iterdir():
        (tmp_path / "p" / "dark" / file.name).write_bytes(file.read_bytes())
    ran = ssbench(
        "run", "--method", "rotation", "--dataset", f"folder:{tmp_path / 'p'}", *QUICK, "--results", tmp_path / "r"
    )
    assert ran.returncode == 2 and "bright" in ran.stderr and not (tmp_path / "r").exists()


def test_an_unreadable_image_is_named_or_skipped_and_counted(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    for file in photos.rglob("*.png"):
        copy = tmp_path / "p" / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    (tmp_path / "p" / "dark" / "torn.png").write_bytes(b"not an image")
    command = asked("random-init", "knn", tmp_path / "p", tmp_path / "r")
    ran = ssbench(*command)
    assert ran.returncode == 2 and "torn.png" in ran.stderr and "--on-bad-image skip" in ran.stderr
    assert not (tmp_path / "r").exists()
    assert ssbench(*command, "--on-bad-image", "skip").returncode == 0
    record = Store(tmp_path / "r").all()[0]
    assert record.data["skipped"] == ["dark/torn.png"]


def test_settings_reach_the_record(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    ran = ssbench(
        *asked(
            "mim-block",
            "knn",
            photos,
            tmp_path,
            "--set",
            "mim-block.mask=random",
            "--set",
            "mim-block.ratio=0.5",
            "--set",
            "knn.temperature=0.1",
        )
    )
    assert ran.returncode == 0, ran.stderr
    record = next(r for r in Store(tmp_path).all() if r.spec.pretraining.method == "mim-block")
    assert record.spec.pretraining.settings["mask"] == "random" and record.spec.pretraining.settings["ratio"] == 0.5
    assert record.spec.task_settings["temperature"] == 0.1


def test_a_suite_file_runs_and_its_keys_can_be_overridden(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        f"method: [rotation, simclr]\ntask: knn\ndataset: ['folder:{photos}']\n"
        "seeds: [0]\nbudget: steps=2\nset: [train.batch=16]\n"
    )
    ran = ssbench("run", "--suite", suite, "--method", "rotation", "--results", tmp_path / "r")
    assert ran.returncode == 0, ran.stderr
    assert {r.spec.pretraining.method for r in Store(tmp_path / "r").all()} == {
        "rotation",
        "random-init",
        "raw-pixels",
        "supervised",
    }
    suite.write_text("method: [rotation]\ntasks: [knn]\n")
    ran = ssbench("run", "--suite", suite, "--results", tmp_path / "r2")
    assert ran.returncode == 2 and "did you mean task" in ran.stderr


def test_loose_photos_can_be_pretrained_on_and_judged_elsewhere(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for i in range(60):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(loose / f"{i}.png")
    ran = ssbench(*asked("simclr", "knn", photos, tmp_path / "r", "--pretrain-on", f"folder:{loose}"))
    assert ran.returncode == 0, ran.stderr
    supervised = [r for r in Store(tmp_path / "r").all() if r.spec.pretraining.method == "supervised"]
    assert {r.status for r in supervised} == {"not-applicable"} and "no labels" in supervised[0].reason
    alone = ssbench(*asked("simclr", "knn", loose, tmp_path / "r2"))
    assert alone.returncode == 2 and "knn needs label" in alone.stderr


def test_describe_shows_settings_with_their_sources(ssbench: Command) -> None:
    assert "recipe own/vit: train.lr=0.0007 [project: benchmarks/rates.py" in ssbench("describe", "simclr").stdout
    text = ssbench("describe", "mim-block").stdout
    assert (
        "--set mim-block.mask=block" in text
        and "--set mim.reg=none" in text
        and "fixed by the preset" in text
        and "paper:" in text
    )
    assert "--set train.lr=0.0015" in ssbench("describe", "train").stdout
    assert "did you mean knn" in ssbench("describe", "kn").stderr


def test_the_doctor_knows_a_mixed_installation() -> None:
    from ssbench.cli.doctor import diagnose

    assert "pip install" in diagnose(RuntimeError("operator torchvision::nms does not exist"))
    assert diagnose(ValueError("else")) == "ValueError: else"


def test_a_doctor_finds_this_installation_well(ssbench: Command) -> None:
    ran = ssbench("doctor")
    assert ran.returncode == 0 and "all well" in ran.stdout and "torch" in ran.stdout


def test_records_are_plain_json(done: Path) -> None:
    file = sorted((done / "records").glob("*.json"))[0]
    assert json.loads(file.read_text())["schema_version"] == 2


def test_truncated_files_of_the_cache_are_made_again(ssbench: Command, photos: Path, tmp_path: Path) -> None:
    command = asked("rotation", "knn", photos, tmp_path, "--seeds", "0")
    assert ssbench(*command).returncode == 0
    before = {record.id: record.scores for record in Store(tmp_path).all()}
    files = [*(tmp_path / "cache").rglob("*.safetensors"), *(tmp_path / "cache").rglob("*.json")]
    assert len(files) > 8
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for file in (tmp_path / "records").iterdir():
        file.unlink()
    again = ssbench(*command)
    assert again.returncode == 0, again.stderr
    assert "can't be read and is made again" in again.stderr and "Traceback" not in again.stderr
    assert {record.id: record.scores for record in Store(tmp_path).all()} == before


def test_a_table_is_shown_whatever_the_terminal_can_show(photos: Path, tmp_path: Path) -> None:
    words = asked("random-init,raw-pixels", "finetune,knn", photos, tmp_path, "--seeds", "0")
    command = [sys.executable, "-m", "ssbench", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "random-init" in ran.stdout and "Records:" in ran.stdout, ran.stderr
    assert not ran.stderr.count("Traceback")


def test_precision_does_not_depend_on_how_the_device_is_named(tmp_path: Path) -> None:
    found = []
    for name in ("auto", "cpu"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        Workshop(Store(tmp_path), device(name))
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        found.append((torch.get_float32_matmul_precision(), *flags))
    assert found == [("highest", False, False)] * 2


def test_weights_of_a_plugin_that_were_overwritten_are_other_cells(
    ssbench: Command, photos: Path, tmp_path: Path
) -> None:
    plugin, weights = tmp_path / "given.py", tmp_path / "bias.txt"
    plugin.write_text(
        "from ssbench import Entry, Method, Settings, setting\n"
        "from ssbench.settings import File, file_of\n"
        "class Given(Method):\n"
        "    trains = False\n"
        "    class Settings(Settings):\n"
        "        weights: File = setting('', 'a file', source='none')\n"
        "    def build(self):\n"
        "        self.bias = float(file_of(self.settings.weights).read_text())\n"
        "METHODS = {'given': Entry('Given', 'test', 'has weights', control='floor')}\n"
    )
    words = ("--plugin", plugin, "--set", f"given.weights={weights}", "--seeds", "0")
    new = []
    for content in ("1", "1", "2"):
        weights.write_text(content)
        ran = ssbench(*asked("given", "knn", photos, tmp_path / "r", *words))
        assert ran.returncode == 0, ran.stderr
        new.append(ran.stdout.partition(" new)")[0][-1])
    assert new == ["1", "0", "1"]
