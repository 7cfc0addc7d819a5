"""What methods learn before training, such as a codebook: made once for some data, kept for every seed and setting."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import ssbench
from ssbench.method import Method
from ssbench.results.store import read_tensors, write_tensors
from ssbench.rng import derive


def prepare(method: Method, images: Tensor, folder: Path, owner: str, data: str, seed: int) -> float:
    """Let a method learn from uint8 images (N, C, S, S) what training needs first; gives the seconds that it takes.

    Artifacts are files in `folder`, known by `owner` (whose method it is, and its code), `data` (a digest of the
    images' identity) and the name that the method gives. The seconds of one found there are those of its making.
    """
    started, inside, making = time.perf_counter(), 0.0, 0.0

    def cached(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        nonlocal inside, making
        entered = time.perf_counter()
        file = folder / f"{key(owner, name, data)}.safetensors"
        found = read_tensors(file)
        if found is None:
            torch.manual_seed(derive(0, name))  # the run's seed is not in the key, so it must not be in the content
            tensors = {label: value.detach().cpu() for label, value in make().items()}
            taken = torch.tensor(time.perf_counter() - entered, dtype=torch.float64)
            found = {"seconds": taken, **tensors}
            write_tensors(file, found)
        torch.manual_seed(derive(seed, f"prepare/{name}"))  # what follows draws the same, made or found
        making += float(found["seconds"])
        inside += time.perf_counter() - entered
        return found

    torch.manual_seed(derive(seed, "prepare"))
    method.prepare(images, cached)
    return time.perf_counter() - started - inside + making


def key(owner: str, name: str, data: str) -> str:
    """SHA-256, in hexadecimal digits, of what an artifact follows from; ssbench's version is a part of it."""
    return hashlib.sha256(json.dumps([owner, name, data, ssbench.__version__]).encode()).hexdigest()
