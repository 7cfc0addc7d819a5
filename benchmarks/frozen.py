"""What every task on frozen features costs beside the features: seconds of the processor on drawn ones.

    python benchmarks/frozen.py [DIM] [TASK ...]

10,000 images, of which 8,000 are fit, 1,000 select and 1,000 test, in 10 classes, with 4 x 4 places an image. A place
is the centre of the image's class, that of its own class in the mask, a factor's direction and noise, in a space whose
directions have unequal spreads, as those of an encoder have. The encoder gives one vector and one map an image; one
that gives several costs the linear probe and segmentation as many times. Set OMP_NUM_THREADS=1.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.contracts import CPU
from ssbench.data import Facts, Split
from ssbench.encoders.encoder import Encoder
from ssbench.features import Part
from ssbench.registry import entries, load
from ssbench.results.metrics import score
from ssbench.rng import derive
from ssbench.settings import make
from ssbench.task import Bench, Outcome, Task

SIZES, CLASSES, FACTORS, SIDE, PX = (8000, 1000, 1000), 10, 4, 4, 32
FAMILIES = ("frozen features", "frozen maps")
APART = ("detection",)  # trains a pyramid, which is no matter of features alone


class Drawn(Encoder):
    """Its "images" (N, D, h, w) are the map, and the mean over places is the vector."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Identity(), torch.zeros(dim), torch.ones(dim))
        self._form = self._form._replace(dim=dim)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        return {"mean": images.mean((2, 3))}

    def map(self, images: Tensor) -> Tensor:
        return images


def drawn(dim: int) -> Split:
    """Maps (N, D, 4, 4) and every target that tasks ask for."""
    generator = torch.Generator().manual_seed(0)
    count = sum(SIZES)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    label = torch.randint(CLASSES, (count,), generator=generator)
    place = torch.randint(CLASSES, (count, SIDE, SIDE), generator=generator)
    place[torch.rand(place.shape, generator=generator) < 0.5] = 0  # half is background
    factors = normal(count, FACTORS)
    image = normal(CLASSES, dim)[label] * 0.06 + factors @ normal(FACTORS, dim) * 0.1
    maps = image[:, None, None] + normal(CLASSES, dim)[place] * 0.3 + normal(count, SIDE, SIDE, dim)
    maps = maps @ (normal(dim, dim) * torch.logspace(0, -1.5, dim)[:, None])
    depth = place.float() + 0.5 * normal(count, SIDE, SIDE)
    targets = {
        "label": label,
        "labels": (F.one_hot(label, CLASSES) + (torch.rand(count, CLASSES, generator=generator) < 0.1)).clamp(max=1),
        "factors": factors,
        "mask": F.interpolate(place[:, None].to(torch.uint8), (PX, PX))[:, 0],
        "depth": F.interpolate(depth[:, None], (PX, PX))[:, 0],
    }
    return Split(maps.permute(0, 3, 1, 2).contiguous(), tuple(map(str, range(count))), targets)


def bench(split: Split, cache: Path) -> Bench:
    encoder, start = Drawn(split.images.shape[1]), 0
    parts = list[Part]()
    for size in SIZES:
        parts.append(Part(encoder, split.take(list(range(start, start + size))), cache, str(start)))
        start += size
    for part in parts:  # what features cost is no matter here
        part.pooled(), part.map(), part.maps(4)
    names = tuple(map(str, range(CLASSES)))
    facts = Facts(names, CLASSES, 255, names[:FACTORS])

    def copy(drop_path: float) -> Encoder:
        raise RuntimeError("nothing is trained but heads")

    fit, select, test = parts
    return Bench(facts, (fit, select, test), copy, lambda name: derive(0, name), CPU, lambda text: None)


def evaluated(task: Task, table: Bench) -> tuple[Outcome, float]:
    began = process_time()
    return task.evaluate(table), process_time() - began


def main(dim: int, names: list[str]) -> None:
    split, whole = drawn(dim), 0.0
    print(f"{' + '.join(map(str, SIZES))} x {dim}, {CLASSES} classes, {torch.get_num_threads()} threads\n")
    print("| task | score | at edge | s |\n|---|---|---|---|")
    with TemporaryDirectory() as cache:
        for name, entry in entries("tasks").items():
            if name not in (names or [name]) or entry.family not in FAMILIES or name in APART:
                continue
            task: Task = load(entry)(make(load(entry).Settings, entry.preset, name))
            outcome, seconds = evaluated(task, bench(split, Path(cache)))
            headline, whole = task.metrics[0], whole + seconds
            value = score(headline.kind, outcome.arrays[headline.name])
            edge = "yes" if outcome.selected.get("at_edge") else "no"
            print(f"| {name} | {headline.name} {value:.1f} {headline.unit} | {edge} | {seconds:.1f} |", flush=True)
    print(f"| all | | | {whole:.1f} |")


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["384"])[0]), sys.argv[2:])
