"""What methods of this family with prototypes share: crops, tokens, temperatures, cross-entropies, measures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import log

import torch
from torch import Tensor, nn

from ssbench.encoders.copies import set_drop_path
from ssbench.encoders.encoder import Encoder, Sequence
from ssbench.method import View

Range = tuple[float, float]


def crops(large: Range, small: Range, count: int, blur: float) -> list[View]:
    """Two full-size crops, of which the second alone is solarised, and `count` of half the size (DINO, main_dino.py).

    `blur` is the probability for the first; it is a tenth for the second and half for the small ones.
    """
    first = View(crop=large, jitter=(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=blur)
    second, local = replace(first, blur=blur / 10, solarise=0.2), replace(first, crop=small, blur=blur / 2)
    return [first, second, replace(local, count=count, size=0.5)]


@contextmanager
def skipping(trunk: nn.Module, most: float, uniform: bool = False) -> Iterator[None]:
    """Blocks are skipped within alone: teachers, and other parts of a mixture, see the whole trunk."""
    set_drop_path(trunk, most, uniform)
    trunk.train(trunk.training)
    try:
        yield
    finally:
        set_drop_path(trunk, 0)


def warmed(first: float, last: float, share: float, progress: float) -> float:
    """From `first` to `last` by a line over a share of the budget, and `last` from then on."""
    return first + (last - first) * min(progress / share, 1) if share else last


@torch.no_grad()
def usage(shares: Tensor) -> dict[str, float]:
    """How a teacher's probabilities (B, K) use the prototypes.

    `teacher entropy` is the mean over images, over log K: 1 where nothing is told. `prototypes in use` is the
    perplexity of the mean image, over K: 1 / K where all are told alike, at most B / K where the teacher is sure.
    """
    choices, entropy = shares.shape[1], torch.special.entr(shares).sum(1).mean()
    perplexity = torch.special.entr(shares.mean(0)).sum().exp()
    return {"teacher entropy": float(entropy) / log(choices), "prototypes in use": float(perplexity) / choices}


def vector(encoder: Encoder, found: Sequence) -> Tensor:
    """The headline's vector of a ViT's tokens, (B, D), as `pooled` gives it."""
    return found.prefix[:, 0] if encoder.poolings[0] == "cls" else found.patches.mean(1)


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (B, N, D) at places (B, n)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def agreement(logits: Tensor, codes: Tensor) -> Tensor:
    """Mean cross-entropy over pairs of different crops: logits (V, B, K), codes (T, B, K) of the first T of them."""
    costs = -torch.einsum("tbk,vbk->tv", codes, logits.log_softmax(2)) / logits.shape[1]  # (T, V)
    return (costs.sum() - costs.diagonal().sum()) / (costs.numel() - len(codes))
