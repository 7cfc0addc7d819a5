"""Records -> runs of TensorBoard, MLflow or Weights & Biases: one for each pretraining, with its curves and scores.

A tracker is a function of where to write and what; each program is loaded when it is asked for, and none is needed.
"""

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssbench.errors import UserError
from ssbench.results.record import Record

Scalar = str | int | float | bool
EXPERIMENT = "ssbench"  # MLflow's name for what its runs belong to
BATCH = 1000  # metrics that MLflow takes at once; a tenth as many parameters


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
    """The pretrainings of records that are done, each with the scores of all its tasks."""
    alike: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "done" and not record.spec.probe:
            alike[record.spec.pretraining.digest()].append(record)
    return [_tracked(digest, found) for digest, found in sorted(alike.items())]


def _tracked(digest: str, records: Sequence[Record]) -> Tracked:
    first, p = records[0], records[0].spec.pretraining
    known: dict[str, Any] = {
        "method": p.method,
        "data": p.data.name,
        "backbone": p.backbone,
        "budget": str(p.budget or "untrained"),
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
        where = f" labels {spec.labels}" * bool(spec.labels) + (f" on {spec.test_on.name}" if spec.test_on else "")
        for metric, score in record.scores.items():
            key = f"score/{spec.task}{where} {metric}"
            scores[key if key not in scores else f"{key} {record.id}"] = score.value
    budget = str(p.budget or "untrained").replace("=", "-")
    name = f"{p.method}-{p.data.name}-{p.backbone}-{budget}-seed-{p.seed}-{digest[:6]}"
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
        for at in range(0, max(len(metrics), 10 * len(params)), BATCH):
            client.log_batch(made, metrics[at : at + BATCH], params[at // 10 : (at + BATCH) // 10])
        client.set_terminated(made)


def wandb(where: str, runs: Sequence[Tracked]) -> None:
    """Runs of the project `where`, by the pretraining's id; WANDB_MODE=offline keeps them here."""
    import wandb as program

    for run in runs:
        with program.init(project=where, id=run.id, name=run.name, config=run.settings, resume="allow") as live:
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
    runs = tracked(records)
    try:
        TRACKERS[program](where, runs)
    except ImportError:
        raise UserError(f"{program} is not installed: pip install {program}") from None
    except Exception as error:  # programs of others fail in any way
        raise UserError(f"{target}: {program} fails: {' '.join(str(error).split()) or type(error).__name__}") from error
    return len(runs)
