"""Records -> runs of TensorBoard, MLflow or Weights & Biases: one for each pretraining, with its curves and scores.

A tracker is a function of where to write and what; each program is loaded when it is asked for, and none is needed.
"""

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ssbench.errors import UserError
from ssbench.results.groups import Head, named
from ssbench.results.naming import digest
from ssbench.results.record import Record

Scalar = str | int | float | bool
EXPERIMENT = "ssbench"  # MLflow's name for what its runs belong to


@dataclass(frozen=True)
class Tracked:
    """One pretraining as trackers know runs."""

    id: str  # the pretraining's digest
    name: str
    settings: dict[str, Scalar]
    curves: dict[str, list[tuple[int, float]]]  # name -> steps and values
    scores: dict[str, float]  # at the end

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        """Step -> the curves' values there, from the first."""
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for name, points in self.curves.items():
            for step, value in points:
                found[step][name] = value
        return dict(sorted(found.items()))


def tracked(records: Iterable[Record]) -> list[Tracked]:
    """The pretrainings of records that are done, each with the scores of all its tasks; trials of tuning are none."""
    done = [record for record in records if record.status == "done" and not (record.spec.probe or record.spec.trial)]
    heads = {head: label for of in _by_task(done).values() for head, label in named(of).items()}
    alike: dict[str, list[Record]] = defaultdict(list)
    for record in done:
        alike[record.spec.pretraining.digest()].append(record)
    return [_tracked(digest, found, heads) for digest, found in sorted(alike.items())]


def _by_task(records: Iterable[Record]) -> dict[tuple[str, int], list[Head]]:
    found: dict[tuple[str, int], list[Head]] = defaultdict(list)
    for record in records:
        found[record.spec.task, record.spec.protocol].append(Head.of(record.spec))
    return found


def _tracked(digest: str, records: Sequence[Record], heads: Mapping[Head, str]) -> Tracked:
    first, p = records[0], records[0].spec.pretraining
    known: dict[str, Any] = {
        "method": p.method,
        "data": p.data.name,
        "backbone": p.backbone,
        "budget": str(p.budget or "untrained"),
        "share": p.share or "100%",
        "seed": p.seed,
        "precision": p.precision,
        "recipe": first.spec.recipe or "shared",
        **{f"set.{key}": value for key, value in p.settings.items()},
        **{f"train.{key}": value for key, value in (p.train or {}).items()},
        **{f"cost.{key}": value for key, value in first.costs if key != "task_seconds"},
    }
    settings = {key: value if isinstance(value, Scalar) else str(value) for key, value in known.items()}
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for kind, points in (("loss", first.loss), ("health", first.health)):
        for point in points:
            for key in point.keys() - {"step"}:
                curves[f"{kind}/{key}"].append((int(point["step"]), point[key]))
    scores: dict[str, float] = {}
    for record in sorted(records, key=lambda record: record.id):
        spec = record.spec
        where = f" on {spec.data.name}" if spec.data != p.data else ""
        column = f"{spec.task} {spec.protocol}{where}{heads[Head.of(spec)]}"
        for metric, score in record.scores.items():
            key = f"score/{column} {metric}"
            scores[key if key not in scores else f"{key} {record.id}"] = score.value  # other sizes of the same data
    name = f"{p.method}-{p.data.name}-{p.backbone}-{p.effort.replace('=', '-')}-seed-{p.seed}-{digest[:6]}"
    return Tracked(digest, re.sub(r"[^\w.+-]", "_", name), settings, dict(sorted(curves.items())), scores)


def tensorboard(where: str, runs: Sequence[Tracked]) -> None:
    """A folder for each run below `where`; one that is there is made anew."""
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        folder = Path(where) / run.name
        shutil.rmtree(folder, ignore_errors=True)
        with SummaryWriter(str(folder)) as writer:
            writer.add_text("settings", "\n".join(f"- {key}: {value}" for key, value in run.settings.items()))
            for step, values in run.steps.items():
                for key, value in values.items():
                    writer.add_scalar(key, value, step)
            for key, value in run.scores.items():
                writer.add_scalar(key, value, max(run.steps, default=0))


def mlflow(where: str, runs: Sequence[Tracked]) -> None:
    """Runs of one experiment at a tracking URI; one of the same pretraining is put in the bin."""
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client, now = MlflowClient(tracking_uri=where), int(time.time() * 1000)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    for run in runs:
        for old in client.search_runs([experiment], f"tags.`ssbench.id` = '{run.id}'"):
            client.delete_run(old.info.run_id)
        made = client.create_run(experiment, tags={"ssbench.id": run.id}, run_name=run.name).info.run_id
        found = [(key, value, step) for step, values in run.steps.items() for key, value in values.items()]
        found += [(key, value, 0) for key, value in run.scores.items()]
        metrics = [Metric(re.sub(r"[^\w\-. :/]", "_", key), value, now, step) for key, value, step in found]
        params = [Param(key, str(value)) for key, value in run.settings.items()]
        client.log_batch(made, metrics, params)
        client.set_terminated(made)


def wandb(where: str, runs: Sequence[Tracked]) -> None:
    """Runs of the project `where`, one for each content, since what is logged there stays; WANDB_MODE=offline."""
    import wandb as program

    for run in runs:
        content = digest([run.curves, run.scores])
        with program.init(
            project=where, id=f"{run.id}-{content}", name=run.name, config=run.settings, resume="allow"
        ) as live:
            for step, values in run.steps.items():
                live.log(values, step=step)
            live.summary.update(run.scores)


TRACKERS: dict[str, Callable[[str, Sequence[Tracked]], None]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}


def send(records: Iterable[Record], target: str) -> int:
    """Give the pretrainings of records to one of TRACKERS, as in `tensorboard:FOLDER`, and say how many.

    Raises UserError where the program is missing, nothing stands behind its name, or it fails.
    """
    program, _, where = target.partition(":")
    if not where:
        raise UserError(f"{target} says no place: tensorboard:FOLDER, mlflow:URI or wandb:PROJECT")
    if find_spec(program) is None:
        raise UserError(f"{program} is not installed: pip install {program}")
    runs = tracked(records)
    try:
        TRACKERS[program](where, runs)
    except Exception as error:  # programs of others fail in any way
        raise UserError(f"{target}: {program} fails: {' '.join(str(error).split()) or type(error).__name__}") from error
    return len(runs)
