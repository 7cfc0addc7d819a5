"""Segmentation by frozen maps: one linear layer on each place (Oquab et al. 2023, arXiv:2304.07193), or its neighbours.

Most pixels are background, and a linear layer that is trained to the end on them says background everywhere. Its scores
are therefore moved by a share of the classes' log-frequencies (Menon et al. 2021, arXiv:2007.07314).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric, iou_per_class, score
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose

CHUNK = 32  # images at a time
FLAT = 1e-6  # a deviation of rounding alone, by which nothing is divided
QUERIES = 256  # places a product with the bank


class Segmentation(Task):
    """`miou`: logistic regression on standardised places, scores upsampled bilinearly to the masks' size.

    Every place learns its share of each class, which is the pixels' cross-entropy with one prediction a place. The
    problem is convex: L-BFGS solves it once for each penalty, the largest first, and `select` picks penalty and shift.
    `miou@knn`: a place copies, pixel by pixel, what most of its k nearest places in a bank have; nothing is trained,
    `select` picks k, and the bank is of `fit` for `select` and of both for the test (CAPI, eval_segmentation.py).

    mIoU is of one confusion table over all images and pixels, ignored ones left out, averaged over the classes in the
    truth. Raises RuntimeError where the features are not finite.
    """

    class Settings(Base):
        penalties: tuple[float, ...] = setting(
            (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
            "half the squared weights times this, beside the mean loss",
            source="project: flat at its end on shapes and CamVid",
            min_length=1,
        )
        shifts: tuple[float, ...] = setting(
            (0, 0.25, 0.5, 0.75, 1, 1.25),
            "share of log-frequency off the scores",
            source="project: none to more than Menon et al.'s 1",
            min_length=1,
        )
        iterations: int = setting(
            60, "of L-BFGS for each penalty, at most", source="project: 120 move mIoU by 0.1 on shapes", ge=1
        )
        ks: tuple[PositiveInt, ...] = setting(
            (1, 3, 10, 30), "neighbours", source="CAPI, eval_segmentation.py", min_length=1
        )
        bank: int = setting(32768, "places in it, at most", source="project: for a CPU; CAPI all", unit="places", ge=1)

    version = 2
    needs = frozenset({"mask"})
    metrics = (Metric("miou", "%", "higher", "iou"), Metric("miou@knn", "%", "higher", "iou"))
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """L-BFGS looks at all places a fourth more often than it steps; each place of a query meets the bank."""
        (fit, select, test), s, part = bench.sizes, self.settings, bench.fit
        places = math.prod(part.grid)
        heads = 4 * fit * places * part.dim * bench.data.mask_classes * 1.25 * s.iterations * len(s.penalties)
        near = 2 * (select + test) * places * part.dim * min(s.bank, fit * places)
        return Work(fit + select + test, gflops=1e-9 * (heads + near))

    def evaluate(self, bench: Bench) -> Outcome:
        s, data, parts = self.settings, bench.data, [bench.fit, bench.select]
        classes, ignore, grid = data.mask_classes, data.ignore_index, bench.fit.map().shape[-2:]
        mean, std = moments(bench.fit)
        points = [(penalty, share) for penalty in sorted(s.penalties, reverse=True) for share in s.shifts]
        heads, frequency = train(bench, mean, std, s)  # (H, D + 1, C), (C,)
        shifted = torch.cat([shift(head, frequency, s.shifts) for head in heads])  # (G, D + 1, C)
        tables = apply(shifted, bench.select, mean, std, ignore)  # (G, N, C, C)
        sweep: list[dict[str, Any]] = []
        for (penalty, share), head, table in zip(points, shifted, tables):
            finite = bool(head.isfinite().all())
            value = miou(table) if finite else 0.0
            sweep.append({"penalty": penalty, "shift": share, "select_miou": value, "diverged": not finite})
        best, edge = choose(sweep, self.metrics[0], ("penalty", "shift"), confusions(tables), "raise the penalties")
        bank = Bank(parts[:1], mean, std, ignore, classes, s.bank, bench.generator("bank"))
        near = bank.confusion(bench.select, s.ks)  # (K, N, C, C)
        tries = [{"k": k, "select_miou@knn": miou(table), "diverged": False} for k, table in zip(s.ks, near)]
        nearest, last = choose(tries, self.metrics[1], ("k",), confusions(near), "take other ks")
        edges = {"at_edge": edge, "knn_at_edge": last}
        selected = {**sweep[best], **tries[nearest], **edges, "refit": "none; knn: fit+select"}

        test = bench.test(selected)
        truth = test.target("mask").long()  # (N, S, S)
        table = apply(shifted[best : best + 1], test, mean, std, ignore)[0]  # (N, C, C)
        bound = miou(confusion(patch_modes(truth, grid, classes, ignore), truth, classes, ignore))
        found = details(table) | {"patch_oracle_miou": bound, "label_resolution": truth.shape[-1]}
        outcome = Outcome(selected, [*sweep, *tries], details=found)
        outcome.add("miou", confusion=table)
        whole = Bank(parts, mean, std, ignore, classes, s.bank, bench.generator("bank"))
        outcome.add("miou@knn", confusion=whole.confusion(test, (s.ks[nearest],))[0])
        return outcome


def moments(part: Part) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D, 1, 1) of each dimension over images and places, 1 where there is none.

    Raises RuntimeError where they aren't finite.
    """
    maps = part.map()
    if not maps.isfinite().all():
        raise RuntimeError("the features are not finite")
    mean, std = (of((0, 2, 3))[:, None, None] for of in (maps.mean, maps.std))
    return mean, std.where(std > FLAT, 1)


