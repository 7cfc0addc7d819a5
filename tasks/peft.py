"""Parameter-efficient fine-tuning: which way of adapting an encoder is worth its trained parameters."""

import time
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch.nn.functional as F
from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer
from torch import Tensor

from ssbench.errors import NotApplicable
from ssbench.results.metrics import Metric
from ssbench.rng import derive, onto
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work

from .adapters import MATCHED, Adapted, reached, step
from .classes import BESIDE, SURE, classified
from .training import Found, Network, batches, crops, descend, search, seeded

Way = Literal["head", "bitfit", "lora", "adapter", "prompt", "last", "full"]
CROP, WARMUP, LAYER_DECAY, WEIGHT_DECAY = 0.2, 0.1, 0.75, 0.05  # those of finetune; the last two for `full` alone


class Peft(Task):
    """Each way of adapting trains a linear layer and its own part of a copy of the encoder, with the same steps.

    `select` picks a rate for each way from the same grid, which grows at its edges, then the way. LoRA, adapters and
    prompts get about as many parameters, a `share` of the trunk's; the other ways have the number that they have. The
    test score of every way, fixed before, is in the record's profile. A way that the network has no place for is left
    out, and the record says why.
    """

    class Settings(Base):
        ways: tuple[Way, ...] = setting(get_args(Way), "ways to compare", source="project", min_length=1)
        share: float = setting(
            0.01,
            "trained of the trunk's parameters",
            source="project: ViT-B: LoRA of rank 23, adapters of 46",
            gt=0,
            le=1,
        )
        lrs: tuple[float, ...] = setting(
            (4e-3, 1.6e-2),
            "peak learning rates",
            source="project: best on shapes; LoRA's 1e-3 is for long trainings",
            min_length=1,
        )
        epochs: int = setting(1, "passes over fit", source="project: CPU minutes", ge=1)
        batch: int = setting(
            64, "images a step, at most", source="project: many steps", unit="images", ge=2, multiple_of=2
        )

        @field_validator("ways")
        @classmethod
        def _installed(cls, ways: tuple[str, ...]) -> tuple[str, ...]:
            if "lora" in ways and not find_spec("peft"):
                raise ValueError("lora needs the extra: pip install 'ssbench[peft]'; or leave lora out of peft.ways")
            return tuple(dict.fromkeys(ways))

        @model_serializer(mode="wrap")
        def _used(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
            """A share that no way has is no part of a result's identity."""
            return {key: value for key, value in whole(self).items() if key != "share" or {*self.ways} & {*MATCHED}}

    metrics = (Metric("top1", "%", "higher", "accuracy"), *BESIDE, *SURE)
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """The head's training has no backward pass through the encoder; the others' are counted as whole ones.

        A grid that grows takes up to two trainings more a way.
        """
        (fit, select, test), s = bench.sizes, self.settings
        passes = sum(1 / 3 if way == "head" else 1 for way in s.ways)
        steps = round(len(s.lrs) * passes * s.epochs * fit)
        return Work(0, trained=steps + len(s.ways) * (len(s.lrs) * select + test) // 3)

    def evaluate(self, bench: Bench) -> Outcome:
        found, facts, left_out = dict[str, Found[Network]](), dict[str, dict[str, Any]](), dict[str, str]()
        for way in self.settings.ways:
            started = time.perf_counter()
            try:
                facts[way] = measured(bench, way, self.settings)
            except NotApplicable as error:
                left_out[way] = str(error)
                continue
            run = partial(train, bench, way, settings=self.settings)
            one = search(bench, self.settings.lrs, run, self.metrics[0], "lower peft.lrs")
            found[way] = one._replace(networks=[one.network] * len(one.networks))  # the others are as large
            facts[way] |= {"lr": found[way].point["lr"], "at_edge": found[way].at_edge}
            facts[way]["seconds"] = round(time.perf_counter() - started, 2)
        if not found:
            raise NotApplicable("; ".join(dict.fromkeys(left_out.values())))
        best = max(found, key=lambda way: found[way].point["select_top1"])
        rates = {way: one.point["lr"] for way, one in found.items()}
        selected = {"way": best, **found[best].point, "at_edge": found[best].at_edge, "lrs": rates, "refit": "none"}

        test = bench.test(selected)
        truth, scores = test.target("label"), {way: one.network.scores(test) for way, one in found.items()}
        outcome = Outcome(selected, [{"way": way, **point} for way, one in found.items() for point in one.sweep])
        classified(outcome, bench, scores[best], truth, logits=True)
        top1 = {way: 100 * (one.argmax(1) == truth).float().mean().item() for way, one in scores.items()}
        outcome.details = {"profile": {"way": top1}, "ways": facts, "left_out": left_out}
        outcome.details["optimism"] = max(top1.values()) - top1[best]  # of the way
        return outcome


def adapted(bench: Bench, way: str, settings: Peft.Settings) -> Adapted:
    """A fresh one; raises NotApplicable where the way has no place in the network."""
    return Adapted(bench.encoder(), len(bench.data.classes), way, settings.share)


def measured(bench: Bench, way: str, settings: Peft.Settings) -> dict[str, Any]:
    """What a way costs: parameters that a gradient reaches, and MiB of a step beside the weights.

    These are what the backward pass needs of a batch, and gradient and AdamW's two moments of what learns. Raises
    NotApplicable where no gradient reaches what should learn.
    """
    with seeded(0, bench.device):
        network = adapted(bench, way, settings).train()
        kept = step(network, network.encoder.normalise(bench.fit.images[: settings.batch].to(bench.device)))
    inside, whole = reached(network.encoder), reached(network)
    if way != "head" and not inside:
        raise NotApplicable("this backbone passes by the layers that would learn")
    return {
        "became": network.became,
        "parameters": inside,
        "parameters_with_head": whole,
        "share_percent": round(100 * inside / sum(weight.numel() for weight in bench.encoder().parameters()), 3),
        "step_mib": round((kept + 3 * 4 * whole) / 2**20, 2),
    }


def train(bench: Bench, way: str, lr: float, settings: Peft.Settings) -> Network:
    """One way trained on `fit`; every way and rate sees the same batches and crops."""
    s, labels, seed = settings, bench.fit.target("label"), bench.generator("peft").initial_seed()
    cut = crops(bench, CROP, seed)
    with seeded(seed, bench.device):
        network = adapted(bench, way, s)

        def loss(index: Tensor, number: int) -> Tensor:
            scores = network(network.encoder.normalise(cut(index, number)))  # (B, classes)
            return F.cross_entropy(scores, labels[onto(index, bench.device)])

        def tell(epoch: int, value: float) -> None:
            bench.progress(f"peft {way} lr {lr:g}: epoch {epoch}/{s.epochs}  loss {value:.3f}")

        order = [batches(len(bench.fit), s.batch, derive(seed, "order", epoch)) for epoch in range(s.epochs)]
        descend(network, network.groups(lr, LAYER_DECAY, WEIGHT_DECAY), loss, order, WARMUP, tell)
    return network
