"""What many tests use: small data on disk or drawn, a command runner, one thread."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssbench.data import Dataset, Split
from ssbench.data.shapes import draw
from ssbench.spec import DataRef

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """200 drawn scenes of 16 px with labels and masks: enough to run anything, too few to learn much."""
    train, test = draw("train", 160, 16), draw("test", 40, 16)

    def split(scenes: object, index: slice) -> Split:
        targets = {name: torch.from_numpy(getattr(scenes, name)[index]) for name in ("label", "mask")}
        images = torch.from_numpy(scenes.images[index])  # type: ignore[attr-defined]
        return Split(images, tuple(str(i) for i in range(len(images))), targets)

    ref = DataRef(name="tiny", fingerprint="0", settings={})
    classes = tuple("abcdefgh")
    parts = split(train, slice(0, 120)), split(train, slice(120, 160)), split(test, slice(0, 40))
    return Dataset(ref, *parts, classes, len(classes) + 1, 255, (), "drawn for tests")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, bright and dark, 60 images of 16 px each."""
    root = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0)
    for name, level in (("bright", 180), ("dark", 60)):
        (root / name).mkdir()
        for i in range(60):
            image = pixels.integers(level - 40, level + 40, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / name / f"{i:03}.png")
    return root


@pytest.fixture(scope="session")
def ssbench() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command line in a process of its own, as a user does."""

    def run(*words: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ssbench", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)

    return run
