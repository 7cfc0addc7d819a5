"""`ssbench doctor`: is this installation sound, and what can it use?"""

from importlib.metadata import PackageNotFoundError, version

from typer import Exit

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightly",
    "kornia",
    "scikit-learn",
    "numpy",
    "pandas",
    "datasets",
)
MIXED = (
    "torch and torchvision come from different builds (the CPU-only torch with the registry's torchvision, say); "
    "take both from one source: pip install --force-reinstall torch torchvision"
)


def doctor() -> None:
    """Check the installed packages, import the heavy ones, name broken plugins."""
    import platform

    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        print(f"{name} {_version(name)}")
    problems = [*_broken_imports(), *_broken_plugins()]
    if not problems:
        print(f"{_devices()}\nall well")
        return
    for problem in problems:
        print(f"problem: {problem}")
    raise Exit(1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is missing (pip install 'ssbench[hf]')" if name == "datasets" else "is missing (pip install ssbench)"


def diagnose(error: Exception) -> str:
    """One line for a failed import: the mixed-build trap by its text, anything else as it is."""
    if "torchvision::nms does not exist" in str(error):
        return MIXED
    return f"{type(error).__name__}: {error}"


def _broken_imports() -> list[str]:
    from importlib import import_module

    for name in ("torch", "torchvision", "timm", "lightly.loss", "kornia"):
        try:
            import_module(name)
        except Exception as error:  # a broken installation fails in any way
            return [f"import {name}: {diagnose(error)}"]
    return []


def _broken_plugins() -> list[str]:
    from ssbench.errors import UserError
    from ssbench.registry import entries, load

    problems = []
    for kind in ("methods", "tasks"):
        try:
            found = entries(kind)
        except UserError as error:
            problems.append(str(error))
            continue
        for entry in found.values():
            if entry.owner != "ssbench":
                try:
                    load(entry)
                except UserError as error:
                    problems.append(str(error))
    return problems


def _devices() -> str:
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"devices: cpu ({torch.get_num_threads()} threads)" + "".join(f", cuda ({name})" for name in cuda)
