"""What a result may depend on besides its spec: the machine, the packages, the code."""

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which

import torch

import ssbench


def environment(where: torch.device) -> dict[str, str]:
    """What a result may depend on besides its spec."""
    packages = ("torch", "torchvision", "timm", "lightly", "kornia", "scikit-learn", "numpy")
    found = {name: version(name) for name in packages}
    machine = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    machine |= {"cpu": torch.backends.cpu.get_cpu_capability()}  # which instructions, and so which sums
    return {
        **machine,
        "device": where.type,
        **_accelerator(where),
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        **found,
    }


def _accelerator(where: torch.device) -> dict[str, str]:
    """Its name and the libraries that compute on it."""
    if where.type != "cuda":
        return {}
    found = {"accelerator": torch.cuda.get_device_name(where), "cuda": str(torch.version.cuda)}
    return {**found, "cudnn": str(torch.backends.cudnn.version())}


def commit() -> dict[str, str]:
    """The version and the commit: what SSBENCH_COMMIT says, for copies without a history, or the checkout's."""
    root = Path(ssbench.__file__).parent.parent
    found = {"version": ssbench.__version__}
    if given := os.environ.get("SSBENCH_COMMIT"):
        return {**found, "commit": given}
    if (root / ".git").exists() and which("git"):
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "ssbench", "methods", "tasks"], capture_output=True, text=True
        )
        found |= {"commit": head.stdout.strip(), "changed": str(bool(dirty.stdout.strip())).lower()}
    return found


def peak_memory_mb(where: torch.device) -> int:
    """Largest memory so far: on CUDA the accelerator's since `forget_peak`, else this process's resident set."""
    if where.type == "cuda":
        return round(torch.cuda.max_memory_allocated(where) / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def forget_peak(where: torch.device) -> None:
    """The next cell's memory is measured anew where that can be done."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
