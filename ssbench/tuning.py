"""Equal tuning: as many trials for every method, at the same points, judged on `select`; the best is run on all seeds.

Points are drawn independently of each other and of what was found, since the expected best of n trials (Dodge et al.
2019, arXiv:1909.03004) needs that; a search that learns from its trials would not give it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssbench import plan
from ssbench.api import Results, carry_out, opened, ready
from ssbench.errors import UserError
from ssbench.plan import Cell, Suite
from ssbench.progress import Progress
from ssbench.results.record import Record
from ssbench.results.tuned import best, of_today
from ssbench.rng import derive
from ssbench.settings import make, parse_assignments
from ssbench.spec import Space, Train

Point = dict[str, float]  # values of `train`
TRIALS = 16
SINGLE = ("dataset", "backbone", "labels", "budget", "share")  # a tuning is of one
ABSENT = ("encoder", "test_on", "vary")  # and has none of these


@dataclass(frozen=True)
class Tuned:
    """The records of the trials, and those of the comparison: own and tuned rows on all seeds, beside the controls."""

    trials: Results
    rows: Results
    lost: tuple[str, ...]  # methods of which no trial was done
    new: int  # cells that had no record before


def tune(asked: Suite, trials: int = TRIALS, results: str | Path = "results", device: str = "auto") -> Tuned:
    """Run the trials of every trained method, then each one's best on all seeds; the first task's headline chooses.

    What has a record is not run again, nor a trial that failed. Raises UserError; what failed is a record.
    """
    own, at = planned(asked), points(trials)
    with Progress(len(own)) as progress:
        opened(ready(own, asked.plugin, results, False), device, progress)  # what is wrong is said before the trials
    tried = ready(trial_cells(own, at), asked.plugin, results, False)
    first = carry_out(tried, device)
    chosen = choices(first.settled())
    trained = [cell for cell in own if cell.method.name in chosen]
    rows = [*own, *(tuned(cell, chosen[cell.method.name], trials) for cell in trained)]
    last = ready(rows, asked.plugin, results, False)
    names = dict.fromkeys(cell.method.name for cell in tried.cells)
    lost = tuple(name for name in names if name not in chosen)
    return Tuned(first, carry_out(last, device), lost, len(tried.todo) + len(last.todo))


def planned(asked: Suite) -> list[Cell]:
    """The cells of the methods' own recipes, with the controls; raises UserError for what can't be tuned."""
    for key in SINGLE:
        if len(several := dict.fromkeys(getattr(asked, key))) > 1:
            raise UserError(f"{key}={','.join(several)}: a tuning is of one; name one")
    for key in ABSENT:
        if getattr(asked, key):
            raise UserError(f"{key}: a tuning has none; leave it out")
    if asked.recipe != "own":
        raise UserError(f"recipe={asked.recipe}: tuning starts from each method's own; leave it out")
    for key in parse_assignments(list(asked.set)).get("train", {}):
        if key in Space.model_fields:
            raise UserError(f"--set train.{key}: that is what is tuned; leave it out")
    found = plan.cells(asked)
    if not any(cell.spec.pretraining.train for cell in found):
        raise UserError("nothing is trained, so nothing can be tuned; name a method with --method")
    return found


def points(count: int) -> list[Point]:
    """As many points of `Space`, to three digits; the first n are the same for every count, method and data set.

    Raises UserError where optuna is not installed, and for a count below 1.
    """
    if count < 1:
        raise UserError(f"--trials {count}: a tuning has one trial or more")
    try:
        import optuna
    except ImportError:
        raise UserError("points of tuning are drawn by optuna, which is missing: pip install ssbench[tune]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = derive(0, f"tuning, space {Space.version}") % 2**32
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    asked = [study.ask() for _ in range(count)]
    return [
        {key: float(f"{trial.suggest_float(key, low, high, log=True):.3g}") for key, (low, high) in Space()}
        for trial in asked
    ]


def trial_cells(own: Iterable[Cell], at: Sequence[Point]) -> list[Cell]:
    """A cell for each trained method and each point, judged by the first task on `select`, of the first seed."""
    trained = [cell for cell in own if cell.spec.pretraining.train]
    task, seed = trained[0].task, trained[0].spec.pretraining.seed
    alike = [cell for cell in trained if cell.task == task and cell.spec.pretraining.seed == seed]
    bases = [cell for cell in alike if not cell.spec.probe]
    return [
        _changed(cell, point, trial=f"space {Space.version}, point {number}")
        for cell in bases
        for number, point in enumerate(at, 1)
    ]


def choices(records: Iterable[Record]) -> dict[str, Point]:
    """The point of each method's best trial; a method of which none was done has none."""
    by_method: dict[str, list[Record]] = {}
    for record in records:
        by_method.setdefault(record.spec.pretraining.method, []).append(record)
    ahead = {name: best(of_today(found)) for name, found in by_method.items()}
    return {
        name: {key: (one.spec.pretraining.train or {})[key] for key in Space.model_fields}
        for name, one in ahead.items()
        if one is not None
    }


def tuned(cell: Cell, point: Point, trials: int) -> Cell:
    """The cell with its method's best point; `recipe` says so, in front of what was set besides."""
    how = f"tuned ({trials} trial{'s' * (trials > 1)})"
    return _changed(cell, point, recipe=cell.spec.recipe.replace("own", how, 1))


def _changed(cell: Cell, point: Point, **more: Any) -> Cell:
    p = cell.spec.pretraining
    train = make(Train, (p.train or {}) | point, "train").model_dump(mode="json")
    spec = cell.spec.model_copy(update={"pretraining": p.model_copy(update={"train": train}), **more})
    return replace(cell, spec=spec)
