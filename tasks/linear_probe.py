"""Linear probe: one linear layer on frozen features says how much of a class is there (Alain and Bengio 2016)."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssbench.features import LAST, Part
from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose

from .classes import BESIDE, SURE, classified
from .joint import apply, standardise, train

JOINT, STACK = "cls+mean", "cls of all"


class LinearProbe(Task):
    """Heads of every vector, learning rate and weight decay on cached features; `select` picks one.

    Vectors are the poolings of the last `blocks` blocks of a ViT, or of the one that is read where `encoder.block` is
    set. Where there is a class token, it and the mean side by side are one too, as in DINOv2 and CAPI, and so are the
    class tokens of the last four blocks, as in DINO. Features are standardised per dimension by the mean and deviation
    of `fit`. The heads of a vector are trained at once; all start at zero and see the same batches. A head whose
    weights are not finite counts as 0 %; raises RuntimeError when all are such.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting(
            (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
            "peak learning rates",
            source="project: the best lies inside on shapes",
            min_length=1,
        )
        weight_decays: tuple[float, ...] = setting(
            (0, 1e-4, 1e-2, 1e-1),
            "AdamW weight decays, not on biases",
            source="project: a third of choices on shapes is 1e-2",
            min_length=1,
        )
        blocks: int = setting(
            2, "last blocks whose vectors are tried, at most", source="project: each costs as much again", ge=1, le=LAST
        )
        epochs: int = setting(100, "passes over fit", source="MoCo v3, CONFIG.md; DINO, eval_linear.py", ge=1)
        # at 1,024, as in MoCo v3, a thousand digits stay 1.8 points under logistic regression; at 128, 0.3
        batch: int = setting(128, "images a step, at most", source="CAPI, eval_classification.py", unit="images", ge=1)
        warmup: float = setting(0.05, "share with a rising rate", source="project: half of CAPI's tenth", ge=0, lt=1)

    version = 3
    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE, *SURE)

    def work(self, bench: Bench) -> Work:
        """Four FLOPs a weight and image: its product, and that of its gradient."""
        s, fit = self.settings, bench.fit
        each = sum({"mean": 1, "cls": 3}.get(pooling, 1) for pooling in fit.poolings)  # cls stands in `cls+mean` too
        width = fit.dim * (each * min(s.blocks, fit.depth) + min(LAST, fit.depth) * ("cls" in fit.poolings))
        heads = len(bench.data.classes) * len(s.lrs) * len(s.weight_decays)
        return Work(sum(bench.sizes), gflops=4e-9 * bench.sizes[0] * s.epochs * width * heads)

    def evaluate(self, bench: Bench) -> Outcome:
        s, truth = self.settings, bench.select.target("label")
        grid, found, heads = list(product(s.lrs, s.weight_decays)), list[Tensor](), list[Tensor]()
        scales: list[tuple[Tensor, Tensor]] = []
        sources = vectors_of(bench.fit, s.blocks)
        for _, _, names in sources:
            fit = side_by_side(bench.fit, names)
            scales.append((fit.mean(0), fit.std(0) + 1e-6))
            features, labels = standardise(fit, *scales[-1]), bench.fit.target("label")
            del fit  # as large as what is trained on
            heads.append(train(features, labels, len(bench.data.classes), grid, s, bench))
            found.append(apply(heads[-1], standardise(side_by_side(bench.select, names), *scales[-1])))  # (N, G)
        predicted = torch.cat(found, 1)  # (N, P * G)
        right = 100 * (predicted == truth[:, None]).float().mean(0)
        broken = torch.cat([~one.isfinite().all(0).all(0) for one in heads])  # (P * G,)
        sweep: list[dict[str, Any]] = [
            {
                "pooling": pooling,
                "block": block,
                "lr": lr,
                "weight_decay": decay,
                "select_top1": score,
                "diverged": diverged,
            }
            for ((pooling, block, _), (lr, decay)), score, diverged in zip(
                product(sources, grid), right.masked_fill(broken, 0).tolist(), broken.tolist()
            )
        ]

        def predictions(point: int) -> dict[str, NDArray[np.generic]]:
            return {"predicted": predicted[:, point].cpu().numpy(), "truth": truth.cpu().numpy()}

        axes = ("pooling", "block", "lr", "weight_decay")
        best, at_edge = choose(sweep, self.metrics[0], axes, predictions, "lower linear-probe.lrs")
        selected = {**sweep[best], "at_edge": at_edge, "refit": "none"}

        test = bench.test(selected)
        answer, hits = test.target("label"), list[Tensor]()
        for at, (_, _, names) in enumerate(sources):
            features = standardise(side_by_side(test, names), *scales[at])
            hits.append((apply(heads[at], features) == answer[:, None]).float().mean(0))
            if at == best // len(grid):
                logits = features @ heads[at][..., best % len(grid)]
        reached = 100 * torch.cat(hits).masked_fill(broken, 0)
        outcome = Outcome(selected, sweep, details={"optimism": float(reached.max() - reached[best])})
        classified(outcome, bench, logits, answer, logits=True)
        return outcome


def vectors_of(part: Part, last: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Pooling, block and the part's readings that make it, for each vector of the `last` blocks, the deepest first.

    Blocks are counted back from the one that the encoder reads, `last` and `last-1` and so on.
    """
    blocks: dict[str, list[str]] = {}
    for reading in part.readings:
        blocks.setdefault(reading.partition("@")[2], []).append(reading)
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for back, names in enumerate([*blocks.values()][:last]):
        block = f"last-{back}" if back else "last"
        by_pooling = {name.partition("@")[0]: name for name in names}
        found += [(pooling, block, (name,)) for pooling, name in by_pooling.items()]
        if {"cls", "mean"} <= by_pooling.keys():
            found.append((JOINT, block, (by_pooling["cls"], by_pooling["mean"])))
    tokens = tuple(name for name in part.readings if name.partition("@")[0] == "cls")
    return [*found, *([(STACK, f"last {len(tokens)}", tokens)] if len(tokens) > 1 else [])]


def side_by_side(part: Part, readings: Iterable[str]) -> Tensor:
    """One vector an image, (N, D), of several readings."""
    return torch.cat([part.pooled(reading) for reading in readings], 1)
