"""`ssbench show-masks` as a user types it, with a method from a file that has all the optional parts."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from ssbench.results.store import Store

Command = Callable[..., CompletedProcess[str]]
PLUGIN = """
import torch
from ssbench import Entry, Method

class Tint(Method):
    tint = None

    def prepare(self, images, cached):
        mean = lambda: {"mean": images.float().mean((0, 2, 3)) / 255, "seconds": torch.tensor(5.0)}
        self.tint = cached("tint", mean)["mean"]

    def loss(self, batch):
        return {"size": self.encoder.pooled(batch.views[0]).square().mean()}

    def measures(self, images, objects):
        return {"prepared": float(self.tint is not None), "background": float((objects == 0).float().mean())}

    def picture(self, images):
        plain = images * self.encoder.std + self.encoder.mean
        return torch.stack([plain, self.tint.to(images).view(3, 1, 1).expand_as(plain)], 1)

METHODS = {"tint": Entry("Tint", "test", "has every optional part", "none")}
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "tint.py"
    file.write_text(PLUGIN)
    return file


def test_pictures_are_shown_and_the_training_serves_a_later_run(ssbench: Command, plugin: Path, tmp_path: Path) -> None:
    method = ("--plugin", plugin, "--method", "tint")
    common = (*method, "--budget", "steps=2", "--device", "cpu", "--results", tmp_path / "r")
    ran = ssbench("show-masks", *common, "--seed", "1", "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    cache = tmp_path / "r" / "cache"
    folder = next((cache / "pictures").iterdir())
    file = tmp_path / "out" / f"tint.shapes-v2.{folder.name[:8]}.png"
    assert str(file) in ran.stdout and str(folder) in ran.stdout
    assert sorted(one.name for one in folder.iterdir()) == ["000000.png", "000001.png", "000002.png"]
    assert file.read_bytes() == (folder / "000002.png").read_bytes()
    assert np.asarray(Image.open(file)).shape == (8 * 98 - 2, 2 * 98 - 2, 3)  # scenes of 32 px, three times as large
    assert not (tmp_path / "r" / "records").exists()

    weights = {one: one.stat().st_mtime_ns for one in (cache / "encoders").iterdir()}
    assert len(weights) == 2  # no controls came along
    ran = ssbench("run", *common, "--seeds", "1,2", "--task", "knn")
    assert ran.returncode == 0, ran.stderr
    assert all(one.stat().st_mtime_ns == before for one, before in weights.items())
    records = [r for r in Store(tmp_path / "r").all() if r.spec.pretraining.method == "tint"]
    assert [list(r.measures) for r in records] == [["rankme", "prepared", "background"]] * 2
    assert all(r.measures["prepared"] == 1 and 0 < r.measures["background"] < 1 for r in records)
    assert len(list((cache / "artifacts").iterdir())) == 1  # both seeds share it, and its cost
    assert all(5 <= r.costs.prepare_seconds < 6 for r in records)

    for one in folder.iterdir():
        one.unlink()
    ran = ssbench("show-masks", *common, "--seed", "1", "--out", tmp_path / "again")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


WRONG = [
    (("--method", "rotation"), "rotation makes no pictures"),
    (("--method", "random-init"), "random-init makes no pictures"),
    ((), "no method"),
    (("--method", "tint", "--dataset", "shape"), "did you mean shapes"),
    (("--method", "tint", "--out", __file__), "name a folder"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_gets_one_clear_line(
    ssbench: Command, plugin: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ran = ssbench("show-masks", "--plugin", plugin, "--results", tmp_path / "r", *words)
    lines = [line for line in ran.stderr.splitlines() if line.startswith("ssbench:")]
    assert ran.returncode == 2 and len(lines) == 1 and message in lines[0], ran.stderr
    assert not (tmp_path / "r").exists()
