"""Linear segmentation: one linear layer on each place of the frozen map (Oquab et al. 2023, arXiv:2304.07193)."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.features import Part
from ssbench.results.metrics import Metric, iou_per_class, score
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task
from ssbench.training.loop import rate

CHUNK = 64  # images a product when heads are only applied


class Segmentation(Task):
    """Batch norm and a 1x1 convolution, scores upsampled bilinearly to the masks' size, cross-entropy a pixel.

    One head for each learning rate and weight decay, all trained at once; `select` picks one by mIoU, which is of one
    confusion table over all images and pixels, ignored ones left out, averaged over the classes in the truth. A head
    whose weights are not finite counts as 0 %; raises RuntimeError when all are such.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting((1e-3, 3e-3, 1e-2), "peak learning rates", source="project: DINOv2's, more")
        weight_decays: tuple[float, ...] = setting((1e-4,), "AdamW weight decays", source="DINOv2, linear segmentation")
        iterations: int = setting(
            500, "steps", source="project: CPU seconds; 2,000 gained nothing on shapes", unit="steps", ge=1
        )
        batch: int = setting(32, "images a step", source="project: twice DINOv2's, at a tenth of its size", ge=1)

    needs = frozenset({"mask"})
    metrics = (Metric("miou", "%", "higher", "iou"),)
    settings: Settings

    def evaluate(self, bench: Bench) -> Outcome:
        s, data = self.settings, bench.data
        grid = list(product(s.lrs, s.weight_decays))
        heads = train(bench, grid, s)
        tables = heads.confusion(bench.select, data.ignore_index)  # (G, N, C, C)
        sweep: list[dict[str, Any]] = []
        for (lr, decay), table, weight in zip(grid, tables, heads.weights):
            finite = bool(weight.isfinite().all())
            value = miou(table) if finite else 0.0
            sweep.append({"lr": lr, "weight_decay": decay, "select_miou": value, "diverged": not finite})
        if all(row["diverged"] for row in sweep):
            raise RuntimeError("every head diverged: the features are not finite, or all of segmentation.lrs too high")
        best = max(range(len(sweep)), key=lambda i: (not sweep[i]["diverged"], sweep[i]["select_miou"]))  # ties: first
        lr, decay = grid[best]
        at_edge = lr in (min(s.lrs), max(s.lrs))
        selected = {**sweep[best], "at_edge": at_edge, "refit": "none"}

        test = bench.test(selected)
        truth = test.target("mask").long()  # (N, S, S)
        table = heads.confusion(test, data.ignore_index)[best]  # (N, C, C)
        oracle = patch_modes(truth, test.map().shape[-2:], data.mask_classes, data.ignore_index)
        bound = miou(confusion(oracle, truth, data.mask_classes, data.ignore_index))
        outcome = Outcome(selected, sweep, details=details(table) | {"patch_oracle_miou": bound})
        outcome.details["label_resolution"] = truth.shape[-1]
        outcome.add("miou", confusion=table)
        return outcome


class Heads(nn.Module):
    """G linear heads behind one batch norm. Its scale and shift are left out: the heads can express them."""

    def __init__(self, width: int, classes: int, count: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.weights = nn.ParameterList(torch.zeros(classes, width, 1, 1) for _ in range(count))
        self.biases = nn.ParameterList(torch.zeros(classes) for _ in range(count))

    def forward(self, maps: Tensor, size: int) -> Tensor:
        """Feature maps (B, D, h, w) -> scores (B, G, C, size, size)."""
        scores = F.conv2d(self.norm(maps), torch.cat([*self.weights]), torch.cat([*self.biases]))  # (B, G * C, h, w)
        scores = F.interpolate(scores, (size, size), mode="bilinear", align_corners=False)
        return scores.unflatten(1, (len(self.weights), -1))

    @torch.no_grad()
    def confusion(self, part: Part, ignore: int) -> Tensor:
        """Counts of (truth, predicted) pixels of each head and image, (G, N, C, C)."""
        self.eval()
        counts = []
        for maps, truth in zip(part.map().split(CHUNK), part.target("mask").long().split(CHUNK)):
            scores = self(maps, truth.shape[-1])  # (n, G, C, S, S)
            found = scores.max(2).indices.transpose(0, 1)  # (G, n, S, S); argmax takes ten times as long
            counts.append(torch.stack([confusion(one, truth, scores.shape[2], ignore) for one in found]))
        return torch.cat(counts, 1)


def train(bench: Bench, grid: list[tuple[float, float]], settings: Segmentation.Settings) -> Heads:
    """Heads trained on the maps of `fit`, one for each learning rate and weight decay; all see the same batches."""
    s, ignore = settings, bench.data.ignore_index
    maps, masks = bench.fit.map(), bench.fit.target("mask").long()  # (N, D, h, w), (N, S, S)
    heads = Heads(maps.shape[1], bench.data.mask_classes, len(grid)).to(maps.device).train()
    pairs = zip(heads.weights, heads.biases)
    groups = [{"params": pair, "peak": lr, "weight_decay": decay} for pair, (lr, decay) in zip(pairs, grid)]
    optimiser = torch.optim.AdamW(groups)
    generator, needed = bench.generator("segmentation"), s.iterations * s.batch
    shuffles = [torch.randperm(len(maps), generator=generator) for _ in range(-(-needed // len(maps)))]
    for step, index in enumerate(torch.cat(shuffles)[:needed].view(s.iterations, s.batch).to(maps.device)):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate(step / s.iterations, warmup=0)
        truth = masks[index]  # (B, S, S)
        scores = heads(maps[index], truth.shape[-1])  # (B, G, C, S, S)
        wanted = truth.repeat_interleave(len(grid), 0)  # (B * G, S, S)
        errors = F.cross_entropy(scores.flatten(0, 1), wanted, ignore_index=ignore, reduction="sum")
        loss = errors / (truth != ignore).sum().clamp(min=1)  # each head's mean over pixels, summed over the heads
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % 100 == 0:
            bench.progress(f"segmentation: step {step + 1}/{s.iterations}  loss a head {loss.item() / len(grid):.3f}")
    return heads


def confusion(found: Tensor, truth: Tensor, classes: int, ignore: int) -> Tensor:
    """Counts (N, C, C) of (truth, predicted) pixels in each image of classes (N, S, S), ignored pixels left out."""
    image = torch.arange(len(truth), device=truth.device)[:, None, None]
    cell = (image * classes + truth) * classes + found
    counts = cell[truth != ignore].bincount(minlength=len(truth) * classes**2)
    return counts.view(len(truth), classes, classes).int()


def miou(table: Tensor) -> float:
    """Mean intersection over union, in %, of counts (N, C, C)."""
    return score("iou", {"confusion": table.cpu().numpy()})


def patch_modes(truth: Tensor, grid: Sequence[int], classes: int, ignore: int) -> Tensor:
    """The most frequent class of each patch at each of its pixels, (N, S, S): the best that a patch can say."""
    modes = []
    for masks in truth.split(CHUNK):
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
