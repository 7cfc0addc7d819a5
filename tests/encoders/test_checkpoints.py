"""What a file of weights may be, and that nothing in it runs."""

import json
import pickle
import tarfile
from argparse import Namespace
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ssbench.encoders.checkpoints import read
from ssbench.errors import UserError

WEIGHTS = {"norm.weight": torch.arange(6.0).view(2, 3), "norm.bias": torch.ones(2).bfloat16()}


class Runs:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "a.pth.tar"])
def test_what_torch_saved_is_read_whatever_its_name(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save({"model": WEIGHTS, "epoch": 3}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / name)
    assert found["epoch"] == 3 and found["model"].keys() == WEIGHTS.keys()
    assert all(torch.equal(found["model"][key], value) for key, value in WEIGHTS.items())


def test_safetensors_are_read_as_a_file_and_as_a_folder_of_the_hub(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for file in (tmp_path, tmp_path / "model.safetensors"):
        found = read(file)
        assert all(torch.equal(found[key], value) for key, value in WEIGHTS.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_beside_the_weights_are_read(tmp_path: Path, zipped: bool) -> None:
    """MAE and DINO keep an argparse.Namespace, others numpy's numbers and paths."""
    beside = {
        "args": Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(81.5),
        "step": np.int64(7),
        "done": np.bool_(True),
    }
    torch.save({"model": WEIGHTS, **beside}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "a.pth")
    assert found["args"].lr == 0.1 and found["args"].out == Path("runs")
    assert (found["best"], found["step"], found["done"]) == (81.5, 7, True)


def test_omegaconfs_settings_are_read_where_it_is_installed(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"optim": {"lr": 0.1, "steps": [1, 2.5, "all", None]}, "lr": "${optim.lr}"})
    torch.save({"model": WEIGHTS, "cfg": config}, tmp_path / "a.ckpt")
    assert read(tmp_path / "a.ckpt")["cfg"] == config


def test_the_names_of_other_versions_are_known(tmp_path: Path) -> None:
    """numpy 1 wrote `numpy.core`, Python 3.13 writes `pathlib._local`."""
    torch.save({"best": np.float64(2.5), "out": Path("runs")}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    written = (tmp_path / "a.pth").read_bytes()
    assert b"cnumpy._core.multiarray\n" in written and b"cpathlib\n" in written
    older = written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "a.pth").write_bytes(older.replace(b"cpathlib\n", b"cpathlib._local\n"))
    assert dict(read(tmp_path / "a.pth")) == {"best": 2.5, "out": Path("runs")}


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_runs(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"model": WEIGHTS, "x": Runs(tmp_path / "ran")}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(UserError):
        read(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # the trap works
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"a": Fraction(1, 2)}, "holds fractions.Fraction, which .*state_dict"),
        (nn.Linear(2, 2), r"holds torch.nn.modules.linear.Linear, which .*safetensors"),
        (torch.ones(2), "holds a Tensor, not weights by name"),
        ([1, 2], "holds a list, not weights by name"),
    ],
)
def test_what_is_not_weights_by_name_is_refused_with_its_class(tmp_path: Path, held: Any, said: str) -> None:
    torch.save(held, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", said)


def refused(file: Path, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        read(file)
    assert str(file) in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def torch_bytes(folder: Path, zipped: bool, part: float) -> bytes:
    torch.save({"model": WEIGHTS}, folder / "whole", _use_new_zipfile_serialization=zipped)
    whole = (folder / "whole").read_bytes()
    return whole[: int(len(whole) * part)]


def safe_bytes(folder: Path, part: float) -> bytes:
    save_file(WEIGHTS, folder / "whole")
    whole = (folder / "whole").read_bytes()
    return whole[: int(len(whole) * part)]


def tar_bytes(folder: Path) -> bytes:
    (folder / "inner").write_text("weights")
    with tarfile.open(folder / "whole", "w") as tar:
        tar.add(folder / "inner")
    return (folder / "whole").read_bytes()


BROKEN: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "empty": ("a.pth", lambda folder: b"", "is empty"),
    "pointer": ("a.bin", lambda folder: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "text": ("a.pth", lambda folder: b"<!DOCTYPE html>", "begins with '<!DOCTYPE html>'"),
    "text by another name": ("a.safetensors", lambda folder: b"not found", "no safetensors file"),
    "cut": ("a.pth", lambda folder: torch_bytes(folder, True, 0.6), "cut off"),
    "cut, old": ("a.pth", lambda folder: torch_bytes(folder, False, 0.9), "cut off"),
    "cut short, old": ("a.pth", lambda folder: torch_bytes(folder, False, 0.1), "cut off"),
    "cut safetensors": ("a.safetensors", lambda folder: safe_bytes(folder, 0.9), "cut off"),
    "cut in the head": ("a.safetensors", lambda folder: safe_bytes(folder, 0.2), "cut off"),
    "a plain pickle": ("a.pth", lambda folder: pickle.dumps({"a": [1, 2]}), "not of torch.save"),
    "an archive": ("a.tar", tar_bytes, "is an archive; unpack it"),
}


@pytest.mark.parametrize(("name", "content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: Callable[[Path], bytes], said: str
) -> None:
    (tmp_path / name).write_bytes(content(tmp_path))
    refused(tmp_path / name, said)


def test_a_file_that_is_not_there_and_a_folder_without_weights_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.pth", "there is no file")
    (tmp_path / "config.json").write_text(json.dumps({}))
    refused(tmp_path, "folder without config.json and model.safetensors")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "TorchScript program")