def places(maps: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Standardised features of all places of maps (N, D, h, w), (N * h * w, D)."""
    return ((maps - mean) / std).permute(0, 2, 3, 1).flatten(0, 2)


def pixels(part: Part, ignore: int, classes: int) -> Tensor:
    """Classes of the pixels of each place, (N * h * w, p * p), uint8; ignored ones are `classes`.

    Masks whose side is no multiple of the map's are brought to the next one by nearest neighbours.
    """
    masks, (h, w) = part.target("mask"), part.map().shape[-2:]
    masks = masks.masked_fill(masks == ignore, classes)
    rows, columns = -(-masks.shape[1] // h), -(-masks.shape[2] // w)
    fitted = F.interpolate(masks[:, None], (h * rows, w * columns))[:, 0]  # (N, h * rows, w * columns)
    return fitted.view(-1, h, rows, w, columns).transpose(2, 3).reshape(-1, rows * columns)


def train(bench: Bench, mean: Tensor, std: Tensor, settings: Segmentation.Settings) -> tuple[Tensor, Tensor]:
    """Heads (H, D + 1, C), the bias last, one for each penalty from the largest on, and the classes' shares of pixels.

    Each starts where the one before has ended, the first at zero.
    """
    s, ignore, classes = settings, bench.data.ignore_index, bench.data.mask_classes
    x, found = places(bench.fit.map(), mean, std), pixels(bench.fit, ignore, classes)
    counts = torch.cat([count(chunk, classes) for chunk in found.split(CHUNK * QUERIES)])  # (M, C)
    seen, total = counts.sum(1), counts.sum().clamp(min=1)  # a place that is ignored teaches nothing
    head = x.new_zeros(x.shape[1] + 1, classes).requires_grad_()
    heads = []
    for penalty in sorted(s.penalties, reverse=True):
        optimiser = torch.optim.LBFGS(
            [head], max_iter=s.iterations, history_size=10, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def loss(penalty: float = penalty, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            scores = x @ head[:-1] + head[-1]  # (M, C)
            errors = (seen * scores.logsumexp(1)).sum() - (counts * scores).sum()
            value = errors / total + penalty / 2 * head[:-1].square().sum()
            value.backward()
            return value

        optimiser.step(loss)  # which gives the loss that it began with
        bench.progress(f"segmentation: penalty {penalty:g}  loss {loss().item():.3f}")
        heads.append(head.detach().clone())
    return torch.stack(heads), counts.sum(0) / total


def count(found: Tensor, classes: int) -> Tensor:
    """How many pixels (M, L) of each place are of each class, (M, C); those of class C are not counted."""
    tally = torch.zeros(len(found), classes + 1, device=found.device)
    return tally.scatter_add_(1, found.long(), torch.ones_like(found, dtype=tally.dtype))[:, :classes]


def shift(head: Tensor, frequency: Tensor, shares: Sequence[float]) -> Tensor:
    """A head (D + 1, C) whose biases are less by each share of the classes' log-frequencies, (S, D + 1, C).

    A class that `fit` does not have stays as it is: its score is low enough, and its log-frequency is not finite.
    """
    log = frequency.log().masked_fill(frequency == 0, 0)
    moved = head.repeat(len(shares), 1, 1)
    moved[:, -1] -= log.new_tensor(shares)[:, None] * log
    return moved


@torch.no_grad()
def apply(heads: Tensor, part: Part, mean: Tensor, std: Tensor, ignore: int) -> Tensor:
    """Counts of (truth, predicted) pixels of each head (G, D + 1, C) and image, (G, N, C, C)."""
    classes, weight, bias = heads.shape[2], heads[:, :-1], heads[:, -1]
    counts = []
    for maps, truth in zip(part.map().split(CHUNK), part.target("mask").long().split(CHUNK)):
        x = (maps - mean) / std  # (n, D, h, w)
        found = []
        for one, plus in zip(weight, bias):
            scores = F.conv2d(x, one.T[..., None, None], plus)  # (n, C, h, w)
            found.append(F.interpolate(scores, truth.shape[-2:], mode="bilinear").max(1).indices)  # argmax: 10 x slower
        counts.append(torch.stack([confusion(each, truth, classes, ignore) for each in found]))
    return torch.cat(counts, 1)


class Bank:
    """Places of some splits and the classes of their pixels, at most `most` by chance, none that is all ignored."""

    def __init__(
        self,
        parts: Sequence[Part],
        mean: Tensor,
        std: Tensor,
        ignore: int,
        classes: int,
        most: int,
        generator: torch.Generator,
    ) -> None:
        labels = torch.cat([pixels(part, ignore, classes) for part in parts])
        kept = (labels != classes).any(1).nonzero()[:, 0]
        index = kept[torch.randperm(len(kept), generator=generator)[:most].sort().values.to(kept.device)]
        x = torch.cat([places(part.map(), mean, std) for part in parts])[index]
        self.features, self.labels = F.normalize(x, dim=1), labels[index]  # (M, D), (M, L)
        self.mean, self.std, self.ignore, self.classes = mean, std, ignore, classes

    def vote(self, query: Tensor, ks: Sequence[int]) -> Tensor:
        """For each k what most of the k nearest by cosine have at each pixel, (K, Q, L) uint8; the smallest of equals.

        Ignored pixels have no vote; where nobody has one, all pixels of the k vote.
        """
        most, found = min(max(ks), len(self.features)), []
        index = (F.normalize(query, dim=1) @ self.features.T).topk(most, dim=1).indices  # (Q, most), nearest first
        voters = self.labels[index].long()  # (Q, most, L)
        for k in ks:
            tally = query.new_zeros(len(query), self.classes + 1, voters.shape[2])
            tally.scatter_add_(1, voters[:, :k], torch.ones_like(voters[:, :k], dtype=tally.dtype))
            votes = tally[:, : self.classes]  # (Q, C, L)
            silent = votes.sum(1) == 0  # (Q, L)
            found.append(votes.argmax(1).where(~silent, votes.sum(2).argmax(1)[:, None]).to(torch.uint8))
        return torch.stack(found)

    def confusion(self, part: Part, ks: Sequence[int]) -> Tensor:
        """Counts of (truth, predicted) pixels for each k and image, (K, N, C, C)."""
        counts = []
        for maps, truth in zip(part.map().split(CHUNK), part.target("mask").long().split(CHUNK)):
            h, w = maps.shape[-2:]
            found = torch.cat([self.vote(chunk, ks) for chunk in places(maps, self.mean, self.std).split(QUERIES)], 1)
            rows, columns = -(-truth.shape[1] // h), -(-truth.shape[2] // w)
            fitted = found.view(-1, h, w, rows, columns).transpose(2, 3).reshape(-1, 1, h * rows, w * columns)
            copied = F.interpolate(fitted, truth.shape[-2:]).view(len(ks), *truth.shape)
            counts.append(torch.stack([confusion(one.long(), truth, self.classes, self.ignore) for one in copied]))
        return torch.cat(counts, 1)


def confusion(found: Tensor, truth: Tensor, classes: int, ignore: int) -> Tensor:
    """Counts (N, C, C) of (truth, predicted) pixels in each image of classes (N, S, S), ignored pixels left out."""
    image = torch.arange(len(truth), device=truth.device)[:, None, None]
    cell = (image * classes + truth) * classes + found
    counts = cell[truth != ignore].bincount(minlength=len(truth) * classes**2)
    return counts.view(len(truth), classes, classes).int()


def confusions(tables: Tensor) -> Any:
    """What each point of a sweep predicted, out of its counts (G, N, C, C), as `choose` asks for it."""
    return lambda point: {"confusion": tables[point].cpu().numpy()}


def miou(table: Tensor) -> float:
    """Mean intersection over union, in %, of counts (N, C, C)."""
    return score("iou", {"confusion": table.cpu().numpy()})


def patch_modes(truth: Tensor, grid: Sequence[int], classes: int, ignore: int) -> Tensor:
    """The most frequent class of each patch at each of its pixels, (N, S, S): the best that a patch can say."""
    modes = []
    for masks in truth.split(CHUNK // 4):  # 8 bytes a pixel and class
        kept = F.one_hot(masks.where(masks != ignore, classes), classes + 1)[..., :classes]  # (n, S, S, C)
        shares = F.adaptive_avg_pool2d(kept.permute(0, 3, 1, 2).float(), (grid[0], grid[1]))  # (n, C, h, w)
        modes.append(F.interpolate(shares.argmax(1, keepdim=True).float(), truth.shape[-2:])[:, 0].long())
    return torch.cat(modes)


def details(table: Tensor) -> dict[str, Any]:
    """What stands beside the mIoU, from counts (N, C, C): in %, None for a class that the truth does not have."""
    total = table.sum(0).cpu().double()  # (C, C)
    ious = (100 * iou_per_class(total.flatten().numpy())).tolist()
    shown = [None if iou != iou else iou for iou in ious]
    recall = (total.diagonal() / total.sum(1))[total.sum(1) > 0]
    return {
        "iou_per_class": shown,
        "classes_averaged": len(recall),
        "pixel_accuracy": 100 * (total.trace() / total.sum()).item(),
        "mean_class_accuracy": 100 * recall.mean().item(),
    }
