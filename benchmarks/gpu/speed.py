"""Part b: images a second and the share of a measured matrix product's FLOP/s, and where a step's time goes.

    python speed.py OUT WORK [--rehearsal]           every case: as it is, channels-last, compiled
    python speed.py OUT WORK [--rehearsal] --warm    fills the compiler's cache while nothing is measured

Images are random, on the device; FLOPs are those of torch's counter, 2 a multiply-add, forward and backward.
"""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from shared import DEVICE, drawn, job, write
from torch import nn

from ssbench.training.loop import Loop, flops_a_step, total
from ssbench.training.trained import assemble

MAE = ("mim.decoder_depth=8", "mim.decoder_width=512")  # MAE's own decoder; ssbench's is for small encoders
WARM = 70  # seconds after which no more is compiled beforehand
SECONDS, FEWEST = 1.5, 6  # a measurement takes so long, and so many steps at least; on the CPU so many are enough
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
COMPILED = ("Block", "BasicBlock", "Bottleneck")  # classes of modules that are compiled, each kind once


class Case(NamedTuple):
    """One training that is timed."""

    method: str
    backbone: str
    size: int
    batch: int
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.backbone} {self.size} px"


CASES = (
    Case("simclr", "resnet18", 32, 512),  # first: part c is planned by it
    Case("mim-random", "vit_small_patch16_224", 224, 512, ("backbone.patch=16", *MAE)),
    Case("mim-random", "vit_base_patch16_224", 224, 256, ("backbone.patch=16", *MAE)),
    Case("simclr", "resnet50", 224, 256),
)
TINY = (
    Case("simclr", "resnet18", 32, 4),
    Case("mim-random", "vit_tiny_patch16_224", 64, 4, ("backbone.patch=16", "mim.decoder_width=64")),
)


