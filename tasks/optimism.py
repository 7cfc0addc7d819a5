"""How much better a choice would have looked, had the test split made it."""

from collections.abc import Iterable

from torch import Tensor


def optimism(tried: Iterable[Tensor], truth: Tensor, best: int) -> dict[str, float]:
    """By how many points of top-1 the best of what was tried is ahead of what `select` chose, the `best`-th.

    `tried` are scores (N, classes) of the test split, those of the final heads; where they are not finite they are the
    worst. `truth` is (N,). For a record's details: it chooses nothing.
    """
    reached = [
        100 * (scores.argmax(1) == truth).double().mean().item() if scores.isfinite().all() else 0.0 for scores in tried
    ]
    return {"optimism": max(reached) - reached[best]}
