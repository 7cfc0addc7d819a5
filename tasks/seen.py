"""Features of some images in float64: as they are, in augmented views, after each block."""

import numpy as np
import torch
from torch import Tensor

from ssbench.features import Part
from ssbench.method import View
from ssbench.results.metrics import Array
from ssbench.task import Bench
from ssbench.training import views

from .corruptions import on_pixels
from .retrieval import judged
from .spectra import compact

AUGMENTED = View(jitter=(0.8, 0.8, 0.8, 0.2), grey=0.2)  # SimCLR's without blur: crop, flip, colour


def spaced(count: int, most: int) -> Tensor:
    """At most so many evenly spaced positions of `count`."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def numbers(part: Part) -> Array:
    """Features (N, D); raises RuntimeError where they are not finite."""
    values = part.pooled().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise RuntimeError("the features are not finite")
    return np.asarray(values)


def in_views(bench: Bench, part: Part, count: int) -> Array:
    """Features (N, count, D') of so many views of each image, turned into no more dimensions than there are views."""
    generator, made = bench.generator(f"{count} views"), []
    for view in range(count):
        bench.progress(f"diagnostics: view {view + 1}/{count}")
        made.append(numbers(part.changed(augmented(part.images, generator))))
    return compact(np.stack(made, 1).reshape(len(part) * count, -1)).reshape(len(part), count, -1)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """A view of each of uint8 images (N, C, S, S), the same shape and type."""

    def change(x: Tensor) -> Tensor:
        return views.make(AUGMENTED, x, int(torch.randint(2**62, (1,), generator=generator)))

    return on_pixels(images, change)


def by_block(part: Part) -> dict[str, Array]:
    """Vectors (N, D) after each block by its number, the last one last: means, or what the encoder gives first."""
    found = part.changed(part.images).vectors(part.depth)  # not kept on disk
    first = "mean" if "mean" in found else part.poolings[0]
    named = {name.partition("@")[2]: values for name, values in found.items() if name.partition("@")[0] == first}
    last = max((int(block) for block in named if block), default=0) + 1
    ordered = sorted((int(block or last), values) for block, values in named.items())
    return {str(block): values.cpu().double().numpy() for block, values in ordered}


def spread(values: Array, rows: Tensor, count: int) -> Array:
    """Values of some of `count` images as (count,) of the same mean and standard error."""
    whole, valid = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
    whole[rows], valid[rows] = torch.from_numpy(values), True
    return np.asarray(judged(whole, valid).numpy())
