"""Segmentation by frozen maps: a linear layer on each place (Oquab et al. 2023, arXiv:2304.07193), or neighbours."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose, optimism
from ssbench.windows import Windowed

from .heads import Trained, chosen, sample, shifts
from .lbfgs import Path
from .maps import boundaries, confusion, confusions, details, looked, masks, miou, patch_modes, pictures, standard
from .neighbours import Bank


class Segmentation(Task):
    """`miou`: logistic regression on standardised places, scores upsampled bilinearly to the masks' size.

    Every place learns its share of each class, which is the pixels' cross-entropy with one prediction a place. The
    problem is convex: L-BFGS solves it once for each penalty, the largest first, and `select` picks penalty and shift.
    A batch norm before the layer, as in DINOv2's head, is the standardisation once the layer is trained to the end.
    `miou@multi`: the same on the maps of the last blocks side by side, where an encoder has several.
    `miou@knn`: a place copies, pixel by pixel, what most of its k nearest places in a bank have; nothing is trained,
    `select` picks k, and the bank is of `fit` for `select` and of both for the test (CAPI, eval_segmentation.py).

    mIoU is of one confusion table over all images and pixels, ignored ones left out, averaged over the classes in the
    truth. `boundary-iou` is that of the bands along the classes' contours, of the headline's answers (Cheng et al.
    2021, arXiv:2103.16562). Raises RuntimeError where the features are not finite.
    """

    class Settings(Windowed):
        decades: tuple[float, ...] = setting(
            tuple(range(-6, -1)),
            "penalties as exponents of ten, of half the squared weights beside the mean loss; grows where needed",
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
        places: int = setting(
            32768,
            "that heads learn from, at most",
            source="project: four times as many move mIoU by 0.3 on shapes",
            unit="places",
            ge=1,
        )
        blocks: int = setting(4, "last blocks of miou@multi", source="DINOv2's +ms, last 4", ge=1)
        ks: tuple[PositiveInt, ...] = setting(
            (1, 3, 10, 30), "neighbours", source="CAPI, eval_segmentation.py", min_length=1
        )
        bank: int = setting(32768, "places in it, at most", source="project: for a CPU; CAPI all", unit="places", ge=1)

    version = 3
    needs = frozenset({"mask"})
    metrics = (
        Metric("miou", "%", "higher", "iou"),
        Metric("miou@multi", "%", "higher", "iou"),
        Metric("miou@knn", "%", "higher", "iou"),
        Metric("boundary-iou", "%", "higher", "iou"),
    )
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """L-BFGS looks at all places a fourth more often than it steps; each place of a query meets the bank."""
        (fit, select, test), s, part = bench.sizes, self.settings, bench.fit
        places, several = math.prod(part.grid), min(s.blocks, part.depth)
        wide = part.dim * (1 + several * (several > 1))
        seen = min(fit * places, s.places)
        heads = 4 * seen * wide * bench.data.mask_classes * 1.25 * s.iterations * len(s.decades)
        near = 2 * (select + test) * places * part.dim * min(s.bank, fit * places)
        return replace(looked(bench, s.window, 1 + (several > 1)), gflops=1e-9 * (heads + near))

    def evaluate(self, bench: Bench) -> Outcome:
        s, classes = self.settings, bench.data.mask_classes
        linear, multi, nearest, contours = self.metrics
        views = {linear: View(bench, lambda part: part.map(s.window))}
        if bench.fit.maps(s.blocks, s.window).shape[1] > bench.fit.map(s.window).shape[1]:
            views[multi] = View(bench, lambda part: part.maps(s.blocks, s.window))
        heads = {metric: trained(bench, view, metric, s) for metric, view in views.items()}
        see = views[linear]
        bank = Bank.of(*see(bench.fit), classes, s.bank, bench.generator("bank"))
        near = bank.tables(*see(bench.select), s.ks)  # (K, N, C, C)
        tries = [{"k": k, f"select_{nearest.name}": miou(each), "diverged": False} for k, each in zip(s.ks, near)]
        at, last = choose(tries, nearest, ("k",), confusions([*near]), "take other ks")
        picked = {metric.name: {**head.point, "at_edge": head.at_edge} for metric, head in heads.items()}
        picked[nearest.name] = {**tries[at], "at_edge": last and s.ks[at] > 1, "refit": "fit+select"}
        selected = {**picked.pop(linear.name), **picked, "refit": "none"}

        test = bench.test(selected)
        outcome = Outcome(selected, [point for head in heads.values() for point in head.sweep] + tries)
        truth = masks(test, bench.data)  # (N, S, S)
        for metric, head in heads.items():
            maps = views[metric](test)[0]
            found = head.heads[head.best].predict(maps, truth.shape[1:])
            outcome.add(metric.name, confusion=(table := confusion(found, truth, classes)))
            if metric == linear:
                outcome.add(contours.name, **boundaries(found, truth, classes))
                outcome.pictures["segmentation"] = pictures(test.images, truth, found, classes)
                outcome.details |= details(table) | ahead(head, metric, maps, truth)
        both = [torch.cat(each) for each in zip(see(bench.fit), see(bench.select))]
        bank = Bank.of(both[0], both[1], classes, s.bank, bench.generator("bank"))
        outcome.add(nearest.name, confusion=bank.tables(*see(test), (s.ks[at],))[0])
        bound = confusion(patch_modes(truth, test.map(s.window).shape[-2:], classes), truth, classes)
        outcome.details |= {"patch_oracle_miou": miou(bound), "label_resolution": truth.shape[-1]}
        return outcome


class View:
    """What a head sees of a part: maps (N, D, h, w) standardised by those of `fit`, and classes of pixels (N, S, S)."""

    def __init__(self, bench: Bench, read: Callable[[Part], Tensor]) -> None:
        self.read, self.data, self.scale = read, bench.data, standard(read(bench.fit))

    def __call__(self, part: Part) -> tuple[Tensor, Tensor]:
        return self.scale(self.read(part)), masks(part, self.data)


def ahead(found: Trained, metric: Metric, maps: Tensor, truth: Tensor) -> dict[str, float]:
    """`optimism` on maps and masks of the test split."""

    def made(i: int) -> dict[str, NDArray[np.generic]]:
        head = found.heads[i]
        return {"confusion": confusion(head.predict(maps, truth.shape[1:]), truth, len(head.bias)).cpu().numpy()}

    return optimism(found.sweep, metric, found.best, made)


def trained(bench: Bench, see: View, metric: Metric, settings: Segmentation.Settings) -> Trained:
    """The head that `select` picks, of all penalties and shifts."""
    x, counts = sample(*see(bench.fit), bench.data.mask_classes, settings.places, bench.generator("places"))
    path, moves = Path(x, counts, iterations=settings.iterations), (settings.shifts, shifts(counts, settings.shifts))
    return chosen(path, settings.decades, moves, see(bench.select), metric, bench.progress)
