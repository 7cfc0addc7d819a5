"""Part a: does the accelerator give what the CPU gives? A row for each check, with what was found and the limit."""

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic

import numpy as np
import torch
from numpy.typing import NDArray
from shared import DEVICE, cells, drawn, job, workshop, write
from torch import Tensor

from ssbench.features import represent
from ssbench.line import execute
from ssbench.registry import entries, load
from ssbench.results.store import Store
from ssbench.spec import Budget
from ssbench.training.loop import Watcher, pretrain, total
from ssbench.training.trained import assemble

LOSS, GRADIENT = 1e-4, 2e-3  # float32 against the CPU: relative difference; distance of gradients over their norm
BF16 = 0.01  # relative difference of the loss under bf16 from float32's; on the CPU it is 5e-4 at most
FEATURES = 1e-4  # largest difference over the largest value
RESUMED = 1e-4  # the same, of weights after six steps of 1.5e-3 by a rule that scales small gradients up
# test predictions that differ, in %; finetune trains a network, in which rounding grows; mIoU has none: its difference
TASKS = {"knn": 1.0, "linear-probe": 5.0, "segmentation": 2.0, "finetune": 30.0, "peft": 30.0}
OTHER = 5.0  # a task that is not listed
HAS = {"label", "mask"}  # what the drawn data holds; tasks that need more are not judged here
# what draws on the device: dropped paths, slices, the noise that stands for a colour; other numbers than on the CPU
DRAWS = "dino", "dinov2", "lejepa", "relative-location"
BATCH = 32

Row = dict[str, Any]


class Step(NamedTuple):
    """The first step of a training."""

    loss: float
    gradient: NDArray[np.float32]  # (parameters,)


def trained_methods() -> list[tuple[str, str]]:
    """Every method and preset that trains, and a convolutional network."""
    names = [name for name, entry in entries("methods").items() if load(entry).trains]
    return [*((name, "vit-nano") for name in names), ("simclr", "resnet18")]


def step(name: str, backbone: str, data: Path, results: Path, device: str, precision: str) -> Step:
    """Loss and gradient of one step; the same seeds give the same views and masks on every device."""
    if device == "cpu":
        torch.set_num_threads(1)
    found = job(name, data, results, device, backbone=[backbone], precision=precision, set=[f"train.batch={BATCH}"])
    method, run = assemble(found)
    assert run is not None
    loss = total(run.terms(0, 0.5))
    loss.backward()
    parts = [p.grad.flatten().float() for p in method.parameters() if p.grad is not None]
    return Step(loss.item(), torch.cat(parts).cpu().numpy())


def steps(data: Path, results: Path, references: "dict[tuple[str, str], Future[Step]]") -> Iterator[Row]:
    """float32 against the CPU's, then bf16 against float32."""
    for one, reference in references.items():
        label = "@".join(one)
        try:
            mine, half = (step(*one, data, results, DEVICE, precision) for precision in ("float32", "bf16"))
            true = reference.result()
        except Exception as error:
            yield {"check": "step", "name": label, "ok": False, "note": f"{type(error).__name__}: {error}"}
            continue
        if one[0] not in DRAWS:
            yield row("float32 loss", label, abs(mine.loss - true.loss) / abs(true.loss), LOSS)
            distance = np.linalg.norm(mine.gradient - true.gradient) / np.linalg.norm(true.gradient)
            yield row("float32 gradient", label, float(distance), GRADIENT)
        yield row("bf16 loss", label, abs(half.loss - mine.loss) / abs(mine.loss), BF16)


def row(check: str, name: str, value: float, limit: float, note: str = "") -> Row:
    return {"check": check, "name": name, "value": value, "limit": limit, "ok": value <= limit, "note": note}


def features(data: Path, results: Path, backbones: tuple[str, ...] = ("vit-nano", "resnet18")) -> Iterator[Row]:
    """What a frozen encoder makes of images."""
    for backbone in backbones:
        pair = []
        for device in ("cpu", DEVICE):
            found = job("random-init", data, results, device, backbone=[backbone])
            encoder = assemble(found)[0].judged()
            pair.append(represent(encoder, found.judged.test.images[:64], encoder.vectors)["mean"].cpu())
        yield row("features", backbone, float((pair[0] - pair[1]).abs().max() / pair[0].abs().max()), FEATURES)


def judged_here() -> list[str]:
    """The tasks that the drawn data can be asked."""
    return [name for name, entry in entries("tasks").items() if HAS.issuperset(load(entry).needs)]


def judge(task: str, data: Path, results: Path, device: str) -> Path:
    """The record of one task on an untrained encoder, in a results folder."""
    if device == "cpu":
        torch.set_num_threads(1)
    made = list(execute(cells("random-init", data, task=[task]), workshop(results, device)))
    if made[0].status != "done":
        raise RuntimeError(made[0].reason)
    return results


