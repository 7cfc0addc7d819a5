"""Linear heads on the places of a map: logistic regression for a path of penalties that widens itself.

Most pixels are background, and a linear layer that is trained to the end on them says background everywhere. Its scores
are therefore moved by a share of the classes' log-frequencies (Menon et al. 2021, arXiv:2007.07314).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.task import choose

from .maps import CHUNK, confusion, confusions, miou, pixels, places
from .maps import count as counted

STEP = 10  # between penalties where a path is made wider


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
    """The head that `select` picked, and all that were tried."""

    head: Head
    point: dict[str, Any]
    at_edge: bool
    sweep: list[dict[str, Any]]


def sample(maps: Tensor, truth: Tensor, classes: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `most` places by chance, (M, D), none that is all ignored, and their pixels of each class, (M, C)."""
    counts = counted(pixels(truth, maps.shape[-2:]), classes)
    kept = counts.any(1).nonzero()[:, 0]
    if len(kept) > most:
        kept = kept[torch.randperm(len(kept), generator=generator)[:most].sort().values.to(kept.device)]
    return places(maps)[kept], counts[kept]


def path(x: Tensor, counts: Tensor, iterations: int) -> Callable[[float], Head]:
    """Logistic regression on places (M, D) with pixels of each class (M, C): a function of the penalty.

    The loss is the pixels' mean cross-entropy and half the squared weights times the penalty. L-BFGS starts where the
    call before has ended, the first at zero.
    """
    seen, total = counts.sum(1), counts.sum().clamp(min=1)
    weights = x.new_zeros(x.shape[1] + 1, counts.shape[1]).requires_grad_()

    def solve(penalty: float) -> Head:
        optimiser = torch.optim.LBFGS(
            [weights], max_iter=iterations, history_size=10, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            scores = x @ weights[:-1] + weights[-1]  # (M, C)
            errors = (seen * scores.logsumexp(1)).sum() - (counts * scores).sum()
            value = errors / total + penalty / 2 * weights[:-1].square().sum()
            value.backward()
            return value

        optimiser.step(loss)
        found = weights.detach().clone()
        return Head(found[:-1], found[-1])

    return solve


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


def outwards(values: Sequence[float], best: float) -> Iterator[float]:
    """The value a step beyond the best of some, where that is the last; none where it is inside."""
    if best == min(values):
        yield best / STEP
    elif best == max(values):
        yield best * STEP


def chosen(
    solve: Callable[[float], Head],
    moved: Tensor,
    settings: Any,
    select: tuple[Tensor, Tensor],
    metric: Metric,
    tell: Callable[[str], None],
) -> Trained:
    """Penalty and shift by `select`, its maps and masks.

    Where the best penalty is at the grid's edge by more than noise, the grid goes on a decade further, `widen` times.
    """
    penalties, heads, found = sorted(settings.penalties, reverse=True), [], []
    sweep: list[dict[str, Any]] = []
    todo = list(penalties)
    for _ in range(settings.widen + 1):
        for penalty in todo:
            head = solve(penalty)
            finite = all(bool(each.isfinite().all()) for each in head)
            for share, shift, table in zip(settings.shifts, moved, tables(head, moved, *select)):
                score = miou(table) if finite else 0.0
                sweep.append(
                    {"penalty": penalty, "shift": share, f"select_{metric.name}": score, "diverged": not finite}
                )
                heads.append(head.less(shift))
                found.append(table)
            tell(f"{metric.name}: penalty {penalty:g}, select {max(row[f'select_{metric.name}'] for row in sweep):.1f}")
        best, at_edge = choose(sweep, metric, ("penalty", "shift"), confusions(found), "raise the penalties")
        todo = [*outwards(penalties, sweep[best]["penalty"])] if at_edge else []
        if not todo:
            break
        penalties += todo
    return Trained(heads[best], sweep[best], at_edge, sweep)
