"""ssbench: which self-supervised pretraining should I use, for my images, at my budget?

`ssbench.run(methods=..., tasks=..., dataset=...)` is `ssbench run` for programs, and `ssbench.evaluate(module, ...)`
judges an encoder in hand; `frame("results")` gives all records
as one pandas frame; `execute(cells(Suite(...)), Workshop(Store(...)))` gives a record as each cell is done. What a
method's or a task's file needs is here too: `from ssbench import Method, View, Batch, Task, Settings, setting`. Names
are loaded on first use, so that `import ssbench` costs nothing.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_here = _Path(__file__).parent
if not (_here / "methods").exists():  # a checkout: methods/ and tasks/ are this folder's siblings
    __path__.append(str(_here.parent))

_HOME = {  # no public name is also a module's: importing the module would put it over the name
    "Batch": "method",
    "Bench": "task",
    "Cell": "plan",
    "Encoder": "encoders.encoder",
    "Entry": "registry",
    "File": "settings",
    "Method": "method",
    "Metric": "results.metrics",
    "Outcome": "task",
    "Recipe": "method",
    "Record": "results.record",
    "Results": "api",
    "Settings": "settings",
    "Store": "results.store",
    "Suite": "plan",
    "Task": "task",
    "Teacher": "teacher",
    "UserError": "errors",
    "View": "method",
    "Workshop": "workshop",
    "cells": "plan",
    "choose": "task",
    "evaluate": "api",
    "execute": "line",
    "file_of": "settings",
    "frame": "results.frame",
    "optimism": "task",
    "run": "api",
    "setting": "settings",
}
__all__ = [*_HOME]

if TYPE_CHECKING:  # the same names once more, since a type checker follows no dictionary; a test compares them
    from ssbench.api import Results as Results
    from ssbench.api import evaluate as evaluate
    from ssbench.api import run as run
    from ssbench.encoders.encoder import Encoder as Encoder
    from ssbench.errors import UserError as UserError
    from ssbench.line import execute as execute
    from ssbench.method import Batch as Batch
    from ssbench.method import Method as Method
    from ssbench.method import Recipe as Recipe
    from ssbench.method import View as View
    from ssbench.plan import Cell as Cell
    from ssbench.plan import Suite as Suite
    from ssbench.plan import cells as cells
    from ssbench.registry import Entry as Entry
    from ssbench.results.frame import frame as frame
    from ssbench.results.metrics import Metric as Metric
    from ssbench.results.record import Record as Record
    from ssbench.results.store import Store as Store
    from ssbench.settings import File as File
    from ssbench.settings import Settings as Settings
    from ssbench.settings import file_of as file_of
    from ssbench.settings import setting as setting
    from ssbench.task import Bench as Bench
    from ssbench.task import Outcome as Outcome
    from ssbench.task import Task as Task
    from ssbench.task import choose as choose
    from ssbench.task import optimism as optimism
    from ssbench.teacher import Teacher as Teacher
    from ssbench.workshop import Workshop as Workshop


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(_import_module(f"ssbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ssbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
