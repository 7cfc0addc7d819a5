"""The straight line: spec -> data -> pretrain -> encoder -> features -> task -> record."""

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ssbench import artifacts, data, diagnostics, metrics, pictures, stats
from ssbench.data import Dataset
from ssbench.encoder import Encoder, build
from ssbench.errors import NotApplicable, UserError, one_line
from ssbench.features import Part, represent
from ssbench.method import Method
from ssbench.plan import Cell
from ssbench.pretrain import Loop, Trained, flops_a_step, loop, pretrain, total, total_steps
from ssbench.provenance import code, environment, peak_memory_mb, weights_digest
from ssbench.record import Costs, Record, Score
from ssbench.registry import load
from ssbench.rng import derive
from ssbench.settings import make
from ssbench.spec import Train
from ssbench.store import Arrays, Store, write_bytes, write_tensors
from ssbench.task import Bench, Outcome, Task

Tell = Callable[[str], None]


@dataclass
class Workshop:
    """What the cells of one command share: the store, the device, the data sets that are in memory."""

    store: Store
    device: torch.device
    tell: Tell
    datasets: dict[tuple[str, str], Dataset] = field(default_factory=dict)
    leaks: dict[tuple[str, str], int] = field(default_factory=dict)

    def dataset(self, cell: Cell, source: str) -> Dataset:
        ref = cell.spec.data if source == cell.data else cell.spec.pretraining.data
        key = (source, ref.digest())
        if key not in self.datasets:
            self.tell(f"reading {source}")
            self.datasets[key] = data.load(source, cell.data_settings, ref)
        return self.datasets[key]

    def leaked(self, cell: Cell) -> int:
        """How many test images of a cell are, pixel for pixel, among the images of its pretraining."""
        pair = cell.pretrain_on, cell.data
        if pair not in self.leaks:
            seen, judged = self.dataset(cell, cell.pretrain_on).fit, self.dataset(cell, cell.data).test
            self.leaks[pair] = data.repeated(seen.images, judged.images)
        return self.leaks[pair]


def device(name: str) -> torch.device:
    """`auto` is the accelerator if there is one; raises UserError when the device is not there."""
    try:
        if name == "auto":
            return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        torch.zeros(1, device=name)
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32 in convolutions too
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} can't be used: {one_line(error)}; take auto or cpu") from None


def check(cells: list[Cell], shop: Workshop) -> None:
    """Everything that can be wrong with the command, before anything is trained or written; raises UserError."""
    seen = set()
    for cell in cells:
        found = shop.dataset(cell, cell.data)
        missing = load(cell.task).needs - found.targets
        if missing:
            has = ", ".join(sorted(found.targets)) or "none"
            raise UserError(
                f"{cell.task.name} needs {', '.join(missing)}, which {cell.data} does not have; its targets: {has}"
            )
        channels = found.fit.images.shape[1], shop.dataset(cell, cell.pretrain_on).fit.images.shape[1]
        if channels[0] != channels[1]:
            raise UserError(f"{cell.data} has {channels[0]} channels and {cell.pretrain_on} has {channels[1]}")
        key = cell.spec.pretraining.model_copy(update={"seed": 0}).digest()
        if key not in seen:
            seen.add(key)
            try:
                method, _ = assemble(cell, shop)
                _try_sizes(method.judged(), cell, {found.size, shop.dataset(cell, cell.pretrain_on).size})
            except NotApplicable:
                continue


def _try_sizes(encoder: Encoder, cell: Cell, sizes: set[int]) -> None:
    """One blank image of each size through the encoder; raises UserError where the backbone can't take it."""
    for size in sorted(sizes):
        blank = encoder.mean.new_zeros(1, encoder.mean.shape[1], size, size)
        try:
            represent(encoder, blank, encoder.vectors)
        except NotApplicable:
            continue
        except Exception as error:  # timm's networks refuse sizes in ways of their own
            name = cell.spec.pretraining.backbone
            raise UserError(f"{name} can't take images of {size} px ({one_line(error)}); set data.image_size") from None


def assemble(cell: Cell, shop: Workshop) -> tuple[Method, Loop | None]:
    """The untrained method around its encoder, and its training loop if it trains; raises UserError, NotApplicable."""
    spec, kind = cell.spec.pretraining, load(cell.method)
    origin = shop.dataset(cell, cell.pretrain_on)
    if kind.supervised and "label" not in origin.targets:
        raise NotApplicable(f"{cell.pretrain_on} has no labels")
    torch.manual_seed(derive(spec.seed, "init"))
    method = kind(new_encoder(cell, origin), make(kind.Settings, spec.settings, spec.method), len(origin.classes))
    if not kind.trains:
        return method.to(shop.device), None
    recipe = make(Train, spec.train or {}, "train")
    return method, loop(method, origin.fit, recipe, spec.seed, spec.precision, shop.device)


