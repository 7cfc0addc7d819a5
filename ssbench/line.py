"""The straight line: spec -> data -> pretrain -> encoder -> features -> task -> record."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from ssbench import code
from ssbench.data.labelled import labelled
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.weights import weights_digest
from ssbench.errors import Broken, NotApplicable, UserError
from ssbench.features import Part
from ssbench.plan import Cell
from ssbench.registry import blame, load
from ssbench.results import bootstrap, metrics
from ssbench.results.bootstrap import GROUP
from ssbench.results.provenance import commit, environment, forget_peak, peak_memory_mb
from ssbench.results.record import Costs, Record, Score
from ssbench.results.store import Arrays
from ssbench.rng import derive
from ssbench.settings import make
from ssbench.task import Bench, Outcome, Task
from ssbench.training.loop import Trained
from ssbench.training.pictures import draw
from ssbench.training.trained import trained_encoder
from ssbench.workshop import Job, Workshop


def execute(
    cells: Iterable[Cell], shop: Workshop, begin: Callable[[Cell], None] = lambda cell: None
) -> Iterator[Record]:
    """Run each cell and give its record, which is written by then, whatever came of it; raises UserError only.

    `begin(cell)` is called before each one. A cell that is interrupted leaves no record; what it had trained goes on.
    """
    for cell in cells:
        begin(cell)
        forget_peak(shop.device)
        blank = Record(
            id=cell.spec.id,
            status="failed",
            spec=cell.spec,
            supervised=bool(load(cell.method).supervised),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        arrays: dict[str, Arrays] = {}
        pictures: dict[str, bytes] = {}
        at_work = cell.method, cell.task
        try:
            job = shop.open(cell)
            found = trained_encoder(job)
            at_work = cell.task, cell.method
            record, arrays, pictures = _measure(job, *found, shop, blank)
        except UserError:
            raise
        except NotApplicable as error:
            record = blank.model_copy(update={"status": "not-applicable", "reason": str(error)})
        except Exception as error:  # the suite goes on with the next cell, and the record says what happened
            record = blank.model_copy(update={"reason": blame(error, at_work)})
        shop.store.write(record, arrays, pictures)
        yield record


def _measure(
    job: Job, encoder: Encoder, trained: Trained, made: dict[str, Any], shop: Workshop, blank: Record
) -> tuple[Record, dict[str, Arrays], dict[str, bytes]]:
    cell = job.cell
    encoder.read(**cell.spec.reading)
    task: Task = load(cell.task)(make(load(cell.task).Settings, cell.spec.task_settings, cell.task.name))
    before = weights_digest(encoder)
    table = bench(job, encoder)
    started = time.perf_counter()
    outcome = task.evaluate(table)
    seconds = time.perf_counter() - started
    if weights_digest(encoder) != before:
        raise Broken(f"{cell.task.name} changed the frozen encoder")
    if table.selected is None or table.selected != outcome.selected:
        raise Broken(f"{cell.task.name} did not open the test split with what it says it selected")
    headline = task.metrics[0].name
    if headline not in outcome.arrays:
        raise Broken(f"{cell.task.name} handed in nothing for {headline}, its headline")
    judged = job.judged
    outcome = _clustered(outcome, [m.name for m in task.metrics if m.name in outcome.arrays], judged.test.groups)
    update = {
        "status": "done",
        "headline": headline,
        "scores": {metric.name: _score(metric, outcome) for metric in task.metrics if metric.name in outcome.arrays},
        "details": outcome.details,
        "selected": outcome.selected,
        "sweep": outcome.sweep,
        "loss": trained.log,
        "measures": trained.measures,
        "health": trained.health,
        "warning": trained.warning,
        "costs": _costs(trained, encoder, seconds, job.device),
        "data": {
            "size": judged.size,
            **dict(zip(("fit", "select", "test"), table.sizes)),
            "roles": judged.roles,
            "classes": len(judged.classes),
            **({"test_groups": len({*judged.test.groups})} if judged.test.groups else {}),
            "skipped": list(judged.skipped),
            "understood": dict(judged.understood),
            "test_images_seen_in_pretraining": shop.copied(job).test,
            "of_them_equal_in_pixels": shop.copied(job).equal,
            "select_images_seen_in_fit": shop.copied(job).select,
        },
        "environment": environment(job.device),
        "code": commit(),
        "digests": code.digests(cell.spec, cell.method, cell.task),
        "pretrained": made,
    }
    pictures = {name: draw(panels) for name, panels in outcome.pictures.items()}
    return Record(**(dict(blank) | update)), dict(outcome.arrays), pictures


def bench(job: Job, encoder: Encoder) -> Bench:
    """What the task of a cell works with."""
    spec, judged, task, cell = job.pretraining, job.judged, job.cell.task.name, job.cell.spec
    weights, built = weights_digest(encoder), encoder.summary(job.origin.size)

    def part(role: str) -> Part:
        read = f"|{encoder.poolings[0]}|{encoder.block}" if cell.reading else ""
        network = f"{spec.method}|{spec.backbone}|{built}|{weights}{read}"
        other = cell.test_on if role == "test" else None
        of = f"{other.digest() if other else role}{' of a trial' * bool(cell.trial)}"
        made_by = code.of_features(other or cell.data)
        key = hashlib.sha256(f"{network}|{cell.data.digest()}|{of}|{made_by}".encode()).hexdigest()[:16]
        found = Part(encoder, getattr(judged, role), job.cache / "features", key)
        if cell.labels and role != "test":
            return found.take(labelled(getattr(judged, role), cell.labels, spec.seed, len(judged.fit)))
        return found

    def copy(drop_path: float) -> Encoder:
        if not any(True for _ in encoder.parameters()):
            raise NotApplicable(f"{spec.method} has no weights to train")
        return trainable(encoder, drop_path)

    parts = part("fit"), part("select"), part("test")
    again = f"/{cell.probe}" if cell.probe else ""
    return Bench(
        judged.facts, parts, copy, lambda name: derive(spec.seed, f"{task}/{name}{again}"), job.device, job.tell
    )


def _clustered(outcome: Outcome, names: Sequence[str], groups: Sequence[str]) -> Outcome:
    """With the number of each test image's group, where the data names groups and a score is of images."""
    numbers = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    codes = np.array([numbers[group] for group in groups], np.int32)
    arrays = dict(outcome.arrays)
    for name in names:
        if groups and len(next(iter(arrays[name].values()))) == len(codes):
            arrays[name] = {**arrays[name], GROUP: codes}
    return replace(outcome, arrays=arrays)


def _score(metric: metrics.Metric, outcome: Outcome) -> Score:
    arrays = outcome.arrays[metric.name]
    low, high = bootstrap.interval(metric.kind, arrays)
    samples = len(next(iter(arrays.values())))
    value = metrics.score(metric.kind, arrays)
    return Score(
        value=value,
        low=low,
        high=high,
        unit=metric.unit,
        better=metric.better,
        kind=metric.kind,
        samples=samples,
        floor=metrics.floor(metric.kind, arrays),
    )


def _costs(trained: Trained, encoder: Encoder, seconds: float, where: torch.device) -> Costs:
    return Costs(
        images=trained.images,
        views=trained.views,
        steps=trained.steps,
        prepare_seconds=round(trained.prepare_seconds, 2),
        pretrain_seconds=round(trained.seconds, 2),
        pretrain_gflops=round(trained.gflops, 3),
        parameters=sum(p.numel() for p in encoder.parameters()),
        task_seconds=round(seconds, 2),
        peak_memory_mb=peak_memory_mb(where),
    )
