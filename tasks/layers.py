"""Layers: how much of a class each block's vectors tell a linear head (Alain and Bengio 2016, arXiv:1610.01644)."""

from typing import Any

from torch import Tensor

from ssbench.features import LAST, Part
from ssbench.task import Bench, Outcome, Task, Work

from .classes import BESIDE, classified
from .closed_form import apply, standardised
from .ridge_head import DECADES, TOP1, Found, chosen_of

Place = tuple[int, str]  # block, counted from 1, and pooling


class Layers(Task):
    """The ridge head of `ridge` on every pooling of every block, up to the one that is read; a conv net has one block.

    `select` picks a penalty for each block and pooling by top-1, then among these heads the headline's, both times the
    least squared error first among equals. Nothing is refitted. `profile` has the test top-1 of every block and
    pooling: a description, from which nothing is chosen, since each of its heads is fixed before the test is opened.
    Raises RuntimeError where features are not finite.
    """

    metrics = (TOP1, *BESIDE)

    def work(self, bench: Bench) -> Work:
        """Blocks before the last few are read in a pass of their own."""
        (fit, select, _), part, classes, seen = bench.sizes, bench.fit, len(bench.data.classes), sum(bench.sizes)
        head = 2 * fit * part.dim * (2 * part.dim + classes) + 10 * part.dim**3  # a decomposition is about 10 D^3
        head += 2 * 20 * (part.dim + select) * part.dim * classes  # of about 20 penalties
        gflops = 1e-9 * head * part.depth * len(part.poolings)
        return Work(0, gflops=gflops, changed=seen) if part.depth > LAST else Work(seen, gflops=gflops)

    def evaluate(self, bench: Bench) -> Outcome:
        fit, select = vectors_of(bench.fit), vectors_of(bench.select)
        heads: dict[Place, Found] = {}
        for place in fit:
            heads[place] = chosen_of(fit[place], select[place], bench, DECADES)
            bench.progress(f"layers: block {place[0]} {place[1]}, select {heads[place][2]['select_top1']:.1f} %")
        best = max(heads, key=lambda place: (heads[place][2]["select_top1"], -heads[place][2]["error"]))
        sweep: list[dict[str, Any]] = [
            {"block": block, "pooling": pooling, **point}
            for (block, pooling), (_, points, _) in heads.items()
            for point in points
        ]
        selected = {"block": best[0], "pooling": best[1], **heads[best][2], "refit": "none"}

        test = bench.test(selected)
        truth, tested = test.target("label"), vectors_of(test)
        scores = {place: apply(heads[place][0], standardised(fit[place], tested[place])[1]) for place in heads}
        right = {f"{b} {pooling}": (said.argmax(1) == truth) for (b, pooling), said in scores.items()}
        profile = {name: 100 * hit.double().mean().item() for name, hit in right.items()}
        ahead = max(profile.values()) - profile[f"{best[0]} {best[1]}"]
        outcome = Outcome(selected, sweep, details={"profile": {"block": profile}, "optimism": ahead})
        classified(outcome, bench, scores[best], truth)
        return outcome


def vectors_of(part: Part) -> dict[Place, Tensor]:
    """Every pooling of every block, (N, D), the first block first."""
    found = part.vectors(part.depth)
    last = len({name.partition("@")[2] for name in found})  # a block that was set is read with all before it
    placed = {(int(block or last), pooling): name for name in found for pooling, _, block in [name.partition("@")]}
    order = {pooling: at for at, pooling in enumerate(part.poolings)}
    return {place: found[placed[place]] for place in sorted(placed, key=lambda place: (place[0], order[place[1]]))}