def tasks(data: Path, results: Path, references: "dict[str, Future[Path]]") -> Iterator[Row]:
    """Every task on the features that the CPU made: here and there, and here again."""
    for name, reference in references.items():
        try:
            there = reference.result()
            folders = [results / f"{name}-{turn}" for turn in range(2)]
            for folder in folders:
                shutil.copytree(there / "cache", folder / "cache")
                judge(name, data, folder, DEVICE)
            yield row("task as on the CPU", name, differing(name, data, there, folders[0]), TASKS.get(name, OTHER))
            yield row("task twice", name, differing(name, data, *folders), 0.0)
        except Exception as error:
            yield {"check": "task", "name": name, "ok": False, "note": f"{type(error).__name__}: {error}"}


def differing(task: str, data: Path, one: Path, other: Path) -> float:
    """Share of the test predictions that differ, in %; without predictions, the difference of the headlines."""
    spec = cells("random-init", data, task=[task])[0].spec
    stores = Store(one), Store(other)
    a, b = (store.find(spec) for store in stores)
    assert a is not None and b is not None
    found = [store.arrays(record, record.headline) for store, record in zip(stores, (a, b))]
    if "predicted" in found[0]:
        return float(100 * (found[0]["predicted"] != found[1]["predicted"]).mean())
    return abs(a.scores[a.headline].value - b.scores[b.headline].value)


def short(name: str, data: Path, results: Path, file: Path, killed: bool = False) -> dict[str, Tensor]:
    """Weights after six steps under deterministic algorithms; `killed` ends the process in the fourth."""
    torch.use_deterministic_algorithms(True, warn_only=True)

    def tell(text: str) -> None:
        if killed and text.startswith("step 4/"):
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        method, run = assemble(job(name, data, results, set=[f"train.batch={BATCH}"]))
        assert run is not None
        each = replace(run, log=1, save=0.0)  # a checkpoint each step
        pretrain(each, Budget(unit="steps", amount=6), file, Watcher(tell))
        file.unlink()
    finally:
        torch.use_deterministic_algorithms(False)
    return {name: value.detach().cpu() for name, value in method.state_dict().items()}


def resumed(data: Path, results: Path, name: str = "mim-random") -> Iterator[Row]:
    """A process that is killed goes on in another one, and ends with the weights of one that was not."""
    file = results / "killed.partial"
    victim = get_context("spawn").Process(target=short, args=(name, data, results, file, True))
    victim.start()
    victim.join(60)
    victim.kill()
    if not file.exists():
        yield {"check": "kill and resume", "name": name, "ok": False, "note": "no checkpoint was left"}
        return
    gone_on, whole = short(name, data, results, file), short(name, data, results, results / "whole.partial")
    off = max(float((gone_on[key].float() - whole[key].float()).abs().max()) for key in whole if whole[key].numel())
    yield row("kill and resume", name, off, RESUMED, "bit-equal" if off == 0 else "")


def repeated(data: Path, results: Path, names: list[str]) -> Iterator[Row]:
    """Two runs under deterministic algorithms: bit-equal, or which operations have no such algorithm."""
    for name in names:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                one, two = (short(name, data, results, results / "twice.partial") for _ in range(2))
            except Exception as error:
                yield {"check": "twice", "name": name, "ok": False, "note": f"{type(error).__name__}: {error}"}
                continue
        off = max(float((one[key].float() - two[key].float()).abs().max()) for key in one if one[key].numel())
        lacking = {str(w.message).split(" does not have")[0] for w in told if "deterministic" in str(w.message)}
        yield row("twice", name, off, 0.0, ", ".join(sorted(lacking)))


def references(
    pool: Executor, data: Path, results: Path, methods: list[tuple[str, str]], names: list[str]
) -> "tuple[dict[tuple[str, str], Future[Step]], dict[str, Future[Path]]]":
    """What the CPU makes of it, in processes of their own: first steps, and tasks."""
    first = {one: pool.submit(step, *one, data, results / "cpu", "cpu", "float32") for one in methods}
    return first, {name: pool.submit(judge, name, data, results / f"cpu-{name}", "cpu") for name in names}


def main(out: Path, work: Path, rehearsal: bool) -> None:
    started, sizes = time.monotonic(), (96, 48) if rehearsal else (600, 400)
    data, methods, names = drawn(work / "drawn", *sizes), trained_methods(), judged_here()
    if rehearsal:
        methods = [("mim-random", "vit-nano"), ("swav", "vit-nano"), ("simclr", "resnet18")]
    workers = max(min((os.cpu_count() or 2) - 2, 12), 1)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        first, judged = references(pool, data, work / "cpu", methods, names)
        for check in (
            steps(data, work / "steps", first),
            features(data, work / "features"),
            resumed(data, work / "resumed"),
            tasks(data, work / "tasks", judged),
            repeated(data, work / "repeated", list(dict.fromkeys(name for name, _ in methods))),
        ):
            for found in check:
                write(out / "correctness.jsonl", {**found, "at": round(time.monotonic() - started, 1)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "--rehearsal" in sys.argv)
