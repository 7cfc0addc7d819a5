"""Retrieval: each test image looks for the others of its class by cosine (Caron et al. 2021, arXiv:2104.14294)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.errors import NotApplicable
from ssbench.features import Part
from ssbench.results.metrics import Metric
from ssbench.task import Bench, Outcome, Task, Work

RANKS = (1, 5, 10)
POOLINGS = ("mean", "cls")  # those that are not the headline's, where the encoder has them, stand beside it
CHUNK = 256  # queries ranked at once
RANKING = 10_000  # FLOPs of a product in the time of one image's rank, measured on a CPU core at 2,000 to 10,000 images


class Retrieval(Task):
    """Average precision over all others of the query's class, and whether there is one among the first few.

    Nothing is fitted or chosen: the headline's vector is of the encoder's first pooling. The gallery is the test set
    without the query, which is taken out by its position. Equal cosines are ranked in an order drawn once. A query
    whose class has no other image can find nothing and is left out of the means, and of their spread (`judged`).
    The constant answer ranks all queries' galleries by chance: what it scores is the exact expectation, of R relevant
    in G images. Raises NotApplicable where no class has two test images.
    """

    metrics = (
        Metric("map", "%", "higher", "mean"),
        *(Metric(f"r@{rank}", "%", "higher", "mean") for rank in RANKS),
        *(Metric(f"map@{pooling}", "%", "higher", "mean") for pooling in POOLINGS),
    )

    def work(self, bench: Bench) -> Work:
        """A product and a rank of each image for each query; nearly all of the time is in ranks."""
        _, select, test = bench.sizes
        passes = len(read(bench.fit)) * (select**2 + test**2)
        return Work(sum(bench.sizes), gflops=1e-9 * (2 * bench.fit.dim + RANKING) * passes)

    def evaluate(self, bench: Bench) -> Outcome:
        poolings = read(bench.fit)
        sweep: list[dict[str, Any]] = []
        for pooling in poolings:
            found, several = searched(bench.select, pooling, bench.generator("ties"))
            score = found[several, 0].mean().item() if several.any() else None  # select may have one image a class
            sweep.append({"pooling": pooling, "select_map": score})
        selected = {"pooling": poolings[0], "refit": "none"}

        test = bench.test(selected)
        truth = test.target("label")
        found, several = searched(test, poolings[0], bench.generator("ties"))  # (N, 1 + ranks), (N,)
        if not several.any():
            raise NotApplicable("no class has two test images, so none can find another")
        floor = by_chance(truth)
        outcome = Outcome(selected, sweep, details={"queries": int(several.sum())})
        for column, name in enumerate(["map", *(f"r@{rank}" for rank in RANKS)]):
            value, constant = judged(found[:, column], several), judged(floor[:, column], several)
            outcome.add(name, value=value, constant=constant)
        for pooling in poolings[1:]:
            other = searched(test, pooling, bench.generator("ties"))[0][:, 0]
            outcome.add(f"map@{pooling}", value=judged(other, several), constant=judged(floor[:, 0], several))
        return outcome


def read(part: Part) -> list[str]:
    """The poolings that are judged, the headline's first."""
    return [part.poolings[0], *(one for one in part.poolings[1:] if one in POOLINGS)]


def searched(part: Part, pooling: str, ties: torch.Generator) -> tuple[Tensor, Tensor]:
    """Average precision and hits among the first of RANKS of each query, (N, 1 + ranks), in %, and who has relevant."""
    features, truth = F.normalize(part.pooled(pooling), dim=1), part.target("label")
    order = torch.randperm(len(features), generator=ties).to(features.device)  # else equals would stand by class
    gallery, kinds = features[order], truth[order]
    place = order.argsort()  # of each query in the gallery
    found = torch.cat([_search(features[i], truth[i], place[i], gallery, kinds) for i in _chunks(features)])
    return found, truth.bincount()[truth] > 1


def _chunks(features: Tensor) -> tuple[Tensor, ...]:
    return torch.arange(len(features), device=features.device).split(CHUNK)


def _search(query: Tensor, truth: Tensor, place: Tensor, gallery: Tensor, kinds: Tensor) -> Tensor:
    cosine = (query @ gallery.T).scatter_(1, place[:, None], -torch.inf)  # the query itself is last
    ranked = cosine.sort(dim=1, descending=True, stable=True).indices[:, :-1]  # (b, N - 1)
    relevant = kinds[ranked] == truth[:, None]
    ranks = torch.arange(1, ranked.shape[1] + 1, device=query.device)
    precision = (relevant.cumsum(1) / ranks * relevant).sum(1) / relevant.sum(1).clamp(min=1)
    hits = [relevant[:, :rank].any(1) for rank in RANKS]
    return 100 * torch.stack([precision, *hits], 1).float()


def by_chance(truth: Tensor) -> Tensor:
    """Expected average precision and hits of RANKS under a random order, (N, 1 + ranks), in %.

    With R relevant of G, the one at rank r has 1 + (r - 1) (R - 1) / (G - 1) relevant up to itself, and is at each rank
    as often. No hit among the first k: the product of (G - R - j) / (G - j) over j < k.
    """
    size = len(truth) - 1
    relevant = truth.bincount()[truth].double() - 1  # (N,)
    ranks = torch.arange(1, size + 1, device=truth.device, dtype=torch.double)
    harmonic, others = (1 / ranks).sum(), (relevant - 1) / max(size - 1, 1)
    precision = ((harmonic + others * (size - harmonic)) / size).where(relevant > 0, 0)
    tries = torch.arange(min(max(RANKS), size), device=truth.device, dtype=torch.double)
    missed = ((size - relevant[:, None] - tries).clamp(min=0) / (size - tries)).cumprod(1)  # (N, tries)
    hits = [1 - missed[:, min(rank, size) - 1] for rank in RANKS]
    return 100 * torch.stack([precision, *hits], 1)


def judged(values: Tensor, valid: Tensor) -> Tensor:
    """Values (N,) whose mean is that of the valid ones, and whose spread gives that mean's standard error.

    The others have the mean; the valid ones are as much farther from it as they are fewer (the influence of a sample on
    a mean over some). Where all are valid they are unchanged.
    """
    mean = values[valid].mean()
    return (mean + (values - mean) * len(values) / valid.sum()).where(valid, mean)
