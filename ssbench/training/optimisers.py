"""The optimiser of a recipe, and what follows its schedules: rates and weight decay."""

import math
from typing import Any

import torch
from timm.optim.lars import Lars
from torch.optim import SGD, AdamW, Optimizer

from ssbench.spec import Train

MOMENTUM = 0.9  # of SGD and LARS in every paper that takes them here


def optimiser(groups: list[dict[str, Any]], recipe: Train) -> Optimizer:
    """AdamW, SGD, or LARS, which adapts the rates of what decays alone: no biases and norms (You et al. 2017)."""
    if recipe.optimiser == "adamw":
        return AdamW(groups, peak(recipe), betas=(0.9, recipe.beta2), fused=True)
    if recipe.optimiser == "sgd":
        return SGD(groups, peak(recipe), MOMENTUM, fused=True)
    return Lars(groups, peak(recipe), MOMENTUM, trust_coeff=recipe.trust, trust_clip=recipe.trust_clip)


def peak(recipe: Train) -> float:
    """The peak learning rate at the recipe's batch."""
    share = recipe.batch / 256
    return recipe.lr * {"none": 1.0, "linear": share, "sqrt": share**0.5}[recipe.scaling]


def schedule(optimiser: Optimizer, recipe: Train, progress: float) -> None:
    """Set each group's rate and weight decay for a share of the budget, 0..1."""
    now, cosine = rate(progress, recipe.warmup), (1 + math.cos(math.pi * progress)) / 2
    decay = recipe.weight_decay_end + (recipe.weight_decay - recipe.weight_decay_end) * cosine
    for group in optimiser.param_groups:
        group["lr"] = peak(recipe) * group.get("lr_scale", 1.0) * (1.0 if group.get("constant") else now)
        if recipe.weight_decay_end and group["weight_decay"]:
            group["weight_decay"] = decay


def clip(parameters: list[torch.nn.Parameter], recipe: Train) -> torch.Tensor | float:
    """Cut the gradient's norm to the recipe's largest, if it has one; gives 1 where it was cut, else 0."""
    return (torch.nn.utils.clip_grad_norm_(parameters, recipe.clip) > recipe.clip).float() if recipe.clip else 0.0


def rate(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine to zero (MAE, util/lr_sched.py)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
