"""Attentive probe: a learned query pools the places of the frozen map, and a linear layer tells the class.

The layers are those of CAPI (Darcet et al. 2025, arXiv:2502.08769; `AttnPoolClassifier` in eval_classification.py).
"""

from collections.abc import Callable
from itertools import product
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism
from ssbench.training.optimisers import rate

from .classes import BESIDE, SURE, classified, predictions
from .joint import adamw
from .maps import standard

INIT, WARMUP = 0.02, 0.1  # CAPI's deviation of all weights, and its share of steps with a rising rate
HEAD = 64  # dimensions of a head, at least
WIDER, STEP = 2, 3.0  # rates that the grid may grow by, and how far one is from the next
Weights = dict[str, Tensor]  # of G probes, the first dimension
Scale = Callable[[Tensor], Tensor]


class AttentiveProbe(Task):
    """Probes for each learning rate and weight decay, on standardised places of the cached map; `select` picks one.

    A query (D) asks, with a head for each 64 dimensions, the keys of an image's places, and a linear layer sees the
    values; keys and values are linear maps of places. CAPI needs a width that 64 divides; here heads are as many as
    divide the width, at most one for 64 dimensions. Probes start alike, see the same batches and are trained at once
    with AdamW. Where the best rate is at the edge of the grid, one three times as high or low is trained too, at most
    twice. A probe whose weights are not finite counts as 0 %; raises RuntimeError when all are such, and where the
    features are not finite.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting(
            (3e-3, 1e-2, 3e-2, 1e-1),
            "peak learning rates",
            source="project: 3e-2 for an untrained ViT on shapes",
            min_length=1,
        )
        weight_decays: tuple[float, ...] = setting(
            (5e-2,),
            "AdamW weight decays, not on biases",
            source="CAPI's largest; on shapes' select 0 and 5e-3 do no better",
            min_length=1,
        )
        epochs: int = setting(30, "passes over fit", source="project: 60 move top-1 by half a point on shapes", ge=1)
        batch: int = setting(128, "images a step, at most", source="CAPI, eval_classification.py", unit="images", ge=1)

    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE, *SURE)
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """Six FLOPs a weight and image, or place where every place meets it: its product, and both gradients."""
        s, (dim, places) = self.settings, (bench.fit.dim, bench.fit.grid[0] * bench.fit.grid[1])
        each = 2 * places * heads(dim) * dim + dim * (dim + len(bench.data.classes))
        steps = s.epochs * -(-bench.sizes[0] // s.batch)
        updates = 12 * steps * 2 * dim**2  # AdamW on keys and values, and what folds the keys
        probes = len(s.lrs) * len(s.weight_decays)
        return Work(sum(bench.sizes), gflops=1e-9 * probes * (6 * bench.sizes[0] * s.epochs * each + updates))

    def evaluate(self, bench: Bench) -> Outcome:
        s, truth, rates = self.settings, bench.select.target("label"), [*self.settings.lrs]
        sweep, probes, scores = list[dict[str, Any]](), list[Weights](), list[Tensor]()
        scale, axes = standard(bench.fit.map()), ("lr", "weight_decay")

        while True:
            grid = list(product(rates[len(sweep) // len(s.weight_decays) :], s.weight_decays))
            trained = train(bench, grid, s, scale)
            for point, (lr, decay) in enumerate(grid):
                probes.append({name: value[point : point + 1] for name, value in trained.items()})
                scores.append(scored(probes[-1], bench.select, scale))
                broken = not all(value.isfinite().all() for value in probes[-1].values())
                score = 0.0 if broken else 100 * (scores[-1].argmax(1) == truth).double().mean().item()
                sweep.append({"lr": lr, "weight_decay": decay, "select_top1": score, "diverged": broken})
            made = predictions(scores, truth)
            best, at_edge = choose(sweep, self.metrics[0], axes, made, "lower attentive-probe.lrs")
            lr = sweep[best]["lr"]
            if not at_edge or lr not in (min(rates), max(rates)) or len(rates) == len(s.lrs) + WIDER:
                break
            rates.append(lr * STEP if lr == max(rates) else lr / STEP)
        selected = {**sweep[best], "heads": heads(bench.fit.dim), "at_edge": at_edge, "refit": "none"}

        test = bench.test(selected)
        answer, said = test.target("label"), [scored(probe, test, scale) for probe in probes]
        outcome = Outcome(selected, sweep, details=optimism(sweep, self.metrics[0], best, predictions(said, answer)))
        classified(outcome, bench, said[best], answer, logits=True)
        return outcome


def heads(dim: int) -> int:
    """The largest divisor of the width that gives a head 64 dimensions or more; 1 for fewer than 128."""
    return max(count for count in range(1, max(dim // HEAD, 1) + 1) if dim % count == 0)


def started(dim: int, classes: int, generator: torch.Generator) -> Weights:
    """One probe, G = 1, in CAPI's initialisation; a key's bias would add the same to the score of every place."""
    shapes = {"query": (dim,), "key": (dim, dim), "value": (dim, dim), "linear": (dim, classes)}
    drawn = {name: INIT * torch.randn(1, *shape, generator=generator) for name, shape in shapes.items()}
    return drawn | {"value bias": torch.zeros(1, dim), "linear bias": torch.zeros(1, classes)}


def logits(weights: Weights, maps: Tensor) -> Tensor:
    """Scores (G, B, C) of G probes on standardised maps (B, D, h, w).

    There is one query, so that it is mapped by the keys rather than places are, and values are mapped after pooling.
    """
    x, (probes, dim), count = maps.flatten(2).mT, weights["query"].shape, heads(maps.shape[1])  # (B, P, D)
    split = (probes, count, dim // count)
    query, key = weights["query"].view(split), weights["key"].view(*split, dim)
    asked = torch.einsum("ghe,ghed->ghd", query, key) / sqrt(dim // count)
    attention = (x @ asked.flatten(0, 1).T).softmax(1)  # (B, P, G * H)
    pooled = (attention.mT @ x).unflatten(1, split[:2]).permute(1, 2, 0, 3)  # (G, H, B, D)
    value = pooled @ weights["value"].view(*split, dim).mT  # (G, H, B, E)
    seen = value.transpose(1, 2).flatten(2) + weights["value bias"][:, None]  # (G, B, D)
    return torch.baddbmm(weights["linear bias"][:, None], seen, weights["linear"])


def train(bench: Bench, grid: list[tuple[float, float]], s: AttentiveProbe.Settings, scale: Scale) -> Weights:
    """Probes for G pairs of learning rate and weight decay."""
    maps, labels = bench.fit.map(), bench.fit.target("label")
    first = started(maps.shape[1], len(bench.data.classes), bench.generator("attentive"))
    weights = {name: value.to(maps.device).repeat(len(grid), *[1] * (value.ndim - 1)) for name, value in first.items()}
    memory = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in weights.items()}
    lr, decay = maps.new_tensor(grid).T
    order, parts = bench.generator("batches"), -(-len(maps) // s.batch)  # batches of sizes that differ by one at most
    for epoch in range(s.epochs):
        for part, index in enumerate(torch.randperm(len(maps), generator=order).to(maps.device).tensor_split(parts)):
            step = epoch * parts + part
            live = {name: value.requires_grad_() for name, value in weights.items()}
            said = logits(live, scale(maps[index]))  # (G, B, C)
            loss = F.cross_entropy(said.flatten(0, 1), labels[index].repeat(len(grid)), reduction="sum") / len(index)
            gradients = torch.autograd.grad(loss, [*live.values()])
            now = lr * rate(step / (s.epochs * parts), WARMUP)
            with torch.no_grad():
                for (name, value), gradient in zip(live.items(), gradients):
                    rates, decays = (one.view(-1, *[1] * (value.ndim - 1)) for one in (now, decay))
                    adamw(value, gradient, *memory[name], step + 1, rates, decays * ("bias" not in name))
        if (epoch + 1) % 10 == 0:
            bench.progress(f"attentive probe: epoch {epoch + 1}/{s.epochs} of {len(grid)} probes")
    return {name: value.detach() for name, value in weights.items()}


@torch.no_grad()
def scored(weights: Weights, part: Part, scale: Scale) -> Tensor:
    """Scores (N, C) of one probe, G = 1."""
    return torch.cat([logits(weights, scale(maps))[0] for maps in part.map().split(512)])
