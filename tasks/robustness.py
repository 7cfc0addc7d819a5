"""Robustness to common corruptions: a head that was fitted on clean images, on a test that is seen through 15 of them.

The kinds and severities are ImageNet-C's (Hendrycks and Dietterich 2019, arXiv:1903.12261), made on the fly at the
images' own size (`corruptions.py`). Their mCE, errors relative to those of a named row, is a table of its own.
"""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric, influences
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work

from .closed_form import apply, standardised
from .corruptions import KINDS, corrupt
from .ridge_head import chosen


class Robustness(Task):
    """Ridge regression on one-hot classes, on clean standardised features of the encoder's first pooling.

    `select`, clean, picks the penalty; nothing is refitted. `corrupted`, the headline, is the mean accuracy over all
    kinds and severities; `clean` that of the same head on the images themselves, and `kept` the first in % of the
    second, which a constant answer keeps whole. Each kind and severity has random numbers of its own. Accuracies by
    kind and by severity are `profile`s; `errors` are sums over severities, in %, from which mCE is computed.
    """

    class Settings(Base):
        severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = setting(
            (1, 3, 5), "severities of each kind", source="project: all five take 75 looks at the test", min_length=1
        )

    metrics = (
        Metric("corrupted", "%", "higher", "mean"),
        Metric("clean", "%", "higher", "accuracy"),
        Metric("kept", "%", "higher", "mean"),
    )
    settings: Settings

    def work(self, bench: Bench) -> Work:
        fit, _, test = bench.sizes
        seen, dim = test * len(KINDS) * len(self.settings.severities), bench.fit.dim
        return Work(sum(bench.sizes), gflops=1e-9 * (2 * fit * dim**2 + 10 * dim**3), changed=seen)

    def evaluate(self, bench: Bench) -> Outcome:
        s, fit = self.settings, bench.fit.pooled()
        head, sweep, selected = chosen(bench)
        selected |= {"refit": "none"}
        test = bench.test(selected)
        truth = test.target("label")

        def told(seen: Part) -> Tensor:
            return apply(head, standardised(fit, seen.pooled())[1]).argmax(1)

        hits = torch.zeros(len(KINDS), len(s.severities), len(truth), dtype=torch.bool)
        for k, kind in enumerate(KINDS):
            for i, severity in enumerate(s.severities):
                bench.progress(f"robustness: {kind} {severity}")
                drawn = bench.generator(f"corruption {kind} {severity}")
                hits[k, i] = (told(test.changed(corrupt(test.images, kind, severity, drawn))) == truth).cpu()
        outcome = Outcome(selected, sweep)
        return handed_in(outcome, hits, told(test).cpu(), truth.cpu(), s.severities, test.units)


def handed_in(
    outcome: Outcome,
    hits: Tensor,
    answer: Tensor,
    truth: Tensor,
    severities: tuple[int, ...],
    units: NDArray[np.int64],
) -> Outcome:
    """Scores and breakdowns from what was right (K, severities, N), the answers on clean images and the truth (N,).

    `units` (N,) are the images' (`Part.units`).
    """
    held, clean = 100 * hits.double().mean((0, 1)), 100 * (answer == truth).double()  # (N,)
    outcome.add("corrupted", value=held, constant=100 * (truth == truth.mode().values).double())
    outcome.add("clean", predicted=answer, truth=truth)
    kept = influences(lambda some: 100 * float(held[some].sum() / clean[some].sum().clamp(min=1e-9)), units)
    outcome.add("kept", value=torch.from_numpy(kept))
    each = 100 * hits.double().mean(2)  # (K, severities)
    outcome.details["profile"] = {
        "corruption": dict(zip(KINDS, each.mean(1).tolist())),
        "severity": dict(zip(map(str, severities), each.mean(0).tolist())),
    }
    outcome.details["errors"] = dict(zip(KINDS, (100 - each).sum(1).tolist()))
    outcome.details["clean_error"] = float(100 - clean.mean())
    outcome.details["severities"] = list(severities)
    return outcome
