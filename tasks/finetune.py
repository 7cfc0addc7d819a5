"""Fine-tuning: all weights learn from labels, the deeper the layer the faster (He et al. 2021, arXiv:2111.06377)."""

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator
from timm.data.mixup import Mixup
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from ssbench.results.metrics import Metric
from ssbench.rng import derive, onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work, optimism

from .augment import erasing, rand_augment
from .classes import BESIDE, SURE, classified, predictions
from .training import Network, batches, crops, descend, search, seeded

REGULARISERS = ("mixup", "cutmix", "smoothing", "drop_path")
PUBLISHED = {"epochs": 50, "crop_min": 0.08}  # MAE, FINETUNE.md (L) and timm's crops; warm-up is 5 of its 50 already


class Finetune(Task):
    """A linear layer on the pooled vector and a copy of the encoder, trained on `fit` once for each learning rate.

    The network after its last epoch counts; `select` picks the rate, and the grid grows where it picks one at the edge.
    Mixup, cutmix, label smoothing and drop path are for long trainings: below `regularise_from` epochs they are off.
    `recipe=published` is MAE's: other defaults, the four always on, and with them RandAugment and random erasing, and
    the weights' average by timm counts, which MAE does not take. A network whose outputs are not finite counts as 0 %;
    raises RuntimeError when all are such, NotApplicable for an encoder without weights.
    """

    class Settings(Base):
        recipe: Literal["short", "published"] = setting(
            "short", "published: long, RandAugment, erasing, averaged weights", source="project; MAE, main_finetune.py"
        )
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
            return self.published or self.epochs >= self.regularise_from

        @property
        def published(self) -> bool:
            return self.recipe == "published"

        @model_validator(mode="before")
        @classmethod
        def _of_the_recipe(cls, values: dict[str, Any]) -> dict[str, Any]:
            return (PUBLISHED if values.get("recipe") == "published" else {}) | values

        @model_serializer(mode="wrap")
        def _used(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
            """What has no effect is no part of a result's identity, and is refused where it is set."""
            unused = {"regularise_from"} if self.published else {"recipe"}
            unused |= set() if self.regularised else {*REGULARISERS}
            return {key: value for key, value in whole(self).items() if key not in unused}

    version = 2
    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE, *SURE)
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """Forward passes on `select` and the test are a third of a trained image's; a grid may grow by two rates."""
        (fit, select, test), s = bench.sizes, self.settings
        return Work(0, trained=len(s.lrs) * (s.epochs * fit + (select + test) // 3))

    def evaluate(self, bench: Bench) -> Outcome:
        s = self.settings
        found = search(bench, s.lrs, lambda lr: train(bench, lr, s), self.metrics[0], "lower finetune.lrs")
        selected = {**found.point, "regularised": s.regularised, "at_edge": found.at_edge, "refit": "none"}
        test = bench.test(selected)
        scores, truth = [network.scores(test) for network in found.networks], test.target("label")
        made = predictions(scores, truth)
        outcome = Outcome(selected, found.sweep, details=optimism(found.sweep, self.metrics[0], found.best, made))
        classified(outcome, bench, scores[found.best], truth, logits=True)
        return outcome


def train(bench: Bench, lr: float, settings: Finetune.Settings) -> Network:
    """A network trained on `fit`; every learning rate sees the same batches, crops and mixtures."""
    s, device, labels = settings, bench.device, bench.fit.target("label")
    seed, classes = bench.generator("finetune").initial_seed(), len(bench.data.classes)
    mixup, cutmix, smoothing, drop_path = (getattr(s, name) if s.regularised else 0.0 for name in REGULARISERS)
    mix = Mixup(mixup, cutmix, prob=float(mixup + cutmix > 0), label_smoothing=smoothing, num_classes=classes)
    cut, order = crops(bench, s.crop_min, seed), [derive(seed, "order", epoch) for epoch in range(s.epochs)]
    with seeded(seed, device):
        network = Network(bench.encoder(drop_path), classes)
        encoder = network.encoder
        average = averaged(network) if s.published else None
        augment = rand_augment(bench.fit.images.shape[-1], encoder.mean) if s.published else _same
        erase = erasing(device) if s.published else _same

        def loss(index: Tensor, step: int) -> Tensor:
            seen = erase(encoder.normalise(augment(cut(index, step))))
            mixed, target = mix(seen, labels[onto(index, device)])  # target: (B, classes)
            return F.cross_entropy(network(mixed), target)

        def after(step: int) -> None:
            if average:
                average.update(network, step)

        def tell(epoch: int, value: float) -> None:
            bench.progress(f"finetune lr {lr:g}: epoch {epoch}/{s.epochs}  loss {value:.3f}")

        groups = network.groups(lr, s.layer_decay, s.weight_decay)
        positions = [batches(len(bench.fit), s.batch, one) for one in order]
        descend(network, groups, loss, positions, s.warmup, tell, after)
    return average.module if average else network


def averaged(network: Network) -> ModelEmaV3:
    """The moving average of a network's weights, which at first follows fast: timm's warm-up for short trainings."""
    return ModelEmaV3(network, decay=0.9999, use_warmup=True, warmup_power=0.75)


def _same(images: Tensor) -> Tensor:
    return images
