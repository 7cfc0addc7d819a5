"""Batched crop and flip, ssbench's resampling beside kornia's, in turn in one process; prints the ratio and its spread.

python benchmarks/crops.py [images] [side] [rounds]
"""

import statistics
import sys
import time
from collections.abc import Callable

import kornia.augmentation as K
import torch
from torch import Tensor

from ssbench.method import View
from ssbench.training.views import make


def seconds(work: Callable[[], Tensor], repeats: int = 20) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def main(images: int = 64, side: int = 32, rounds: int = 15) -> None:
    batch, view = torch.rand(images, 3, side, side), View(crop=(0.2, 1.0), flip=0.5)
    crop = K.RandomResizedCrop((side, side), scale=(0.2, 1.0), cropping_mode="resample")
    flip = K.RandomHorizontalFlip(p=0.5)
    ratios, ours = [], []
    for _ in range(rounds + 1):  # the first one warms up
        theirs = seconds(lambda: flip(crop(batch)))
        ours.append(seconds(lambda: make(view, batch, seed=0)))
        ratios.append(theirs / ours[-1])
    low, middle, high = min(ratios[1:]), statistics.median(ratios[1:]), max(ratios[1:])
    spread = f"({low:.1f} to {high:.1f})"
    print(f"{images} images of {side} px: ours {1e3 * statistics.median(ours[1:]):.2f} ms")
    print(f"kornia takes {middle:.1f}x as long {spread}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
