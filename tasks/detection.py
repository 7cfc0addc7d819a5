"""Detection: FCOS (Tian et al. 2019, arXiv:1904.01355) on ViTDet's simple pyramid of an encoder's single map."""

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssbench.features import Part
from ssbench.results.metrics import Metric, influences
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, optimism
from ssbench.training.optimisers import rate

from .boxes import cleaned, constant, drawn
from .coco import MOST, SCORES, SIZES, Matched, matched, required
from .pyramid import Detector, anchors_of, match
from .training import Judged, search

CHUNK = 64  # images at a time where nothing is trained
TRUNK = 0.1  # the encoder's learning rate, where it is tuned, to the detector's


class Detection(Task):
    """`ap`: COCO's AP over overlaps of .50 to .95. Learning rates are compared by it on `select`; nothing is refitted.

    A frozen encoder's maps are computed once and the detector is trained on them. `trunk=tuned` trains a copy of the
    encoder with it, at a tenth of its rate. Boxes are clipped to the image, and empty ones left out and counted.
    """

    class Settings(Base):
        trunk: Literal["frozen", "tuned"] = setting("frozen", "what is done with the encoder", source="PROTOCOLS S5.5")
        lrs: tuple[float, ...] = setting((4e-3, 8e-3, 1.6e-2), "learning rates", source="project: shapes", min_length=1)
        steps: int = setting(500, "of training, for each rate", source="project: for a CPU", unit="steps", ge=1)
        batch: int = setting(16, "images a step", source="project: for a CPU", unit="images", ge=1)
        weight_decay: float = setting(0.1, "AdamW decay", source="ViTDet, optim.py", ge=0)
        warmup: float = setting(0.1, "share with a rising rate", source="project", ge=0, lt=1)

    version = 2
    needs = frozenset({"boxes"})
    metrics = tuple(Metric(name, "%", "higher", "mean") for name in SCORES)
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """A tuned encoder sees `select` and the test again for each rate; the detector's own are 0.5 MFLOPs a place."""
        s, (_, select, test) = self.settings, bench.sizes
        seen = len(s.lrs) * s.steps * s.batch
        places = bench.fit.grid[0] * bench.fit.grid[1]
        gflops = (3 * seen + len(s.lrs) * (select + test)) * places * 3e-4
        tuned = seen + len(s.lrs) * (select + test) // 3
        return Work(sum(bench.sizes), trained=tuned if s.trunk == "tuned" else 0, gflops=gflops)

    def evaluate(self, bench: Bench) -> Outcome:
        required()
        s, data, size = self.settings, bench.data, bench.fit.images.shape[-1]
        if not bench.fit.map().isfinite().all():
            raise RuntimeError("the features are not finite")
        kinds = len(data.box_classes)
        known, _ = cleaned(bench.fit.target("boxes"), size)
        truth, _ = cleaned(bench.select.target("boxes"), size)

        def judge(one: Trained) -> Judged:
            value = values(matched(one.detect(bench.select), truth, kinds), np.arange(len(truth)))["ap"]
            return Judged(float(value.mean()), one.finite(), {"value": value}, {})

        found = search(bench, s.lrs, lambda lr: Trained(bench, lr, s), self.metrics[0], "lower detection.lrs", judge)
        selected = {**found.point, "at_edge": found.at_edge, "refit": "none"}
        test = bench.test(selected)
        truth, dropped = cleaned(test.target("boxes"), size)
        boxes, limit = found.network.detect(test), found.network.limit
        fixed = constant(known, kinds, limit).expand(len(truth), -1, -1)
        judged, floor = matched(boxes, truth, kinds), values(matched(fixed, truth, kinds), test.units)

        def made(i: int) -> dict[str, NDArray[np.float64]]:
            of = judged if i == found.best else matched(found.networks[i].detect(test), truth, kinds)
            return {"value": np.array([of.scores(tuple(range(of.images)))["ap"]])}

        details = {
            "profile": profiles(judged, data.box_classes),
            "empty_boxes": dropped,
            "detections_an_image": limit,
            "images_with_more_boxes": int(((truth[..., 4] >= 0).sum(1) > limit).sum()),
            **optimism(found.sweep, self.metrics[0], found.best, made),
        }
        outcome = Outcome(selected, found.sweep, details=details)
        outcome.pictures["detection"] = drawn(test.images[:8], truth[:8], boxes[:8])
        for name, value in values(judged, test.units).items():
            outcome.add(name, value=torch.from_numpy(value), constant=torch.from_numpy(floor[name]))
        return outcome


