"""What a result may depend on besides its spec: the machine, the packages, the code, the weights."""

import hashlib
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which

import torch
from torch import nn

import ssbench


def environment(where: torch.device) -> dict[str, str]:
    """What a result may depend on besides its spec."""
    packages = ("torch", "torchvision", "timm", "lightly", "kornia", "scikit-learn", "numpy")
    found = {name: version(name) for name in packages}
    machine = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    return {
        **machine,
        "device": where.type,
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        **found,
    }


def code() -> dict[str, str]:
    """ssbench's version and, in a checkout, its commit."""
    root = Path(ssbench.__file__).parent.parent
    found = {"version": ssbench.__version__}
    if (root / ".git").exists() and which("git"):
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "ssbench", "methods", "tasks"], capture_output=True, text=True
        )
        found |= {"commit": commit.stdout.strip(), "changed": str(bool(dirty.stdout.strip())).lower()}
    return found


def peak_memory_mb(where: torch.device) -> int:
    """Largest memory of this process so far: the accelerator's on CUDA, else the resident set."""
    if where.type == "cuda":
        return round(torch.cuda.max_memory_allocated(where) / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over the names and bytes of every weight and buffer, 16 digits."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
