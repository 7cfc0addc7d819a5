"""Linear heads on frozen features, trained at once with AdamW, one for each learning rate and weight decay."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.task import Bench
from ssbench.training.optimisers import rate

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's own
NOTHING = 1e-30  # a share this small moves no weight, but products of subnormal numbers take 100 x as long
CHUNK = 1024  # samples a product when heads are only applied


def standardise(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Features (N, D) of mean 0 and deviation 1, in place, and a last one that is always 1: its weight is the bias."""
    return F.pad(features.sub_(mean).div_(std), (0, 1), value=1.0)


def train(
    features: Tensor, labels: Tensor, classes: int, grid: list[tuple[float, float]], settings: Any, bench: Bench
) -> Tensor:
    """Heads (D, C, G) for features (N, D), the last of them one, and G pairs of learning rate and decay.

    Heads are the innermost dimension, which makes the softmax over classes several times as fast.
    """
    count, width = features.shape
    lr, decay = (features.new_tensor(value).repeat(classes) for value in zip(*grid))  # (C * G,)
    decay = decay.repeat(width, 1)  # (D, C * G)
    decay[-1] = 0
    heads = features.new_zeros(width, classes * len(grid))
    first, second = torch.zeros_like(heads), torch.zeros_like(heads)
    order = bench.generator("probe")
    parts = -(-count // settings.batch)  # batches an epoch, of sizes that differ by one at most
    for epoch in range(settings.epochs):
        for part, index in enumerate(torch.randperm(count, generator=order).to(features.device).tensor_split(parts)):
            step = epoch * parts + part
            x = features[index]  # (B, D)
            shares = (x @ heads).unflatten(1, (classes, len(grid))).softmax(1)
            wrong = F.threshold(shares, NOTHING, 0, inplace=True)  # (B, C, G)
            wrong[torch.arange(len(index), device=x.device), labels[index]] -= 1
            gradient = x.T @ wrong.flatten(1) / len(index)  # of the mean cross-entropy
            now = lr * rate(step / (settings.epochs * parts), settings.warmup)
            adamw(heads, gradient, first, second, step + 1, now, decay)
        if (epoch + 1) % 20 == 0:
            bench.progress(f"linear probe: epoch {epoch + 1}/{settings.epochs} of {len(grid)} heads")
    return heads.unflatten(1, (classes, len(grid)))


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
    """Classes (N, G) that heads (D, C, G) see in features (N, D), the last of them one."""
    flat = heads.flatten(1)  # (D, C * G)
    return torch.cat([(chunk @ flat).unflatten(1, heads.shape[1:]).argmax(1) for chunk in features.split(CHUNK)])