def new_encoder(cell: Cell, origin: Dataset, drop_path: float = 0.0) -> Encoder:
    """An encoder with random weights, fitted to the pretraining data."""
    spec = cell.spec.pretraining
    images = origin.fit.images
    sample = images[:: max(len(images) // 5000, 1)].float() / 255  # (n, C, S, S)
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp(min=1e-3)
    patch = int(spec.backbone_settings["patch"])

    def default() -> Encoder:
        size = origin.size
        return build(
            spec.backbone, size=size, channels=images.shape[1], mean=mean, std=std, patch=patch, drop_path=drop_path
        )

    return load(cell.method).make_encoder(default, images)


def trained_encoder(cell: Cell, shop: Workshop) -> tuple[Encoder, Trained, dict[str, str]]:
    """The pretrained encoder of a cell, trained now or found in the cache, how it went, and what made it where."""
    folder = shop.store.cache / "encoders"
    weights = folder / f"{cell.spec.pretraining.digest()}.safetensors"
    story = weights.with_suffix(".json")
    if weights.exists() and story.exists():
        encoder = new_encoder(cell, shop.dataset(cell, cell.pretrain_on)).to(shop.device)
        encoder.load_state_dict(load_file(weights, device=str(shop.device)))
        told = json.loads(story.read_text())
        return encoder, Trained(**told["trained"]), told["made"]
    method, run = assemble(cell, shop)
    done = Trained(0, 0, 0, 0, 0, []) if run is None else _train(cell, shop, run, weights.with_suffix(".partial"))
    origin = shop.dataset(cell, cell.pretrain_on)
    most = min(diagnostics.MEASURED, run.recipe.batch) if run else diagnostics.MEASURED  # what training had room for
    found = diagnostics.measure(method, origin.select, cell.spec.pretraining.seed, origin.ignore_index, most)
    done = replace(done, measures=found)
    encoder = method.judged()
    made = {**code(), **environment(shop.device), "weights": weights_digest(encoder)}
    write_tensors(weights, encoder.state_dict())
    write_bytes(story, json.dumps({"trained": asdict(done), "made": made}).encode())
    return encoder, done, made


def _train(cell: Cell, shop: Workshop, run: Loop, checkpoint: Path) -> Trained:
    """What the method must learn first, then the training itself, with pictures along the way."""
    spec, origin, method = cell.spec.pretraining, shop.dataset(cell, cell.pretrain_on), run.method
    assert spec.budget is not None
    shop.tell("preparing")
    seconds = artifacts.prepare(
        method, origin.fit.images, shop.store.cache / "artifacts", spec.owner, spec.data.digest(), spec.seed
    )
    method.to(shop.device)  # artifacts come on the CPU
    images = origin.select.images[: pictures.IMAGES]
    picture = partial(pictures.keep, method, images, picture_folder(cell, shop), spec.seed)
    done = pretrain(run, spec.budget, checkpoint, shop.tell, picture)
    return replace(done, prepare_seconds=seconds)


def picture_folder(cell: Cell, shop: Workshop) -> Path:
    """Where the pictures of a cell's pretraining lie, a file a step."""
    return shop.store.cache / "pictures" / cell.spec.pretraining.digest()


def pictured(cell: Cell, shop: Workshop) -> list[Path]:
    """The pictures of a cell's pretraining in the order of their steps; trained now where it or they are missing."""
    folder = picture_folder(cell, shop)
    if not pictures.of(folder):  # a cache from before there were pictures has the encoder alone
        (shop.store.cache / "encoders" / f"{cell.spec.pretraining.digest()}.safetensors").unlink(missing_ok=True)
    trained_encoder(cell, shop)
    return pictures.of(folder)


def forget(cells: list[Cell], shop: Workshop) -> None:
    """Drop these cells' cached encoders and pictures, and all artifacts and features: a rerun makes them anew."""
    for folder in ("artifacts", "features"):
        for file in (shop.store.cache / folder).glob("*"):
            file.unlink()
    for cell in cells:
        for file in (shop.store.cache / "encoders").glob(f"{cell.spec.pretraining.digest()}.*"):
            file.unlink()
        shutil.rmtree(picture_folder(cell, shop), ignore_errors=True)


def bench(cell: Cell, encoder: Encoder, shop: Workshop) -> Bench:
    """What the task of a cell works with."""
    judged = shop.dataset(cell, cell.data)
    pretraining = cell.spec.pretraining
    seed = pretraining.seed
    folder, weights = shop.store.cache / "features", weights_digest(encoder)

    def part(role: str) -> Part:
        network = f"{pretraining.method}|{pretraining.backbone}|{pretraining.backbone_settings}|{weights}"
        key = hashlib.sha256(f"{network}|{cell.spec.data.digest()}|{role}".encode()).hexdigest()[:16]
        return Part(encoder, getattr(judged, role), folder, key)

    def copy(drop_path: float) -> Encoder:
        if not any(True for _ in encoder.parameters()):
            raise NotApplicable(f"{cell.method.name} has no weights to train")
        torch.manual_seed(derive(seed, "copy"))
        fresh = new_encoder(cell, shop.dataset(cell, cell.pretrain_on), drop_path).to(shop.device)
        fresh.load_state_dict(encoder.state_dict())
        return fresh

    parts = part("fit"), part("select"), part("test")
    return Bench(
        judged.facts, parts, copy, lambda name: derive(seed, f"{cell.task.name}/{name}"), shop.device, shop.tell
    )


def run_cell(cell: Cell, shop: Workshop) -> Record:
    """Run one cell and write its record, whatever came of it; raises UserError only."""
    blank = Record(
        id=cell.spec.id, status="failed", spec=cell.spec, created=datetime.now(UTC).isoformat(timespec="seconds")
    )
    arrays: dict[str, Arrays] = {}
    try:
        record, arrays = _measure(cell, shop, blank)
    except UserError:
        raise
    except NotApplicable as error:
        record = blank.model_copy(update={"status": "not-applicable", "reason": str(error)})
    except Exception as error:  # the suite goes on with the next cell, and the record says what happened
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        record = blank.model_copy(update={"reason": reason})
    shop.store.write(record, arrays)
    return record


def _measure(cell: Cell, shop: Workshop, blank: Record) -> tuple[Record, dict[str, Arrays]]:
    encoder, trained, made = trained_encoder(cell, shop)
    task: Task = load(cell.task)(make(load(cell.task).Settings, cell.spec.task_settings, cell.task.name))
    before = weights_digest(encoder)
    table = bench(cell, encoder, shop)
    started = time.perf_counter()
    outcome = task.evaluate(table)
    seconds = time.perf_counter() - started
    if weights_digest(encoder) != before:
        raise RuntimeError(f"{cell.task.name} changed the frozen encoder")
    if table.selected is None or table.selected != outcome.selected:
        raise RuntimeError(f"{cell.task.name} did not open the test split with what it says it selected")
    headline = task.metrics[0].name
    if headline not in outcome.arrays:
        raise RuntimeError(f"{cell.task.name} handed in nothing for {headline}, its headline")
    judged = shop.dataset(cell, cell.data)
    update = {
        "status": "done",
        "headline": headline,
        "scores": {metric.name: _score(metric, outcome) for metric in task.metrics if metric.name in outcome.arrays},
        "details": outcome.details,
        "selected": outcome.selected,
        "sweep": outcome.sweep,
        "loss": trained.log,
        "measures": trained.measures,
        "costs": _costs(trained, encoder, seconds, shop.device),
        "data": {
            "size": judged.size,
            "fit": len(judged.fit),
            "select": len(judged.select),
            "test": len(judged.test),
            "roles": judged.roles,
            "classes": len(judged.classes),
            "skipped": list(judged.skipped),
            "test_images_seen_in_pretraining": shop.leaked(cell),
        },
        "environment": environment(shop.device),
        "code": code(),
        "pretrained": made,
    }
    return Record(**(dict(blank) | update)), dict(outcome.arrays)


def _score(metric: metrics.Metric, outcome: Outcome) -> Score:
    arrays = outcome.arrays[metric.name]
    low, high = stats.interval(metric.kind, arrays)
    samples = len(next(iter(arrays.values())))
    value = metrics.score(metric.kind, arrays)
    return Score(
        value=value, low=low, high=high, unit=metric.unit, better=metric.better, kind=metric.kind, samples=samples
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


def estimate(cell: Cell, shop: Workshop) -> float:
    """Seconds that a cell's pretraining will take, from three timed steps after one; raises UserError."""
    try:
        method, run = assemble(cell, shop)
    except NotApplicable:
        return 0.0
    budget = cell.spec.pretraining.budget
    if run is None or budget is None:
        return 0.0
    if budget.unit == "seconds":
        return budget.amount
    method.train()
    times = [_timed_step(run, step) for step in range(4)]
    flops = flops_a_step(run) if budget.unit == "flops" else 1.0
    return (total_steps(budget, len(run.images), run.recipe.batch, flops) or 0) * sum(times[1:]) / 3


def _timed_step(run: Loop, step: int) -> float:
    started = time.perf_counter()
    loss: Tensor = total(run.terms(step, 0.5))
    loss.backward()
    loss.item()
    return time.perf_counter() - started
