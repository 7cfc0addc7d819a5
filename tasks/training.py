"""Training a copy of the encoder with labels: rates of its layers, the loop, and the search for a rate."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import group_parameters
from timm.optim import auto_group_layers, param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.features import Part, represent
from ssbench.method import View
from ssbench.results.metrics import Metric
from ssbench.rng import derive, onto
from ssbench.task import Bench, choose
from ssbench.training.loop import resident
from ssbench.training.optimisers import rate
from ssbench.training.views import make

A_LAYER = 3  # blocks of a stage that share a rate where the trunk is no ViT
WIDER = 2  # times that a grid of rates grows by a factor of 2 where its choice is at the edge


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
        """AdamW's groups: the head's `peak` rate is lr, the encoder's are those of `encoder_groups`."""
        return [
            *encoder_groups(self.encoder, lr, layer_decay, weight_decay),
            {"params": [self.head.weight], "weight_decay": weight_decay, "peak": lr},
            {"params": [self.head.bias], "weight_decay": 0.0, "peak": lr},
        ]


def encoder_groups(encoder: Encoder, lr: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups of an encoder: the last layer's `peak` rate is lr * layer_decay, and so on down to the stem.

    A block of a ViT is a layer; the last norm counts to the last block where MAE counts it to the head. In other
    trunks those of `stage_layers` are. Parameters of the encoder outside of its trunk learn at lr.
    """
    trunk = encoder.trunk
    inside = {id(weight) for weight in trunk.parameters()}
    beside = [weight for weight in encoder.parameters() if weight.requires_grad and id(weight) not in inside]
    kept = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else ()
    groups = param_groups_layer_decay(trunk, weight_decay, kept, layer_decay=layer_decay)
    if not encoder.has_tokens:
        layer = stage_layers(trunk)
        of = {id(weight): layer[name] for name, weight in trunk.named_parameters()}
        for group in groups:
            group["lr_scale"] = layer_decay ** (max(layer.values()) - of[id(group["params"][0])])
    return [
        *({**group, "peak": lr * layer_decay * group["lr_scale"]} for group in groups),
        *([{"params": beside, "weight_decay": 0.0, "peak": lr}] if beside else []),  # an encoder's own pooling
    ]


def stage_layers(trunk: nn.Module) -> dict[str, int]:
    """The layer of each parameter of a timm trunk in stages, from 0, the stem: up to three blocks of a stage are one.

    timm's finest groups take a residual block for a layer, and 0.75 a block leaves a ResNet-50's stem at 0.75 ** 17 of
    the head's rate. Who fine-tunes such nets with layer decay groups their blocks: ConvNeXt has three of them a layer,
    12 in all (facebookresearch/ConvNeXt, optim_factory.py); so has SparK, and 6 for a ResNet-50 and 12 for a
    ResNet-101 (keyu-tian/SparK, downstream_imagenet/models/__init__.py), which this rule gives too. Last norms count
    to the layer before, as timm has it for ViTs. Trunks without timm's groups are left as timm groups them.
    """
    if not hasattr(trunk, "group_matcher"):
        return auto_group_layers(trunk)
    stage, block = (
        group_parameters(trunk, trunk.group_matcher(coarse=coarse), reverse=True)  # type: ignore[operator]
        for coarse in (True, False)
    )
    first = {number: min(block[name] for name in stage if stage[name] == number) for number in stage.values()}
    place = {name: (stage[name], (block[name] - first[stage[name]]) // A_LAYER) for name in stage}
    weighty = {place[name] for name, weight in trunk.named_parameters() if weight.ndim > 1}
    order = {found: sum(one < found for one in weighty) - (found not in weighty) for found in set(place.values())}
    return {name: order[found] for name, found in place.items()}


def crops(bench: Bench, crop_min: float, seed: int) -> Callable[[Tensor, int], Tensor]:
    """Random crops and flips of the images of `fit` at given positions, in 0..1, (B, C, S, S), of one step."""
    images, size = resident(bench.fit.crops, bench.device), bench.fit.images.shape[-1]
    view = View(crop=(crop_min, 1.0))

    def cut(index: Tensor, step: int) -> Tensor:
        pixels = onto(images[onto(index, images.device)], bench.device).float() / 255
        return make(view, pixels, derive(seed, "views", step), size=size)

    return cut


def descend(
    network: nn.Module,
    groups: list[dict[str, Any]],
    loss: Callable[[Tensor, int], Tensor],
    order: list[Tensor],
    warmup: float,
    tell: Callable[[int, float], None],
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """AdamW over `groups`, each with its `peak` rate, which rises for a share `warmup` of the steps, then falls.

    `order` holds the positions of each step, (steps, B), for each epoch; `loss` takes those of one and its number.
    """
    optimiser = torch.optim.AdamW(groups, lr=groups[-1]["peak"], betas=(0.9, 0.999))
    steps, step = sum(map(len, order)), 0
    for epoch, indices in enumerate(order):
        network.train()
        for index in indices:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate(step / steps, warmup)
            found = loss(index, step)
            optimiser.zero_grad(set_to_none=True)
            found.backward()
            optimiser.step()
            step += 1
            after(step)
        tell(epoch + 1, found.item())
    optimiser.zero_grad(set_to_none=True)  # the network may be kept until one is chosen


def batches(count: int, batch: int, seed: int) -> Tensor:
    """One epoch's shuffled positions, (n, size), without the last that don't fill a batch.

    The size is `batch` or, where there are fewer images, the largest even number of them: mixing takes pairs.
    """
    size = min(batch, count // 2 * 2)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // size * size].view(-1, size)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators (torch's for drop path; NumPy's and Python's for timm) and leave them as they were."""
    before, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
            random.setstate(python)


N = TypeVar("N")


class Found(NamedTuple, Generic[N]):
    """What was trained at each rate, which of them `select` chose, and how the choice came about."""

    networks: list[N]  # one for each point of the sweep
    sweep: list[dict[str, Any]]
    best: int
    at_edge: bool

    @property
    def network(self) -> N:
        return self.networks[self.best]

    @property
    def point(self) -> dict[str, Any]:
        return self.sweep[self.best]


class Judged(NamedTuple):
    """What `select` says of a network: a score, what it is of, and whatever else was chosen."""

    score: float
    finite: bool
    arrays: dict[str, NDArray[np.generic]]
    more: dict[str, Any] = {}


def search(
    bench: Bench,
    lrs: tuple[float, ...],
    train: Callable[[float], N],
    metric: Metric,
    remedy: str,
    judge: Callable[[N], Judged] | None = None,
) -> Found[N]:
    """Train once for each rate and choose on `select`; without a `judge`, networks are `Network`s, judged by accuracy.

    A grid whose choice is at its edge, as `ssbench.task.choose` has it, grows there: the rate twice as high, or half as
    low, is then trained too, at most twice. A network whose scores are not finite counts as 0 %; raises RuntimeError
    when all are such.
    """
    by: Callable[[Any], Judged] = judge or partial(accurate, bench.select)
    rates = list(lrs)
    sweep, networks, arrays = list[dict[str, Any]](), list[N](), list[dict[str, NDArray[np.generic]]]()
    while True:
        for lr in rates[len(sweep) :]:
            networks.append(train(lr))
            found = by(networks[-1])
            score = found.score if found.finite else 0.0
            sweep.append({"lr": lr, **found.more, f"select_{metric.name}": score, "diverged": not found.finite})
            arrays.append(found.arrays)
        best, at_edge = choose(sweep, metric, ("lr",), lambda point: arrays[point], remedy)
        if not at_edge or len(rates) == len(lrs) + WIDER:
            return Found(networks, sweep, best, at_edge)
        rates.append(rates[best] * 2 if rates[best] == max(rates) else rates[best] / 2)


def accurate(part: Part, network: Network) -> Judged:
    """The share of a part's samples that a network tells right, in %."""
    scores, truth = network.scores(part), part.target("label")
    predicted, finite = scores.argmax(1), bool(scores.isfinite().all())
    arrays = {"predicted": predicted.cpu().numpy(), "truth": truth.cpu().numpy()}
    return Judged(100 * (predicted == truth).float().mean().item(), finite, arrays)