def gemm(size: int = 8192, repeats: int = 10) -> float:
    """FLOP/s of a bfloat16 matrix product: what can be had of this device."""
    a, b = torch.randn(2, size, size, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    first = stamp()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / between(first, stamp())


def stamp() -> Any:
    """A moment in the device's own time."""
    if DEVICE == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(first: Any, last: Any) -> float:
    """Seconds from one moment to another, once both are over."""
    if DEVICE == "cpu":
        return last - first
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def made(case: Case, data: Path, work: Path, batch: int) -> Loop:
    """The case's training loop as `ssbench run` makes it, around random images of its size."""
    settings = [*case.settings, f"data.image_size={case.size}", "train.batch=2"]
    asked = {"backbone": [case.backbone], "precision": "bf16", "set": settings}
    method, run = assemble(job(case.method, data, work / "speed", **asked))
    assert run is not None
    images = torch.randint(0, 256, (2 * batch, 3, case.size, case.size), dtype=torch.uint8, device=DEVICE)
    method.train()
    return replace(run, images=images, recipe=run.recipe.model_copy(update={"batch": batch}))


def compile_blocks(method: nn.Module) -> None:
    """Each block by itself, so that equal ones are compiled once."""
    torch._dynamo.config.cache_size_limit = 64
    for module in method.modules():
        if type(module).__name__ in COMPILED:
            module.compile(dynamic=False)


def prepared(case: Case, variant: str, data: Path, work: Path, batch: int) -> tuple[Callable[[int], list[Any]], float]:
    """`step(number)`, one whole training step, gives the five moments around its four parts; and its FLOPs."""
    run = made(case, data, work, batch)
    flops = flops_a_step(run)
    method, loss = run.method, run.method.loss
    if variant != "plain" and case.backbone.startswith("resnet"):
        method.encoder.trunk.to(memory_format=torch.channels_last)
    if variant == "compiled":
        compile_blocks(method)
    if variant == "compiled whole":
        loss = torch.compile(loss, dynamic=False)
    weights = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=True)

    def step(number: int) -> list[Any]:
        moments = [stamp()]
        torch.manual_seed(number)
        batch = run.batch(number, 0.5)
        moments.append(stamp())
        with torch.autocast(run.device.type, dtype=run.autocast):
            terms = loss(batch)
        whole = total(terms)
        moments.append(stamp())
        whole.backward()
        moments.append(stamp())
        nn.utils.clip_grad_norm_(method.parameters(), run.recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(0.5)
        return [*moments, stamp()]

    return step, flops


def measure(case: Case, variant: str, data: Path, work: Path) -> dict[str, Any]:
    """A row: images/s, share of the matrix product's FLOP/s, shares of a step, waits. Halves a batch too large."""
    batch, entered = case.batch, time.perf_counter()
    while True:
        try:
            step, flops = prepared(case, variant, data, work, batch)
            for number in range(3):
                between(*step(number)[::4])
            break
        except torch.OutOfMemoryError:
            batch //= 2
        torch.cuda.empty_cache()
    ready = time.perf_counter()
    moments = [step(0)]
    while len(moments) < FEWEST or (DEVICE == "cuda" and time.perf_counter() - ready < SECONDS):
        moments.append(step(len(moments)))
        if len(moments) % FEWEST == 0:
            between(moments[0][0], moments[-1][-1])  # so that the host does not run far ahead
    each = between(moments[0][0], moments[-1][-1]) / len(moments)
    parts = [sum(between(*one[k : k + 2]) for one in moments) for k in range(4)]
    shares = dict(zip(("views", "forward", "backward", "optimiser"), (round(100 * p / sum(parts), 1) for p in parts)))
    peak = gemm(8192 if DEVICE == "cuda" else 256)
    return {
        "batch": batch,
        "images/s": batch / each,
        "TFLOP/s": flops / each / 1e12,
        "GEMM TFLOP/s": peak / 1e12,
        "MFU %": 100 * flops / each / peak,
        **shares,
        **(waits(step, each) if variant == "plain" else {}),
        "GB": round(torch.cuda.max_memory_allocated() / 2**30, 1) if DEVICE == "cuda" else 0,
        "to start s": round(ready - entered, 1),
    }


def waits(step: Callable[[int], Any], each: float, steps: int = 3) -> dict[str, Any]:
    """Where a step waits for the device, by torch's own watch and by the profiler; how busy the device is, in %."""
    try:
        places = watched(step, steps) if DEVICE == "cuda" else []
        waited, busy = profiled(step, steps)
    except Exception as error:  # profilers differ between machines, and the times above are worth more
        return {"waits": [f"not measured, {error}"], "waits profiled": -1, "busy %": -1}
    return {"waits": places, "waits profiled": waited, "busy %": round(100 * busy / steps / each, 1)}


def watched(step: Callable[[int], Any], steps: int) -> list[str]:
    """The lines of code that waited."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for number in range(steps):
                step(number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return sorted({f"{Path(w.filename).name}:{w.lineno}" for w in told if "called a synchronizing" in str(w.message)})


def profiled(step: Callable[[int], Any], steps: int) -> tuple[int, float]:
    """How often the host waited, and the seconds in which the device worked."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for number in range(steps):
            step(number)
    found = profiler.key_averages()
    busy = sum(event.self_device_time_total for event in found if str(event.device_type).endswith("CUDA"))
    return sum(event.count for event in found if event.key in WAITS), busy / 1e6


def compiled(cases: tuple[Case, ...]) -> list[tuple[Case, str]]:
    """Each block by itself; then a whole loss, with all that a compiler stumbles over."""
    blocks = [(case, "compiled") for case in (*cases[1:], cases[0])]
    return blocks[:1] if cases is TINY else [*blocks, (cases[1], "compiled whole")]  # a CPU's compiler takes minutes


def variants(cases: tuple[Case, ...]) -> list[tuple[Case, str]]:
    """In order of value. What is compiled comes last: compilers hang and crash, and what was found by then stays."""
    last = [(case, "channels-last") for case in cases if case.backbone.startswith("resnet")]
    return [*((case, "plain") for case in cases), *last, *compiled(cases)]


def main(out: Path, work: Path, rehearsal: bool, warm: bool) -> None:
    cases, data, begun = TINY if rehearsal else CASES, work / "drawn", time.perf_counter()
    if not (data / "test.parquet").exists():
        drawn(data, 96, 48)
    for case, variant in compiled(cases) if warm else variants(cases):
        named, started = {"case": str(case), "variant": variant}, time.perf_counter()
        if warm and started - begun > WARM:
            break
        try:
            if warm:
                step, _ = prepared(case, variant, data, work, case.batch)
                between(*step(0)[::4])
                print(f"{case} {variant}: compiled in {time.perf_counter() - started:.0f} s", flush=True)
            else:
                write(out / "speed.jsonl", {**named, **measure(case, variant, data, work)})
        except Exception as error:
            note = f"{type(error).__name__} {' '.join(str(error).split())[:160]}"
            if not warm:
                write(out / "speed.jsonl", {**named, "note": note})
            print(note, flush=True)
        torch._dynamo.reset()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "--rehearsal" in sys.argv, "--warm" in sys.argv)
