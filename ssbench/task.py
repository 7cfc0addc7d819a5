"""The contract of a task: parts of the data with cached features in, predictions out. The test split is locked."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench import settings as declared
from ssbench.data import Facts
from ssbench.encoders.encoder import Encoder
from ssbench.features import Part
from ssbench.results.metrics import Metric


@dataclass
class Outcome:
    """What a task hands in: arrays to score, what it chose on `select`, every point of the sweep."""

    selected: dict[str, Any]
    sweep: list[dict[str, Any]]
    arrays: dict[str, dict[str, NDArray[np.generic]]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, metric: str, **arrays: Tensor) -> None:
        """Per-sample arrays for one of the task's metrics; see `ssbench.results.metrics.Metric` for what each needs."""
        self.arrays[metric] = {name: value.detach().cpu().numpy() for name, value in arrays.items()}


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

    def evaluate(self, bench: Bench) -> Outcome:
        """Choose on `bench.select`, open `bench.test(selected)` once, hand in predictions."""
        raise NotImplementedError(f"{type(self).__name__} does not evaluate")