def profiles(judged: Matched, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """AP of each class, and over classes for each of COCO's sizes; what the truth does not have is left out."""
    each = judged.precision().mean(0)  # (classes, sizes), NaN at every overlap or at none
    sizes = {name: column[~np.isnan(column)] for name, column in zip(SIZES, each.T[1:])}
    return {
        "class": {name: float(value) for name, value in zip(classes, each[:, 0]) if not np.isnan(value)},
        "size": {name: float(column.mean()) for name, column in sizes.items() if column.size},
    }


def values(judged: Matched, units: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Of each score a value an image, (N,), whose mean is the score; `units` (N,) are the images' (`Part.units`)."""
    scores = cache(lambda index: judged.scores(index))
    return {
        name: influences(lambda index, name=name: scores(tuple(index.tolist()))[name], units)  # type: ignore[misc]
        for name in SCORES
    }


class Trained:
    """A detector trained on `fit` with one learning rate; every rate sees the same batches."""

    def __init__(self, bench: Bench, lr: float, s: Detection.Settings) -> None:
        part, device, seed = bench.fit, bench.device, bench.generator("detection").initial_seed()
        self.size, self.anchors = part.images.shape[-1], anchors_of(part.grid, part.images.shape[-1], device)
        self.encoder = bench.encoder() if s.trunk == "tuned" else None
        boxes, _ = cleaned(part.target("boxes"), self.size)
        self.limit = min(max(4 * int((boxes[..., 4] >= 0).sum(1).max()), 10), MOST)
        matches, maps = match(boxes, self.anchors), part.map()
        std, mean = torch.std_mean(maps, (0, 2, 3))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            std = std.where(std > 1e-6, 1)[:, None, None]
            self.detector = Detector(mean[:, None, None], std, len(bench.data.box_classes)).to(device)
        groups: list[dict[str, Any]] = [{"params": [*self.detector.parameters()], "peak": lr}]
        if self.encoder is not None:
            groups.append({"params": [w for w in self.encoder.parameters() if w.requires_grad], "peak": TRUNK * lr})
        optimiser = torch.optim.AdamW(groups, lr=lr, weight_decay=s.weight_decay)
        draw = torch.Generator().manual_seed(seed)
        for step in range(s.steps):
            index = torch.randint(len(part), (s.batch,), generator=draw).to(device)
            for group in groups:
                group["lr"] = group["peak"] * rate(step / s.steps, s.warmup)
            seen = maps[index] if self.encoder is None else self.maps(part.images[index.cpu()])
            loss = self.detector.loss(seen, boxes[index], matches[index], self.anchors)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.detector.parameters(), 10)
            optimiser.step()
            if step % 50 == 49:
                bench.progress(f"detection lr {lr:g}: step {step + 1}/{s.steps}  loss {loss.item():.3f}")

    def maps(self, images: Tensor) -> Tensor:
        """The tuned encoder's, of uint8 images (B, C, S, S)."""
        assert self.encoder is not None
        return self.encoder.map(self.encoder.normalise(images.to(self.anchors.squares.device)))

    def finite(self) -> bool:
        networks = [self.detector] if self.encoder is None else [self.detector, self.encoder]
        return all(bool(weight.isfinite().all()) for network in networks for weight in network.parameters())

    @torch.no_grad()
    def detect(self, part: Part) -> Tensor:
        """Found boxes (N, limit, 6)."""
        self.detector.eval()
        if self.encoder is None:
            chunks: Any = part.map().split(CHUNK)
        else:
            self.encoder.eval()
            chunks = (self.maps(images) for images in part.images.split(CHUNK))
        return torch.cat([self.detector.detect(each, self.anchors, self.size, self.limit) for each in chunks])
