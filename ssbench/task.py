"""The contract of a task: parts of the data with cached features in, predictions out. The test split is locked."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench import settings as declared
from ssbench.data import Facts
from ssbench.encoders.encoder import Encoder
from ssbench.features import Part
from ssbench.results.metrics import GROUPS, KINDS, Metric, score


@dataclass
class Outcome:
    """What a task hands in: arrays to score, what it chose on `select`, every point of the sweep.

    `details["profile"]` may hold breakdowns of a score, {name: {point: value or [value, low, high]}} in the headline's
    unit, such as the accuracy by number of labels: each becomes a table. `arrays["kept"]` are what else tables need.
    `pictures` are of predictions, each (B, K, C, H, W) in 0..1, a row a sample.
    """

    selected: dict[str, Any]
    sweep: list[dict[str, Any]]
    arrays: dict[str, dict[str, NDArray[np.generic]]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)

    def add(self, metric: str, **arrays: Tensor) -> None:
        """Per-sample arrays for one of the task's metrics; see `ssbench.results.metrics.Metric` for what each needs."""
        self.arrays[metric] = {name: value.detach().cpu().numpy() for name, value in arrays.items()}


@dataclass(frozen=True)
class Work:
    """What a task will do, counted before it does it, from which the plan tells its time."""

    forward: int  # images through the frozen encoder, which tasks share
    trained: int = 0  # images forward and backward through a copy of it
    gflops: float = 0.0  # of products on features
    changed: int = 0  # as many that this task alone makes: corrupted or augmented ones, windows


class Bench:
    """What a task gets: `fit` and `select`, a test split that opens once, and trainable copies of the encoder."""

    def __init__(
        self,
        data: Facts,
        parts: tuple[Part, Part, Part],
        copy: Callable[[float], Encoder],
        seed: Callable[[str], int],
        device: torch.device,
        progress: Callable[[str], None],
    ) -> None:
        self.fit, self.select, test = parts
        self.data, self.device, self.progress = data, device, progress
        self._test, self._copy, self._seed = test, copy, seed
        self.selected: dict[str, Any] | None = None

    def test(self, selected: dict[str, Any]) -> Part:
        """Open the test split, once, after handing over what was selected; raises RuntimeError the second time."""
        if self.selected is not None:
            raise RuntimeError("the test split was opened twice; choose on bench.select and open it once")
        self.selected = deepcopy(selected)  # what is changed afterwards was not selected
        return self._test

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many images fit, select and test have."""
        return len(self.fit), len(self.select), len(self._test)

    def encoder(self, drop_path: float = 0.0) -> Encoder:
        """A fresh trainable copy; raises NotApplicable where there is nothing to train."""
        return self._copy(drop_path)

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator for one named purpose, the same for the same seed."""
        return torch.Generator().manual_seed(self._seed(name))


class Task:
    """Subclass, say what targets are needed and which metrics come out (the first is the headline), and evaluate.

    `version` is the protocol's: it is part of a result's identity and stands in every table's header.
    """

    Settings: ClassVar[type[declared.Settings]] = declared.Settings
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"label"})
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def __init__(self, settings: declared.Settings) -> None:
        self.settings: Any = settings

    def work(self, bench: Bench) -> Work:
        """What `evaluate` will do; by default one look at every image."""
        return Work(sum(bench.sizes))

    def evaluate(self, bench: Bench) -> Outcome:
        """Choose on `bench.select`, open `bench.test(selected)` once, hand in predictions."""
        raise NotImplementedError(f"{type(self).__name__} does not evaluate")


def choose(
    sweep: Sequence[Mapping[str, Any]],
    metric: Metric,
    axes: Sequence[str],
    arrays: Callable[[int], Mapping[str, NDArray[np.generic]]],
    remedy: str,
) -> tuple[int, bool]:
    """Position of the best point of a sweep and whether it lies at the edge of its grid; raises RuntimeError.

    Every point has `diverged`, `select_` and the metric's name, and a value for each axis. The best did not diverge;
    the first of equals wins. All points diverged: the error names the `remedy`. At the edge means: along a numeric
    axis, the others held, it is the last point of the grid and ahead of its neighbour by more than one standard error
    of its score on `select` (CART's one-standard-error rule, Breiman et al. 1984), so that the best may lie outside.
    Zero is no edge, nor is the only value. `arrays(i)` is what point i predicted on `select`.
    """
    sign, key = (1 if metric.better == "higher" else -1), f"select_{metric.name}"
    sound = [i for i, point in enumerate(sweep) if not point["diverged"]]
    if sound and not any(np.isfinite(sweep[i][key]) for i in sound):
        raise RuntimeError("no point of the sweep has a score: nothing on select can be judged")
    if not sound:
        raise RuntimeError(f"every point of the sweep diverged: the features are not finite, or {remedy}")
    best = max(sound, key=lambda i: sign * sweep[i][key])

    def at_edge(axis: str) -> bool:
        value, held = sweep[best][axis], [other for other in axes if other != axis]
        line = [i for i, point in enumerate(sweep) if all(point[other] == sweep[best][other] for other in held)]
        line.sort(key=lambda i: sweep[i][axis])
        if value == 0 or len(line) < 2 or best not in (line[0], line[-1]):
            return False
        near = line[1] if best == line[0] else line[-2]
        ahead = sign * (sweep[best][key] - sweep[near][key])
        return sweep[near]["diverged"] or ahead > _standard_error(metric, arrays(best))

    numeric = [axis for axis in axes if isinstance(sweep[best][axis], int | float)]
    return best, any(at_edge(axis) for axis in numeric)


def optimism(
    sweep: Sequence[Mapping[str, Any]],
    metric: Metric,
    best: int,
    arrays: Callable[[int], Mapping[str, NDArray[np.generic]]],
) -> dict[str, float]:
    """By how much the best point of a sweep on the test split is ahead of the `best`-th, which `select` chose.

    In the metric's unit, for a record's details: it chooses nothing. `arrays(i)` is what point i predicts on the test
    split; points that diverged are not asked.
    """
    sign = 1 if metric.better == "higher" else -1
    sound = (i for i, point in enumerate(sweep) if not point["diverged"])
    reached = {i: sign * score(metric.kind, arrays(i)) for i in sound}
    return {"optimism": max(reached.values()) - reached[best]}


def _standard_error(metric: Metric, arrays: Mapping[str, NDArray[np.generic]]) -> float:
    """Of a score over the samples it is of: the delete-a-group jackknife (Kott 2001); infinite for a single sample."""
    per_sample, reduce = KINDS[metric.kind]
    sums = per_sample(arrays)  # (N, k)
    whole, groups = sums.sum(0), np.arange(len(sums)) % GROUPS
    if len(sums) < 2:
        return inf
    left = [float(reduce(whole - sums[groups == group].sum(0), whole)) for group in np.unique(groups)]
    return float(np.sqrt((len(left) - 1) * np.var(left)))
