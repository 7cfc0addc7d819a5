"""Linear heads on the places of a map: logistic regression for a path of penalties that widens itself.

Most pixels are background, and a linear layer that is trained to the end on them says background everywhere. Its scores
are therefore moved by a share of the classes' log-frequencies (Menon et al. 2021, arXiv:2007.07314).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import choose

from .grids import search
from .lbfgs import Path
from .maps import CHUNK, confusion, confusions, miou, pixels, places
from .maps import count as counted

GAIN = 0.1  # points of mIoU: less is no reason to try another decade


class Head(NamedTuple):
    """Scores of classes are x @ weight + bias."""

    weight: Tensor  # (D, C)
    bias: Tensor  # (C,)

    def scores(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Scores of maps (n, D, h, w), brought to `size` bilinearly, (n, C, *size)."""
        here = F.conv2d(maps, self.weight.T[..., None, None], self.bias)
        return F.interpolate(here, (size[0], size[1]), mode="bilinear")

    def less(self, shift: Tensor) -> "Head":
        """With the bias less a shift (C,)."""
        return Head(self.weight, self.bias - shift)

    @torch.no_grad()
    def predict(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Classes of pixels, (N, *size), uint8."""
        found = [self.scores(chunk, size).max(1).indices for chunk in maps.split(CHUNK)]  # argmax takes 10 x as long
        return torch.cat([each.to(torch.uint8) for each in found])


class Trained(NamedTuple):
    """All heads that were tried, one for each point of the sweep, and which of them `select` picked."""

    heads: list[Head]
    sweep: list[dict[str, Any]]
    best: int
    at_edge: bool

    @property
    def point(self) -> dict[str, Any]:
        return self.sweep[self.best]


def sample(maps: Tensor, truth: Tensor, classes: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `most` places by chance, (M, D), none that is all ignored, and their pixels of each class, (M, C)."""
    counts = counted(pixels(truth, maps.shape[-2:]), classes)
    kept = counts.any(1).nonzero()[:, 0]
    if len(kept) > most:
        kept = kept[torch.randperm(len(kept), generator=generator)[:most].sort().values.to(kept.device)]
    return places(maps)[kept], counts[kept]


def shifts(counts: Tensor, shares: Sequence[float]) -> Tensor:
    """Each share of the classes' log-frequencies, (S, C), of counts (M, C).

    It is 0 for a class that is not there: its score is low enough, and its log-frequency is not finite.
    """
    frequency = counts.sum(0) / counts.sum().clamp(min=1)
    return counts.new_tensor(shares)[:, None] * frequency.log().masked_fill(frequency == 0, 0)


@torch.no_grad()
def tables(head: Head, moved: Tensor, maps: Tensor, truth: Tensor) -> Tensor:
    """Counts of (truth, predicted) pixels (S, N, C, C) with each shift (S, C)."""
    counts = []
    for some, wanted in zip(maps.split(CHUNK), truth.split(CHUNK)):
        scores = head.scores(some, truth.shape[-2:])
        found = [(scores - shift[:, None, None]).max(1).indices for shift in moved]
        counts.append(torch.stack([confusion(each, wanted, len(head.bias)) for each in found]))
    return torch.cat(counts, 1)


def chosen(
    path: Path,
    decades: Sequence[float],
    moves: tuple[Sequence[float], Tensor],
    select: tuple[Tensor, Tensor],
    metric: Metric,
    tell: Callable[[str], None],
) -> Trained:
    """Penalty and shift by `select`, its maps and masks; `moves` are shares (S,) and as many shifts (S, C).

    The largest penalty is solved first, and the others each from the one before.
    """
    tried: dict[tuple[float, float], tuple[Head, Tensor]] = {}

    def solve(exponent: float) -> list[dict[str, Any]]:
        found = path.at(penalty := 10.0**exponent).head
        head, rows = Head(found[:-1], found[-1]), []
        finite = bool(found.isfinite().all())
        for share, shift, table in zip(*moves, tables(head, moves[1], *select)):
            tried[penalty, share] = head.less(shift), table
            score = miou(table) if finite else 0.0
            rows.append({"penalty": penalty, "shift": share, f"select_{metric.name}": score, "diverged": not finite})
        tell(f"{metric.name}: penalty {penalty:g}, select {best_of(rows):.1f}")
        return rows

    def best_of(rows: list[dict[str, Any]]) -> float:
        return max(row[f"select_{metric.name}"] for row in rows)

    for exponent in sorted(decades, reverse=True):
        path.at(10.0**exponent)
    sweep = [row for rows in search(decades, solve, best_of, finer=1, least=GAIN).values() for row in rows]
    found = [tried[row["penalty"], row["shift"]] for row in sweep]
    guesses = confusions([table for _, table in found])
    best, at_edge = choose(sweep, metric, ("penalty", "shift"), guesses, "raise the penalties")
    return Trained([head for head, _ in found], sweep, best, at_edge)
