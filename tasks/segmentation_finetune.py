"""Segmentation by fine-tuning: all weights learn from masks under a linear layer on the map (Bao et al. 2021, BEiT)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ssbench.features import Part, represent
from ssbench.results.metrics import Metric
from ssbench.rng import derive, onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, optimism
from ssbench.training.views import crop_boxes, resample

from .heads import Head, shifts, tables
from .maps import boundaries, confusion, details, masks, miou, pictures
from .training import Judged, Network, batches, descend, search, seeded


class SegmentationFinetune(Task):
    """A linear layer on each place of the map and a copy of the encoder, trained on `fit` once for each learning rate.

    Scores are upsampled bilinearly to the masks' size, and the loss is the pixels' cross-entropy there; crops and flips
    are of image and mask alike. As in `segmentation`, scores less a share of the classes' log-frequency are compared;
    `select` picks rate and share by mIoU after the last epoch, and rates grow where the choice is at the edge. The
    published recipes train deeper heads at 512 px for 160,000 steps. Raises RuntimeError when all rates diverge,
    NotApplicable for an encoder without weights.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting(
            (1e-3, 4e-3, 1.6e-2), "peak learning rates of the head", source="project: those of finetune", min_length=1
        )
        epochs: int = setting(5, "passes over fit", source="project: CPU seconds", ge=1)
        batch: int = setting(32, "images a step, at most", source="project", unit="images", ge=2, multiple_of=2)
        layer_decay: float = setting(0.75, "rate of a layer over the next", source="MAE, FINETUNE.md, L", gt=0, le=1)
        weight_decay: float = setting(0.05, "AdamW decay, not on 1-d parameters", source="BEiT, UperNet", ge=0)
        warmup: float = setting(
            0.1, "share with a rising rate", source="project; BEiT 1,500 steps of 160,000", ge=0, lt=1
        )
        crop_min: float = setting(
            0.25, "smallest crop; BEiT resizes by 0.5 to 2", source="project", unit="area", gt=0, le=1
        )
        shifts: tuple[float, ...] = setting(
            (0, 0.25, 0.5, 0.75, 1), "share of log-frequency off the scores", source="segmentation.shifts", min_length=1
        )

    needs = frozenset({"mask"})
    metrics = (Metric("miou", "%", "higher", "iou"), Metric("boundary-iou", "%", "higher", "iou"))
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """Forward passes on `select` and the test are a third of a trained image's."""
        (fit, select, test), s = bench.sizes, self.settings
        return Work(0, trained=len(s.lrs) * (s.epochs * fit + (select + test) // 3))

    def evaluate(self, bench: Bench) -> Outcome:
        s, classes, truth = self.settings, bench.data.mask_classes, masks(bench.select, bench.data)
        counts = torch.stack([(masks(bench.fit, bench.data) == c).sum() for c in range(classes)])[None].float()
        moved = shifts(counts, s.shifts)  # (S, C)

        def judge(network: Mapper) -> Judged:
            found = tables(network.linear(), moved, network.maps(bench.select), truth)  # (S, N, C, C)
            scores = [miou(table) for table in found]
            at = max(range(len(scores)), key=lambda i: scores[i])
            arrays = {"confusion": found[at].cpu().numpy()}
            return Judged(scores[at], network.finite(), arrays, {"shift": s.shifts[at]})

        found = search(
            bench, s.lrs, lambda lr: train(bench, lr, s), self.metrics[0], "lower segmentation-finetune.lrs", judge
        )
        test = bench.test(selected := {**found.point, "at_edge": found.at_edge, "refit": "none"})
        wanted = masks(test, bench.data)

        def predicted(i: int) -> Tensor:
            network, shift = found.networks[i], found.sweep[i]["shift"]
            head = network.linear().less(moved[s.shifts.index(shift)])
            return head.predict(network.maps(test), wanted.shape[1:])

        def made(i: int) -> dict[str, NDArray[np.generic]]:
            return {"confusion": confusion(predicted(i), wanted, classes).cpu().numpy()}

        said = predicted(found.best)
        outcome = Outcome(selected, found.sweep)
        outcome.add("miou", confusion=(table := confusion(said, wanted, classes)))
        outcome.add("boundary-iou", **boundaries(said, wanted, classes))
        outcome.details = details(table) | {"label_resolution": wanted.shape[-1]}
        outcome.details |= optimism(found.sweep, self.metrics[0], found.best, made)
        outcome.pictures["segmentation"] = pictures(test.images, wanted, said, classes)
        return outcome


class Mapper(Network):
    """An encoder with a linear layer on each place of its map."""

    def linear(self) -> Head:
        return Head(self.head.weight.T, self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, S, S) -> a score for each class and pixel, (B, classes, S, S)."""
        return self.linear().scores(self.encoder.map(images), images.shape[-2:])

    def maps(self, part: Part) -> Tensor:
        """Maps (N, D, h, w) in evaluation mode."""
        return represent(self.encoder, part.images, lambda images: {"map": self.encoder.map(images)})["map"]

    def finite(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.parameters())


def train(bench: Bench, lr: float, settings: SegmentationFinetune.Settings) -> Mapper:
    """A network trained on `fit`; every learning rate sees the same batches and crops."""
    s, device, classes = settings, bench.device, bench.data.mask_classes
    images, truth = bench.fit.images.to(device), masks(bench.fit, bench.data)
    seed = bench.generator("segmentation-finetune").initial_seed()
    with seeded(seed, device):
        network = Mapper(bench.encoder(), classes)

        def loss(index: Tensor, step: int) -> Tensor:
            rows = onto(index, device)
            shares = F.one_hot(truth[rows].long(), classes + 1).permute(0, 3, 1, 2).float()  # (B, C + 1, S, S)
            seen, wanted = cut(images[rows].float() / 255, shares, s.crop_min, derive(seed, "crops", step))
            errors = -(wanted[:, :classes] * network(network.encoder.normalise(seen)).log_softmax(1)).sum()
            return errors / wanted[:, :classes].sum().clamp(min=1)

        def tell(epoch: int, value: float) -> None:
            bench.progress(f"segmentation-finetune lr {lr:g}: epoch {epoch}/{s.epochs}  loss {value:.3f}")

        order = [batches(len(images), s.batch, derive(seed, "order", epoch)) for epoch in range(s.epochs)]
        descend(network, network.groups(lr, s.layer_decay, s.weight_decay), loss, order, s.warmup, tell)
    return network


def cut(images: Tensor, shares: Tensor, smallest: float, seed: int) -> tuple[Tensor, Tensor]:
    """The same random crops and flips of images (B, C, S, S) and of shares of classes (B, K, S, S), at their size."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        boxes, flips = crop_boxes(len(images), (smallest, 1.0)), torch.rand(len(images)) < 0.5
    both = torch.cat([images, shares], 1)
    seen = resample(both, onto(boxes, images.device), onto(flips, images.device), images.shape[-1])
    return seen[:, : images.shape[1]], seen[:, images.shape[1] :]
