"""What masks cost: each strategy's share of a training step, in turn with the step in one process.

    python benchmarks/masks.py [backbone] [image px] [batch] [rounds]

Prints the median over rounds of mask time / step time, with the smallest and the largest ratio. The step is that of
mim-random, views, backward pass and optimiser included. `attention` and `hard` are shown without and with the teacher's
pass that gives them their scores.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from ssbench.data import Split
from ssbench.encoder import build
from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.model import MIM
from ssbench.pretrain import loop, total
from ssbench.settings import make
from ssbench.spec import Train

REPEATS = 5


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def model(backbone: str, side: int, mask: str) -> MIM:
    torch.manual_seed(0)
    encoder = build(backbone, size=side, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    return MIM(encoder, make(MIM.Settings, {"mask": mask}, "mim"))


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

    return step


def main(backbone: str = "vit-nano", side: int = 32, batch: int = 64, rounds: int = 9) -> None:
    step = step_of(model(backbone, side, "random"), side, batch)
    images = torch.randn(batch, 3, side, side)
    generator, grid = torch.Generator().manual_seed(0), model(backbone, side, "random").encoder.grid(images)
    count = int(0.75 * grid[0] * grid[1])
    works: dict[str, Callable[[], object]] = {}
    for name in MASKS:
        mim = model(backbone, side, name)
        known = mim.context(images, 0.5)
        works[name] = partial(mim.mask, images, grid, count, generator, **known)
        if mim.teacher is not None:
            works[f"{name}, with the teacher's pass"] = partial(mim.hide, images, generator, 0.5)
    steps: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in works}
    micro: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):  # the first one warms up
        for name, work in works.items():
            took, whole = seconds(work), seconds(step)
            if turn:
                steps.append(whole)
                ratios[name].append(100 * took / whole)
                micro[name].append(1e6 * took / batch)
    print(
        f"{backbone}, {batch} images of {side} px: a step of mim-random takes {1e3 * statistics.median(steps):.1f} ms"
    )
    for name, found in ratios.items():
        spread = f"({min(found):.2f} to {max(found):.2f})"
        print(f"{name:<38} {statistics.median(micro[name]):7.2f} us/image {statistics.median(found):6.2f} % {spread}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
