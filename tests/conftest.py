"""What many tests use: small data on disk or drawn, a bench around known features, a command runner, one thread."""

import logging
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before they are read; threads do not survive a fork

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssbench import contracts
from ssbench.cli import main
from ssbench.data import Dataset, Split
from ssbench.encoders.build import build
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.features import Part
from ssbench.method import Batch
from ssbench.rng import derive
from ssbench.settings import make
from ssbench.spec import DataRef
from ssbench.task import Bench

ROOT = Path(__file__).parent.parent
MakeBench = Callable[..., Bench]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tensors this small are slower on two threads, many times so where others use the cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is decoded in a test is not found by the next run, nor by the user; processes started by tests share it."""
    os.environ["SSBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """200 drawn scenes of 16 px with labels and masks."""
    return contracts.tiny()


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
    """Run the command line in a process of its own, forked from this one: what took seconds to import is there."""

    def run(*words: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
        told = [*map(str, words)]
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                _be_the_command(told, cwd, out.fileno(), err.fileno())
            _, status = os.waitpid(child, 0)
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(told, os.waitstatus_to_exitcode(status), out.read(), err.read())

    return run


def _be_the_command(words: list[str], cwd: Path, out: int, err: int) -> NoReturn:
    """What stands between a shell and `main`, with nothing of pytest's."""
    status = 1
    try:
        signal.alarm(300)
        os.chdir(cwd)
        os.dup2(out, 1), os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(of, "w", closefd=False) for of in (1, 2))  # noqa: SIM115
        sys.argv = ["ssbench", *words]
        sys.path[0:0] = [str(ROOT)]
        logging.getLogger().handlers.clear()
        warnings.resetwarnings()
        warnings.showwarning = lambda *about: print(warnings.formatwarning(*about[:4]), file=sys.stderr)
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


class Given(Encoder):
    """Gives its input back: float "images" (N, D, h, w) are the map, and their values, flattened, the vector."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Identity(), torch.zeros(channels), torch.ones(channels))

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("mean", "cls")

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        return {"mean": images.flatten(1), "cls": -images.flatten(1)}

    def map(self, images: Tensor) -> Tensor:
        return images


class Reads(Encoder):
    """Gives the vectors (N, D) that a function reads out of pixels (N, C, H, W) in 0..1."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 3) -> None:
        super().__init__(nn.Identity(), torch.zeros(channels), torch.ones(channels))
        self.function = function

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("mean",)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        return {"mean": self.function(images)}


@pytest.fixture
def reads() -> type[Reads]:
    """`reads(function)`: an encoder that gives what a function reads out of pixels."""
    return Reads


def vit() -> Encoder:
    torch.manual_seed(0)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    return build("vit-nano", size=16, channels=3, mean=mean, std=std)


@pytest.fixture
def make_bench(tmp_path: Path) -> MakeBench:
    """`make_bench(images, targets, sizes)`: the first samples are `fit`, then `select`, then `test`.

    Without an encoder the images are the features themselves.
    """
    made = iter(range(1000))

    def make(
        images: Tensor,
        targets: dict[str, Tensor],
        sizes: tuple[int, int, int],
        encoder: Encoder | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> Bench:
        found = encoder or Given(images.shape[1])
        keys = tuple(str(i) for i in range(len(images)))
        starts = (0, sizes[0], sizes[0] + sizes[1])
        splits = [
            Split(images, keys, targets).take(list(range(at, at + size)))
            for at, size in zip(starts, sizes, strict=True)
        ]
        classes = int(targets["label"].max()) + 1 if "label" in targets else 0
        masks = targets["mask"] if "mask" in targets else torch.zeros(1)
        ref = DataRef(name="made", fingerprint="0", settings={})
        names = tuple(str(c) for c in range(classes))
        data = Dataset(ref, *splits, names, int(masks[masks != 255].max()) + 1, 255, (), "made for a test")  # type: ignore[call-arg, arg-type]
        cache = tmp_path / str(next(made))
        fit, select, test = (Part(found, split, cache, str(i)) for i, split in enumerate(splits))

        def fresh(drop_path: float) -> Encoder:
            return trainable(found, drop_path)

        return Bench(
            data.facts, (fit, select, test), fresh, lambda name: derive(0, name), torch.device("cpu"), progress
        )

    return make


@pytest.fixture
def untrained() -> Encoder:
    """A ViT of 16 px with 4 x 4 patches, as it starts."""
    return vit()


@pytest.fixture
def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's handwritten digits as features (1797, 64, 1, 1) in 0..1, shuffled, and their labels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(pixels).float()[order, :, None, None] / 16, torch.from_numpy(labels)[order]


@pytest.fixture(scope="session")
def make_mim() -> Callable[..., Any]:
    """`make_mim(**settings)`: a masked image model on 16 px, 4 x 4 patches, in evaluation mode."""
    from ssbench.methods.mim.model import MIM

    def make_(backbone: str = "vit-nano", channels: int = 3, patch: int = 0, size: int = 16, **settings: Any) -> MIM:
        torch.manual_seed(0)
        mean, std = torch.zeros(channels), torch.ones(channels)
        encoder = build(backbone, size=size, channels=channels, mean=mean, std=std, patch=patch)
        return MIM(encoder, make(MIM.Settings, settings, "mim")).eval()

    return make_


@pytest.fixture(scope="session")
def mim_batch() -> Callable[..., Batch]:
    """`mim_batch(*views)`: what a step of training hands to a method."""

    def batch(*views: Tensor, seed: int = 0, progress: float = 0.0) -> Batch:
        index = torch.arange(len(views[0]))
        return Batch(list(views), index, None, torch.Generator().manual_seed(seed), progress)

    return batch
