"""Linear probe: one linear layer on frozen features says how much of a class is there (Alain and Bengio 2016)."""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task
from ssbench.training.loop import rate

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's own
CHUNK = 1024  # samples a product when heads are only applied


class LinearProbe(Task):
    """Heads of every pooling, learning rate and weight decay, trained at once on cached features; `select` picks one.

    Features are standardised per dimension by the mean and deviation of `fit`. Heads start at zero and see the same
    batches. A head whose weights are not finite counts as 0 %; raises RuntimeError when all are such.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting(
            (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
            "peak learning rates",
            source="project: the best lay inside on small nets",
        )
        weight_decays: tuple[float, ...] = setting(
            (0, 1e-4, 1e-2), "AdamW weight decays, not on biases", source="project: none to a hundredth"
        )
        epochs: int = setting(100, "passes over fit", source="MoCo v3, CONFIG.md; DINO, eval_linear.py", ge=1)
        # at 1,024, as in MoCo v3, a thousand digits stay 1.8 points under logistic regression; at 128, 0.3
        batch: int = setting(128, "images a step, at most", source="CAPI, eval_classification.py", unit="images", ge=1)
        warmup: float = setting(0.05, "share with a rising rate", source="project: half of CAPI's tenth", ge=0, lt=1)

    metrics = (Metric("top1", "%", "higher", "accuracy"),)

    def evaluate(self, bench: Bench) -> Outcome:
        s, poolings = self.settings, bench.fit.poolings
        fit = torch.stack([bench.fit.pooled(pooling) for pooling in poolings])  # (P, N, D)
        select = torch.stack([bench.select.pooled(pooling) for pooling in poolings])
        mean, std = fit.mean(1, keepdim=True), fit.std(1, keepdim=True) + 1e-6  # (P, 1, D)
        grid = list(product(s.lrs, s.weight_decays))
        heads = train((fit - mean) / std, bench.fit.target("label"), len(bench.data.classes), grid, s, bench)
        found = apply(heads, (select - mean) / std)  # (P, N, G)
        right = (found == bench.select.target("label")[:, None]).float().mean(1).cpu() * 100  # (P, G)
        broken = ~heads.isfinite().all(2).all(1).cpu()  # (P, G)
        sweep: list[dict[str, Any]] = [
            {"pooling": pooling, "lr": lr, "weight_decay": decay, "select_top1": score, "diverged": diverged}
            for (pooling, (lr, decay)), score, diverged in zip(
                product(poolings, grid), right.masked_fill(broken, 0).flatten().tolist(), broken.flatten().tolist()
            )
        ]
        if broken.all():
            raise RuntimeError("every head diverged: the features are not finite, or all of linear-probe.lrs too high")
        best = max(range(len(sweep)), key=lambda i: (not sweep[i]["diverged"], sweep[i]["select_top1"]))  # ties: first
        lr, decay = sweep[best]["lr"], sweep[best]["weight_decay"]
        at_edge = lr in (min(s.lrs), max(s.lrs)) or 0 < decay == max(s.weight_decays)
        selected = {**sweep[best], "at_edge": at_edge, "refit": "none"}

        test = bench.test(selected)
        p, g = divmod(best, len(grid))
        features = (test.pooled(poolings[p]) - mean[p]) / std[p]  # (N, D)
        outcome = Outcome(selected, sweep)
        predicted = apply(heads[p : p + 1, ..., g : g + 1], features[None]).flatten()
        outcome.add("top1", predicted=predicted, truth=test.target("label"))
        return outcome


def train(
    features: Tensor, labels: Tensor, classes: int, grid: list[tuple[float, float]], settings: Any, bench: Bench
) -> Tensor:
    """Heads (P, D + 1, C, G), the bias last, for P feature sets (P, N, D) and G pairs of learning rate and decay.

    Heads are the innermost dimension, which makes the softmax over classes several times as fast.
    """
    sets, count, width = len(features), features.shape[1], features.shape[2] + 1
    features = _with_ones(features)
    lr, decay = (features.new_tensor(value).repeat(classes) for value in zip(*grid))  # (C * G,)
    decay = decay.repeat(width, 1)  # (D + 1, C * G)
    decay[-1] = 0
    heads = features.new_zeros(sets, width, len(grid) * classes)
    first, second = torch.zeros_like(heads), torch.zeros_like(heads)
    truth = F.one_hot(labels, classes).to(features)[..., None]  # (N, C, 1)
    order = bench.generator("probe")
    parts = -(-count // settings.batch)  # batches an epoch, of sizes that differ by one at most
    for epoch in range(settings.epochs):
        for part, index in enumerate(torch.randperm(count, generator=order).to(features.device).tensor_split(parts)):
            step = epoch * parts + part
            x = features.index_select(1, index)  # (P, B, D + 1)
            wrong = (x @ heads).unflatten(2, (classes, len(grid))).softmax(2) - truth[index]  # (P, B, C, G)
            gradient = x.transpose(1, 2) @ wrong.flatten(2) / len(index)  # of the mean cross-entropy
            now = lr * rate(step / (settings.epochs * parts), settings.warmup)
            adamw(heads, gradient, first, second, step + 1, now, decay)
        if (epoch + 1) % 20 == 0:
            bench.progress(f"linear probe: epoch {epoch + 1}/{settings.epochs} of {sets * len(grid)} heads")
    return heads.unflatten(2, (classes, len(grid)))


def adamw(
    weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, lr: Tensor, decay: Tensor
) -> None:
    """AdamW's step 1, 2, ... in place (arXiv:1711.05101), with a learning rate and a decay for each weight."""
    weight.mul_(1 - lr * decay)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    root = (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPS)
    weight.sub_(first / root * (lr / (1 - BETAS[0] ** step)))


def apply(heads: Tensor, features: Tensor) -> Tensor:
    """Classes (P, N, G) that heads (P, D + 1, C, G) see in features (P, N, D)."""
    chunks = _with_ones(features).split(CHUNK, dim=1)
    flat = heads.flatten(2)  # (P, D + 1, C * G)
    return torch.cat([(chunk @ flat).unflatten(2, heads.shape[2:]).argmax(2) for chunk in chunks], 1)


def _with_ones(features: Tensor) -> Tensor:
    """A last feature that is always one, whose weight is the bias."""
    return F.pad(features, (0, 1), value=1.0)
