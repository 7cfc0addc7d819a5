"""Read a file of weights without running anything that is in it."""

import re
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path, PosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssbench.errors import UserError, one_line

_WAY_OUT = 'save {"state_dict": model.state_dict()} alone, or safetensors'


def read(file: Path) -> Mapping[str, Any]:
    """What a checkpoint holds, on the CPU: safetensors, or anything of `torch.save`, told by its first bytes.

    Only tensors and plain values are unpickled (`weights_only`), and a few classes that hold settings: `Namespace`,
    numpy's numbers, paths, and omegaconf's where that is installed. Where the format allows, tensors stay on the disk
    until they are used, so the file must stay as it is. A folder with `config.json` and `model.safetensors`, as the
    Hugging Face hub gives, is that file. Raises UserError, in one line, for whatever else it is.
    """
    if file.is_dir():
        if not (file / "config.json").is_file() or not (file / "model.safetensors").is_file():
            raise UserError(f"{file} is a folder without config.json and model.safetensors; name the file of weights")
        file = file / "model.safetensors"
    if not file.is_file():
        raise UserError(f"there is no file {file}; name a file of weights")
    with file.open("rb") as opened:
        head = opened.read(512)
    if not head:
        raise UserError(f"{file} is empty; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{file} is a pointer of Git LFS, not the weights; run git lfs pull")
    if head[8:9] == b"{":  # behind the length of what it describes
        return _safetensors(file)
    if head.startswith((b"PK", b"\x80")):  # a zip file, or the pickle of torch before 1.6
        return _pickled(file, zipped=head.startswith(b"PK"))
    if file.suffix == ".safetensors":
        raise UserError(f"{file} is no safetensors file, whatever its name says; fetch it again")
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        raise UserError(f"{file} is an archive; unpack it and name the file of weights in it")
    begins = ascii(head[:24].decode("latin-1"))
    raise UserError(f"{file} is neither of torch.save nor safetensors: it begins with {begins}; fetch it again")


def _safetensors(file: Path) -> Mapping[str, Any]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is cut off or damaged ({one_line(error)}); fetch it again") from None


def _pickled(file: Path, *, zipped: bool) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is an error right after
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # in ways of pickle's, of zip's and of torch's own
        if refused := re.search(r"GLOBAL (\S+) (?:was|whose)", str(error)):
            raise UserError(f"{file} holds {refused[1]}, which only its own code should load; {_WAY_OUT}") from None
        if "TorchScript" in str(error):
            raise UserError(f"{file} is a TorchScript program, not weights alone; {_WAY_OUT}") from None
        why = one_line(error) if len(one_line(error)) < 100 else type(error).__name__  # torch's can be an essay
        raise UserError(f"{file} is cut off, damaged or not of torch.save ({why}); fetch it again") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{file} holds a {type(found).__name__}, not weights by name; {_WAY_OUT}")
    return found


def _harmless() -> list[Any]:
    """Classes that only hold values, with the names that other versions of Python and numpy have for them."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    known: list[Any] = [
        Namespace,
        defaultdict,  # omegaconf keeps one
        PosixPath,
        (PosixPath, "pathlib._local.PosixPath"),
        (PureWindowsPath, "pathlib.WindowsPath"),
        (PureWindowsPath, "pathlib._local.WindowsPath"),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdSU"),
    ]
    if find_spec("omegaconf"):
        from omegaconf import DictConfig, ListConfig, base, nodes

        values = [value for name, value in vars(nodes).items() if name.endswith("Node") and isinstance(value, type)]
        known += [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata, *values]
        known += [Any, dict, list, int, float, str, bool]  # the types that its metadata names
    return known
