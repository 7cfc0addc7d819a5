"""What masks cost: each strategy's share of its own training step, measured in turn in one process.

    python benchmarks/masks.py [backbone] [image px] [batch] [rounds]

Prints the median over rounds of mask time / step time, with the smallest and the largest ratio. The step is that of MAE
with this mask, views, backward pass and optimiser included; it hides as much as the presets with this mask do, at most,
or 75 %. `attention` and `hard` are shown without and with the teacher's pass that gives them their scores.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from ssbench.data import Split
from ssbench.encoders.build import build
from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.masks import hidden_count
from ssbench.methods.mim.model import MIM
from ssbench.methods.mim.presets import PRESETS
from ssbench.settings import make
from ssbench.spec import Train
from ssbench.training.loop import loop, total

REPEATS = 5


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def model(backbone: str, side: int, mask: str) -> MIM:
    ratios = [float(one.preset["ratio"]) for one in PRESETS.values() if one.preset.get("mask") == mask]
    torch.manual_seed(0)
    encoder = build(backbone, size=side, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    return MIM(encoder, make(MIM.Settings, {"mask": mask, "ratio": max(ratios, default=0.75)}, "mim"))


def step_of(method: MIM, side: int, batch: int) -> Callable[[], None]:
    """One whole training step of a method on random images."""
    images = torch.randint(0, 256, (4 * batch, 3, side, side), dtype=torch.uint8)
    split = Split(images, tuple(map(str, range(len(images)))))
    run = loop(method, split, Train(batch=batch), seed=0, precision="float32", device=torch.device("cpu"))
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], fused=True)

    def step() -> None:
        total(run.terms(0, 0.5)).backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(0.5)

    return step


def main(backbone: str = "vit-nano", side: int = 32, batch: int = 64, rounds: int = 30) -> None:
    images, generator = torch.randn(batch, 3, side, side), torch.Generator().manual_seed(0)
    works: dict[str, tuple[Callable[[], object], Callable[[], None]]] = {}  # the mask's, the step's
    for name in MASKS:
        mim = model(backbone, side, name)
        step, grid = step_of(mim, side, batch), mim.encoder.grid(images)
        count = hidden_count(grid[0] * grid[1], mim.settings.ratio)
        works[name] = partial(mim.mask, images, grid, count, generator, **mim.context(images, 0.5)), step
        if mim.teacher is not None:
            works[f"{name}, with the teacher's pass"] = partial(mim.hide, images, generator, 0.5), step
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(rounds + 1):  # the first one warms up
        for name, (work, step) in works.items():
            took = seconds(work), seconds(step)
            if turn:
                times[name].append(took)
    print(f"{backbone}, {batch} images of {side} px, {rounds} rounds")
    for name, found in times.items():
        micro, milli = map(statistics.median, zip(*found))
        shares = [100 * work / step for work, step in found]
        spread = f"{statistics.median(shares):6.2f} % ({min(shares):.2f} to {max(shares):.2f})"
        print(f"{name:<32} {1e6 * micro / batch:7.2f} us/image, {spread} of a step of {1e3 * milli:.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
