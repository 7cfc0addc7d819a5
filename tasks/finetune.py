"""Fine-tuning: all weights learn from labels, the deeper the layer the faster (He et al. 2021, arXiv:2111.06377)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer
from timm.data.mixup import Mixup
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.features import Part, represent
from ssbench.method import View
from ssbench.results.metrics import Metric
from ssbench.rng import derive, onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, choose
from ssbench.training.loop import rate, resident
from ssbench.training.views import make

from .classes import BESIDE, SURE, classified

REGULARISERS = ("mixup", "cutmix", "smoothing", "drop_path")


class Finetune(Task):
    """A linear layer on the pooled vector and a copy of the encoder, trained on `fit` once for each learning rate.

    The network after its last epoch counts; `select` picks the rate. Mixup, cutmix, label smoothing and drop path are
    for long trainings: below `regularise_from` epochs they are off. A network whose outputs are not finite counts as
    0 %; raises RuntimeError when all are such, NotApplicable for an encoder without weights.
    """

    class Settings(Base):
        lrs: tuple[float, ...] = setting(
            (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
            "peak learning rates of the head",
            source="project: around MAE's, table 9",
            min_length=1,
        )
        epochs: int = setting(5, "passes over fit", source="project: CPU seconds; MAE 100", ge=1)
        batch: int = setting(
            128, "images a step, at most", source="project: many steps; MAE 1024", unit="images", ge=2, multiple_of=2
        )
        layer_decay: float = setting(0.75, "rate of a layer over the next", source="MAE, FINETUNE.md, L", gt=0, le=1)
        weight_decay: float = setting(0.05, "AdamW decay, not on 1-d parameters", source="MAE, FINETUNE.md", ge=0)
        warmup: float = setting(0.1, "share with a rising rate", source="project: one epoch; MAE 5 of 100", ge=0, lt=1)
        drop_path: float = setting(0.1, "largest chance to skip a block", source="MAE, FINETUNE.md, B", ge=0, lt=1)
        mixup: float = setting(0.8, "mixup's beta; 0: none", source="MAE, FINETUNE.md", ge=0)
        cutmix: float = setting(1.0, "cutmix's beta; 0: none", source="MAE, FINETUNE.md", ge=0)
        smoothing: float = setting(0.1, "label smoothing", source="MAE, FINETUNE.md", ge=0, lt=1)
        regularise_from: int = setting(
            50, "epochs from which the four above are on", source="MAE, FINETUNE.md: its shortest", unit="epochs", ge=1
        )
        crop_min: float = setting(
            0.2, "smallest crop", source="MAE, main_pretrain.py; 0.08 is for 100 epochs", unit="area", gt=0, le=1
        )

        @property
        def regularised(self) -> bool:
            return self.epochs >= self.regularise_from

        @model_serializer(mode="wrap")
        def _used(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
            """What has no effect is no part of a result's identity, and is refused where it is set."""
            return {key: value for key, value in whole(self).items() if self.regularised or key not in REGULARISERS}

    version = 2
    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE, *SURE)
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """Forward passes on `select` and the test are a third of a trained image's."""
        (fit, select, test), s = bench.sizes, self.settings
        return Work(0, trained=len(s.lrs) * (s.epochs * fit + select // 3) + test // 3)

    def evaluate(self, bench: Bench) -> Outcome:
        s, truth = self.settings, bench.select.target("label")
        networks = [train(bench, lr, s) for lr in s.lrs]
        scores = [network.scores(bench.select) for network in networks]  # each (N, C)
        sweep: list[dict[str, Any]] = []
        for lr, score in zip(s.lrs, scores):
            finite = bool(score.isfinite().all())
            accuracy = 100 * (score.argmax(1) == truth).float().mean().item() if finite else 0.0
            sweep.append({"lr": lr, "select_top1": accuracy, "diverged": not finite})

        def predictions(point: int) -> dict[str, NDArray[np.generic]]:
            return {"predicted": scores[point].argmax(1).cpu().numpy(), "truth": truth.cpu().numpy()}

        best, at_edge = choose(sweep, self.metrics[0], ("lr",), predictions, "lower finetune.lrs")
        selected = {**sweep[best], "regularised": s.regularised, "at_edge": at_edge, "refit": "none"}

        test = bench.test(selected)
        outcome = Outcome(selected, sweep)
        classified(outcome, bench, networks[best].scores(test), test.target("label"), logits=True)
        return outcome


class Network(nn.Module):
    """An encoder with a linear layer on its pooled vector, which starts near zero as MAE's (main_finetune.py)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.dim, classes, device=encoder.mean.device)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> a score for each class, (B, classes)."""
        return self.head(self.encoder.pooled(images))

    def scores(self, part: Part) -> Tensor:
        """A score for each class, (N, classes), in evaluation mode."""
        return represent(self.encoder, part.images, lambda images: {"scores": self(images)})["scores"]

    def groups(self, lr: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's groups: the head's `peak` rate is lr, the last block's lr * layer_decay, and so on down to the stem.

        Layers are timm's, which counts the last norm to the last block where MAE counts it to the head.
        """
        trunk, head = self.encoder.trunk, self.head
        inside = {id(weight) for weight in trunk.parameters()}
        beside = [weight for weight in self.encoder.parameters() if weight.requires_grad and id(weight) not in inside]
        kept = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else ()
        layers = param_groups_layer_decay(trunk, weight_decay, kept, layer_decay=layer_decay)
        return [
            *({**layer, "peak": lr * layer_decay * layer["lr_scale"]} for layer in layers),
            *([{"params": beside, "weight_decay": 0.0, "peak": lr}] if beside else []),  # an encoder's own pooling
            {"params": [head.weight], "weight_decay": weight_decay, "peak": lr},
            {"params": [head.bias], "weight_decay": 0.0, "peak": lr},
        ]


def train(bench: Bench, lr: float, settings: Finetune.Settings) -> Network:
    """A network trained on `fit`; every learning rate sees the same batches, crops and mixtures."""
    s, device = settings, bench.device
    images, labels = resident(bench.fit.crops, device), bench.fit.target("label")
    seed, classes = bench.generator("finetune").initial_seed(), len(bench.data.classes)
    size = bench.fit.images.shape[-1]
    mixup, cutmix, smoothing, drop_path = (getattr(s, name) if s.regularised else 0.0 for name in REGULARISERS)
    mix = Mixup(mixup, cutmix, prob=float(mixup + cutmix > 0), label_smoothing=smoothing, num_classes=classes)
    view = View(crop=(s.crop_min, 1.0))
    with seeded(seed, device):
        network = Network(bench.encoder(drop_path), classes)
        optimiser = torch.optim.AdamW(network.groups(lr, s.layer_decay, s.weight_decay), lr=lr, betas=(0.9, 0.999))
        order = [batches(len(images), s.batch, derive(seed, "order", epoch)) for epoch in range(s.epochs)]
        steps, step = s.epochs * len(order[0]), 0
        for epoch, indices in enumerate(order):
            network.train()
            for index in indices:
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * rate(step / steps, s.warmup)
                pixels = onto(images[onto(index, images.device)], device).float() / 255  # (B, C, S, S)
                seen = make(view, pixels, derive(seed, "views", step), size=size)
                mixed, target = mix(network.encoder.normalise(seen), labels[onto(index, device)])  # (B, classes)
                loss = F.cross_entropy(network(mixed), target)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
            bench.progress(f"finetune lr {lr:g}: epoch {epoch + 1}/{s.epochs}  loss {loss.item():.3f}")
        optimiser.zero_grad(set_to_none=True)  # every rate's network is kept until one is chosen
    return network


def batches(count: int, batch: int, seed: int) -> Tensor:
    """One epoch's shuffled positions, (n, size), without the last that don't fill a batch.

    The size is `batch` or, where there are fewer images, the largest even number of them: mixing takes pairs.
    """
    size = min(batch, count // 2 * 2)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // size * size].view(-1, size)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators (torch's for drop path, NumPy's for timm's Mixup) and leave them as they were."""
    before = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
