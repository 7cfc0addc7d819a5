"""ssbench: which self-supervised pretraining should I use, for my images, at my budget?

What a method's or a task's file needs is here: `ssbench.Method`, `View`, `Task`, `Metric`, `Settings`, `setting`,
`Entry`, `UserError`. `execute(cells(Suite(...)), Workshop(...))` is `ssbench run` for programs, and `frame("results")`
gives all records as one pandas frame. Names are loaded on first use, so that `import ssbench` costs nothing.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.1.0"

_here = _Path(__file__).parent
if not (_here / "methods").exists():  # a checkout: methods/ and tasks/ are this folder's siblings
    __path__.append(str(_here.parent))

_HOME = {
    "Batch": "method",
    "Bench": "task",
    "Encoder": "encoders.encoder",
    "Entry": "registry",
    "Method": "method",
    "Metric": "results.metrics",
    "Outcome": "task",
    "Settings": "settings",
    "Suite": "plan",
    "Task": "task",
    "UserError": "errors",
    "View": "method",
    "Workshop": "workshop",
    "cells": "plan",
    "execute": "run",
    "frame": "results.frame",
    "setting": "settings",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(_import_module(f"ssbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ssbench' has no attribute {name!r}")
